"""Answers what outputs ask of a running pipeline, and gathers what they are told."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable

from avatar_stream.controls import Controls, Status, Wish
from avatar_stream.errors import AvatarStreamError, EndOfStream
from avatar_stream.pipeline import Output, Pipeline, Rendered
from avatar_stream.running.meter import Worker

_SAID_FOR_S = 6.0


class Desk:
    """Wishes are answered on the render thread, between two frames; the status is made on the calling thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        controls: Controls,
        add_output: Callable[[Output], object],
        end_output: Callable[[object], None],
    ):
        """Take the pipeline to change and how to add and end outputs of a running one."""
        self._pipeline, self._controls = pipeline, controls
        self._add_output, self._end_output = add_output, end_output
        self._recording: object | None = None
        self._frozen: Rendered | None = None
        self._freeze = False
        self._calibrate = threading.Event()
        self._quality, self._quality_text = 0, ""
        self._said: deque[tuple[float, str]] = deque(maxlen=9)
        self._lock = threading.Lock()

    def answer(self, worker: Worker) -> None:
        """Answer every wish since the last call; EndOfStream where it is to end."""
        for wish in self._controls.take():
            try:
                self._answer(wish, worker)
            except AvatarStreamError as error:
                self.say(str(error))

    def calibrate_asked(self) -> bool:
        """Whether the signer is to be measured anew; true once for each time it was asked."""
        asked = self._calibrate.is_set()
        self._calibrate.clear()
        return asked

    def freeze(self, rendered: Rendered) -> Rendered:
        """Return the frame, or while frozen the picture at which it was frozen, at this frame's time."""
        if not self._freeze:
            self._frozen = rendered
            return rendered
        held = self._frozen or rendered
        frame = rendered.shown
        shown = dataclasses.replace(held.shown, time_s=frame.time_s, index=frame.index, driver=frame.driver)
        return dataclasses.replace(rendered, shown=shown)

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

    def forget_output(self, output: object) -> None:
        """An output failed: if it is the recording, there is none any more."""
        if output is self._recording:
            self._recording = None

    def say(self, text: str, for_s: float = _SAID_FOR_S) -> None:
        """Show a line for some seconds; from any thread."""
        with self._lock:
            self._said.append((time.monotonic() + for_s, text))

    def status(
        self, fps: float, delay_ms: float, p95_ms: float, dropped: dict[str, int], silent: list[str]
    ) -> Status:
        """Return what outputs are told now."""
        now_s = time.monotonic()
        with self._lock:
            said = [text for until_s, text in self._said if until_s > now_s]
        messages = [*said, self._quality_text]
        if self._pipeline.guard is not None:
            messages += self._pipeline.guard.notices
        # A source that knows why it is silent says so better than the watch.
        notice = getattr(self._pipeline.source, "notice", "")
        messages += [line for line in silent if not (notice and line.startswith("source"))] + [notice]
        return Status(
            fps=fps,
            delay_ms=delay_ms,
            p95_ms=p95_ms,
            dropped=dropped,
            avatar=self._pipeline.cast.name,
            recording=self._recording is not None,
            frozen=self._freeze,
            skeleton=self._pipeline.skeleton,
            messages=tuple(dict.fromkeys(text for text in messages if text)),
        )

    def _answer(self, wish: Wish, worker: Worker) -> None:
        pipeline = self._pipeline
        if wish is Wish.QUIT:
            raise EndOfStream
        if wish is Wish.FREEZE:
            self._freeze = not self._freeze
        elif wish is Wish.SKELETON:
            pipeline.skeleton = not pipeline.skeleton
        elif wish is Wish.CALIBRATE:
            self._calibrate.set()
            self.say("measuring the signer anew")
        elif wish is Wish.RECORD:
            self._switch_recording()
        elif wish is Wish.NEXT_BACKGROUND:
            change = getattr(pipeline.composer, "next_background", None)
            if change is not None:
                change()
        else:
            self._change_avatar(1 if wish is Wish.NEXT_AVATAR else -1, worker)

    def _switch_recording(self) -> None:
        if self._recording is not None:
            self._end_output(self._recording)
            self.say(f"recorded {self._recording.output.name}")
            self._recording = None
        elif self._pipeline.new_recording is None:
            self.say("this pipeline offers no recording")
        else:
            self._recording = self._add_output(self._pipeline.new_recording())

    def _change_avatar(self, step: int, worker: Worker) -> None:
        pipeline, old = self._pipeline, self._pipeline.cast
        names = list(pipeline.avatars)
        if pipeline.recast is None or len(names) < 2:
            self.say("there is no other avatar")
            return
        place = names.index(old.name) if old.name in names else -1 if step > 0 else 0
        with worker.opening_of("synthesizer"):
            new = pipeline.recast(names[(place + step) % len(names)], old)
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


class CurrentSynthesizer:
    """Opens and closes the synthesizer of whoever signs then: the avatar may change on the way."""

    def __init__(self, pipeline: Pipeline):
        """Take the pipeline; nothing is open yet."""
        self._pipeline = pipeline

    def open(self) -> None:
        """Open it."""
        self._pipeline.cast.synthesizer.open()

    def close(self) -> None:
        """Close it."""
        self._pipeline.cast.synthesizer.close()
