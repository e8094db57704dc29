"""Puts other people's times on the monotonic clock: a sender's as it arrives, a player's as it plays."""

from __future__ import annotations

import time

_FARTHEST_S = 10.0  # a live stream whose times are so far ahead has begun anew


class ArrivalClock:
    """Puts the media times of a live stream on the monotonic clock: the earliest arrivals say what their offset is.

    Jitter on the way only ever makes a packet late, so the smallest difference between arrival and media time is the
    nearest to the truth. It may rise slowly, for two clocks never run alike; a jump begins anew.
    """

    RISE_PER_S, JUMP_S = 1e-3, 2.0

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._last_s = 0.0

    def capture_s(self, media_s: float, now_s: float | None = None) -> float:
        """Return when a picture or sound of this media time, which came right now, was captured."""
        now_s = time.monotonic() if now_s is None else now_s
        late_s = now_s - media_s
        if self._offset_s is None or late_s - self._offset_s > self.JUMP_S:
            self._offset_s = late_s
        else:
            self._offset_s += self.RISE_PER_S * (now_s - self._last_s)
            self._offset_s = min(self._offset_s, late_s)
        self._last_s = now_s
        return media_s + self._offset_s


class PlayingClock:
    """Puts media times on the monotonic clock as a player does: steadily from the first one on.

    What comes too late to be played moves everything after it by as much.
    """

    def __init__(self, latest_s: float, offset_s: float | None = None):
        """Prepare.

        Args:
            latest_s: so late it still comes in time.
            offset_s: when media time 0 is played, and nothing that is far ahead is ever a new beginning; None: the
                first part is played when it comes.
        """
        self._latest_s, self._offset_s, self._live = latest_s, offset_s, offset_s is None

    def capture_s(self, media_s: float, now_s: float | None = None) -> float:
        """Return when a picture or sound of this media time, which is here now, is played."""
        now_s = time.monotonic() if now_s is None else now_s
        offset_s = now_s - media_s if self._offset_s is None else self._offset_s
        late_s = now_s - media_s - offset_s
        if late_s > self._latest_s or (self._live and late_s < -_FARTHEST_S):
            offset_s = now_s - media_s
        self._offset_s = offset_s
        return media_s + offset_s
