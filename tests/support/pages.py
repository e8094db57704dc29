"""What tests of the pages share: a web output on air, headless Chromium, waiting."""

import contextlib
import shutil
import time

import numpy as np
import pytest

from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.controls import Controls, Status
from avatar_stream.sinks.web import WebSink
from avatar_stream.stages import Context
from avatar_stream.types import Frame, Sound
from support.stages import opened
from support.waiting import Beside

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 30_000
TONES_HZ = (440, 1320)  # left, right
BLOCK = 960  # samples in 20 ms


@contextlib.contextmanager
def playwright_tool():
    """Playwright, where Chromium is there; else the test skips."""
    from playwright import sync_api

    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as running:
        yield running


@contextlib.contextmanager
def launched(tool, *arguments):
    running = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
    try:
        yield running
    finally:
        running.close()


class Feeder(Beside):
    """Writes a person, over grey, 25 times a second."""

    def __init__(self, sink, person, driver=None):
        super().__init__()
        self.sink, self.person, self.driver = sink, person, driver

    def work(self):
        alpha = self.person[..., 3:] / 255
        image = np.rint(self.person[..., :3] * alpha + 223 * (1 - alpha)).astype(np.uint8)
        index, parts = 0, {"driver": self.driver, "person": self.person}
        while not self.stopped.wait(0.04):
            self.sink.write(Frame(image=image, time_s=time.monotonic(), index=index, **parts))
            index += 1


class Player(Beside):
    """Gives a web output two tones, a block each 20 ms."""

    def __init__(self, sink):
        super().__init__()
        self.sink = sink

    def work(self):
        begun_s, count = time.monotonic(), 0
        while not self.stopped.wait(max(0, begun_s + count * BLOCK / 48_000 - time.monotonic())):
            times_s = (count * BLOCK + np.arange(BLOCK)) / 48_000
            samples = 8000 * np.sin(2 * np.pi * np.outer(times_s, TONES_HZ))
            self.sink.hear(Sound(samples.astype(np.int16), begun_s + count * BLOCK / 48_000))
            count += 1


@contextlib.contextmanager
def on_air(person, port=0, status=None, driver=None, server=None, **options):
    """A web output that is fed with a person (512, 512, 4), a driver's picture, and a `Status`."""
    server = Server(ServerOptions(port=port, **(server or {})))
    given = {name: options.pop(name) for name in ("label", "sound") if name in options}
    sink = WebSink(WebSink.Options(driver=driver is not None, **options), Context(server=server, **given))
    controls = Controls()
    controls.tell(status or Status())
    with opened(sink, controls), Feeder(sink, person, driver):
        yield sink


@contextlib.contextmanager
def visiting(browser, address, size=(1000, 700), before="", **options):
    """A page in a window of its own; any error in it fails the test. `before`: a script that runs first."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    context.add_init_script(before)
    errors = []
    context.on("weberror", lambda told: errors.append(str(told.error)))
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    try:
        yield page
        assert errors == []
    finally:
        context.close()


def wait_for(page, condition):
    """Ask again and again; Playwright's own way of waiting is forbidden by the pages' security policy."""
    end_s = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end_s, f"never came true: {condition}"
        page.wait_for_timeout(50)


def wait_for_pictures(page):
    wait_for(page, "(avatarStream.player || avatarStream).frameTimesMs.length > 3")
