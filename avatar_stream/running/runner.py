"""The threads of a running pipeline: capture, analyze, render, one for each output.

Each stage is opened, used and closed on one thread. Windows are served by the thread that called `run`. Stages that
speak to a network, and programmes, have threads of their own behind `open` and `close`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator

from avatar_stream.controls import Controls
from avatar_stream.errors import AvatarStreamError, EndOfStream, OutputClosed
from avatar_stream.handover import Handover, ShutDown, Turns
from avatar_stream.running.crew import Crew, on_interrupt, without_helpers
from avatar_stream.running.desk import Desk
from avatar_stream.running.memory import Heaps
from avatar_stream.running.meter import Meter, QualityGovernor, Report, SilenceWatch, Worker
from avatar_stream.running.outlet import DirectPacer, Outlet, Outlets
from avatar_stream.running.pipeline import AnalyzedFrame, Output, Pipeline, RenderedFrame
from avatar_stream.running.show.options import DEFAULT_TARGET_DELAY_MS
from avatar_stream.stages import Stage
from avatar_stream.types import Frame, Sound

logger = logging.getLogger(__name__)

_STATUS_EVERY_S = 0.25
_PAUSE_S = 0.02  # the most the calling thread waits: windows want their events read
_STARVED_S = 0.5  # live: after this long without a picture the avatar goes to rest
_SILENT_LIVE_S, _SILENT_FILE_S = 2.0, 30.0
_BREAK_OFF_S = 1.0  # for outputs to be discarded


def run(
    pipeline: Pipeline,
    controls: Controls | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    seconds: float | None = None,
    on_open: Callable[[], None] | None = None,
) -> Report:
    """Open the stages, bring frames through until the source ends or somebody stops it, close them.

    Live (`source.live`) the newest frame wins at every hand-over and the delay does not grow; else every frame
    arrives, in order. Ctrl-C and SIGTERM end it in order. After an error, outputs of a run that is not live are
    discarded, so that no half file has the final name; a live run's files are finished.

    Args:
        pipeline: nothing of it is open yet.
        controls: what outputs may ask and are told; None: made here.
        on_frame: called after each finished frame, on the render thread.
        seconds: end it after this long, counted from the first finished frame.
        on_open: called on the calling thread once all outputs are open, before networks are loaded.

    Returns:
        The Report.

    Raises:
        AvatarStreamError: what a stage raised first; its notes name the stage and the frame.
    """
    return _Run(pipeline, controls or Controls(), on_frame, seconds, on_open).go()


def _make_pacer(pipeline: Pipeline, put: Callable[[RenderedFrame | Sound], None]) -> DirectPacer:
    live, delay_ms = pipeline.source.live, pipeline.target_delay_ms
    if pipeline.show is None and (delay_ms is None or not live):
        return DirectPacer(put)
    from avatar_stream.running.pacer import Pacer  # it loads FFmpeg, which a camera and a window do without

    delay_ms = DEFAULT_TARGET_DELAY_MS if delay_ms is None else delay_ms
    return Pacer(delay_ms, pipeline.show, pipeline.composer.options, live, put)


class _Run:
    """One run of one pipeline."""

    def __init__(
        self,
        pipeline: Pipeline,
        controls: Controls,
        on_frame: Callable[[Frame], None] | None,
        seconds: float | None,
        on_open: Callable[[], None] | None,
    ):
        self._pipeline, self._controls, self._on_frame, self._seconds = pipeline, controls, on_frame, seconds
        self._live, self._on_open = pipeline.source.live, on_open
        self._heaps = Heaps() if self._live else None
        if pipeline.server is not None:
            pipeline.server.attach(self._controls)
        self._meter = Meter()
        self._desk = Desk(pipeline, controls, self._add_output, self._end_output)
        self._frames: Handover[Frame] = Handover("capture-analyze", self._live)
        self._analyzed: Handover[AnalyzedFrame] = Handover("analyze-render", self._live)
        self._outlets = Outlets(
            Outlet(output, self._live, self._meter, 1 + k) for k, output in enumerate(pipeline.outputs)
        )
        self._pacer = _make_pacer(pipeline, self._outlets.take)
        self._turns = Turns()
        # Source first, then the outputs; then tracker and synthesizer load their networks beside each other.
        self._networks_turn = 1 + len(pipeline.outputs)
        self._crew = Crew(self._fail)
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._ending = self._interrupted = False
        self._first_s: float | None = None
        self._failures: list[str] = []
        self._watch = SilenceWatch(_SILENT_LIVE_S if self._live else _SILENT_FILE_S)
        self._told_s, self._captured = 0.0, 0

    def go(self) -> Report:
        with without_helpers(), on_interrupt(self._interrupt):
            try:
                self._pacer.start(self._crew, Worker(self._meter), self._end_outlets)
                self._crew.start("capture", self._capture, Worker(self._meter), self._frames.end)
                self._crew.start("analyze", self._analyze, Worker(self._meter), self._end_analyze)
                self._crew.start("render", self._render, Worker(self._meter), self._end_render)
                for outlet in self._outlets.serving:
                    if not outlet.on_main:
                        self._start_outlet(outlet)
                self._serve([outlet for outlet in self._outlets.serving if outlet.on_main])
            except KeyboardInterrupt as error:  # the second Ctrl-C: nobody wants to wait for networks to load
                self._fail(error, None)
                self._crew.join(_BREAK_OFF_S)
                raise
            except BaseException as error:
                self._fail(error, None)
            late = self._crew.join()
        if late:
            names = ", ".join(late)
            self._fail(AvatarStreamError(f"could not stop: {names} still at work; end the program"), None)
        if self._error is not None:
            raise self._error
        return self._meter.report(self._interrupted, self._dropped() if self._live else {}, self._failures)

    # What the threads do -----------------------------------------------------------------------------------

    def _capture(self, worker: Worker) -> None:
        source = self._pipeline.source
        with self._opened(worker, "source", lambda: source, 0), contextlib.suppress(EndOfStream):
            while not self._ending:
                with worker.during("source", measured=False):
                    frame = source.read()
                worker.index = frame.index
                self._captured += 1
                if self._live and self._first_s is None:
                    self._show_camera(frame)
                if not self._frames.put(frame):
                    return

    def _analyze(self, worker: Worker) -> None:
        pipeline, last = self._pipeline, None
        with self._opened(worker, "tracker", lambda: pipeline.tracker, self._networks_turn, beside=True):
            while True:
                frame = self._frames.get(_STARVED_S if self._live else None)
                looked = frame is not None
                if frame is not None:
                    last, worker.index = frame, frame.index
                elif last is None:
                    continue
                else:
                    frame = dataclasses.replace(last, pose=None, time_s=time.monotonic())
                if self._desk.calibrate_asked():
                    pipeline.cast.retargeter.reset()
                analyzed = pipeline.analyze(frame, worker.during, looked)
                if self._live and not self._turns.reached(self._networks_turn + 1):
                    # A tracker at work would slow down the synthesizer's loading more than it gains.
                    self._turns.wait(self._networks_turn + 1)
                    self._frames.dropped = 0  # nobody waited for those
                    if self._frames.waiting:
                        continue  # there is a newer one
                if not self._analyzed.put(analyzed):
                    return

    def _render(self, worker: Worker) -> None:
        pipeline, governor = self._pipeline, None
        with self._opened(worker, "synthesizer", lambda: pipeline.cast.synthesizer, self._networks_turn):
            levels = pipeline.cast.synthesizer.quality_levels
            if self._live and len(levels) > 1:
                governor = QualityGovernor(len(levels))
            while True:
                analyzed = self._analyzed.get(0.1 if self._live else None)
                if not self._desk.answer(worker):
                    return
                if analyzed is None or analyzed.cast is not pipeline.cast:
                    continue
                worker.index = analyzed.frame.index
                self._hand_out(self._desk.present(pipeline.render(analyzed, worker.during)))
                if governor is not None:
                    self._desk.set_quality(governor.update(time.monotonic(), self._captured))

    def _hand_out(self, rendered: RenderedFrame) -> None:
        self._first_s = self._first_s or time.monotonic()
        self._pacer.take(rendered)
        self._meter.frames += 1
        self._meter.with_signer += rendered.frame.pose is not None
        if self._on_frame is not None:
            self._on_frame(rendered.shown)

    def _put_out(self, outlet: Outlet) -> None:
        try:
            on_air = self._open_outlet(outlet)
            while on_air:
                on_air = self._write(outlet, outlet.frames.get())
        finally:
            self._finish(outlet)

    def _write(self, outlet: Outlet, item: RenderedFrame | Frame | None) -> bool:
        """Give an output a frame, or a moment where none came (None); returns whether it can take more."""
        try:
            if item is None:
                outlet.sink.idle()
                return True
            frame = outlet.write(self._pipeline, item)
        except OutputClosed:
            self._stop()
            return False
        except AvatarStreamError as error:
            self._go_on_without(outlet, error)
            return False
        first = outlet is next(iter(self._outlets.serving), None)
        if self._live and first and isinstance(item, RenderedFrame):  # a file's times are no clock's
            self._meter.deliver(frame.time_s)
        return True

    # Opening and closing: cheap things first, one after another, so that a wrong name is told at once --------

    @contextlib.contextmanager
    def _opened(
        self, worker: Worker, name: str, current: Callable[[], Stage | None], turn: int, beside: bool = False
    ) -> Iterator[None]:
        # `current` gives the stage: another one may be closed than was opened, for the avatar may change on the way.
        # `beside`: another stage has the same turn, and that one's end counts.
        self._turns.wait(turn)
        try:
            if (stage := current()) is not None:
                with worker.opening_of(name):
                    stage.open()
            if not beside:
                self._turns.done(turn)
            yield
        finally:
            if (stage := current()) is not None:
                stage.close()

    def _open_outlet(self, outlet: Outlet) -> bool:
        """Open an output when it is its turn; returns whether it can take frames."""
        self._turns.wait(outlet.turn)
        try:
            outlet.open(self._controls)
        except AvatarStreamError as error:
            self._go_on_without(outlet, error)
        finally:
            outlet.worker.opening = False
        self._turns.done(outlet.turn)
        return outlet.opened

    def _finish(self, outlet: Outlet) -> None:
        try:
            outlet.finish(discard=self._error is not None and not self._live)
        except AvatarStreamError as error:
            self._go_on_without(outlet, error)

    def _go_on_without(self, outlet: Outlet, error: AvatarStreamError) -> None:
        """Take one output out of the run, or raise the error where it cannot go on without.

        Optional outputs need not open; when live, any output but the last may fail on the way.
        """
        optional = not outlet.opened and (outlet.output.optional or outlet.turn is None)
        if not (optional or (self._live and outlet.opened)) or not self._outlets.remove(outlet):
            raise error
        if outlet.opened or outlet.turn is None:
            logger.warning("%s", error)
            self._failures.append(str(error))
            self._desk.say(str(error), 30.0)
        else:
            logger.info("without %s: %s", outlet.output.name, error)

    # Threads ------------------------------------------------------------------------------------------------

    def _start_outlet(self, outlet: Outlet) -> None:
        name, then = f"output {outlet.output.name}", outlet.frames.abort
        self._crew.start(name, lambda _: self._put_out(outlet), outlet.worker, then)

    def _end_analyze(self) -> None:
        self._stop()
        self._analyzed.end()

    def _end_render(self) -> None:
        self._stop()
        self._analyzed.abort()
        self._pacer.end()

    def _end_outlets(self) -> None:
        self._stop()
        self._outlets.end()

    def _add_output(self, output: Output) -> Outlet:
        outlet = Outlet(output, self._live, self._meter, None)
        self._outlets.add(outlet)
        self._start_outlet(outlet)
        return outlet

    def _end_output(self, outlet: Outlet) -> None:
        outlet.frames.end()
        self._outlets.remove(outlet)

    def _show_camera(self, frame: Frame) -> None:
        # Only in windows: what leaves the signer's own screen never shows the signer.
        for outlet in self._outlets.serving:
            if outlet.on_main:
                outlet.frames.put(dataclasses.replace(frame, driver=frame.image))

    # The calling thread -------------------------------------------------------------------------------------

    def _serve(self, windows: list[Outlet]) -> None:
        try:
            for window in windows:
                self._crew.workers[window.stage] = window.worker
                self._attend(window, self._open_outlet)
            # A source that hangs in its driver must not keep everybody: `join` gives it its time.
            while self._error is None and (
                self._crew.alive(without="capture") or not all(window.done for window in windows)
            ):
                for window in windows:
                    if not window.done:
                        self._attend(window, lambda outlet: self._write(outlet, outlet.frames.get(_PAUSE_S)))
                if all(window.done for window in windows):
                    self._crew.wait()
                self._tick()
        finally:
            for window in windows:
                if not window.done:
                    self._finish(window)

    def _attend(self, window: Outlet, action: Callable[[Outlet], bool]) -> None:
        """Do something for a window, as `Crew` does it for a thread; finish it where that was the last."""
        try:
            if not action(window):
                self._finish(window)
        except ShutDown:
            self._finish(window)
        except AvatarStreamError as error:
            self._fail(error, window.worker)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._on_open is not None and self._turns.reached(self._networks_turn):
            on_open, self._on_open = self._on_open, None
            on_open()
        if self._seconds is not None and self._first_s and now_s - self._first_s >= self._seconds:
            self._stop()
        if self._heaps is not None:
            self._heaps.tidy(now_s)
        if now_s - self._told_s >= _STATUS_EVERY_S:
            self._told_s = now_s
            figures = self._meter.recent() if self._live else (0.0, 0.0, 0.0)
            silent = self._watch.look(dict(self._crew.workers))
            status = self._desk.status(figures, self._meter.recent_stages(), self._dropped(), silent)
            self._controls.tell(self._pacer.add_to(status))

    # Endings ------------------------------------------------------------------------------------------------

    def _interrupt(self, *_: object) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        self._stop()

    def _stop(self) -> None:
        """End in order: what is on its way still arrives."""
        self._ending = True
        self._frames.end()
        self._pipeline.source.stop()

    def _fail(self, error: BaseException, worker: Worker | None) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
                if worker is not None:
                    place = "" if worker.index is None else f", frame {worker.index}"
                    error.add_note(f"in stage '{worker.stage}'{place}")
        self._stop()
        self._turns.abort()
        for hand_over in (self._frames, self._analyzed, self._pacer, self._outlets):
            hand_over.abort()

    def _dropped(self) -> dict[str, int]:
        before = {hand_over.name: hand_over.dropped for hand_over in (self._frames, self._analyzed)}
        return before | self._outlets.dropped()
