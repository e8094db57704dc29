"""Hands that touch something of the driver touch the same thing of the avatar.

Bone-wise transfer keeps directions and thus moves hands against faces of other sizes. Near the face, the
torso or the other hand, the wrist is moved so that distances to what is near come out right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar_stream.retarget.layout import HIPS, SHOULDERS
from avatar_stream.types import FACE

# Places of the face that signs use: chin, mouth, nose, cheeks, temples, forehead, ears, brows, eyes' corners.
_FACE_PLACES = FACE.start + np.array(
    [152, 148, 377, 172, 397, 0, 17, 61, 291, 1, 168, 50, 280, 205, 425, 132, 361]
    + [234, 454, 127, 356, 54, 284, 10, 151, 105, 334, 33, 263]
)
_FACE_REACH = (0.08, 0.35)  # full strength below, none above; in face heights
_FACE_BLUR = 0.10
_TIPS = np.array([4, 8, 12, 16, 20])
_OTHERS = 0.2  # what other points of a hand count against its fingertips
_HAND_REACH = (0.30, 1.0)  # in palm lengths
_HAND_BLUR = 0.15
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
    """

    points: np.ndarray
    shoulders: float
    face: float
    palm: float
    hands: np.ndarray


def smooth_step(value: np.ndarray | float, none: float, full: float) -> np.ndarray | float:
    """0 at `none`, 1 at `full`, smooth between; either may be the larger one."""
    part = np.minimum(np.maximum((value - none) / (full - none), 0.0), 1.0)
    return part * part * (3.0 - 2.0 * part)


def contact_shifts(driver: Scene, avatar: Scene, weights: np.ndarray, face_weight: float) -> np.ndarray:
    """How far each hand of the avatar must move so that contacts are kept.

    Args:
        driver: the driver, in pixels of the tracked image, all finite where the weight is not 0.
        avatar: the avatar after bone-wise transfer, canvas px.
        weights: (2,) 0..1, how real each hand is.
        face_weight: 0..1, how real the face is.

    Returns:
        (2, 3) px.
    """
    shifts, firm = np.zeros((2, 3)), np.zeros(2)
    for side in (0, 1):
        if weights[side] <= 0:
            continue
        torso = _torso_shift(driver, avatar, side)
        face, strength = _face_shift(driver, avatar, side) if face_weight > 0 else (np.zeros(3), 0.0)
        firm[side] = strength * face_weight
        shifts[side] = weights[side] * (firm[side] * face + (1.0 - firm[side]) * torso)
    if (weights > 0).all():
        moved = avatar.hands + shifts[:, None]
        gap, strength = _hands_shift(driver.hands, moved, driver.palm, avatar.palm)
        strength *= weights.min()
        # The hand that also touches the face stays, the free one comes to it.
        give = 1.05 - firm
        give /= give.sum()
        shifts[0] += strength * give[0] * gap
        shifts[1] -= strength * give[1] * gap
    return shifts


def _near(distance: np.ndarray, blur: float, ranks: np.ndarray) -> np.ndarray:
    # Weights of pairs: the nearest counts most, and which one that is may change without a jump. What touches
    # counts nearly alone.
    nearest = float(distance.min())
    width = 0.3 * blur + 0.7 * min(nearest, blur)
    weight = np.exp(-(distance**2 - nearest**2) / width**2) * ranks
    return weight / weight.sum()


def _hand_weights() -> np.ndarray:
    weights = np.full(21, _OTHERS)
    weights[_TIPS] = 1.0
    return weights


_HAND_WEIGHTS = _hand_weights()


def _face_shift(driver: Scene, avatar: Scene, side: int) -> tuple[np.ndarray, float]:
    places, goals = driver.points[_FACE_PLACES], avatar.points[_FACE_PLACES]
    offsets = driver.hands[side][:, None, :2] - places[None, :, :2]
    distance = np.linalg.norm(offsets, axis=2) / driver.face
    strength = float(smooth_step(distance.min(), _FACE_REACH[1], _FACE_REACH[0]))
    if strength <= 0:
        return np.zeros(3), 0.0
    weight = _near(distance, _FACE_BLUR, _HAND_WEIGHTS[:, None])
    hand = avatar.hands[side]
    wanted = goals[None, :, :2] + offsets * (avatar.face / driver.face)
    shift = np.zeros(3)
    shift[:2] = (weight[..., None] * (wanted - hand[:, None, :2])).sum(axis=(0, 1))
    # A hand over the face is in front of it, however far; depth only ever moves towards the viewer.
    behind = (weight * (hand[:, None, 2] - goals[None, :, 2])).sum()
    shift[2] = -max(float(behind), 0.0)
    return shift, strength


def _torso_shift(driver: Scene, avatar: Scene, side: int) -> np.ndarray:
    middle, goal = (person.points[SHOULDERS].mean(axis=0) for person in (driver, avatar))
    palm, made = (person.hands[side][[0, 5, 9, 13, 17]].mean(axis=0) for person in (driver, avatar))
    place = (palm - middle) / driver.shoulders
    outside = max(abs(place[0]) - 0.5, -place[1], place[1] - 1.45, 0.0)
    depth = (made[2] - goal[2]) / avatar.shoulders
    strength = smooth_step(outside, _TORSO_MARGIN, 0.0) * smooth_step(
        abs(depth), _TORSO_DEPTH[1], _TORSO_DEPTH[0]
    )
    shift = np.zeros(3)
    shift[:2] = goal[:2] + place[:2] * avatar.shoulders - made[:2]
    # Never inside the body: the surface of the chest is about a quarter of the shoulders before their plane.
    surface = goal[2] + (avatar.points[HIPS, 2].mean() - goal[2]) * np.clip(place[1] / 1.43, 0, 1)
    surface -= 0.25 * avatar.shoulders
    inside = smooth_step(outside, 0.15, 0.0) * max(float(made[2] - surface), 0.0)
    return np.array([*(_TORSO_STRENGTH * strength * shift[:2]), -inside])


def _hands_shift(
    driver: np.ndarray, avatar: np.ndarray, palm: float, avatar_palm: float
) -> tuple[np.ndarray, float]:
    offsets = driver[0][:, None, :2] - driver[1][None, :, :2]
    distance = np.linalg.norm(offsets, axis=2) / palm
    strength = float(smooth_step(distance.min(), _HAND_REACH[1], _HAND_REACH[0]))
    if strength <= 0:
        return np.zeros(3), 0.0
    weight = _near(distance, _HAND_BLUR, _HAND_WEIGHTS[:, None] * _HAND_WEIGHTS)[..., None]
    made = avatar[0][:, None] - avatar[1][None]
    shift = np.zeros(3)
    shift[:2] = (weight * (offsets * (avatar_palm / palm) - made[..., :2])).sum(axis=(0, 1))
    # Most of the gap in depth closes; what is left keeps which hand is in front.
    shift[2] = -0.7 * (weight[..., 0] * made[..., 2]).sum()
    return shift, strength
