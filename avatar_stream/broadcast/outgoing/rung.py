"""Which resolution a viewer's network carries: it goes down before the frame rate does."""

from __future__ import annotations

from dataclasses import dataclass, field

# A viewer on the large rung: for so long its reports must be poor before it gets the small one.
_POOR_S = 3.0
# Back after a calm time, which grows when it does not hold.
_CALM_S, _CALM_MOST_S = 10.0, 160.0
_POOR_LOSS, _CALM_LOSS = 0.1, 0.04
# Receivers' estimates follow what is sent, grow slowly, and fall when the receiver itself is busy: one that falls below
# what is sent counts only while packets wait on the way, too.
_SHORT, _FALL, _FELL_WITHIN_S = 0.8, 0.95, 6.0
_WAITING_S = 0.15


@dataclass
class Rung:
    """Judges one viewer's network: resolution goes before the frame rate does.

    Attributes:
        half: it gets half the side.
    """

    half: bool = False
    _calm_s: float = _CALM_S
    _poor_since_s: float | None = None
    _calm_since_s: float | None = None
    _back_s: float = field(default=float("-inf"))
    _estimate_bps: float | None = None
    _fell_s: float = float("-inf")
    _least_round_trip_s: float = float("inf")

    def judge(
        self,
        now_s: float,
        loss: float,
        estimate_bps: float | None,
        sent_bps: float,
        round_trip_s: float | None = None,
    ) -> bool:
        """Take a report, about once a second; return `half`.

        Args:
            now_s: a clock's time, s.
            loss: 0..1, part of the packets that were lost.
            estimate_bps: what the viewer thinks its network carries, or None.
            sent_bps: what is sent to it.
            round_trip_s: to the viewer and back, or None.
        """
        falls, waits = self._falls(now_s, estimate_bps), self._waits(round_trip_s)
        short = falls and waits and estimate_bps is not None and estimate_bps < _SHORT * sent_bps
        poor, calm = loss > _POOR_LOSS or short, loss < _CALM_LOSS and not short
        self._poor_since_s = _since(self._poor_since_s, poor, now_s)
        self._calm_since_s = _since(self._calm_since_s, calm, now_s)
        if self.half:
            self._try_large(now_s)
        elif self._poor_since_s is not None and now_s - self._poor_since_s >= _POOR_S:
            self._step_down(now_s)
        return self.half

    def _falls(self, now_s: float, estimate_bps: float | None) -> bool:
        if estimate_bps is not None:
            if self._estimate_bps is not None and estimate_bps < _FALL * self._estimate_bps:
                self._fell_s = now_s
            self._estimate_bps = estimate_bps
        return now_s - self._fell_s < _FELL_WITHIN_S

    def _waits(self, round_trip_s: float | None) -> bool:
        if round_trip_s is None:
            return False
        self._least_round_trip_s = min(self._least_round_trip_s, round_trip_s)
        return round_trip_s > self._least_round_trip_s + _WAITING_S

    def _step_down(self, now_s: float) -> None:
        held = now_s - self._back_s > 2 * self._calm_s
        self._calm_s = _CALM_S if held else min(2 * self._calm_s, _CALM_MOST_S)
        self.half, self._calm_since_s = True, None

    def _try_large(self, now_s: float) -> None:
        if self._calm_since_s is not None and now_s - self._calm_since_s >= self._calm_s:
            self.half, self._back_s, self._poor_since_s = False, now_s, None


def _since(since_s: float | None, true: bool, now_s: float) -> float | None:
    # When it began to be true without a break, or None.
    if not true:
        return None
    return now_s if since_s is None else since_s
