"""Ctrl-C and SIGTERM as a question instead of an end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


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
