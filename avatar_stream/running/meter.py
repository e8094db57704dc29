"""What a run measures of itself: time per stage, delay, frame rate, silence; and what it concludes for quality."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

logger = logging.getLogger(__name__)

_KEPT = 50_000  # measurements kept of each thing: nearly half an hour of live frames, 0.8 MB
_WINDOW_S = 3.0  # over which fps and delay are told


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        frames: handed to the outputs.
        with_signer: of these, frames in which somebody was found.
        interrupted: the user stopped it before the source's end.
        dropped: live: frames overwritten by newer ones, by hand-over.
        stages: of each stage's work on a frame, (N, 2) float64: when it was done (s, monotonic), how long it took
            (ms), oldest first.
        delays: live, of the first output, (N, 2) float64: time of delivery (s, monotonic), delay from capture (ms).
        failures: live outputs that failed on the way while others went on, one line each.
    """

    frames: int
    with_signer: int
    interrupted: bool
    dropped: dict[str, int] = field(default_factory=dict)
    stages: dict[str, np.ndarray] = field(default_factory=dict)
    delays: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    failures: tuple[str, ...] = ()


class Worker:
    """What one thread does now: written by it, read by the thread that watches.

    Attributes:
        stage: the stage at work, or the last one.
        index: the frame's index, or None before the first.
        opening: a stage is being opened: that may take long.
        since_s: when the work began, `time.monotonic()`; None while it waits for something to do.
    """

    def __init__(self, meter: Meter):
        self.stage = ""
        self.index: int | None = None
        self.opening = False
        self.since_s: float | None = None
        self._meter = meter

    @contextlib.contextmanager
    def during(self, stage: str, measured: bool = True) -> Iterator[None]:
        """Inside it the stage is at work."""
        self.stage, begun_s = stage, time.monotonic()
        self.since_s = begun_s
        try:
            yield
        finally:
            self.since_s = None
        if measured:
            self._meter.add(stage, time.monotonic() - begun_s)

    @contextlib.contextmanager
    def opening_of(self, stage: str) -> Iterator[None]:
        """Inside it the stage is opened or closed: nobody expects frames of it."""
        self.stage, self.opening = stage, True
        try:
            yield
        finally:
            self.opening = False


class Measurements:
    """The newest measurements of one thing, each with its time. For one thread at a time."""

    def __init__(self) -> None:
        # In one piece, whose pages the system gives as they are written: as Python's own numbers they grew by 12 MB in
        # ten minutes, between pictures that come and go, so that neither could be given back.
        self._rows = np.zeros((_KEPT, 2))
        self._count = 0

    def add(self, time_s: float, took_ms: float) -> None:
        """Keep one; the oldest is forgotten where there are too many."""
        self._rows[self._count % _KEPT] = time_s, took_ms
        self._count += 1

    def all(self) -> np.ndarray:
        """(N, 2) float64, a copy: time in s, duration in ms, oldest first."""
        if self._count <= _KEPT:
            return self._rows[: self._count].copy()
        return np.roll(self._rows, -self._count, axis=0)

    def since(self, time_s: float) -> np.ndarray:
        """(N, 2) float64: those of this moment and later, in any order."""
        rows = self._rows[: self._count]  # all of them, once it has been round
        return rows[rows[:, 0] >= time_s]


class Meter:
    """Collects from all threads."""

    def __init__(self) -> None:
        self.frames = self.with_signer = 0
        self._lock = threading.Lock()
        self._stages: dict[str, Measurements] = {}
        self._delays = Measurements()

    def add(self, stage: str, duration_s: float) -> None:
        """Count one frame's work of a stage."""
        with self._lock:
            if stage not in self._stages:
                self._stages[stage] = Measurements()
            self._stages[stage].add(time.monotonic(), 1000 * duration_s)

    def deliver(self, captured_s: float) -> None:
        """Count a frame as shown by the first output, now."""
        now_s = time.monotonic()
        with self._lock:
            self._delays.add(now_s, 1000 * (now_s - captured_s))

    def report(self, interrupted: bool, dropped: dict[str, int], failures: Sequence[str]) -> Report:
        """Return what the run did."""
        return Report(
            frames=self.frames,
            with_signer=self.with_signer,
            interrupted=interrupted,
            dropped=dropped,
            stages=self.stages(),
            delays=self.delays(),
            failures=tuple(failures),
        )

    def recent(self) -> tuple[float, float, float]:
        """Return fps, median delay and 95th percentile in ms over the last seconds; 0 where nothing came."""
        now_s = time.monotonic()
        with self._lock:
            last = self._delays.since(now_s - _WINDOW_S)
        if len(last) < 2:
            return 0.0, 0.0, 0.0
        span_s = max(now_s - last[:, 0].min(), 1e-3)
        return len(last) / span_s, float(np.median(last[:, 1])), float(np.percentile(last[:, 1], 95))

    def stages(self) -> dict[str, np.ndarray]:
        """By stage, (N, 2) float64: when it was done in s, how long it took in ms."""
        with self._lock:
            return {stage: measured.all() for stage, measured in self._stages.items()}

    def recent_stages(self) -> dict[str, float]:
        """Median of each stage's milliseconds over the last seconds."""
        since_s = time.monotonic() - _WINDOW_S
        with self._lock:
            last = {stage: measured.since(since_s)[:, 1] for stage, measured in self._stages.items()}
        return {stage: float(np.median(took_ms)) for stage, took_ms in last.items() if len(took_ms)}

    def delays(self) -> np.ndarray:
        """(N, 2) float64: time of delivery in s, delay in ms."""
        with self._lock:
            return self._delays.all()


