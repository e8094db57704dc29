"""One-Euro smoothing of a whole pose, part by part, on the frames' own times."""

from __future__ import annotations

import numpy as np

from avatar_stream.landmarks import FACE_OF_HEAD, HANDS, HEAD_ROWS, WRISTS
from avatar_stream.turns import length
from avatar_stream.types import FACE, POINT_COUNT

# Lowest cut-off in Hz and what a speed of 1 px/s (of the 512 px canvas) adds to it. Fingers are lightest: a
# handshape lives for a few frames. Depth is the least certain axis and may come later than the picture.
CUTOFFS_HZ = {"body": (1.6, 0.02), "wrist": (2.5, 0.03), "face": (2.5, 0.06), "finger": (4.0, 0.08)}
_DEPTH_FACTOR = 0.5
_SPEED_CUTOFF_HZ = 5.0
_NOSE_TIP = FACE.start + 1


def delay_ms(part: str, speed_px_s: float) -> float:
    """Delay that smoothing adds to a steady motion in the picture.

    Args:
        part: "body", "wrist", "face" (against the head) or "finger" (against the wrist).
        speed_px_s: speed in pixels of the 512 px canvas a second; a signing hand makes 150 to 1000.

    Returns:
        Milliseconds; the first-order filter's time constant, which does not depend on the frame rate.
    """
    lowest_hz, per_speed = CUTOFFS_HZ[part]
    return 1000.0 / (2.0 * np.pi * (lowest_hz + per_speed * speed_px_s))


class PoseSmoother:
    """Casiez's One-Euro filter over all points; fingers count from their wrist, the face from its nose."""

    def __init__(self, strength: float = 1.0):
        """Start without a past; `strength` > 1 smooths more (cut-offs are divided by it), 0 not at all."""
        self.strength = strength
        self._lowest_hz, self._per_speed = _cutoffs()
        self._value: np.ndarray | None = None
        self._raw = np.zeros((POINT_COUNT, 3))
        self._speed = np.zeros((POINT_COUNT, 3))
        self._time_s = 0.0

    def reset(self) -> None:
        """Forget the past: the next pose passes unchanged."""
        self._value = None

    def smooth(self, points: np.ndarray, time_s: float, joined: float = 0.0) -> np.ndarray:
        """Smooth one pose.

        Args:
            points: (553, 3) float64 canvas px, finite.
            time_s: its time; later than the last one's, at any distance.
            joined: 0..1, how much the hands belong together: then neither may lag behind the other.

        Returns:
            (553, 3) float64 canvas px.
        """
        if self.strength <= 0:
            return points
        value = _to_relative(points)
        if self._value is None:
            self._value, self._raw, self._time_s = value, value, time_s
            self._speed[:] = 0.0
            return points
        step_s = max(time_s - self._time_s, 1e-3)
        speed = (value - self._raw) / step_s
        self._raw = value
        self._speed += _weight(_SPEED_CUTOFF_HZ, step_s) * (speed - self._speed)
        # One cut-off for x and y together: a motion must not bend because one axis is slower.
        pace = np.abs(self._speed)
        pace[:, :2] = length(self._speed[:, :2])[:, None]
        pace[WRISTS] += joined * (pace[WRISTS].max(axis=0) - pace[WRISTS])
        cutoff_hz = (self._lowest_hz + self._per_speed * pace) / self.strength
        self._value = self._value + _weight(cutoff_hz, step_s) * (value - self._value)
        self._time_s = time_s
        return _to_absolute(self._value)


def _weight(cutoff_hz: np.ndarray | float, step_s: float) -> np.ndarray | float:
    turn = 2.0 * np.pi * step_s * cutoff_hz
    return turn / (1.0 + turn)


def _cutoffs() -> tuple[np.ndarray, np.ndarray]:
    table = np.empty((POINT_COUNT, 2))
    table[:] = CUTOFFS_HZ["body"]
    table[FACE] = table[HEAD_ROWS] = CUTOFFS_HZ["face"]
    table[0] = table[_NOSE_TIP] = CUTOFFS_HZ["body"]
    table[WRISTS] = CUTOFFS_HZ["wrist"]
    for hand in HANDS:
        table[hand] = CUTOFFS_HZ["finger"]
    axes = np.array([1.0, 1.0, _DEPTH_FACTOR])
    return table[:, :1] * axes, table[:, 1:] * axes


def _to_relative(points: np.ndarray) -> np.ndarray:
    value = points.copy()
    nose = points[_NOSE_TIP]
    value[FACE] -= nose
    value[_NOSE_TIP] = nose
    value[1 : HEAD_ROWS.stop] -= points[FACE.start + FACE_OF_HEAD[1:]]
    for hand, wrist in zip(HANDS, WRISTS, strict=True):
        # A hand's z already counts from its wrist.
        value[hand, :2] -= points[wrist, :2]
    return value


def _to_absolute(value: np.ndarray) -> np.ndarray:
    points = value.copy()
    nose = value[_NOSE_TIP].copy()
    points[FACE] += nose
    points[_NOSE_TIP] = nose
    points[1 : HEAD_ROWS.stop] += points[FACE.start + FACE_OF_HEAD[1:]]
    for hand, wrist in zip(HANDS, WRISTS, strict=True):
        points[hand, :2] += value[wrist, :2]
    return points
