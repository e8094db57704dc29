"""The one euro filter (Casiez and others, 2012) on whole arrays, as MediaPipe applies it to landmarks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_LONGEST_S = 0.5  # after a longer pause a filter begins anew
_USUAL_S = 1 / 30  # where time stands still or runs backwards


class OneEuro:
    """Smooths what stands still and follows what moves.

    Args:
        least_hz: cut-off of what stands still.
        beta: how much it rises with the speed, in object sizes a second.
        speed_hz: cut-off for the speed.
    """

    def __init__(self, least_hz: float, beta: float, speed_hz: float = 1.0):
        """Remember nothing yet."""
        self._least_hz, self._beta, self._speed_hz = least_hz, beta, speed_hz
        self.reset()

    def reset(self) -> None:
        """Forget: the next values are taken as they are."""
        self._value: np.ndarray | None = None
        self._raw = self._speed = np.zeros(0)
        self._time_s = -math.inf

    def filter(self, values: np.ndarray, time_s: float, object_size: float = 1.0) -> np.ndarray:
        """Smooth an array.

        Args:
            values: any shape, the same each time.
            time_s: of the frame.
            object_size: in the unit of the values; speeds count in it.

        Returns:
            Smoothed values, of their shape.
        """
        step_s = time_s - self._time_s
        if self._value is None or step_s > _LONGEST_S:
            self._raw = self._value = values
            self._speed, self._time_s = np.zeros_like(values), time_s
            return values
        step_s = step_s if step_s > 1e-3 else _USUAL_S
        speed = (values - self._raw) / (max(object_size, 1e-6) * step_s)
        weight = _weight(self._speed_hz, step_s)
        self._speed = self._speed + weight * (speed - self._speed)
        follow = _weight(self._least_hz + self._beta * np.abs(self._speed), step_s)
        self._value = self._value + follow * (values - self._value)
        self._raw, self._time_s = values, time_s
        return self._value


def _weight(cut_off_hz: float | np.ndarray, step_s: float) -> Any:
    return 1 / (1 + 1 / (2 * math.pi * cut_off_hz * step_s))
