"""How well a target delay is kept: what left when, what came too late, what to do."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from avatar_stream.controls import Status

_WINDOW_S = 3.0
_KEPT = 2000
_LATE_SHARE, _ENOUGH = 0.05, 10  # so many of so many frames at least, before anybody is warned
_LATE_LEAVING_S = 0.02
_ROUND_MS = 50


class Punctuality:
    """Counts what comes and leaves under a target delay; read from any thread.

    Attributes:
        late: frames that came later than they were due, since the start.
    """

    def __init__(self, target_ms: int, clock: Callable[[], float] = time.monotonic):
        """Take the target delay, and the clock of capture times, s."""
        self.target_ms, self.late, self._clock = target_ms, 0, clock
        self._came: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._left: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def came(self, captured_s: float) -> None:
        """Count a finished frame that is here now."""
        now_s = self._clock()
        with self._lock:
            self._came.append((now_s, 1000 * (now_s - captured_s)))
            self.late += now_s - captured_s > self.target_ms / 1000

    def missed(self, captured_s: float, came_s: float) -> None:
        """Count a programme's picture that did not leave at its moment: it came too late, or the machine was busy."""
        delay_ms = 1000 * (came_s - captured_s)
        with self._lock:
            self.late += 1
            if delay_ms > self.target_ms:
                self._came.append((came_s, delay_ms))

    def left(self, captured_s: float, counts: bool) -> None:
        """Count a picture that leaves now; `counts`: it is a programme's, that `came` has not seen."""
        now_s = self._clock()
        with self._lock:
            self._left.append((now_s, 1000 * (now_s - captured_s)))
            self.late += counts and now_s - captured_s > self.target_ms / 1000 + _LATE_LEAVING_S

    def add_to(self, status: Status, notice: str = "") -> Status:
        """Return the status with the figures of the last seconds, a warning where they are too late, and `notice`."""
        now_s = self._clock()
        with self._lock:
            came, left, late = _recent(self._came, now_s), _recent(self._left, now_s), self.late
        median_ms = spread_ms = 0.0
        if len(left):
            low_ms, median_ms, high_ms = (float(value) for value in np.percentile(left, (5, 50, 95)))
            spread_ms = high_ms - low_ms
        messages = [text for text in (notice, self._warning(came)) if text]
        return dataclasses.replace(
            status,
            target_delay_ms=self.target_ms,
            left_ms=median_ms,
            spread_ms=spread_ms,
            late=late,
            messages=(*status.messages, *messages),
        )

    def _warning(self, came: np.ndarray) -> str:
        too_late = int((came > self.target_ms).sum())
        if len(came) < _ENOUGH or too_late < _LATE_SHARE * len(came):
            return ""
        enough_ms = _ROUND_MS * math.ceil(1.1 * float(np.percentile(came, 99)) / _ROUND_MS)
        return (
            f"the target delay of {self.target_ms} ms is too short: {too_late} of the last {len(came)} frames "
            f"came later; set target_delay_ms to {enough_ms} or more"
        )


def _recent(kept: deque[tuple[float, float]], now_s: float) -> np.ndarray:
    return np.array([delay_ms for time_s, delay_ms in kept if time_s > now_s - _WINDOW_S])
