"""An event loop on a thread of its own: the web server's, and each WHIP output's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from avatar_stream.broadcast.ports import make_loop
from avatar_stream.errors import AvatarStreamError

logger = logging.getLogger(__name__)

_START_TIMEOUT_S, _STOP_TIMEOUT_S = 10.0, 15.0
Result = TypeVar("Result")


class LoopThread:
    """Runs one coroutine from `start` to `stop`; what fails in it is raised by whoever calls next."""

    def __init__(
        self,
        name: str,
        serve: Callable[[Callable[[], None], asyncio.Event], Coroutine[Any, Any, None]],
        error_type: type[AvatarStreamError],
        udp_ports: tuple[int, int] | None,
    ):
        """Prepare; `start` it at once.

        Args:
            name: for messages and of the thread.
            serve: what runs; it calls its first argument once it is ready, and returns soon after its second is set.
            error_type: of what is raised.
            udp_ports: first and last local port for media; None: whichever is free.
        """
        self._name, self._serve, self._error_type = name, serve, error_type
        self._loop, self._stop = make_loop(udp_ports), asyncio.Event()
        self._ready = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name.replace(" ", "-"), daemon=True)

    def start(self) -> None:
        """Start the thread; returns when it is ready."""
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S) or self._error is not None:
            raise self._error_type(
                f"the {self._name} did not start: {self._error or 'no answer'}"
            ) from self._error

    def check(self) -> None:
        """Raise where it has ended by itself; from any thread, costs nothing."""
        if not self._thread.is_alive():
            raise self._error_type(f"the {self._name} stopped: {self._error or 'unknown'}") from self._error

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run a function on the event loop, soon; from any thread, never waits."""
        self.check()
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:  # the loop has just been closed
            raise self._error_type(f"the {self._name} has stopped") from error

    def wait_for(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the event loop and return its result; not from the loop itself."""
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:
            coroutine.close()
            raise self._error_type(f"the {self._name} has stopped") from error
        try:
            return future.result(_STOP_TIMEOUT_S)
        except TimeoutError as error:
            raise self._error_type(f"the {self._name} does not answer in {_STOP_TIMEOUT_S:.0f} s") from error

    def stop(self) -> None:
        """End it in order and wait for that."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise self._error_type(f"the thread of the {self._name} does not end")

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve(self._ready.set, self._stop))
        except Exception as error:  # the thread's shell: raised by whoever calls next
            logger.exception("the %s failed", self._name)
            self._error = error
        finally:
            self._ready.set()
