"""WHIP out: into our own server, through redirections and ICE servers, and by way of a real TURN server."""

import asyncio
import contextlib
import random
import socket
import threading
import time

import numpy as np
import pytest
from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from support.ingest import TOKEN
from support.outward import PATIENT_S, Signer, assert_stripes
from support.stages import opened
from support.waiting import until

from avatar_stream.broadcast.outgoing.backoff import Backoff
from avatar_stream.broadcast.outgoing.whip_client import ice_servers
from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.errors import SinkError
from avatar_stream.messages import shown_address
from avatar_stream.sinks.whip import WhipSink
from avatar_stream.stages import Context
from avatar_stream.types import Frame, Sound


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def start(**options) -> Server:
            server = Server(ServerOptions(**({"port": 0, "token": TOKEN} | options)))
            stack.enter_context(opened(server)).ingest.opened = True
            return server

        yield start


def take_pictures(server: Server, count: int) -> list[np.ndarray]:
    pictures = []
    while len(pictures) < count:
        arrival = server.ingest.arrivals.get(10.0)
        assert arrival is not None, "nothing came for 10 s"
        if arrival.picture is not None:
            pictures.append(arrival.picture.to_ndarray(format="rgb24"))
    return pictures


@pytest.mark.parametrize("codec", ["auto", "vp8"])
def test_pictures_arrive_at_a_whip_server_and_it_is_told_the_end(serve, codec):
    server = serve()
    sink = WhipSink(WhipSink.Options(url=f"{server.address}whip", token=TOKEN, codec=codec))
    with Signer(sink) as signer:
        pictures = take_pictures(server, 10)
        assert pictures[-1].shape == (96, 128, 3)
        assert_stripes(pictures[-1])
        pairs = zip(pictures, pictures[1:], strict=False)
        assert any(np.abs(a.astype(int) - b).max() > 100 for a, b in pairs)
        assert sink.notice == "" and sink.connections == 1
    assert server.ingest.state == "nobody", "the session was not ended"
    assert signer.longest_s < PATIENT_S


def test_a_wrong_token_is_told_and_shown_to_nobody(serve, caplog):
    server = serve()
    sink = WhipSink(WhipSink.Options(url=f"{server.address}whip", token="not-this-one"))
    with Signer(sink):
        until(lambda: "401" in sink.notice)
        assert "token" in sink.notice and "not-this-one" not in sink.notice + caplog.text
        assert sink.connections == 0


def test_it_comes_back_when_the_server_does(serve):
    server = serve()
    port = int(server.address.rstrip("/").rpartition(":")[2])
    sink = WhipSink(WhipSink.Options(url=f"{server.address}whip", token=TOKEN))
    with Signer(sink) as signer:
        take_pictures(server, 2)
        server.close()
        until(lambda: "nothing is published" in sink.notice)
        again = serve(port=port)
        take_pictures(again, 2)
        until(lambda: sink.notice == "")
        assert sink.connections == 2
    assert signer.longest_s < PATIENT_S


LINK = '<stun:127.0.0.1:9>; rel="ice-server", <turn:127.0.0.1:9?transport=udp>; rel="ice-server"; '
LINK += 'username="u"; credential="with \\"quotes\\", and; signs"; credential-type="password"'


class Endpoint:
    """Another WHIP server: it sends publishers on, and gives sessions relative addresses."""

    def __init__(self, fail_first: int = 0):
        self.seen: list[tuple[str, str, str | None]] = []  # (method, path, Authorization)
        self.loudest = 0.0
        self.pictures, self.address, self._fail = 0, "", fail_first
        self._ready, self._stop = threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._connections, self._tasks = [], []
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        await asyncio.gather(*(connection.close() for connection in self._connections))
        await asyncio.gather(*self._tasks)
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.path, request.headers.get("Authorization")))
        if request.method == "OPTIONS":
            return web.Response(status=204)
        if request.method == "DELETE":
            return web.Response()
        if request.path == "/ingest/start":
            return web.Response(status=307, headers={"Location": "/edge/live"})
        if self._fail:
            self._fail -= 1
            return web.Response(status=503, text="<p>too many\npublishers</p>", headers={"Retry-After": "1"})
        return await self._answer(await request.text())

    async def _answer(self, sdp: str) -> web.Response:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connections.append(connection)
        connection.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._count(track))))
        await connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        headers = {"Location": "sessions/one", "ETag": '"x"', "Content-Type": "application/sdp"}
        return web.Response(status=201, text=connection.localDescription.sdp, headers=headers)

    async def _count(self, track):
        try:
            while True:
                frame = await track.recv()
                self.pictures += track.kind == "video"
                if track.kind == "audio":
                    self.loudest = max(self.loudest, float(np.abs(frame.to_ndarray()).max()))
        except MediaStreamError:
            pass