class SilenceWatch:
    """Names stages that have worked on one thing for too long; logs each silence once."""

    def __init__(self, limit_s: float):
        self._limit_s = limit_s
        self._told: set[str] = set()

    def look(self, workers: dict[str, Worker]) -> list[str]:
        """Return one line for each stage that is silent now."""
        now_s, lines, silent = time.monotonic(), [], set()
        for worker in workers.values():
            since_s, stage = worker.since_s, worker.stage
            if since_s is None or worker.opening or now_s - since_s < self._limit_s:
                continue
            silent.add(stage)
            lines.append(f"{stage}: nothing for {now_s - since_s:.0f} s")
            if stage not in self._told:
                logger.warning("the %s has been silent for %.0f s", stage, now_s - since_s)
        self._told = silent
        return lines


class QualityGovernor:
    """Decides how much quality the machine can afford: frame rate goes before the rest.

    A step down where frames are dropped and fewer than 25 come out a second, or than a slower source gives, for
    three seconds; a step up after a calm time, which grows each time that the step up did not hold.
    """

    LOWEST_FPS = 25.0
    # Frames come and go a little unevenly: what is this near to a rate has it.
    NEAR = 0.98
    SLOW_S, CALM_S, TRIAL_S, LONGEST_CALM_S = 3.0, 10.0, 8.0, 300.0

    def __init__(self, levels: int):
        """Take the number of levels; 0 is full quality."""
        self.level = 0
        self._levels = levels
        self._calm_s = self.CALM_S
        self._slow_since_s: float | None = None
        self._fine_since_s: float | None = None
        self._raised_s = -math.inf
        self._recent: deque[tuple[float, int]] = deque()

    def update(self, now_s: float, captured: int) -> int:
        """Count one finished frame.

        Args:
            now_s: when it was finished.
            captured: how many frames the source has given until now.

        Returns:
            The level to work at.
        """
        self._recent.append((now_s, captured))
        # Two at least: a machine that needs seconds for a picture needs help most.
        while len(self._recent) > 2 and now_s - self._recent[0][0] > 2.0:
            self._recent.popleft()
        span_s = now_s - self._recent[0][0]
        if span_s < 1.0:
            return self.level
        made_fps = (len(self._recent) - 1) / span_s
        source_fps = (captured - self._recent[0][1]) / span_s
        slow = made_fps < self.NEAR * min(self.LOWEST_FPS, source_fps)
        self._slow_since_s = (self._slow_since_s or now_s) if slow else None
        self._fine_since_s = None if slow else (self._fine_since_s or now_s)
        self._decide(now_s)
        return self.level

    def _decide(self, now_s: float) -> None:
        if self._slow_since_s is not None and now_s - self._slow_since_s >= self.SLOW_S:
            if self.level < self._levels - 1:
                if now_s - self._raised_s < self.TRIAL_S:
                    self._calm_s = min(2 * self._calm_s, self.LONGEST_CALM_S)
                self._change(self.level + 1)
        elif self.level > 0 and self._fine_since_s is not None:
            if now_s - self._fine_since_s >= self._calm_s:
                self._raised_s = now_s
                self._change(self.level - 1)

    def _change(self, level: int) -> None:
        self.level = level
        self._slow_since_s = self._fine_since_s = None
        self._recent.clear()
