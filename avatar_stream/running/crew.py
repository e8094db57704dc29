"""The threads of one run: started, watched, and waited for at the end."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator

import cv2
from threadpoolctl import threadpool_limits

from avatar_stream.handover import ShutDown
from avatar_stream.running.meter import Worker

_STOP_S = 5.0  # how long a thread may go on after it was told to stop
_OPENING_S = 60.0  # the same for one that loads networks or finishes a file
_STEP_S = 0.04


@contextlib.contextmanager
def without_helpers() -> Iterator[None]:
    """Keep numpy's and OpenCV's own threads still: the frames' threads already fill the processors.

    Products and pictures are small here. Between them OpenBLAS' threads turn in circles, and OpenCV wakes its own for
    tenths of a millisecond; see docs/experiments.md.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)


@contextlib.contextmanager
def on_interrupt(handler: Callable[..., None]) -> Iterator[None]:
    """Inside it Ctrl-C and SIGTERM call the handler, where the calling thread is the one that may ask for it."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


class Crew:
    """Starts threads and joins them.

    Attributes:
        workers: what each thread does now, by the thread's name.
    """

    def __init__(self, on_error: Callable[[BaseException, Worker], None]):
        """Take whom errors are told to; a shut-down is none."""
        self.workers: dict[str, Worker] = {}
        self._on_error = on_error
        self._threads: dict[str, tuple[threading.Thread, Worker]] = {}

    def start(
        self, name: str, body: Callable[[Worker], None], worker: Worker, then: Callable[[], None]
    ) -> None:
        """Start a thread that runs `body`, and `then` however that ended; those that ended before are forgotten."""
        for ended in [other for other, (thread, _) in self._threads.items() if not thread.is_alive()]:
            del self._threads[ended], self.workers[ended]
        if name in self._threads:
            raise ValueError(f"there is a thread {name!r} already: the first one would never be waited for")

        def shell() -> None:
            try:
                body(worker)
            except ShutDown:
                pass
            except BaseException as error:
                self._on_error(error, worker)
            finally:
                worker.since_s = None
                then()

        self.workers[name] = worker
        # A thread that hangs in a driver must not keep the program from ending.
        thread = threading.Thread(target=shell, name=f"avatar-{name}", daemon=True)
        self._threads[name] = thread, worker
        thread.start()

    def alive(self, without: str = "") -> bool:
        """Whether any thread but `without` is at work."""
        return any(thread.is_alive() for name, (thread, _) in tuple(self._threads.items()) if name != without)

    def wait(self) -> None:
        """Let a moment pass, or less where a thread ends."""
        for thread, _ in tuple(self._threads.values()):
            if thread.is_alive():
                thread.join(_STEP_S)
                return

    def join(self, most_s: float = math.inf) -> list[str]:
        """Wait for every thread, `most_s` at most; returns the stages that did not stop in time."""
        begun_s, late = time.monotonic(), []
        for thread, worker in tuple(self._threads.values()):
            while thread.is_alive():
                limit_s = _OPENING_S if worker.opening else _STOP_S
                if time.monotonic() - begun_s > min(limit_s, most_s):
                    late.append(worker.stage)
                    break
                thread.join(_STEP_S)
        return late
