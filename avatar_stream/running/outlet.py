"""One output while it runs: its hand-over, its sink, and what of the finished frames it is given."""

from __future__ import annotations

from collections import deque

from avatar_stream.controls import Controls
from avatar_stream.pipeline import Output, Pipeline, Rendered
from avatar_stream.running.handover import Handover
from avatar_stream.running.meter import Meter, Worker
from avatar_stream.types import Frame, Sound

_MOST_SOUNDS = 1000  # live: 20 s, for outputs that are slow to open


class Outlet:
    """Opens, feeds and finishes a sink; all three on one thread.

    Attributes:
        frames: the hand-over that leads to it. A bare Frame is the camera's own picture.
        on_main: it belongs to the thread that called `run`.
        turn: its place in the order in which stages are opened, or None: at once.
        opened, done: how far it has come.
    """

    def __init__(self, output: Output, live: bool, meter: Meter, turn: int | None):
        """Prepare; nothing is open yet."""
        self.output, self.sink, self.turn = output, output.sink, turn
        self.stage = f"output {output.name}"
        self.on_main = getattr(output.sink, "on_main_thread", False)
        self.frames: Handover[Rendered | Frame] = Handover(f"render-{output.name}", live)
        self._sounds: deque[Sound] = deque(maxlen=_MOST_SOUNDS if live else None)
        self._hears = hasattr(output.sink, "hear")
        self._hears_at_once = getattr(output.sink, "hears_at_once", False)
        self.worker = Worker(meter)
        self.opened = self.done = False

    def open(self, controls: Controls) -> None:
        """Attach and open the sink; what it raises comes through."""
        if hasattr(self.sink, "attach"):
            self.sink.attach(controls)
        with self.worker.opening_of(self.stage):
            self.sink.open()
        self.opened = True

    def take(self, item: Rendered | Sound) -> None:
        """Take what leaves, from any thread; sound reaches the sink before the next picture, on the sink's thread.

        A sink with `hears_at_once = True` gets it on this one: what is live must not come in lumps.
        """
        if isinstance(item, Rendered):
            self.frames.put(item)
        elif self._hears_at_once:
            self.sink.hear(item)
        elif self._hears:
            self._sounds.append(item)

    def write(self, pipeline: Pipeline, item: Rendered | Frame) -> Frame:
        """Give the sink what it is to be given; returns that."""
        finished = isinstance(item, Rendered)
        frame = pipeline.picture(item, self.output) if finished else item
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
            if discard and hasattr(self.sink, "discard"):
                self.sink.discard()
            else:
                self.sink.close()
