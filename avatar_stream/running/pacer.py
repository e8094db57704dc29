"""Between the finished frames and the outputs: everything leaves exactly one target delay after its capture.

Without a programme each finished frame is held until then. With one its pictures set the pace: each leaves with the
signer of the same moment, its sound beside it. Offline the same is done by media time, as fast as it can be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable

from avatar_stream.controls import Status
from avatar_stream.handover import Handover, ShutDown
from avatar_stream.images.compose import Composer
from avatar_stream.running.crew import Crew
from avatar_stream.running.meter import Worker
from avatar_stream.running.outlet import DirectPacer
from avatar_stream.running.pipeline import RenderedFrame
from avatar_stream.running.punctuality import Punctuality
from avatar_stream.running.show.feed import ProgrammePicture, to_rgb
from avatar_stream.running.show.options import ShowOptions
from avatar_stream.running.show.programme import Programme
from avatar_stream.running.show.sound_line import BLOCK_S, SoundLine
from avatar_stream.running.show.vision import InVision
from avatar_stream.types import Sound

# A picture that is only late is waited for a little before the last one is shown again.
_GAP_S = 0.1
_MOST_WAIT_S = 0.5
_MOST_SIGNERS = 2000  # a bound for memory, far above what fits into the longest delay
_FIRST_LEAD_S, _LEAST_LEAD_S, _MOST_LEAD_S = 0.02, 0.003, 0.06
_STARTING_S = 0.1  # a file's first picture is decoded within this


class Pacer(DirectPacer):
    """Lets frames leave when they are due; `take` and `end` are called by the thread that renders.

    The run ends where a programme's file ends that does not loop. A file that loops offline ends with the signer.
    """

    def __init__(
        self,
        delay_ms: int,
        show: ShowOptions | None,
        compose: Composer.Options,
        live: bool,
        put: Callable[[RenderedFrame | Sound], None],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ):
        """Prepare; nothing is open yet.

        Args:
            delay_ms: the target: live, everything leaves so long after its capture.
            show: the programme; None: there is none.
            compose: of the pipeline: the label, and what is behind the signer before there is a programme.
            live: False: by media time, every frame, never waiting for a clock.
            put: takes what leaves.
            clock: of capture times, s.
            wait: lets this clock go on by so many seconds, or until the condition is told.
        """
        super().__init__(put)
        self._show, self._compose, self._live = show, compose, live
        self._delay_s = delay_ms / 1000
        self._clock, self._wait = clock, wait
        self._punctuality = Punctuality(delay_ms, clock)
        self._changed = threading.Condition()
        self._signers: deque[RenderedFrame] = deque(maxlen=_MOST_SIGNERS)
        self._finished: Handover[RenderedFrame] = Handover("render-pace", live=False)
        self._ended = self._aborted = False
        self._programme = Programme(show, self._delay_s, self._changed) if show is not None else None
        self._vision: InVision | None = None
        self._sound: SoundLine | None = None
        self._signer: RenderedFrame | None = None  # who signs in what leaves now
        self._picture: ProgrammePicture | None = None  # the programme's last one
        self._last_s, self._repeating, self._index = 0.0, False, 0
        self._ready: RenderedFrame | None = None  # composed, not yet due
        self._lead_s = _FIRST_LEAD_S

    def start(self, crew: Crew, worker: Worker, then: Callable[[], None]) -> None:
        """Start its thread; `then` is called once, when everything has left."""
        crew.start("pace", self.run, worker, then)

    # Other threads -----------------------------------------------------------------------------------------

    def take(self, rendered: RenderedFrame) -> None:
        """Take a finished frame; live it never waits."""
        if not self._live:
            self._finished.put(rendered)
            return
        self._punctuality.came(rendered.shown.time_s)
        with self._changed:
            self._signers.append(rendered)
            self._changed.notify_all()

    def end(self) -> None:
        """No more frames will come: what is here still leaves when it is due."""
        self._finished.end()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Stop now."""
        self._finished.abort()
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    def add_to(self, status: Status) -> Status:
        """Return the status with target delay, measured delay, spread, late frames, and what is to be said of them."""
        if not self._live:
            return status
        notice = self._programme.notice if self._programme is not None else ""
        return self._punctuality.add_to(status, notice)

    # The pacer's own thread --------------------------------------------------------------------------------

    def run(self, worker: Worker) -> None:
        """Open the programme and let everything leave at its time, until the end."""
        try:
            if self._programme is not None and self._show is not None:
                with worker.opening_of("programme"):
                    self._programme.open()
                self._vision = InVision(self._show, self._programme.size, self._compose)
            if not self._live:
                self._run_offline(worker)
            else:
                self._run_live(worker)
        finally:
            self._finished.abort()
            if self._programme is not None:
                with worker.opening_of("programme"):  # to leave an address that does not answer takes seconds
                    self._programme.close()

    def _run_live(self, worker: Worker) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._signers or self._ended or self._aborted)
        if self._programme is not None:
            self._begin_programme()
        while True:
            with self._changed:
                if self._is_done(worker):
                    return
                due_s, action = min(self._events(), key=lambda event: event[0])
                wait_s = due_s - self._clock()
                if wait_s > 0:
                    self._wait(self._changed, min(wait_s, _MOST_WAIT_S))
                    continue
            action(worker)

    def _begin_programme(self) -> None:
        if not self._signers:
            return
        # The first picture may have taken long; what was due by then is not made up for.
        earliest_s = self._clock() - max(0.0, self._delay_s - _STARTING_S)
        begin_s = max(self._signers[0].shown.time_s, earliest_s)
        self._programme.begin(begin_s)
        self._last_s = begin_s - 1e-6
        self._sound = SoundLine(begin_s) if self._programme.has_sound else None

    def _events(self) -> list[tuple[float, Callable[[Worker], None]]]:
        # What is to be done next, with its time; the lock is held.
        events: list[tuple[float, Callable[[Worker], None]]]
        if self._ready is not None:
            events = [(self._ready.shown.time_s + self._delay_s, self._leave)]
        elif self._programme is None:
            first = self._signers[0] if self._signers else None
            events = [(first.shown.time_s + self._delay_s, self._leave_alone)] if first else []
        else:
            events = [(self._next_moment_s() + self._delay_s - self._lead_s, self._prepare)]
        if self._sound is not None:
            events.append((self._sound.next_s + self._delay_s, self._sound_leaves))
        return events or [(self._clock() + _MOST_WAIT_S, self._leave)]

    def _is_done(self, worker: Worker) -> bool:
        programme = self._programme
        if self._ended:
            worker.opening = True  # nobody waits for something new: it may take as long as the delay
            newest = self._signers[-1] if self._signers else self._signer
            left = programme is not None and (newest is None or self._last_s >= newest.shown.time_s)
            if left or (programme is None and not self._signers):
                return True
        if programme is None or self._aborted or not programme.ended or self._ready is not None:
            return self._aborted
        if programme.next_picture_s() is None and programme.error is not None:
            raise programme.error
        return programme.next_picture_s() is None

    def _leave_alone(self, worker: Worker) -> None:
        with self._changed:
            rendered = self._signers.popleft()
        worker.index = rendered.shown.index
        self._punctuality.left(rendered.shown.time_s, counts=False)
        self._put(rendered)

    def _next_moment_s(self) -> float:
        # When the next picture to leave was captured; `_repeating`: the last one is shown again. The lock is held.
        programme, now_s, step_s = self._programme, self._clock(), 1 / self._programme.fps
        next_s = programme.next_picture_s()
        while next_s is not None and (next_s <= self._last_s or self._is_passed(now_s)):
            self._picture = programme.take_picture()  # too late for its own moment; better than an older one
            if self._index:
                self._punctuality.missed(next_s, self._picture.came_s)
            next_s = programme.next_picture_s()
        # What should have left by now is not made up for: a machine that was busy for a while must catch up.
        due_now_s = now_s - self._delay_s
        if next_s is not None and next_s - max(self._last_s, due_now_s - step_s) <= 1.5 * step_s:
            self._repeating = False
            return next_s
        # One that is only late is waited for a little; where there is none, or it is far, the last one goes on.
        known = self._repeating or next_s is not None
        self._repeating = True
        return max(self._last_s + (step_s if known else max(_GAP_S, step_s)), due_now_s)

    def _is_passed(self, now_s: float) -> bool:
        # The picture after the next one is due already: after a stall of the network nothing is made up for.
        following_s = self._programme.next_but_one_s()
        return following_s is not None and following_s + self._delay_s < now_s

    def _prepare(self, worker: Worker) -> None:
        begun_s = self._clock()
        with self._changed:
            moment_s = self._next_moment_s()
            if moment_s + self._delay_s - self._lead_s > begun_s:
                return  # a picture came that is not yet due
            if not self._repeating:
                self._picture = self._programme.take_picture()
            while self._signers and (self._signer is None or self._signers[0].shown.time_s <= moment_s):
                self._signer = self._signers.popleft()
        self._last_s = moment_s
        if self._signer is None:
            return
        self._ready = self._compose_at(moment_s, self._signer, worker)
        # As much earlier as composing takes, so that what is ready waits and not what is due.
        spent_s = self._clock() - begun_s
        self._lead_s = min(max(0.98 * self._lead_s, 1.5 * spent_s, _LEAST_LEAD_S), _MOST_LEAD_S)

    def _leave(self, worker: Worker) -> None:
        rendered, self._ready = self._ready, None
        if rendered is not None:
            self._punctuality.left(rendered.shown.time_s, counts=True)
            self._put(rendered)

    def _sound_leaves(self, _: Worker) -> None:
        with self._changed:
            for sound in self._programme.take_sounds(self._sound.next_s + BLOCK_S):
                self._sound.add(sound)
        for block in self._sound.take(self._clock() - self._delay_s):
            self._put(block)

    def _compose_at(self, moment_s: float, signer: RenderedFrame, worker: Worker) -> RenderedFrame:
        worker.index = self._index
        with worker.during("show"):
            picture = to_rgb(self._picture, self._programme.size) if self._picture is not None else None
            shown = self._vision.compose(signer.shown, picture, moment_s, self._index)
        self._index += 1
        return dataclasses.replace(signer, shown=shown)

    # Offline -----------------------------------------------------------------------------------------------

    def _run_offline(self, worker: Worker) -> None:
        if self._programme is None:
            while True:
                self._put(self._finished.take())
        signer = self._finished.take()
        following: RenderedFrame | None = signer
        self._last_s = -1.0
        self._sound = SoundLine(0.0) if self._programme.has_sound else None
        step_s = 1 / self._programme.fps
        for item in self._programme.moments():
            if isinstance(item, Sound):
                self._pass_on(item)
                continue
            for moment_s in [*self._missing(item.time_s, step_s), item.time_s]:
                while following is not None and following.shown.time_s <= moment_s:
                    signer, following = following, None
                    with contextlib.suppress(ShutDown):
                        following = self._finished.get()
                if following is None and self._show.loop and moment_s > signer.shown.time_s:
                    return
                self._picture = item if moment_s == item.time_s else self._picture
                self._put(self._compose_at(moment_s, signer, worker))
                self._last_s = moment_s
        if self._sound is not None:
            for block in self._sound.take(self._last_s + step_s - BLOCK_S):
                self._put(block)

    def _missing(self, next_s: float, step_s: float) -> list[float]:
        # Moments before the next picture at which the last one is shown again, so that the signer goes on.
        moments, moment_s = [], self._last_s + step_s
        if self._picture is not None and next_s - self._last_s > 1.5 * step_s:
            while moment_s < next_s - step_s / 2:
                moments.append(moment_s)
                moment_s += step_s
        return moments

    def _pass_on(self, sound: Sound) -> None:
        if self._sound is None:
            return
        self._sound.add(sound)
        for block in self._sound.take():
            self._put(block)
