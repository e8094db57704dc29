"""The signer's way in: WHIP over HTTP with real WebRTC clients, and headless Chromium through the signer's page."""

import asyncio
import contextlib
import time

import numpy as np
import pytest
from support.ingest import TOKEN, receiving
from support.stages import opened
from support.waiting import run_async, wait_until
from support.web import ask, offering

from avatar_stream.broadcast.aiortc_inside import PromptBuffer, is_keyframe
from avatar_stream.broadcast.exchange import reachable
from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.controls import Controls, Wish
from avatar_stream.errors import ServerError, SourceError
from avatar_stream.sources.whip import WhipSource
from avatar_stream.stages import Context

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
RED, BLUE = (200, 40, 40), (40, 40, 200)


def is_like(colour):
    return lambda frame: np.abs(frame.image.mean(axis=(0, 1)) - colour).max() < 25


CLIENTS = []


def run(coroutine):
    async def go():
        try:
            return await coroutine
        finally:
            while CLIENTS:
                await CLIENTS.pop().close()

    return run_async(go())


def make_client(colour=RED, size=(320, 240), audio=False, codec=None, draw=None):
    """A connection that sends plain pictures, or those drawn of a number; sound before them, as OBS has it."""
    import av
    from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, VideoStreamTrack

    class Plain(VideoStreamTrack):
        shown = (colour, size)

        async def recv(self):
            pts, time_base = await self.next_timestamp()
            colour, size = self.shown
            image = draw(pts // 3000) if draw else np.full((size[1], size[0], 3), colour, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = pts, time_base
            return frame

    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    CLIENTS.append(connection)
    track = Plain()
    if audio:
        connection.addTrack(AudioStreamTrack())
    connection.addTrack(track)
    if codec is not None:
        known = RTCRtpSender.getCapabilities("video").codecs
        video = next(each for each in connection.getTransceivers() if each.kind == "video")
        video.setCodecPreferences([each for each in known if each.mimeType == codec])
    return connection, track


async def publish(server, connection, query="", token=None, tweak=lambda sdp: sdp):
    """POST a connection's offer; (code, headers, body)."""
    from aiortc import RTCSessionDescription

    if connection.localDescription is None:
        await connection.setLocalDescription(await connection.createOffer())
    headers = {"Content-Type": SDP} | ({"Authorization": f"Bearer {token}"} if token else {})
    offer = tweak(connection.localDescription.sdp)
    code, told, body = await asyncio.to_thread(ask, f"{server.address}whip{query}", "POST", offer, **headers)
    if code == 201:
        await connection.setRemoteDescription(RTCSessionDescription(sdp=body, type="answer"))
    return code, told, body


def resource_of(server, headers):
    return server.address.rstrip("/") + headers["Location"]


# ---- protocol ----


def test_a_signer_comes_sends_and_leaves():
    async def sign(server, reader):
        connection, _ = make_client(audio=True)
        code, headers, sdp = await publish(server, connection)
        assert code == 201 and headers["Content-Type"].startswith(SDP) and headers["ETag"]
        assert "a=recvonly" in sdp and "a=candidate" in sdp
        sound, _, picture = sdp.partition("m=audio")[2].partition("m=video")
        assert "a=inactive" in sound and "a=recvonly" in picture, "nobody listens"
        first = await asyncio.to_thread(reader.wait_for, is_like(RED))
        assert first.image.shape == (240, 320, 3) and first.image.flags["C_CONTIGUOUS"]
        assert reader.source.notice == ""
        resource = resource_of(server, headers)
        assert ask(resource, "DELETE")[0] == 200
        assert ask(resource, "DELETE")[0] == 404

    with receiving() as (server, reader):
        nobody = reader.wait_for(lambda frame: True)
        assert nobody.image.std() == 0 and "no signer" in reader.source.notice
        assert "/signer" in reader.source.notice, "says where to go"
        run(sign(server, reader))
        last = reader.wait_for(lambda frame: frame.index > 1 and frame.image.std() == 0)
        assert last.image.mean() < 60, "the last picture of who left does not stay"
        assert "no signer" in reader.source.notice and reader.is_alive(), "silence, no end"
        times_s = [frame.time_s for frame in reader.frames]
        assert (np.diff(times_s) > 0).all() and times_s[-1] <= time.monotonic()


class Halves:
    """Pictures whose halves change by turns: one that was made without the picture before it shows."""

    def __init__(self):
        drawn = np.random.default_rng(5).integers(60, 200, (5, 18, 16, 1))
        large = drawn.astype(np.uint8).repeat(10, 1).repeat(10, 2)
        self.textures = list(large.repeat(3, axis=3))

    def draw(self, number):
        turn = number // 3
        return np.hstack([self.textures[turn // 2 % 5], self.textures[(turn + 1) // 2 % 5]])

    def is_true(self, frame):
        places = []
        for half in np.split(frame.image.astype(int), 2, axis=1):
            apart = [np.abs(half - texture).mean() for texture in self.textures]
            places.append(int(np.argmin(apart)))
            if min(apart) > 8:
                return False
        return (places[1] - places[0]) % 5 < 2


class Loss:
    """Lets the third packet of a large picture vanish for good, also when it is sent again; twice."""

    def __init__(self, transceiver):
        first, *self.repeated = (each.payloadType for each in transceiver._codecs)
        self.kind, self.transport = first, transceiver.sender.transport
        self.send, self.transport._send_rtp = self.transport._send_rtp, self.lose
        self.timestamp, self.packets, self.pictures_since, self.times = b"", 0, 0, 0

    async def lose(self, data):
        kind, timestamp = data[1] & 0x7F, data[4:8]
        if kind == self.kind:
            self.pictures_since += timestamp != self.timestamp
            self.packets = 1 if timestamp != self.timestamp else self.packets + 1
            self.timestamp = timestamp
            if self.packets == 3 and self.pictures_since > 25 and self.times < 2:
                self.pictures_since, self.times = 0, self.times + 1
                return
        if kind not in self.repeated:
            await self.send(data)


@pytest.mark.parametrize("codec", ["video/VP8", "video/H264"])
def test_pictures_go_on_where_packets_get_lost(codec):
    """Some packets vanish for good. Pictures go on, and none is made of parts of two."""
    halves = Halves()

    async def sign(server, reader):
        connection, _ = make_client(audio=True, codec=codec, draw=halves.draw)
        assert (await publish(server, connection))[0] == 201
        await asyncio.to_thread(reader.wait_for, lambda frame: frame.image.shape == (180, 320, 3))
        loss = Loss(connection.getTransceivers()[1])
        before = len(reader.frames)
        assert await asyncio.to_thread(wait_until, lambda: loss.times == 2 and loss.pictures_since > 20, 40)
        return reader.frames[before:-1]

    with receiving() as (server, reader):
        frames = run(sign(server, reader))
    assert len(frames) > 30 and all(map(halves.is_true, frames))


def test_bodies_that_cannot_be_read_are_refused():
    with receiving() as (server, reader):
        whip = server.address + "whip"
        code, headers, _ = ask(whip, "OPTIONS")
        assert code in (200, 204) and headers["Accept-Post"] == SDP
        assert ask(whip)[0] == 405
        assert ask(whip, "POST", "{}", **{"Content-Type": "application/json"})[0] == 415
        no_video = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
        for offer in ("nonsense", "v=0\r\nm=video 9 x\r\n", no_video, "\x00\xff"):
            code, _, text = ask(whip, "POST", offer, **{"Content-Type": SDP})
            assert code == 400 and text
        assert ask(whip, "POST", "m=video " * 20_000, **{"Content-Type": SDP})[0] == 413
        assert ask(whip + "/unknown", "DELETE")[0] == 404
        assert server.ingest.state == "nobody"


def test_an_offer_that_only_receives_is_refused():
    async def offer(server):
        async with offering() as connection:
            return await publish(server, connection)

    with receiving() as (server, reader):
        code, _, text = run(offer(server))
        assert code == 400 and "sends no video" in text


def test_candidates_may_come_late():
    """An offer without candidates connects by those of a PATCH; the ETag guards it."""
    candidates = []

    def without_candidates(sdp):
        lines = sdp.splitlines()
        candidates.extend(line for line in lines if line.startswith("a=candidate"))
        kept = [line for line in lines if not line.startswith(("a=candidate", "a=end-of-candidates"))]
        return "\r\n".join(kept) + "\r\n"

    async def sign(server, reader):
        connection, _ = make_client()
        _, headers, _ = await publish(server, connection, tweak=without_candidates)
        resource, etag = resource_of(server, headers), headers["ETag"]
        sdp = connection.localDescription.sdp.splitlines()
        starts = ("a=ice-ufrag", "a=ice-pwd")
        head = [next(line for line in sdp if line.startswith(start)) for start in starts]
        body = "\r\n".join([*head, "m=video 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", *candidates, ""])

        async def patch(body=body, kind=FRAGMENT, **headers):
            given = {key.replace("_", "-"): value for key, value in headers.items()}
            headers = {"Content-Type": kind} | given
            return (await asyncio.to_thread(ask, resource, "PATCH", body, **headers))[0]

        assert candidates
        assert await patch() == 428
        assert await patch(If_Match='"another"') == 412
        assert await patch(kind=SDP, If_Match=etag) == 415
        assert await patch("nonsense", If_Match=etag) == 400
        assert await patch("a=candidate:x y z\r\n", If_Match=etag) == 400
        assert await patch("a=ice-ufrag:new1\r\na=ice-pwd:new22222222222222222222\r\n", If_Match='"*"') == 412
        assert await patch("a=ice-ufrag:new1\r\na=ice-pwd:new22222222222222222222\r\n", If_Match="*") == 422
        assert await patch(If_Match=etag) == 204
        await asyncio.to_thread(reader.wait_for, is_like(RED))

    with receiving() as (server, reader):
        run(sign(server, reader))


def test_names_in_candidates_are_no_hindrance():
    """Browsers hide their address behind a .local name, which many networks do not resolve."""
    import re

    def hidden(sdp):
        sdp = re.sub(r"(a=candidate:(?:\S+ ){4})\S+", r"\g<1>0a1b.local", sdp)
        return sdp.replace("0a1b.local", "x.example", 1)

    async def sign(server, reader):
        connection, _ = make_client()
        code, _, _ = await publish(server, connection, tweak=hidden)
        assert code == 201
        await asyncio.to_thread(reader.wait_for, is_like(RED))

    with receiving() as (server, reader):
        run(sign(server, reader))


@pytest.mark.parametrize(("asked", "there"), [("198.51.100.4", "198.51.100.4"), ("198.51.100.4:80", None)])
def test_a_name_gives_way_to_the_address_that_asked_where_that_is_one(asked, there):
    line = "a=candidate:1 1 udp 1 {} 4711 typ host"
    expected = "" if there is None else line.format(there)
    assert reachable(line.format("0a1b.local"), asked) == expected


def test_the_token_is_asked_for():
    async def sign(server):
        codes = []
        for token in (None, "wrong-token", TOKEN[:-1], TOKEN):
            connection, _ = make_client()
            code, headers, _ = await publish(server, connection, token=token)
            codes.append(code)
            if code == 401:
                assert headers["WWW-Authenticate"] == "Bearer"
            else:
                resource = resource_of(server, headers)
                assert ask(resource, "DELETE")[0] == 401, "nobody else ends it"
                assert ask(resource, "PATCH", "x", **{"Content-Type": FRAGMENT})[0] == 401
                assert ask(resource, "DELETE", Authorization=f"Bearer {TOKEN}")[0] == 200
        return codes

    with receiving(token=TOKEN) as (server, reader):
        assert run(sign(server)) == [401, 401, 401, 201]


def test_without_a_source_the_signer_is_told():
    with opened(Server(ServerOptions(port=0))) as server:
        code, _, text = ask(server.address + "whip", "POST", "v=0", **{"Content-Type": SDP})
        assert code == 503 and "type: whip" in text


def test_one_pipeline_has_one_signer_source():
    with receiving() as (server, reader), pytest.raises(SourceError, match="one source"):
        WhipSource(context=Context(server=server)).open()


def test_a_server_that_died_is_told_and_can_be_opened_anew():
    server = Server(ServerOptions(port=0))
    source = WhipSource(context=Context(server=server))
    for _ in range(2):
        source.open()
        source.read()
        server.thread.call(lambda: asyncio.get_running_loop().stop())
        with pytest.raises(ServerError, match="web server stopped"):
            source.read()
        with contextlib.suppress(ServerError):
            source.close()


# ---- several signers ----


def test_a_second_signer_waits_unless_asked_to_take_over():
    controls = Controls()

    async def sign(server, reader):
        first, _ = make_client(RED)
        second, _ = make_client(BLUE)
        assert (await publish(server, first, "?signer=one"))[0] == 201
        await asyncio.to_thread(reader.wait_for, is_like(RED))
        code, headers, text = await publish(server, second, "?signer=two")
        assert code == 409 and "another signer" in text and headers["Retry-After"]
        assert is_like(RED)(reader.frames[-1])
        assert Wish.CALIBRATE not in controls.take()
        code, _, _ = await publish(server, second, "?signer=two&takeover=1")
        assert code == 201
        await asyncio.to_thread(reader.wait_for, is_like(BLUE))
        assert controls.take().count(Wish.CALIBRATE) == 1, "another body is measured anew"
        again, _ = make_client(RED)  # the page was loaded again: the same signer, at once
        assert (await publish(server, again, "?signer=two"))[0] == 201
        await asyncio.to_thread(reader.wait_for, is_like(RED), 40, len(reader.frames))
        assert controls.take() == []

    with receiving(controls) as (server, reader):
        run(sign(server, reader))


def test_who_has_fallen_silent_keeps_nobody_out():
    """OBS crashed: its connection stands for half a minute, and the new one need not wait for that."""

    async def sign(server, reader):
        first, track = make_client(RED)
        assert (await publish(server, first))[0] == 201
        await asyncio.to_thread(reader.wait_for, is_like(RED))
        first.getSenders()[0].replaceTrack(None)
        track.stop()
        assert await asyncio.to_thread(wait_until, lambda: server.ingest.state == "silent")
        assert "camera on" in reader.source.notice
        second, _ = make_client(BLUE)
        assert (await publish(server, second))[0] == 201
        await asyncio.to_thread(reader.wait_for, is_like(BLUE))

    with receiving() as (server, reader):
        run(sign(server, reader))


def test_pictures_may_change_their_size():
    async def sign(server, reader):
        connection, track = make_client(RED, (320, 240))
        await publish(server, connection)
        await asyncio.to_thread(reader.wait_for, is_like(RED))
        track.shown = (BLUE, (240, 320))  # the phone was turned
        await asyncio.to_thread(reader.wait_for, lambda frame: frame.image.shape == (320, 240, 3))
        await asyncio.to_thread(reader.wait_for, is_like(BLUE))

    with receiving() as (server, reader):
        run(sign(server, reader))


# ---- parts ----


class Arrivals:
    """A buffer, its clock, and packets for it."""

    def __init__(self, waiting=lambda: 0):
        self.now_s = 0.0
        self.buffer = PromptBuffer(waiting, lambda: self.now_s)

    def add(self, number, timestamp, data, marker=0):
        from aiortc.rtp import RtpPacket

        packet = RtpPacket(sequence_number=number % 2**16, timestamp=timestamp, marker=marker)
        packet._data = data
        asked, picture = self.buffer.add(packet)
        return asked, picture and picture.data


KEY = b"\x00\x00\x00\x9d\x01\x2a" + bytes(8)  # how a keyframe of VP8 begins
LATER = b"\x01" + bytes(12)


def test_a_picture_is_whole_with_its_last_packet():
    arrivals = Arrivals()
    first = 2**16 - 2
    assert arrivals.add(first, 1, KEY) == (False, None)
    assert arrivals.add(first + 1, 1, b"b", 1) == (False, KEY + b"b")
    assert arrivals.add(first + 2, 1, b"") == (False, None), "packets that only fill up"
    assert arrivals.add(first + 4, 2, b"d", 1) == (False, None), "one is on its way"
    assert arrivals.add(first + 3, 2, LATER) == (False, LATER + b"d")
    assert arrivals.add(first + 5, 3, LATER) == (False, None), "its marker does not come"
    assert arrivals.add(first + 6, 4, LATER) == (False, LATER), "the next one tells its end"


def test_a_packet_that_never_comes_stops_nothing():
    arrivals = Arrivals()
    arrivals.add(0, 0, KEY, 1)
    arrivals.add(2, 2, LATER, 1)
    arrivals.now_s = 0.1
    assert arrivals.add(3, 3, LATER, 1) == (False, None), "it may still come"
    arrivals.now_s = 0.3
    assert arrivals.add(4, 4, LATER, 1) == (True, None), "a keyframe is asked for"
    assert arrivals.add(5, 5, LATER, 1) == (False, None), "no picture that the decoder would smear"
    arrivals.now_s = 0.9
    assert arrivals.add(6, 6, LATER, 1) == (True, None), "asked again"
    assert arrivals.add(7, 7, KEY, 1) == (False, KEY)
    assert arrivals.add(8, 8, LATER, 1) == (False, LATER)
    idr = b"\x00\x00\x00\x01\x67abc\x00\x00\x00\x01\x65abc"
    assert is_keyframe(idr) and not is_keyframe(b"\x00\x00\x00\x01\x41abc")


def test_a_decoder_that_is_too_slow_is_not_given_more():
    waiting = 0
    arrivals = Arrivals(lambda: waiting)
    assert arrivals.add(0, 0, KEY, 1) == (False, KEY)
    waiting = 20
    assert arrivals.add(1, 1, LATER, 1) == (True, None)
    waiting = 0
    assert arrivals.add(2, 2, LATER, 1)[1] is None
    assert arrivals.add(3, 3, KEY, 1)[1] == KEY
