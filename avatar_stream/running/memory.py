"""How a run that may go on for days takes its memory and gives it back. What it is for: docs/experiments.md."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import time

logger = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # glibc's malloc.h
_HEAPS = 2
_TRIM_EVERY_S = 60.0


class Heaps:
    """glibc's heaps while a run is live; elsewhere nothing happens.

    glibc gives threads heaps of their own, eight for each core. Pictures are made by one thread and given back by
    another, recordings and encoders come with new threads: what is free in one heap is of no use to the others, and
    all of them together grow for hours.
    """

    def __init__(self) -> None:
        """Let all threads that begin from now on share two heaps, unless MALLOC_ARENA_MAX says otherwise.

        Where glibc has taken its eighth heap already it no longer listens.
        """
        self._trimmed_s = time.monotonic()
        # Windows has no such library to open, macOS and musl have none of the functions.
        self._glibc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
        chosen = "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", "")
        if not chosen and self._glibc is not None and hasattr(self._glibc, "mallopt"):
            self._glibc.mallopt(_M_ARENA_MAX, _HEAPS)

    def tidy(self, now_s: float) -> None:
        """Once a minute give back to the system what is free within the heaps; a few ms, not on a frame's way.

        Args:
            now_s: `time.monotonic()`.
        """
        if now_s - self._trimmed_s < _TRIM_EVERY_S or self._glibc is None:
            return
        if not hasattr(self._glibc, "malloc_trim"):
            return
        self._glibc.malloc_trim(0)
        self._trimmed_s = time.monotonic()
        logger.debug("free memory given back in %.1f ms", 1000 * (self._trimmed_s - now_s))
