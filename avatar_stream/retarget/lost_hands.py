"""What a hand does while the tracker does not find it.

Hands that touch hide each other, and that is when signs mean something: the tracker loses one of them or finds
the other one twice. The body's own points of the hand (wrist and knuckles) go on, though, and tell its place and
direction; its shape is what it was, or that of its partner.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from avatar_stream.landmarks import HANDS, PALM_ENDS, WRISTS
from avatar_stream.retarget.contacts import smooth_step, smooth_steps
from avatar_stream.retarget.hands import blend_hands, palm_px
from avatar_stream.turns import VIEW, about, gaps, length, middle
from avatar_stream.types import Pose

_PALM_ROWS = slice(15, 21)  # the body's wrists and outer and inner knuckles
_SEEN = (0.3, 0.7)  # confidence of the body's points: no use, full use
_WAY_LENGTH = (0.2, 0.45)  # palm lengths; knuckles that point at the camera have no direction in the picture
_LEARN_S = 0.12  # a hand that was seen for less is a guess in a blur
_KEEP_S, _FORGET_S = 0.3, 0.5
_MOST_GAP = 0.3  # palm lengths from the body's wrist to the hand's; more is a wrong hand
_GAP_S = 0.6  # how long the hand's wrist keeps its distance from the body's
_NEAR = (1.1, 0.7)  # from the other hand, in palm lengths: not touching, touching
_FRAMES, _EASE_S = (
    7,
    0.15,
)  # frames that are remembered; how long a lost hand takes to its usual shape in them
_TURN_AT_ONCE, _TURN_PER_S = np.deg2rad(30.0), np.deg2rad(90.0)
_LEVEL = 0.7  # how much of the way to the same height goes a hand that mirrors the other one


@dataclass(frozen=True)
class PalmWays:
    """Where the body's points say that the palms point in the picture.

    Attributes:
        angles: (2,) radians from x towards y, left and right; 0 where unknown.
        sure: (2,) 0..1, 0 where unknown.
    """

    angles: np.ndarray
    sure: np.ndarray

    def turn(self, side: int, angle: float) -> float:
        """Radians by which a palm that points to `angle` must turn in the picture."""
        return float(_wrapped(self.angles[side] - angle) * self.sure[side])


def palm_ways(pose: Pose, palm: float) -> PalmWays:
    """Look at the body's wrists and knuckles; `palm` is a palm's usual length, px."""
    wrists, outer, inner = pose.points[_PALM_ROWS, :2].astype(np.float64).reshape(3, 2, 2)
    flat = 0.5 * (outer + inner) - wrists
    known = np.isfinite(flat).all(axis=1)
    flat[~known] = 0.0
    sure = smooth_steps(pose.confidence[_PALM_ROWS].reshape(3, 2).min(axis=0), *_SEEN) * known
    sure = sure * smooth_steps(length(flat) / palm, *_WAY_LENGTH)
    return PalmWays(np.arctan2(flat[:, 1], flat[:, 0]), sure)


def palm_angle(hand: np.ndarray) -> float:
    """Where the palm of a hand (21, 3) points in the picture, radians from x towards y."""
    x, y = middle(hand[:, :2], PALM_ENDS) - hand[0, :2]
    return math.atan2(y, x)


def turn_in_picture(offsets: np.ndarray, angle: float) -> np.ndarray:
    """Turn (N, 3) offsets about the line of sight by `angle`, radians from x towards y."""
    return offsets @ about(VIEW, -angle)


@dataclass(frozen=True)
class _Past:
    shape: np.ndarray  # (21, 3) px from the wrist
    angle: float  # of the palm in the picture as the body's points told it, radians
    gap: np.ndarray  # (2,) px from the body's wrist


class HandMemory:
    """Remembers both hands of one driver and completes the one that is lost.

    Attributes:
        touching: (2,) 0..1, how near a lost hand is to the other one, which is seen; 0 for hands that are seen.
    """

    def __init__(self) -> None:
        """Start without a past."""
        self.touching = np.zeros(2)
        self._past: tuple[deque[_Past], deque[_Past]] = (deque(maxlen=_FRAMES), deque(maxlen=_FRAMES))
        self._usual: list[_Past | None] = [None, None]
        self._known = np.zeros(2)  # 0..1, how long the shape was seen
        self._age_s = np.zeros(2)

    def learn(
        self, side: int, hand: np.ndarray, palm: float, body_wrist: np.ndarray, ways: PalmWays, step_s: float
    ) -> None:
        """Take a hand that is seen.

        Args:
            side: 0 left, 1 right.
            hand: (21, 3) driver's px.
            palm: its palm length, px.
            body_wrist: (3,) the body's own wrist, px; may be NaN.
            ways: of this frame.
            step_s: seconds since the last frame.
        """
        shape = _from_wrist(hand)
        # By how much the body's knuckles err, the part of it that is known: it goes on while the hand is lost.
        angle = palm_angle(shape)
        angle += ways.sure[side] * _wrapped(ways.angles[side] - angle)
        gap = hand[0, :2] - body_wrist[:2]
        gap[np.isnan(gap)] = 0.0
        gap *= min(1.0, _MOST_GAP * palm / max(math.hypot(*gap), 1e-6))
        self._past[side].append(_Past(shape, float(angle), gap))
        self._usual[side] = None
        self._known[side] = min(1.0, self._known[side] + step_s / _LEARN_S)
        self._age_s[side] = self.touching[side] = 0.0

    def wrist_gap(self, side: int, step_s: float) -> np.ndarray:
        """(2,) px from the body's wrist to the lost hand's; the two differ, and a hand must not jump when lost."""
        self._age_s[side] += step_s
        past = self._past[side]
        return past[-1].gap * math.exp(-self._age_s[side] / _GAP_S) if past else np.zeros(2)

    def complete(
        self, side: int, points: np.ndarray, seen: np.ndarray, ways: PalmWays, step_s: float
    ) -> np.ndarray:
        """Guess a lost hand.

        Args:
            side: 0 left, 1 right.
            points: (553, 3) driver's px; the wrist of the body is where the hand's is.
            seen: (2,) bool, which hands are seen.
            ways: of this frame.
            step_s: seconds since the last frame.

        Returns:
            (21, 3) px; NaN where nothing is known about it.
        """
        place = points[WRISTS[side]] * [1.0, 1.0, 0.0]
        held = self._held(side, ways)
        self.touching[side] = 0.0
        if seen[1 - side] and np.isfinite(place).all():
            place, held = self._join(side, place, held, points[HANDS[1 - side]])
        if self._age_s[side] > _KEEP_S and self.touching[side] < 0.5:
            self._known[side] = max(0.0, self._known[side] - step_s / _FORGET_S)
        return np.full((21, 3), np.nan) if held is None else place + held

    def _held(self, side: int, ways: PalmWays) -> np.ndarray | None:
        past = self._past[side]
        if not past:
            return None
        before = self._usual[side]
        if before is None:
            before = self._usual[side] = _most_alike(past)
        # What was known well turns no faster than this: the rest is a turn in depth, which leaves the thumb up.
        sudden = _TURN_AT_ONCE + _TURN_PER_S * self._age_s[side]
        most = sudden + (np.pi - sudden) * smooth_step(self._known[side], 0.9, 0.6)
        # The last frames before a hand is lost are often wrong already: it eases to how it was before them.
        last, usual = (
            turn_in_picture(each.shape, min(max(ways.turn(side, each.angle), -most), most))
            for each in (past[-1], before)
        )
        return blend_hands(last, usual, min(self._age_s[side] / _EASE_S, 1.0))

    def _join(
        self, side: int, place: np.ndarray, held: np.ndarray | None, other: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Wrist (3,) and shape (21, 3) of a lost hand beside a seen one (21, 3), and `touching`."""
        mirrored = _from_wrist(other) * [-1.0, 1.0, 1.0]
        palm = max(palm_px(other), 1e-6)
        hand = place + (mirrored if held is None else held)
        self.touching[side] = near = smooth_step(gaps(hand, other).min() / palm, *_NEAR)
        # Palm on palm is what hides a hand that was hardly ever seen; one that was seen keeps its shape.
        part = near * (1.0 - smooth_step(self._known[side], 0.4, 0.9))
        if held is None or part >= 1.0:
            held = mirrored
        elif part > 0.0:
            held = blend_hands(mirrored, held, 1.0 - part)
        lower = other[0, 1] - place[1]
        level = part * _LEVEL * smooth_step(abs(lower) / palm, 1.2, 0.6)
        return place + np.array([0.0, level * lower, 0.0]), held


def _wrapped(angle: np.ndarray | float) -> np.ndarray | float:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _from_wrist(hand: np.ndarray) -> np.ndarray:
    # (21, 3); a hand's z counts from its wrist already.
    offsets = hand.copy()
    offsets[:, :2] -= hand[0, :2]
    return offsets


def _most_alike(past: deque[_Past]) -> _Past:
    """The one whose shape is least away from the others'."""
    stack = np.stack([each.shape for each in past])
    away = length(stack[:, None] - stack).mean(axis=2).sum(axis=1)
    return past[int(away.argmin())]
