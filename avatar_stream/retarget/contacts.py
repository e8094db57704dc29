"""Hands that touch something of the driver touch the same thing of the avatar.

Bone-wise transfer keeps directions and thus moves hands against faces of other sizes. Near the face, the
torso or the other hand, the wrist is moved so that distances to what is near come out right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from avatar_stream.landmarks import HIPS, PALM, SHOULDERS
from avatar_stream.turns import gaps, middle
from avatar_stream.types import FACE

# Places of the face that signs use: chin, mouth, nose, cheeks, temples, forehead, ears, brows, eyes' corners.
FACE_PLACES = FACE.start + np.array(
    [152, 148, 377, 172, 397, 0, 17, 61, 291, 1, 168, 50, 280, 205, 425, 132, 361]
    + [234, 454, 127, 356, 54, 284, 10, 151, 105, 334, 33, 263]
)
_FACE_REACH = (0.08, 0.35)  # full strength below, none above; in face heights
_FACE_BLUR = 0.10
_TIPS = np.array([4, 8, 12, 16, 20])
_OTHERS = 0.2  # what other points of a hand count against its fingertips
_HAND_REACH = (0.35, 1.4)  # in palm lengths
_HAND_BLUR, _FAR_BLUR = 0.09, 0.4  # of hands that touch; what each palm length between them adds
_THICKNESS = 0.35  # from the middle of a hand to that of one that lies on it, in palm lengths
# Depth of the wrists in world landmarks, seen in 25 frames of three clips: the right hand is nearer by 0.03 to 0.07 m
# where it is in front, further by 0.01 to 0.03 m where it is behind.
_FRONT_BIAS_M, _FRONT_SURE_M, _FRONT_TURNS = 0.005, 0.02, 0.35
_FRONT_S = (0.06, 0.18)  # apart, and where hands would have to pass through each other
_PASS_S = 0.15
_TORSO_DEPTH = (0.30, 0.75)  # hand in front of the shoulders' plane, in shoulder widths
_TORSO_MARGIN = 0.35
_TORSO_STRENGTH = 0.8


@dataclass(frozen=True)
class Scene:
    """One person as contacts see it; z is counted from between the hips for every part.

    Attributes:
        points: (553, 3) px.
        shoulders: width between the shoulder joints, px.
        face: forehead to chin, px.
        palm: wrist to middle knuckle, px.
        hands: (2, 21, 3) px.
        right_before: -1..1, 1 where the right hand is before the left one, -1 where it is behind; unused where
            it is the avatar.
    """

    points: np.ndarray
    shoulders: float
    face: float
    palm: float
    hands: np.ndarray
    right_before: float = 0.0


def smooth_step(value: float, none: float, full: float) -> float:
    """0 at `none`, 1 at `full`, smooth between; either may be the larger one."""
    part = min(max(float(value - none) / (full - none), 0.0), 1.0)
    return part * part * (3.0 - 2.0 * part)


def smooth_steps(values: np.ndarray, none: float, full: float) -> np.ndarray:
    """`smooth_step` of an array."""
    part = np.minimum(np.maximum((values - none) / (full - none), 0.0), 1.0)
    return part * part * (3.0 - 2.0 * part)


class Front:
    """Which hand is before the other one: the tracker's depth wavers, hands do not pass through each other.

    Attributes:
        right_before: -1..1, 1 where the right hand is before the left one; on its way for a moment when that changes.
    """

    def __init__(self) -> None:
        """Start undecided: side by side."""
        self.right_before = 0.0
        self._evidence: float | None = None
        self._side = 0.0

    def update(self, right_nearer_m: float, step_s: float, joined: float) -> None:
        """Take a frame.

        Args:
            right_nearer_m: by how much the right hand is nearer to the camera, metres; NaN says nothing.
            step_s: seconds since the last frame.
            joined: 0..1, how near the hands are to each other.
        """
        if math.isfinite(right_nearer_m):
            apart_s, joined_s = _FRONT_S
            part = 1.0 - math.exp(-step_s / (apart_s + joined * (joined_s - apart_s)))
            sure = math.tanh((right_nearer_m - _FRONT_BIAS_M) / _FRONT_SURE_M)
            before = sure if self._evidence is None else self._evidence
            self._evidence = before + part * (sure - before)
            if abs(self._evidence) > _FRONT_TURNS:
                self._side = math.copysign(1.0, self._evidence)
        most = step_s / _PASS_S
        self.right_before += min(max(self._side - self.right_before, -most), most)


def contact_shifts(
    driver: Scene, avatar: Scene, weights: np.ndarray, face_weight: float
) -> tuple[np.ndarray, float]:
    """How far each hand of the avatar must move so that contacts are kept.

    Args:
        driver: the driver, in pixels of the tracked image, all finite where the weight is not 0.
        avatar: the avatar after bone-wise transfer, canvas px.
        weights: (2,) 0..1, how real each hand is.
        face_weight: 0..1, how real the face is.

    Returns:
        (2, 3) px, and 0..1, how much the hands belong together.
    """
    joined = 0.0
    shifts, firm, torso = np.zeros((2, 3)), np.zeros(2), _torso_shifts(driver, avatar)
    for side in np.flatnonzero(weights > 0):
        face, strength = _face_shift(driver, avatar, side) if face_weight > 0 else (np.zeros(3), 0.0)
        firm[side] = strength * face_weight
        shifts[side] = weights[side] * (firm[side] * face + (1.0 - firm[side]) * torso[side])
    if (weights > 0).all():
        moved = avatar.hands + shifts[:, None]
        gap, joined = _hands_shift(driver, avatar.palm, moved)
        joined *= float(weights.min())
        # The hand that also touches the face stays, the free one comes to it.
        give = 1.05 - firm
        give /= give.sum()
        shifts[0] += joined * give[0] * gap
        shifts[1] -= joined * give[1] * gap
    return shifts, joined


def _pair_weights(distance: np.ndarray, nearest: float, width: float, ranks: np.ndarray) -> np.ndarray:
    # The nearest pair counts most, and which one that is may change without a jump.
    # Sums of it over all pairs need no pairs: its sums over either side weigh that side's points.
    weight = np.exp((nearest**2 - distance**2) / width**2) * ranks
    return weight / weight.sum()


def _hand_weights() -> np.ndarray:
    weights = np.full(21, _OTHERS)
    weights[_TIPS] = 1.0
    return weights


_HAND_WEIGHTS = _hand_weights()
_HAND_PAIRS = _HAND_WEIGHTS[:, None] * _HAND_WEIGHTS


def _face_shift(driver: Scene, avatar: Scene, side: int) -> tuple[np.ndarray, float]:
    places, goals = driver.points[FACE_PLACES], avatar.points[FACE_PLACES]
    hand, made = driver.hands[side], avatar.hands[side]
    distance = gaps(hand, places) / driver.face
    nearest = float(distance.min())
    strength = smooth_step(nearest, _FACE_REACH[1], _FACE_REACH[0])
    if strength <= 0:
        return np.zeros(3), 0.0
    # What touches counts nearly alone.
    width = 0.3 * _FACE_BLUR + 0.7 * min(nearest, _FACE_BLUR)
    weight = _pair_weights(distance, nearest, width, _HAND_WEIGHTS[:, None])
    of_hand, of_face = weight.sum(axis=1), weight.sum(axis=0)
    offset = (of_hand @ hand - of_face @ places) * (avatar.face / driver.face)
    shift = of_face @ goals - of_hand @ made
    # A hand over the face is in front of it, however far; depth only ever moves towards the viewer.
    return np.array([shift[0] + offset[0], shift[1] + offset[1], min(shift[2], 0.0)]), strength


def _torso_shifts(driver: Scene, avatar: Scene) -> np.ndarray:
    places, made = (  # of the palms, from between the shoulders
        (person.hands[:, PALM].sum(axis=1) / len(PALM) - middle(person.points, SHOULDERS)) / person.shoulders
        for person in (driver, avatar)
    )
    torso_z = (middle(avatar.points, HIPS) - middle(avatar.points, SHOULDERS))[2] / avatar.shoulders
    shifts = places - made
    for side in (0, 1):
        (x, y, _), made_z = places[side].tolist(), float(made[side, 2])
        outside = max(abs(x) - 0.5, -y, y - 1.45, 0.0)
        near = smooth_step(outside, _TORSO_MARGIN, 0.0)
        near *= smooth_step(abs(made_z), _TORSO_DEPTH[1], _TORSO_DEPTH[0])
        shifts[side, :2] *= _TORSO_STRENGTH * near
        # Never inside the body: the surface of the chest is about a quarter of the shoulders before their plane.
        surface_z = torso_z * min(max(y / 1.43, 0.0), 1.0) - 0.25
        shifts[side, 2] = -smooth_step(outside, 0.15, 0.0) * max(made_z - surface_z, 0.0)
    return shifts * avatar.shoulders


def _hands_shift(driver: Scene, avatar_palm: float, made_hands: np.ndarray) -> tuple[np.ndarray, float]:
    left, right = driver.hands
    distance = gaps(left, right) / driver.palm
    nearest = float(distance.min())
    strength = smooth_step(nearest, _HAND_REACH[1], _HAND_REACH[0])
    if strength <= 0:
        return np.zeros(3), 0.0
    # Hands that lie on each other touch at many places, fingertips at one; apart, all of a hand counts.
    weight = _pair_weights(distance, nearest, _HAND_BLUR + _FAR_BLUR * nearest, _HAND_PAIRS)
    of_left, of_right = weight.sum(axis=1), weight.sum(axis=0)
    made = of_left @ made_hands[0] - of_right @ made_hands[1]
    shift = (of_left @ left - of_right @ right) * (avatar_palm / driver.palm) - made
    # What is seen at one place lies one on the other; what is seen side by side touches with its sides.
    apart = np.sqrt(np.maximum(_THICKNESS**2 - distance**2, 0.0)) * avatar_palm
    known = abs(driver.right_before)  # else the avatar's own arms say which hand is in front
    front = driver.right_before + (1.0 - known) * math.tanh(made[2] / avatar_palm)
    shift[2] = front * float((weight * apart).sum()) - made[2]
    return shift, strength
