"""What viewers cost: real WebRTC receivers in a process of their own, against one encode for each of them.

The server runs in this process, all of whose processor time is counted; receivers connect by WHEP and decode.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import av
import cv2
import numpy as np
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from avatar_stream.broadcast import exchange
from avatar_stream.broadcast.outgoing.encoder import TIME_BASE, as_yuv
from avatar_stream.broadcast.outgoing.whep import Audience, codec_preferences
from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import AVATAR, EncodingOptions, ServerOptions
from avatar_stream.errors import ConfigError
from avatar_stream.lab.figures import check_output, machine_name, tell
from avatar_stream.places import bundled
from avatar_stream.types import TICKS_PER_S

_CONNECTING_AT_ONCE = 5
_CONNECT_TIMEOUT_S, _WARM_UP_S, _ANSWER_TIMEOUT_S = 90.0, 4.0, 60.0
_PICTURES = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Measure what viewers cost the server, and what each gets: real receivers decode in another process."""
    add = parser.add_argument
    add("--viewers", type=int, default=50, metavar="N", help="at the same time (default: 50)")
    add(
        "--plain-viewers",
        type=int,
        default=6,
        metavar="N",
        help="for the comparison, one encode each by aiortc itself; 0 leaves it out (default: 6)",
    )
    add("--seconds", type=float, default=10.0, metavar="N", help="each (default: 10)")
    add("--size", type=int, default=256, metavar="PX", help="side of the picture (default: 256)")
    add("--fps", type=float, default=30.0, metavar="N", help="pictures a second (default: 30)")
    add("--bitrate-kbps", type=int, default=4000, metavar="N", help="at most (default: 4000)")
    add("--input", type=Path, metavar="CLIP", help="what is shown (default: the bundled clip)")
    add("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Do it, print the figures as JSON."""
    check_output(arguments.json)
    least = {"viewers": 1, "plain_viewers": 0, "seconds": 1, "size": 16, "fps": 1, "bitrate_kbps": 100}
    for name, bound in least.items():
        if getattr(arguments, name) < bound:
            raise ConfigError(
                f"--{name.replace('_', '-')} {getattr(arguments, name):g}: {bound} is the least"
            )
    pictures = _read_pictures(arguments.input or bundled("assets") / "clips" / "signer.mp4", arguments.size)
    encoding = EncodingOptions(bitrate_kbps=arguments.bitrate_kbps)
    figures = measure(
        lambda server: Audience(server.configuration, encoding, max_viewers=arguments.viewers),
        lambda audience, image, pts: audience.streams.put({AVATAR: image}, pts),
        pictures,
        arguments.viewers,
        arguments,
    )
    if arguments.plain_viewers:
        plain = measure(
            lambda server: PlainAudience(server.configuration),
            lambda audience, image, pts: audience.put(image, pts),
            pictures,
            arguments.plain_viewers,
            arguments,
        )
        figures["plain"] = plain
        figures["ratio"] = round(figures["cpu_cores_per_viewer"] / plain["cpu_cores_per_viewer"], 3)
    figures |= {"size": [arguments.size] * 2, "fps": arguments.fps, "seconds": arguments.seconds}
    figures["machine"] = machine_name()
    tell(figures, arguments.json)
    return 0


def measure(
    make: Callable[[Server], Any],
    put: Callable[[Any, np.ndarray, int], None],
    pictures: Sequence[np.ndarray],
    viewers: int,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Serve viewers for a while.

    Args:
        make: makes the audience of a server, on its event loop.
        put: gives the audience a picture and its pts.
        pictures: (H, W, 3) uint8 RGB each, shown forth and back.
        viewers: how many receivers connect.
        arguments: fps, seconds.

    Returns:
        viewers; fps_min, fps_median: decoded pictures a second, of the viewers; cpu_cores_server,
        cpu_cores_per_viewer: processor time of this process a second; kbps_per_viewer; smaller: viewers that get
        half the resolution, for their reports were poor; receivers_cores: of the other process.

    Raises:
        ConfigError: the receivers did not connect.
    """
    server = Server(ServerOptions(port=0, sessions_per_address=1000))
    server.open()
    feeder = receivers = None
    try:
        audience = server.admit_viewers(lambda: make(server), dict)
        feeder = _Feeder(lambda image, pts: put(audience, image, pts), pictures, arguments.fps)
        feeder.start()
        receivers = _ReceiverProcess(server.address + "whep", viewers)
        receivers.wait_connected()
        time.sleep(min(_WARM_UP_S, arguments.seconds))
        before_s, cpu_s = time.monotonic(), time.process_time()
        receivers.count(arguments.seconds)
        time.sleep(arguments.seconds)
        cores = (time.process_time() - cpu_s) / (time.monotonic() - before_s)
        counted = receivers.figures()
    finally:
        if feeder is not None:
            feeder.stop()
        if receivers is not None:
            receivers.stop()
        server.dismiss_viewers()
        server.close()
    return {
        "viewers": viewers,
        "fps_min": round(min(counted["fps"]), 2),
        "fps_median": round(float(np.median(counted["fps"])), 2),
        "cpu_cores_server": round(cores, 3),
        "cpu_cores_per_viewer": round(cores / viewers, 5),
        "kbps_per_viewer": round(counted["kbps"] / viewers),
        "smaller": sum(width < pictures[0].shape[1] for width in counted["widths"]),
        "receivers_cores": round(counted["cores"], 2),
    }


def _read_pictures(path: Path, side_px: int) -> list[np.ndarray]:
    found = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                image = frame.to_ndarray(format="rgb24")
                edge_px = min(image.shape[:2])
                top, left = ((side - edge_px) // 2 for side in image.shape[:2])
                square = image[top : top + edge_px, left : left + edge_px]
                found.append(cv2.resize(square, (side_px, side_px), interpolation=cv2.INTER_AREA))
                if len(found) == _PICTURES:
                    break
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise ConfigError(f"cannot read the clip {path}: {error}") from error
    if not found:
        raise ConfigError(f"the clip {path} holds no pictures")
    return found


class _Feeder(threading.Thread):
    """Shows pictures at a steady pace."""

    def __init__(self, put: Callable[[np.ndarray, int], None], pictures: Sequence[np.ndarray], fps: float):
        super().__init__(name="bench-feeder", daemon=True)
        self._put, self._pictures, self._fps = put, [*pictures, *pictures[-2:0:-1]], fps
        self._stopped = threading.Event()

    def run(self) -> None:
        begun_s, index = time.monotonic(), 0
        while not self._stopped.wait(max(0.0, begun_s + index / self._fps - time.monotonic())):
            pts = round(index / self._fps * TICKS_PER_S)
            self._put(self._pictures[index % len(self._pictures)], pts)
            # As from a camera: what was not shown in time is not shown later.
            index = max(index + 1, int((time.monotonic() - begun_s) * self._fps))

    def stop(self) -> None:
        self._stopped.set()
        self.join(5)


class PlainAudience:
    """Viewers as aiortc serves them by itself: one encode for each, at its own bitrates."""

    def __init__(self, configuration: Callable[[], RTCConfiguration]):
        """Make it on the running event loop."""
        self._configuration, self._loop = configuration, asyncio.get_running_loop()
        self._connections: list[RTCPeerConnection] = []
        self.newest: tuple[av.VideoFrame, int] | None = None
        self.came = asyncio.Event()

    def put(self, image: np.ndarray, pts: int) -> None:
        """Show (H, W, 3) uint8 RGB to all; from any thread."""
        frame = as_yuv(image)
        frame.pts, frame.time_base = pts, TIME_BASE
        self._loop.call_soon_threadsafe(self._replace, frame, pts)

    def count_from(self, _: str | None) -> int:
        """No bound is kept."""
        return 0

    def status(self, _: str) -> dict:
        """Nothing for `/status`."""
        return {}

    async def post(self, request: web.Request) -> web.Response:
        """POST /whep."""
        connection = RTCPeerConnection(self._configuration())
        self._connections.append(connection)
        transceiver = connection.addTransceiver(_PlainTrack(self), direction="sendonly")
        transceiver.setCodecPreferences(codec_preferences(("h264",)))
        await exchange.take_offer(connection, await request.text(), request.remote)
        return exchange.created(await exchange.answer(connection), f"/whep/{id(connection)}", '"plain"')

    async def close(self) -> None:
        """Say goodbye to all."""
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def _replace(self, frame: av.VideoFrame, pts: int) -> None:
        self.newest = frame, pts
        self.came.set()
        self.came = asyncio.Event()


class _PlainTrack(MediaStreamTrack):
    kind = "video"

    def __init__(self, audience: PlainAudience):
        super().__init__()
        self._audience, self._pts = audience, -1

    async def recv(self) -> av.VideoFrame:
        while self._audience.newest is None or self._audience.newest[1] <= self._pts:
            if self.readyState != "live":
                raise MediaStreamError
            await self._audience.came.wait()
        frame, self._pts = self._audience.newest
        return frame


class _ReceiverProcess:
    """The viewers, in a process of their own."""

    def __init__(self, address: str, count: int):
        context = multiprocessing.get_context("spawn")
        self._talk, theirs = context.Pipe()
        self._process = context.Process(target=_receive, args=(address, count, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def wait_connected(self) -> None:
        if self._hear(_CONNECT_TIMEOUT_S) != "connected":
            raise ConfigError("bench viewers: not all receivers got a picture")

    def count(self, seconds: float) -> None:
        self._talk.send(seconds)

    def figures(self) -> dict[str, Any]:
        return self._hear(_ANSWER_TIMEOUT_S)

    def stop(self) -> None:
        self._talk.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def _hear(self, timeout_s: float) -> Any:
        try:
            if self._talk.poll(timeout_s):
                return self._talk.recv()
        except EOFError as error:
            raise ConfigError("bench viewers: the receivers failed, see above") from error
        raise ConfigError("bench viewers: the receivers do not answer: fewer --viewers?")


def _receive(address: str, count: int, talk: Connection) -> None:
    # The receivers' process. Its pictures are counted, not looked at.
    asyncio.run(_Receivers(address).run(count, talk))
    talk.close()
    os._exit(0)  # what aiortc's decoder threads still hold is of no use to anybody


async def join(
    session: aiohttp.ClientSession, address: str, connection: RTCPeerConnection
) -> tuple[MediaStreamTrack, str]:
    """Become a viewer by WHEP; returns the pictures' track and the session's path."""
    receiver = connection.addTransceiver("video", direction="recvonly").receiver
    await connection.setLocalDescription(await connection.createOffer())
    body, headers = connection.localDescription.sdp, {"Content-Type": exchange.SDP}
    async with session.post(address, data=body, headers=headers) as response:
        response.raise_for_status()
        answer = RTCSessionDescription(sdp=await response.text(), type="answer")
    await connection.setRemoteDescription(answer)
    return receiver.track, response.headers["Location"]


class _Receivers:
    def __init__(self, address: str):
        self._address = address
        self._connections: list[RTCPeerConnection] = []
        self._frames: list[int] = []
        self._widths: list[int] = []
        self._tasks: list[asyncio.Task] = []

    async def run(self, count: int, talk: Connection) -> None:
        async with aiohttp.ClientSession() as session:
            for begin in range(0, count, _CONNECTING_AT_ONCE):
                some = range(begin, min(count, begin + _CONNECTING_AT_ONCE))
                await asyncio.gather(*(self._connect(session) for _ in some))
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                while min(self._frames) == 0:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            talk.send("no pictures")
            return
        talk.send("connected")
        seconds = await asyncio.to_thread(talk.recv)
        frames, octets = list(self._frames), await self._octets()
        begun_s, cpu_s = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        took_s = time.monotonic() - begun_s
        talk.send(
            {
                "fps": [(now - then) / took_s for now, then in zip(self._frames, frames, strict=True)],
                "widths": self._widths,
                "cores": (time.process_time() - cpu_s) / took_s,
                "kbps": 8 * (await self._octets() - octets) / took_s / 1000,
            }
        )

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        track, _ = await join(session, self._address, connection)
        self._connections.append(connection)
        self._frames.append(0)
        self._widths.append(0)
        place = len(self._frames) - 1
        self._tasks.append(asyncio.create_task(self._watch(track, place)))

    async def _watch(self, track: MediaStreamTrack, place: int) -> None:
        while True:
            frame: Any = await track.recv()  # of video: a VideoFrame
            self._frames[place] += 1
            self._widths[place] = frame.width

    async def _octets(self) -> int:
        reports = [await connection.getStats() for connection in self._connections]
        return sum(
            entry.bytesReceived for each in reports for entry in each.values() if entry.type == "transport"
        )
