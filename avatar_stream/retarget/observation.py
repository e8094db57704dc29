"""One frame of the driver, made complete: what is lost goes on from where it was last seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from avatar_stream.landmarks import ELBOWS, HANDS, HIPS, SHOULDERS, STABLE_FACE, WRISTS, both_hands
from avatar_stream.retarget.contacts import FACE_PLACES, smooth_step
from avatar_stream.retarget.hands import HandGate, palm_px
from avatar_stream.retarget.lost_hands import HandMemory, PalmWays, palm_ways
from avatar_stream.retarget.proportions import PALM_RATIO, DriverProportions
from avatar_stream.turns import gaps, middle
from avatar_stream.types import FACE, NOSE, Pose

# Parts that are seen or lost on their own; pairs are (left, right).
UPPER, FORE, ARMS, HAND, FACE_PART, PARTS = slice(0, 2), slice(2, 4), slice(0, 4), slice(4, 6), 6, 7

_SEEN_JOINT = 0.3
_CUT_SHIFT = 0.3  # shoulders' jump between two frames, in shoulder widths
_CUT_SCALE = 1.5  # a quick turn narrows shoulders by less in one frame
_CUT_WITHIN_S = 0.25
_HIDDEN_M = 0.1
_NEAR_FACE = (0.7, 0.4)  # palm lengths: not touching, touching
_LEAST_FACING = 0.75  # a signer turned further away is not believed


@dataclass(frozen=True)
class Observation:
    """The driver in one frame.

    Attributes:
        points: (553, 3) float64 px of the tracked image; z of hands on their wrists. NaN where never seen.
        seen: (7,) bool: both upper arms, forearms, hands, and the face, in this very frame.
        hips: whether the hips are seen.
        face_shift: (2,) px that a lost face moved with the nose since it was seen.
        touching: (2,) 0..1, how much a lost hand touches the other one or the face, which are seen.
        ways: where the body's points say that the palms point.
        facing: 0..1, part of the shoulders' width that the picture shows; 1 where unknown.
        right_nearer_m: by how much the right hand is nearer to the camera than the left one; NaN where unknown.
    """

    points: np.ndarray
    seen: np.ndarray
    hips: bool
    face_shift: np.ndarray
    touching: np.ndarray
    ways: PalmWays
    facing: float
    right_nearer_m: float

    @cached_property
    def middle(self) -> np.ndarray:
        """(2,) driver's px, between the shoulders."""
        return middle(self.points[:, :2], SHOULDERS)

    @cached_property
    def known_hands(self) -> np.ndarray:
        """(2,) bool, which hands are seen or remembered."""
        return np.isfinite(both_hands(self.points)).all(axis=(1, 2))


