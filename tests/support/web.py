"""A web output: asked over HTTP, offered WHEP, and a page that reads the clock in its pictures."""

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
from support.waiting import Beside

BITS, BLOCK_PX = 16, 64  # a number as 4 x 4 black and white blocks

CLOCK_MS = 20  # what one step of the number means


def sink_at(port=0, sound=False, **options):
    """A sink with a server of its own; `host`, `origins` and so on are the server's options."""
    of_server = {name: options.pop(name) for name in list(options) if name in ServerOptions.model_fields}
    server = Server(ServerOptions(port=port, **of_server))
    return WebSink(WebSink.Options(**options), Context(server=server, sound=sound))


def drawn(number, size=(320, 256)):
    """(256, 320, 3) uint8 RGB: the number's 16 bits as blocks, highest first, on grey."""
    image = np.full((size[1], size[0], 3), 120, np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        lit = number >> (BITS - 1 - bit) & 1
        image[row * BLOCK_PX :, column * BLOCK_PX : 256][:BLOCK_PX, :BLOCK_PX] = 255 * lit
    return image


class Feeder(Beside):
    """Writes 25 frames a second; each shows the clock at its capture, which is `capture_delay_s` ago."""

    def __init__(self, sink, capture_delay_s=0.0):
        super().__init__()
        self.sink, self.capture_delay_s = sink, capture_delay_s
        self.start_s, self.paused = time.monotonic(), threading.Event()

    def work(self):
        index, driver = 0, np.full((240, 640, 3), (200, 40, 40), np.uint8)
        while not self.stopped.wait(0.04):
            if self.paused.is_set():
                continue
            captured_s = time.monotonic() - self.capture_delay_s
            number = round((captured_s - self.start_s) * 1000 / CLOCK_MS) % 2**BITS
            self.sink.write(Frame(image=drawn(number), time_s=captured_s, index=index, driver=driver))
            index += 1


def ask(url, method="GET", body=None, **headers):
    """Status, headers and text of an answer, whatever it is."""
    code, told, content = _ask(url, method, body and body.encode(), headers)
    return code, told, content.decode()


def ask_server(server, path, body=None, method=None, token=None, **headers):
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = ({"Content-Type": "application/json"} if body is not None else {}) | headers
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return _ask(server.address + path, method, data, headers)


def _ask(url, method, data, headers):
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def status_of(sink):
    return json.loads(ask(sink.address + "status")[2])


@contextlib.asynccontextmanager
async def offering(*kinds, direction="recvonly", codecs=None):
    """A connection with an offer, of one video where nothing else is said."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver

    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    known = RTCRtpReceiver.getCapabilities("video").codecs
    try:
        for kind in kinds or ["video"]:
            transceiver = connection.addTransceiver(kind, direction=direction)
            if codecs is not None:
                transceiver.setCodecPreferences([each for each in known if each.name in codecs])
        await connection.setLocalDescription(await connection.createOffer())
        yield connection
    finally:
        await connection.close()


async def post_offer(sink, connection, picture="avatar", **headers):
    from aiortc import RTCSessionDescription

    url, offer = f"{sink.address}whep?picture={picture}", connection.localDescription.sdp
    headers |= {"Content-Type": "application/sdp"}
    code, told, sdp = await asyncio.to_thread(ask, url, "POST", offer, **headers)
    if code == 201:
        await connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="answer"))
    return code, told, sdp


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
