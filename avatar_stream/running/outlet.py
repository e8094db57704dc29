"""Outputs while they run: their hand-overs, their sinks, and what of the finished frames they are given."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable

from avatar_stream.controls import Controls, Status
from avatar_stream.handover import Handover
from avatar_stream.running.crew import Crew
from avatar_stream.running.meter import Meter, Worker
from avatar_stream.running.pipeline import Output, Pipeline, RenderedFrame
from avatar_stream.types import Frame, Sound

_MOST_SOUNDS = 1000  # live: 20 s, for outputs that are slow to open


class Outlet:
    """Opens, feeds and finishes a sink; all three on one thread.

    Attributes:
        frames: the hand-over that leads to it. A bare Frame is the camera's own picture.
        on_main: it belongs to the thread that called `run`.
        stage: what figures and messages call it.
        turn: its place in the order in which stages are opened; None: a recording that begins while the rest runs.
        opened, done: how far it has come.
    """

    def __init__(self, output: Output, live: bool, meter: Meter, turn: int | None):
        """Prepare; nothing is open yet."""
        self.output, self.sink, self.turn = output, output.sink, turn
        # All recordings under one name: each file's own would be one more line of figures for ever.
        name = "recording" if turn is None else output.name
        self.stage = f"output {name}"
        self.on_main = output.sink.on_main_thread
        self.frames: Handover[RenderedFrame | Frame] = Handover(f"render-{name}", live)
        self._sounds: deque[Sound] = deque(maxlen=_MOST_SOUNDS if live else None)
        self.worker = Worker(meter)
        self.opened = self.done = False

    def open(self, controls: Controls) -> None:
        """Attach and open the sink; what it raises comes through."""
        self.sink.attach(controls)
        with self.worker.opening_of(self.stage):
            self.sink.open()
        self.opened = True

    def take(self, item: RenderedFrame | Sound) -> None:
        """Take what leaves, from any thread; sound reaches the sink before the next picture, on the sink's thread.

        A sink with `hears_at_once = True` gets it on this one: what is live must not come in lumps.
        """
        if isinstance(item, RenderedFrame):
            self.frames.put(item)
        elif self.sink.hears_at_once:
            self.sink.hear(item)
        else:
            self._sounds.append(item)

    def write(self, pipeline: Pipeline, item: RenderedFrame | Frame) -> Frame:
        """Give the sink what it is to be given; returns that."""
        finished = isinstance(item, RenderedFrame)
        frame = pipeline.picture(item, self.output) if isinstance(item, RenderedFrame) else item
        self.worker.index = frame.index
        with self.worker.during(self.stage, measured=finished):
            if finished:
                self._pass_on_sound()
            self.sink.write(frame)
        return frame

    def _pass_on_sound(self) -> None:
        while self._sounds:
            self.sink.hear(self._sounds.popleft())

    def finish(self, discard: bool) -> None:
        """Close the sink; `discard`: leave no half file where the sink knows how."""
        self.done = True
        self.frames.abort()
        with self.worker.opening_of(self.stage):  # finishing a long file takes its time, as opening does
            if self.opened and not discard:
                self._pass_on_sound()
            if discard:
                self.sink.discard()
            else:
                self.sink.close()


class Outlets:
    """All of one run; from any thread.

    Attributes:
        serving: those that get frames, in order; replaced where it changes.
    """

    def __init__(self, first: Iterable[Outlet]):
        """Take those that the pipeline has from its beginning."""
        self.serving = tuple(first)
        self._known = self.serving  # also those that are being finished
        self._dropped: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, outlet: Outlet) -> None:
        """Give frames to one more; of those that have ended only the count of dropped frames stays."""
        with self._lock:
            self.serving = (*self.serving, outlet)
            for ended in (other for other in self._known if other.done):
                self._dropped[ended.frames.name] += ended.frames.dropped
            self._known = (*(other for other in self._known if not other.done), outlet)

    def remove(self, outlet: Outlet) -> bool:
        """Give it no more frames; returns whether any other gets some."""
        with self._lock:
            self.serving = tuple(other for other in self.serving if other is not outlet)
            return bool(self.serving)

    def take(self, item: RenderedFrame | Sound) -> None:
        """Hand it to all."""
        for outlet in self.serving:
            outlet.take(item)

    def end(self) -> None:
        """No more will come: what waits is still written."""
        for outlet in self._known:
            outlet.frames.end()

    def abort(self) -> None:
        """Stop now."""
        for outlet in self._known:
            outlet.frames.abort()

    def dropped(self) -> dict[str, int]:
        """Frames dropped before each hand-over since the start, all recordings together."""
        with self._lock:
            dropped = Counter(self._dropped)
            for outlet in self._known:
                dropped[outlet.frames.name] += outlet.frames.dropped
        return dict(dropped)


class DirectPacer:
    """Lets every frame leave as soon as it is finished. `Pacer` does the same at a target delay."""

    def __init__(self, put: Callable[[RenderedFrame | Sound], None]):
        """Take what takes what leaves."""
        self._put = put

    def start(self, crew: Crew, worker: Worker, then: Callable[[], None]) -> None:
        """Begin; `then` is called once, when everything has left."""
        self._then = then

    def take(self, rendered: RenderedFrame) -> None:
        """Take a finished frame; live it never waits."""
        self._put(rendered)

    def end(self) -> None:
        """No more frames will come."""
        self._then()

    def abort(self) -> None:
        """Stop now."""

    def add_to(self, status: Status) -> Status:
        """Return the status with what is to be said of the delay."""
        return status