def test_redirections_relative_sessions_and_the_end():
    with Endpoint() as endpoint:
        with Signer(WhipSink(WhipSink.Options(url=f"{endpoint.address}/ingest/start", token=TOKEN))):
            until(lambda: endpoint.pictures > 5)
        asked = [(method, path) for method, path, _ in endpoint.seen]
        posts = [("POST", "/ingest/start"), ("POST", "/edge/live")]
        assert asked == [("OPTIONS", "/ingest/start"), *posts, ("DELETE", "/edge/sessions/one")]
        assert {authorization for _, _, authorization in endpoint.seen} == {f"Bearer {TOKEN}"}


def test_a_shows_sound_comes_along():
    tone = np.sin(np.arange(960) * 2 * np.pi * 500 / 48_000) * 12_000
    samples = np.repeat(tone.astype(np.int16)[:, None], 2, axis=1)
    with Endpoint() as endpoint:
        sink = WhipSink(WhipSink.Options(url=f"{endpoint.address}/live"), Context(sound=True))
        with Signer(sink):
            until(lambda: endpoint.pictures > 5)
            assert endpoint.loudest == 0
            start_s, step = time.monotonic(), 0
            while endpoint.loudest < 8000 and step < 400:
                sink.hear(Sound(samples, start_s + 0.02 * step))
                step += 1
                time.sleep(0.02)
        assert endpoint.loudest > 8000


def test_a_server_that_is_full_is_quoted_and_asked_again_when_it_said():
    with Endpoint(fail_first=1) as endpoint:
        sink = WhipSink(WhipSink.Options(url=f"{endpoint.address}/live"))
        with Signer(sink):
            until(lambda: sink.notice.endswith("it refuses (HTTP 503: too many publishers)"))
            before_s = time.monotonic()
            until(lambda: sink.connections == 1)
            assert time.monotonic() - before_s > 0.8
        assert {authorization for _, _, authorization in endpoint.seen} == {None}


def test_on_a_poor_network_half_the_side_is_sent(serve):
    server, chance = serve(), random.Random(5)
    with Signer(WhipSink(WhipSink.Options(url=f"{server.address}whip", token=TOKEN))):
        take_pictures(server, 2)
        transport = server.ingest._session.connection.getTransceivers()[0].receiver.transport
        handle = transport._handle_rtp_data

        async def lossy(data, **given):
            if chance.random() > 0.3:
                await handle(data, **given)

        transport._handle_rtp_data = lossy
        arrivals = server.ingest.arrivals
        until(lambda: (came := arrivals.get(0.1)) and came.picture and came.picture.width == 64, 40)


def test_ice_servers_of_link_headers():
    others = '<https://example.org/next>; rel="next"', "<turn:h:not-a-port>; rel=ice-server"
    servers = ice_servers([LINK, *others, "<turns:h:443>; rel=ice-server"])
    urls = [server.urls for server in servers]
    assert urls == ["stun:127.0.0.1:9", "turn:127.0.0.1:9?transport=udp", "turns:h:443"]
    assert (servers[1].username, servers[1].credential) == ("u", 'with "quotes", and; signs')
    assert servers[0].username is None


def test_waits_grow_differ_and_are_short_again_after_a_good_time():
    backoff = Backoff(first_s=1, longest_s=8, good_after_s=20)
    pauses_s = [backoff.pause_s(0.1) for _ in range(6)]
    for pause_s, most_s in zip(pauses_s, (1, 2, 4, 8, 8, 8), strict=True):
        assert most_s / 2 <= pause_s <= most_s
    assert len(set(pauses_s)) == 6
    assert backoff.pause_s(21.0) <= 1


@pytest.mark.parametrize("url", ["rtmp://h/live", "https:///whip", "example.org/whip", "http://[::1/whip"])
def test_an_address_that_is_none_is_told_at_once(url):
    sink = WhipSink(WhipSink.Options(url=url))
    with pytest.raises(SinkError, match="https://HOST/PATH"):
        sink.open()
    sink.close()
    with pytest.raises(SinkError, match="not open"):
        sink.write(Frame(image=np.zeros((8, 8, 3), np.uint8), time_s=0.0, index=0))


def test_secrets_of_an_address_are_not_shown():
    shown = shown_address("https://user:word@example.org:8443/whip/room?token=abc", key_in_path=False)
    assert shown == "https://example.org:8443/whip/room?..."


def test_a_server_that_never_answers_stops_neither_the_pipeline_nor_its_end():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = WhipSink(WhipSink.Options(url=f"http://127.0.0.1:{silent.getsockname()[1]}/whip"))
        with Signer(sink) as signer:
            connection, _ = silent.accept()
            time.sleep(0.5)
            start_s = time.monotonic()
        assert time.monotonic() - start_s < 5
        assert signer.longest_s < PATIENT_S
        connection.close()
