"""Waits for what happens elsewhere, and work that goes on beside a test."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor


def wait_until(condition, timeout_s=60.0) -> bool:
    """Whether it becomes true in time."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


def until(condition, timeout_s=60.0) -> None:
    """Wait until it is true; fails where it does not happen in time."""
    assert wait_until(condition, timeout_s), "it did not happen in time"


class Beside(threading.Thread):
    """`run` goes on for the time of a block, or until `stopped` is set; what it raises fails the test."""

    def __init__(self):
        super().__init__(name=type(self).__name__.lower(), daemon=True)
        self.stopped, self.error = threading.Event(), None

    def run(self):
        try:
            self.work()
        except BaseException as error:
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join(20)
        assert not self.is_alive() and self.error is None, self.error


def run_async(coroutine, loop_factory=None):
    """Run a coroutine to its end on a thread of its own, for Playwright keeps this one's event loop."""

    def run():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(coroutine)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
