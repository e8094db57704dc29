"""A web output: on air, asked over HTTP, offered WHEP, and watched in a page that reads its clock."""

import asyncio
import contextlib
import json
import threading
import time
import urllib.error
import urllib.request

import numpy as np

from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.sinks.web import WebSink
from avatar_stream.stages import Context
from avatar_stream.types import Frame
from support.pages import wait_for

BITS, BLOCK_PX = 16, 64  # a number as 4 x 4 black and white blocks

CLOCK_MS = 20  # what one step of the number means

PATIENCE_MS = 20_000


def sink_at(port=0, sound=False, **options):
    """A sink with a server of its own; `host`, `origins` and so on are the server's options."""
    of_server = {name: options.pop(name) for name in list(options) if name in ServerOptions.model_fields}
    server = Server(ServerOptions(port=port, **of_server))
    return WebSink(WebSink.Options(**options), Context(server=server, sound=sound))


@contextlib.contextmanager
def opened(sink, controls=None):
    if controls is not None:
        sink.attach(controls)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()
        sink.close()


def drawn(number, size=(320, 256)):
    """(256, 320, 3) uint8 RGB: the number's 16 bits as blocks, highest first, on grey."""
    image = np.full((size[1], size[0], 3), 120, np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        lit = number >> (BITS - 1 - bit) & 1
        image[row * BLOCK_PX :, column * BLOCK_PX : 256][:BLOCK_PX, :BLOCK_PX] = 255 * lit
    return image


class Feeder(threading.Thread):
    """Writes 25 frames a second; each shows the clock at its capture, which is `capture_delay_s` ago."""

    def __init__(self, sink, capture_delay_s=0.0, driver=True):
        super().__init__(name="feeder")
        self.sink, self.capture_delay_s, self.driver = sink, capture_delay_s, driver
        self.start_s, self.stopped, self.paused = time.monotonic(), threading.Event(), threading.Event()

    def run(self):
        index = 0
        driver = np.full((240, 640, 3), (200, 40, 40), np.uint8) if self.driver else None
        while not self.stopped.wait(0.04):
            if self.paused.is_set():
                continue
            captured_s = time.monotonic() - self.capture_delay_s
            number = round((captured_s - self.start_s) * 1000 / CLOCK_MS) % 2**BITS
            self.sink.write(Frame(image=drawn(number), time_s=captured_s, index=index, driver=driver))
            index += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join(10)


def ask(url, method="GET", body=None, **headers):
    """Status, headers and text of an answer, whatever it is."""
    request = urllib.request.Request(url, body and body.encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def status_of(sink):
    return json.loads(ask(sink.address + "status")[2])


async def whep_offer(sections=1):
    from aiortc import RTCConfiguration, RTCPeerConnection

    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for _ in range(sections):
        connection.addTransceiver("video", direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    return connection


async def post_offer(sink, connection, picture="avatar"):
    from aiortc import RTCSessionDescription

    code, headers, sdp = await asyncio.to_thread(
        ask,
        f"{sink.address}whep?picture={picture}",
        "POST",
        connection.localDescription.sdp,
        **{"Content-Type": "application/sdp"},
    )
    if code == 201:
        await connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="answer"))
    return code, headers, sdp


READ_NUMBER = """() => {
  const video = document.getElementById("avatar");
  const canvas = Object.assign(document.createElement("canvas"), {width: 256, height: 256});
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0, 256, 256, 0, 0, 256, 256);
  const pixels = pen.getImageData(0, 0, 256, 256).data;
  let number = 0;
  for (let bit = 0; bit < 16; bit++) {
    const x = (bit % 4) * 64 + 32, y = Math.floor(bit / 4) * 64 + 32;
    number = number * 2 + (pixels[4 * (y * 256 + x)] > 127 ? 1 : 0);
  }
  return number;
}"""

# Reads the clock out of many pictures in the moment they are shown; with each, our own time.
COLLECT = f"""(count) => new Promise((resolve) => {{
  const read = {READ_NUMBER};
  const video = document.getElementById("avatar");
  const seen = [];
  const step = () => {{
    seen.push([read(), performance.now()]);
    if (seen.length < count) video.requestVideoFrameCallback(step); else resolve(seen);
  }};
  video.requestVideoFrameCallback(step);
}})"""


@contextlib.contextmanager
def watching(browser, sink, **options):
    context = browser.new_context(**({"viewport": {"width": 1000, "height": 700}} | options))
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(sink.address)
    try:
        yield page
        assert errors == []
    finally:
        context.close()


def wait_for_pictures(page):
    wait_for(page, "avatarStream.frameTimesMs.length > 3")


def ask_server(server, path, body=None, method=None, token=None, **headers):
    """Code, headers and bytes of an answer."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = ({"Content-Type": "application/json"} if body is not None else {}) | headers
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(server.address + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
