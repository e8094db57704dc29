"""From camera to decoded pixel: a clock drawn into the pictures, read back out of a page in headless Chromium."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from avatar_stream.errors import ConfigError
from avatar_stream.images.compose import Composer
from avatar_stream.lab.figures import percentiles
from avatar_stream.types import Frame

BLOCK_PX = 16  # a bit's side: a whole block of the video codec, which keeps it black or white
_TIME_BITS, _CHECK_BITS = 20, 4
_BITS = _TIME_BITS + _CHECK_BITS
_TURN_MS = 2**_TIME_BITS  # the clock begins anew every 17 minutes
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_POLL_S = 0.5
_PATIENCE_S = 30.0

# In every picture that the page shows: the bits along its lower edge, and the moment.
_COLLECT = """([bits, side]) => {
  const video = document.getElementById("avatar");
  const canvas = Object.assign(document.createElement("canvas"), { width: bits * side, height: side });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  window.clockSeen = [];
  const step = () => {
    const shownMs = performance.now();
    pen.drawImage(video, 0, video.videoHeight - side, bits * side, side, 0, 0, bits * side, side);
    const row = pen.getImageData(0, side / 2, bits * side, 1).data;
    let number = 0;
    for (let bit = 0; bit < bits; bit++) number = number * 2 + (row[4 * (bit * side + side / 2)] > 127 ? 1 : 0);
    window.clockSeen.push([number, shownMs]);
    video.requestVideoFrameCallback(step);
  };
  video.requestVideoFrameCallback(step);
}"""


def draw_clock(image: np.ndarray, time_s: float) -> None:
    """Draw a time as black and white blocks along the lower edge.

    Args:
        image: (H, W, 3) uint8 RGB, changed in place; at least 384 px wide, 16 px high.
        time_s: what `read_clock` finds in it again, to the millisecond.
    """
    value = round(1000 * time_s) % _TURN_MS
    number = value << _CHECK_BITS | _check(value)
    for bit in range(_BITS):
        lit = number >> (_BITS - 1 - bit) & 1
        image[-BLOCK_PX:, bit * BLOCK_PX : (bit + 1) * BLOCK_PX] = 255 * lit


def read_clock(number: int, shown_s: float) -> float | None:
    """Return how long before `shown_s` the time of a drawn number was, in ms; None: the number was misread."""
    value, check = number >> _CHECK_BITS, number & (2**_CHECK_BITS - 1)
    if check != _check(value):
        return None
    # A little before it would be a whole turn after it.
    return (1000 * shown_s - value + _TURN_MS / 2) % _TURN_MS - _TURN_MS / 2


def _check(value: int) -> int:
    return sum(value >> place & 15 for place in range(0, _TIME_BITS, 4)) % 13 + 1


class ClockedComposer(Composer):
    """A composer whose pictures carry the capture time."""

    def compose(self, frame: Frame, person: np.ndarray) -> Frame:
        """Return the frame with the avatar's picture, and the clock in it; see `Composer.compose`."""
        shown = super().compose(frame, person)
        image = shown.image.copy()
        draw_clock(image, frame.time_s)
        return dataclasses.replace(shown, image=image)


class PageWatcher:
    """Opens the page in headless Chromium, beside the pipeline, and collects what it shows when."""

    def __init__(self, address: Callable[[], str]):
        """Take a function that gives the page's address, empty while it is not known."""
        self._address = address
        self._launched, self._stopped = threading.Event(), threading.Event()
        self._seen: list[tuple[int, float]] = []
        self._offsets: list[tuple[float, float]] = []  # (round trip, this clock - the page's) in s
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._shell, name="bench-page", daemon=True)

    def start(self) -> None:
        """Start the browser and wait until it is there; ConfigError where Playwright or Chromium is missing."""
        try:
            import playwright.sync_api  # noqa: F401
        except ImportError as error:
            raise ConfigError("bench --page needs playwright: pip install playwright") from error
        if _chromium() is None:
            raise ConfigError(f"bench --page needs a browser: install {_CHROMIUM[0]}")
        self._thread.start()
        # Its start takes the processor for seconds: not while the pipeline is measured.
        self._launched.wait(_PATIENCE_S)

    def stop(self) -> None:
        """Close the browser. May be called twice."""
        self._stopped.set()
        self._thread.join(_PATIENCE_S)

    def finish(self, warm_up_s: float) -> dict[str, Any]:
        """Close the browser and say what it saw.

        Args:
            warm_up_s: pictures shown so long after the first one do not count.

        Returns:
            delay_ms: p50 and p95 from capture to the decoded pixels; fps: decoded pictures a second; pictures: how
            many that were; misread: of all, those whose clock was not legible.

        Raises:
            ConfigError: the browser failed, or showed too few pictures.
        """
        self.stop()
        if self._error is not None:
            raise ConfigError(f"bench --page: the browser failed: {self._error}") from self._error
        offset_s = min(self._offsets)[1] if self._offsets else 0.0
        shown = [(at_ms / 1000 + offset_s, number) for number, at_ms in self._seen]
        clocks = [
            (at_s, read_clock(number, at_s)) for at_s, number in shown if at_s >= shown[0][0] + warm_up_s
        ]
        read = np.array([(at_s, delay_ms) for at_s, delay_ms in clocks if delay_ms is not None])
        if len(read) < 3:
            raise ConfigError("bench --page: the page showed too few pictures: give more --seconds")
        fps = (len(read) - 1) / (read[-1, 0] - read[0, 0])
        return {
            "delay_ms": percentiles(read[:, 1]),
            "fps": round(float(fps), 2),
            "pictures": len(read),
            "misread": len(clocks) - len(read),
        }

    def _shell(self) -> None:
        try:
            self._watch()
        except Exception as error:  # the thread's shell: told by `finish`
            self._error = error
        finally:
            self._launched.set()

    def _watch(self) -> None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as tool:
            browser = tool.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
            page = browser.new_page()
            self._launched.set()
            while not self._address():
                if self._stopped.wait(0.05):
                    return
            page.goto(self._address())
            page.evaluate(_COLLECT, [_BITS, BLOCK_PX])
            while not self._stopped.wait(_POLL_S):
                before_s = time.monotonic()
                page_ms = page.evaluate("performance.now()")
                after_s = time.monotonic()
                self._offsets.append((after_s - before_s, (before_s + after_s) / 2 - page_ms / 1000))
                self._seen += page.evaluate("clockSeen.splice(0)")
            browser.close()


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, _CHROMIUM)), None)
