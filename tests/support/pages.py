"""What tests of the pages share: a web output on air, headless Chromium, waiting."""

import contextlib
import shutil
import threading
import time

import numpy as np
import pytest

from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.controls import Controls, Status
from avatar_stream.sinks.web import WebSink
from avatar_stream.stages import Context
from avatar_stream.types import Frame, Sound

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 30_000
TONES_HZ = (440, 1320)  # left, right
BLOCK = 960  # samples in 20 ms


@contextlib.contextmanager
def playwright_tool():
    """Playwright, where it and Chromium are there; else the test skips."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as running:
        yield running


@contextlib.contextmanager
def launched(tool, *arguments):
    """Headless Chromium."""
    running = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
    try:
        yield running
    finally:
        running.close()


class Feeder(threading.Thread):
    """Writes a person, over grey, 25 times a second."""

    def __init__(self, sink, person, driver=None):
        super().__init__(name="feeder")
        self.sink, self.person, self.driver = sink, person, driver
        self.stopped = threading.Event()

    def run(self):
        alpha = self.person[..., 3:] / 255
        image = np.rint(self.person[..., :3] * alpha + 223 * (1 - alpha)).astype(np.uint8)
        index = 0
        while not self.stopped.wait(0.04):
            now_s = time.monotonic()
            frame = Frame(image=image, time_s=now_s, index=index, driver=self.driver, person=self.person)
            self.sink.write(frame)
            index += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join(10)


class Player(threading.Thread):
    """Gives a web output two tones, a block each 20 ms."""

    def __init__(self, sink):
        super().__init__(name="player")
        self.sink, self.stopped = sink, threading.Event()

    def run(self):
        begun_s, count = time.monotonic(), 0
        while not self.stopped.wait(max(0, begun_s + count * BLOCK / 48_000 - time.monotonic())):
            times_s = (count * BLOCK + np.arange(BLOCK)) / 48_000
            samples = 8000 * np.sin(2 * np.pi * np.outer(times_s, TONES_HZ))
            self.sink.hear(Sound(samples.astype(np.int16), begun_s + count * BLOCK / 48_000))
            count += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join(10)


@contextlib.contextmanager
def on_air(person, port=0, status=None, driver=None, server=None, **options):
    """A web output that is fed with a person (512, 512, 4), a driver's picture, and a `Status`."""
    server = Server(ServerOptions(port=port, **(server or {})))
    given = {name: options.pop(name) for name in ("label", "sound") if name in options}
    sink = WebSink(WebSink.Options(driver=driver is not None, **options), Context(server=server, **given))
    controls = Controls()
    controls.tell(status or Status())
    sink.attach(controls)
    sink.open()
    try:
        with Feeder(sink, person, driver):
            yield sink
    finally:
        sink.close()


def wait_for(page, condition):
    """Ask again and again; Playwright's own way of waiting is forbidden by the pages' security policy."""
    end_s = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end_s, f"never came true: {condition}"
        page.wait_for_timeout(50)
