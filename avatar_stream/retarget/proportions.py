"""How long a person's bones are: the avatar's from its portrait, the driver's from what is seen over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from avatar_stream.errors import AvatarError
from avatar_stream.landmarks import (
    BONE_ENDS,
    BONE_STARTS,
    ELBOWS,
    EYE_CORNERS,
    HAND_CHAIN,
    HAND_RATIOS,
    HANDS,
    HIPS,
    MESH,
    SHOULDERS,
    WRISTS,
    hand_bones,
)
from avatar_stream.turns import length, unit
from avatar_stream.types import BODY, FACE, Pose

# In shoulder widths (between the joints), measured over real signers; arms hang nearly straight down at rest.
ARM_RATIOS = np.array([0.82, 0.74])  # upper arm, forearm
PALM_RATIO = 0.27
_TORSO_RATIO = 1.43
_TRUSTED = (0.75, 1.35)  # a measured bone is believed between these parts of the usual length


@dataclass(frozen=True)
class Proportions:
    """The avatar at rest.

    Attributes:
        rest: (553, 3) float64 canvas px, all finite, as in `Pose.points` (each part's z on its own origin).
        known: (553,) bool, which points the portrait had.
        shoulders: width between the shoulder joints, px.
        arms: (2, 2) px, upper arm and forearm, the same for both sides: [side, bone].
        hand: (21,) px, bone lengths, each at its outer landmark.
        forearms: (2, 3) unit vectors of the forearms at rest.
        upper_arms: (2, 3) unit vectors of the upper arms at rest.
    """

    rest: np.ndarray
    known: np.ndarray
    shoulders: float
    arms: np.ndarray
    hand: np.ndarray
    forearms: np.ndarray
    upper_arms: np.ndarray


def measure_avatar(pose: Pose) -> Proportions:
    """Take an avatar's proportions from its portrait's pose; points it lacks come from usual proportions.

    Raises:
        AvatarError: shoulders or face are not seen.
    """
    known = (pose.confidence > 0) & np.isfinite(pose.points).all(axis=1)
    if not known[SHOULDERS].all() or not known[FACE][MESH].all():
        raise AvatarError(
            "the avatar's portrait does not show both shoulders and the whole face: take another picture"
        )
    rest = np.where(known[:, None], pose.points, np.nan).astype(np.float64)
    shoulders = float(np.linalg.norm(rest[11, :2] - rest[12, :2]))
    _fill_body(rest, shoulders)
    joints = (SHOULDERS, ELBOWS), (ELBOWS, WRISTS)
    arms = [
        _bone_length(rest, *ends, usual) for ends, usual in zip(joints, ARM_RATIOS * shoulders, strict=True)
    ]
    hand = _hand_lengths(rest, shoulders)
    _fill_hands(rest, hand)
    irises = ~np.isfinite(rest[FACE]).all(axis=1)
    rest[FACE][irises] = rest[FACE][EYE_CORNERS[::-1].ravel()].mean(axis=0)
    upper, fore = unit(rest[ELBOWS] - rest[SHOULDERS]), unit(rest[WRISTS] - rest[ELBOWS])
    return Proportions(rest, known, shoulders, np.tile(arms, (2, 1)), hand, fore, upper)


def _fill_body(rest: np.ndarray, shoulders: float) -> None:
    nothing = ~np.isfinite(rest).all(axis=1)
    outwards = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    down = np.array([0.0, shoulders, 0.0])
    middle = rest[SHOULDERS].mean(axis=0)
    usual = np.tile(middle + 3.0 * down, (33, 1))
    usual[:11] = middle - 0.5 * down
    usual[HIPS] = middle + _TORSO_RATIO * down + 0.3 * shoulders * outwards
    usual[ELBOWS] = rest[SHOULDERS] + ARM_RATIOS[0] * down + 0.08 * shoulders * outwards
    usual[WRISTS] = np.where(nothing[ELBOWS][:, None], usual[ELBOWS], rest[ELBOWS]) + ARM_RATIOS[1] * down
    for row in (17, 19, 21):
        usual[row : row + 2] = usual[WRISTS]
    rest[BODY] = np.where(nothing[BODY, None], usual, rest[BODY])


def _bone_length(rest: np.ndarray, start: np.ndarray, end: np.ndarray, usual: float) -> float:
    # A rendered portrait's depth is exact; a tracker's is much too deep: then the flat length serves.
    bones = rest[end] - rest[start]
    for bone_px in (length(bones).mean(), length(bones[:, :2]).mean()):
        if _TRUSTED[0] * usual <= bone_px <= _TRUSTED[1] * usual:
            return float(bone_px)
    return usual


def _hand_lengths(rest: np.ndarray, shoulders: float) -> np.ndarray:
    lengths = [length(hand_bones(rest[hand])) for hand in HANDS if np.isfinite(rest[hand]).all()]
    usual = HAND_RATIOS * PALM_RATIO * shoulders
    if not lengths:
        return usual
    mean = np.mean(lengths, axis=0)
    size = np.clip(mean.sum() / usual.sum(), *_TRUSTED)
    return np.clip(mean, 0.7 * size * usual, 1.4 * size * usual)


def _fill_hands(rest: np.ndarray, lengths: np.ndarray) -> None:
    for hand, other, wrist in zip(HANDS, HANDS[::-1], WRISTS, strict=True):
        if np.isfinite(rest[hand]).all():
            continue
        if np.isfinite(rest[other]).all():
            shape = (rest[other] - rest[other][0]) * [-1.0, 1.0, 1.0]
        else:
            shape = HAND_CHAIN @ (lengths[:, None] * np.array([0.0, 1.0, 0.0]))
        rest[hand] = shape + rest[wrist] * [1.0, 1.0, 0.0]


class RunningEstimate:
    """A value learnt over the first second (a percentile) and followed slowly afterwards.

    Attributes:
        value: the present estimate, float64 of the samples' shape, or None before the first sample.
    """

    def __init__(
        self, percentile: float = 50.0, up_s: float = 10.0, down_s: float = 10.0, first_s: float = 1.0
    ):
        """`up_s` and `down_s` are the time constants after the first `first_s` seconds of samples."""
        self.value: Any = None
        self._percentile, self._up_s, self._down_s, self._first_s = percentile, up_s, down_s, first_s
        self._samples: list[np.ndarray | float] = []
        self._seen_s = 0.0

    def update(self, sample: np.ndarray | float, step_s: float) -> Any:
        """Take a sample, `step_s` seconds after the last; returns the estimate. NaN is left out."""
        if not np.isfinite(sample).all():
            return self.value
        self._seen_s += min(step_s, 0.2)
        if self.value is None or self._seen_s <= self._first_s:
            self._samples.append(sample)
            # The nearest sample serves: interpolating between two costs a hundred times as much.
            place = round(self._percentile / 100.0 * (len(self._samples) - 1))
            self.value = np.sort(np.asarray(self._samples), axis=0)[place]
            return self.value
        self._samples.clear()
        gap = sample - self.value
        up, down = 1.0 - math.exp(-step_s / self._up_s), 1.0 - math.exp(-step_s / self._down_s)
        self.value = self.value + (down + (up - down) * (gap > 0)) * gap
        return self.value


class DriverProportions:
    """The driver's sizes, px of the tracked image: calibrated over the first second, then followed slowly."""

    def __init__(self, face_height: float):
        """`face_height`: the avatar's, canvas px; the head's scale counts in it."""
        self._face_height = face_height
        # Shoulders look narrower when turned, never wider: a high percentile, quick up, slow down. Turning
        # does not change the head's size, which thus tells coming nearer from turning.
        self._shoulders_per_face = RunningEstimate(75.0, up_s=4.0, down_s=60.0)
        self._face_px = RunningEstimate(50.0, up_s=2.5, down_s=2.5)
        self._shoulders_px = RunningEstimate(75.0, up_s=4.0, down_s=30.0)
        self._reach = [RunningEstimate(90.0, up_s=0.3, down_s=20.0) for _ in range(4)]
        self.palm_px = RunningEstimate(50.0, up_s=5.0, down_s=5.0)

    def update(
        self, points: np.ndarray, head_scale: float, arms_seen: np.ndarray, step_s: float, facing: float = 1.0
    ) -> None:
        """Learn from one frame.

        Args:
            points: (553, 3) driver's px.
            head_scale: driver's px per canvas px of the head (turning does not change it), NaN where no face.
            arms_seen: (4,) bool, both upper arms, both forearms.
            step_s: seconds since the last frame.
            facing: 0..1, part of the shoulders' width that the picture shows: who begins turned aside is as wide.
        """
        width = math.dist(points[11, :2], points[12, :2]) / facing
        self._shoulders_px.update(width, step_s)
        face_px = self._face_px.update(head_scale * self._face_height, step_s)
        if math.isfinite(head_scale) and face_px is not None:
            self._shoulders_per_face.update(width / (head_scale * self._face_height), step_s)
        reach = length(points[BONE_ENDS, :2] - points[BONE_STARTS, :2]) / self.shoulders
        for bone in np.flatnonzero(arms_seen):
            self._reach[bone].update(reach[bone], step_s)

    @property
    def shoulders(self) -> float:
        """Full width between the shoulder joints, driver's px."""
        if self._shoulders_per_face.value is None:
            return max(float(self._shoulders_px.value), 1.0)
        return max(float(self._shoulders_per_face.value * self._face_px.value), 1.0)

    def arm_lengths(self) -> np.ndarray:
        """(2,) upper arm and forearm, driver's px."""
        lengths = np.empty(2)
        for bone, usual in enumerate(ARM_RATIOS):
            pair = self._reach[2 * bone : 2 * bone + 2]
            seen = [reach.value for reach in pair if reach.value is not None]
            part = max(seen) / usual if seen else 0.0
            # An arm seen only foreshortened says nothing; one that shows nearly its usual length is believed.
            lengths[bone] = usual * np.interp(part, [0.0, 0.55, 0.78, 1.3], [1.0, 1.0, 0.78, 1.3])
        return lengths * self.shoulders
