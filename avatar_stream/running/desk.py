"""Answers what outputs ask of a running pipeline, and gathers what they are told."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from avatar_stream.controls import Controls, Setting, Status, Wish
from avatar_stream.errors import AvatarStreamError
from avatar_stream.running.meter import Worker
from avatar_stream.running.outlet import Outlet
from avatar_stream.running.pipeline import Output, Pipeline, RenderedFrame
from avatar_stream.running.stand_in import StandIn, in_place_of

_SAID_FOR_S = 6.0


class Desk:
    """Wishes are answered on the render thread, between two frames; the status is made on the calling thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        controls: Controls,
        add_output: Callable[[Output], Outlet],
        end_output: Callable[[Outlet], None],
    ):
        """Take the pipeline to change and how to add and end outputs of a running one."""
        self._pipeline, self._controls = pipeline, controls
        self._add_output, self._end_output = add_output, end_output
        self._recording: Outlet | None = None
        self._frozen: RenderedFrame | None = None
        self._switches = {
            Wish.FREEZE: False,
            Wish.HOLD: False,
            Wish.HUMAN: False,
        }  # what stands in for the avatar
        self._stand_in = StandIn()
        self._calibrate = threading.Event()
        self._quality, self._quality_text = 0, ""
        self._said: deque[tuple[float, str]] = deque(maxlen=9)
        self._lock = threading.Lock()

    def answer(self, worker: Worker) -> bool:
        """Answer every wish since the last call; returns whether the run is to go on."""
        for wish in self._controls.take():
            if wish is Wish.QUIT:
                return False
            try:
                self._answer(wish, worker)
            except AvatarStreamError as error:
                self.say(str(error))
        return True

    def calibrate_asked(self) -> bool:
        """Whether the signer is to be measured anew; true once for each time it was asked."""
        asked = self._calibrate.is_set()
        self._calibrate.clear()
        return asked

    def present(self, rendered: RenderedFrame) -> RenderedFrame:
        """Return the frame, or what stands in for it now, at this frame's time: card, signer, frozen picture."""
        if self._switches[Wish.HOLD]:
            return self._stand_in.card(rendered)
        if self._switches[Wish.HUMAN]:
            return self._stand_in.signer(rendered)
        if not self._switches[Wish.FREEZE]:
            self._frozen = rendered
            return rendered
        return in_place_of(rendered, (self._frozen or rendered).shown)

    def set_quality(self, level: int) -> None:
        """Take the level that the governor decided, on the render thread."""
        if level == self._quality:
            return
        synthesizer = self._pipeline.cast.synthesizer
        synthesizer.set_quality(level)
        self._quality = level
        if level == 0:
            self._quality_text = ""
            self.say("fast enough again: full quality")
        else:
            what = synthesizer.quality_levels[level]
            self._quality_text = f"this machine is too slow for full quality: {what}"

    def say(self, text: str, for_s: float = _SAID_FOR_S) -> None:
        """Show a line for some seconds; from any thread."""
        with self._lock:
            self._said.append((time.monotonic() + for_s, text))

    def status(
        self,
        figures: tuple[float, float, float],
        stages: dict[str, float],
        dropped: dict[str, int],
        silent: list[str],
    ) -> Status:
        """Return what outputs are told now; `figures` are fps, median delay and its 95th percentile in ms."""
        fps, delay_ms, p95_ms = figures
        now_s = time.monotonic()
        with self._lock:
            said = [text for until_s, text in self._said if until_s > now_s]
        framing = self._pipeline.guard.notices if self._pipeline.guard is not None else ()
        # A source that knows why it is silent says so better than the watch.
        notice = self._pipeline.source.notice
        outputs = [output.sink.notice for output in self._pipeline.outputs]
        silent = [line for line in silent if not (notice and line.startswith("source"))]
        notices = [self._quality_text, *framing, notice]
        return Status(
            fps=fps,
            delay_ms=delay_ms,
            p95_ms=p95_ms,
            dropped=dropped,
            stages=stages,
            avatar=self._pipeline.cast.name,
            recording=self._records(),
            frozen=self._switches[Wish.FREEZE],
            skeleton=self._pipeline.skeleton,
            held=self._switches[Wish.HOLD],
            human=self._switches[Wish.HUMAN],
            framing=framing,
            messages=_once(*said, self._quality_text, *framing, *silent, *outputs, notice),
            notices=_once(*notices),
        )

    def _answer(self, wish: Wish | Setting, worker: Worker) -> None:
        pipeline = self._pipeline
        wish, to = (wish.what, wish.to) if isinstance(wish, Setting) else (wish, None)

        def switched(now: bool) -> bool:
            return not now if to is None else bool(to)

        if wish in (Wish.FREEZE, Wish.HOLD, Wish.HUMAN):
            self._switches[wish] = switched(self._switches[wish])
        elif wish is Wish.SKELETON:
            pipeline.skeleton = switched(pipeline.skeleton)
        elif wish is Wish.CALIBRATE:
            self._calibrate.set()
            self.say("measuring the signer anew")
        elif wish is Wish.RECORD:
            self._switch_recording(switched(self._records()))
        elif wish is Wish.NEXT_BACKGROUND:
            pipeline.composer.next_background()
        elif wish is Wish.AVATAR:
            self._change_avatar(str(to), worker)
        else:
            self._change_avatar(self._neighbour(1 if wish is Wish.NEXT_AVATAR else -1), worker)

    def _records(self) -> bool:
        return self._recording is not None and not self._recording.done  # one that failed has ended by itself

    def _switch_recording(self, on: bool) -> None:
        if on == self._records():
            return
        recording = self._recording
        if recording is not None and not recording.done:
            self._end_output(recording)
            self.say(f"recorded {recording.output.name}")
            self._recording = None
        elif self._pipeline.new_recording is None:
            self.say("this pipeline offers no recording")
        else:
            self._recording = self._add_output(self._pipeline.new_recording())

    def _neighbour(self, step: int) -> str:
        names, name = list(self._pipeline.avatars), self._pipeline.cast.name
        if len(names) < 2:
            return name
        index = names.index(name) if name in names else -1 if step > 0 else 0
        return names[(index + step) % len(names)]

    def _change_avatar(self, name: str, worker: Worker) -> None:
        pipeline, old = self._pipeline, self._pipeline.cast
        if pipeline.recast is None or (name == old.name and len(pipeline.avatars) < 2):
            self.say("there is no other avatar")
            return
        if name == old.name:
            return
        with worker.opening_of("synthesizer"):
            new = pipeline.recast(name, old)
            if new.synthesizer is not old.synthesizer:
                # One after the other: two would need the memory twice, and OpenGL has one context a thread.
                old.synthesizer.close()
                try:
                    new.synthesizer.open()
                except AvatarStreamError:
                    new.synthesizer.close()
                    old.synthesizer.open()
                    raise
                if self._quality:
                    new.synthesizer.set_quality(self._quality)
        pipeline.cast = new


def _once(*texts: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