class Observer:
    """Judges and completes the frames of one driver."""

    def __init__(self) -> None:
        """Start without a past."""
        self._gate = HandGate()
        self._memory = HandMemory()

    def is_cut(self, pose: Pose, driver: DriverProportions, step_s: float, last: Observation | None) -> bool:
        """Whether the picture changed as a whole: other framing or another person than in the last frame."""
        shoulders = pose.points[SHOULDERS, :2]
        if last is None or not np.isfinite(shoulders).all() or step_s > _CUT_WITHIN_S:
            return False
        before = last.points[SHOULDERS, :2]
        width, width_before = (math.dist(*pair) + 1e-6 for pair in (shoulders, before))
        moved = math.dist(0.5 * (shoulders[0] + shoulders[1]), last.middle) / driver.shoulders
        return bool(moved > _CUT_SHIFT or not 1 / _CUT_SCALE < width / width_before < _CUT_SCALE)

    def observe(
        self, pose: Pose, driver: DriverProportions, last: Observation | None, step_s: float
    ) -> Observation | None:
        """Complete one pose, `step_s` seconds after the last one; None where the shoulders are not seen."""
        points, confidence = pose.points.astype(np.float64), pose.confidence
        points[~(confidence > 0)] = np.nan
        if not np.isfinite(points[SHOULDERS]).all():
            return None
        width = math.dist(points[11, :2], points[12, :2])
        shoulders = width if last is None else driver.shoulders
        if shoulders < 1e-3:
            return None
        accepted = self._gate.accept(points, confidence, shoulders, driver.palm_px.value, pose.time_s)
        seen = np.zeros(PARTS, bool)
        seen[HAND] = accepted
        usual = driver.palm_px.value
        ways = palm_ways(pose, PALM_RATIO * shoulders if usual is None else float(usual))
        body_wrists = points[WRISTS].copy()
        self._complete_arms(points, confidence, seen, last, shoulders, step_s)
        for side in np.flatnonzero(seen[HAND]):
            palm = self._gate.palms[side]
            self._memory.learn(side, points[HANDS[side]], palm, body_wrists[side], ways, step_s)
            driver.palm_px.update(palm, 1 / 30)
        for side in np.flatnonzero(~seen[HAND]):
            points[HANDS[side]] = self._memory.complete(side, points, seen[HAND], ways, step_s)
        shift = self._complete_face(points, seen, last)
        hips = bool((confidence[HIPS] > 0.5).all() and (points[HIPS, 1] < pose.size[1]).all())
        left, right = self._memory.touching
        nearer_m = float(pose.world[WRISTS[0], 2] - pose.world[WRISTS[1], 2])
        if left or right:  # what hides the other hand is before it
            nearer_m = float(_HIDDEN_M * (left - right))
        touching = self._touching(points, seen)
        return Observation(points, seen, hips, shift, touching, ways, _facing(pose), nearer_m)

    def _touching(self, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """(2,) 0..1, how much each lost hand touches the other one or the face, which are seen."""
        touching = self._memory.touching.copy()
        if not seen[FACE_PART]:
            return touching
        for side in np.flatnonzero(~seen[HAND] & seen[FORE]):
            hand = points[HANDS[side]]
            if np.isfinite(hand).all():
                distance = gaps(hand, points[FACE_PLACES])
                nearest = np.min(distance, where=np.isfinite(distance), initial=np.inf)
                near = smooth_step(nearest / max(palm_px(hand), 1e-6), *_NEAR_FACE)
                touching[side] = max(touching[side], near)
        return touching

    def _complete_arms(
        self,
        points: np.ndarray,
        confidence: np.ndarray,
        seen: np.ndarray,
        last: Observation | None,
        shoulders: float,
        step_s: float,
    ) -> None:
        for side in (0, 1):
            shoulder, elbow, wrist = points[SHOULDERS[side]], points[ELBOWS[side]], points[WRISTS[side]]
            if seen[HAND][side]:  # the hand's own wrist is the better one, and where its picture is
                wrist[:2] = points[HANDS[side]][0, :2]
                wrist[2] = elbow[2] if np.isnan(wrist[2]) else wrist[2]
            else:
                wrist[:2] += self._memory.wrist_gap(side, step_s)
            seen[FORE.start + side] = seen[HAND][side] or confidence[WRISTS[side]] > _SEEN_JOINT
            if np.isnan(elbow).any() and seen[FORE][side]:
                # Between shoulder and wrist, hanging: a tight picture has cut the elbow off.
                elbow[:] = 0.5 * (shoulder + wrist) + [
                    0.15 * shoulders * (1 - 2 * side),
                    0.3 * shoulders,
                    0.0,
                ]
                wrist[2] = elbow[2] if np.isnan(wrist[2]) else wrist[2]
            seen[UPPER.start + side] = np.isfinite(elbow).all() and (
                seen[FORE][side] or confidence[ELBOWS[side]] > _SEEN_JOINT
            )
            if last is not None:
                if not seen[UPPER][side]:
                    elbow[:] = shoulder + last.points[ELBOWS[side]] - last.points[SHOULDERS[side]]
                if not seen[FORE][side]:
                    wrist[:] = elbow + last.points[WRISTS[side]] - last.points[ELBOWS[side]]

    def _complete_face(self, points: np.ndarray, seen: np.ndarray, last: Observation | None) -> np.ndarray:
        seen[FACE_PART] = np.isfinite(points[FACE][STABLE_FACE]).all(axis=1).sum() >= 6
        if seen[FACE_PART] or last is None:
            return np.zeros(2)
        moved = points[NOSE, :2] - last.points[NOSE, :2]
        moved = np.where(np.isfinite(moved), moved, 0.0)
        points[FACE] = last.points[FACE] + [*moved, 0.0]
        return last.face_shift + moved


def _facing(pose: Pose) -> float:
    across = pose.world[SHOULDERS[0]] - pose.world[SHOULDERS[1]]
    if not np.isfinite(across).all():
        return 1.0
    shown = math.hypot(*across[:2]) / (math.hypot(*across) + 1e-6)
    return min(max(shown, _LEAST_FACING), 1.0)
