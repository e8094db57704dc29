"""Through coturn on loopback: publisher and viewer that may go by way of it only, and our own ICE servers."""

import asyncio
import gc
import re
import shutil
import socket

import aiohttp
import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from support.ingest import TOKEN
from support.outward import Signer, assert_stripes, free_port, running
from support.stages import opened
from support.waiting import run_async, until

from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import IceServer, ServerOptions
from avatar_stream.sinks.web import WebSink
from avatar_stream.sinks.whip import WhipSink
from avatar_stream.stages import Context

USER, WORD = "signer", "a-long-word"
RELAY_PORTS = (22000, 22050)

pytestmark = pytest.mark.skipif(shutil.which("turnserver") is None, reason="apt-get install coturn")


@pytest.fixture
def turn(tmp_path):
    port = free_port()
    command = f"turnserver -n --listening-ip 127.0.0.1 --relay-ip 127.0.0.1 --listening-port {port} --no-tls "
    command += f"--no-dtls --no-cli --lt-cred-mech --user {USER}:{WORD} --realm example.org "
    command += f"--allow-loopback-peers --log-file stdout --pidfile {tmp_path}/pid --db {tmp_path}/db "
    command += f"--min-port {RELAY_PORTS[0]} --max-port {RELAY_PORTS[1]}"
    with running(command.split()):
        until(lambda: _listens(port))
        yield f"turn:127.0.0.1:{port}?transport=udp"


def _listens(port: int) -> bool:
    # A STUN binding request (RFC 8489): type, no attributes, magic cookie, transaction.
    request = bytes.fromhex("000100002112a442") + bytes(range(12))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(("127.0.0.1", port))
            probe.send(request)
            return probe.recv(2048)[:2] == b"\x01\x01"
        except OSError:
            return False


def all_relayed(sdp: str) -> bool:
    """Whether it names ways by TURN, all of them through ours."""
    ports = [int(port) for port in re.findall(r"^a=candidate:(?:\S+ ){5}(\d+) typ relay", sdp, re.M)]
    return bool(ports) and all(RELAY_PORTS[0] <= port <= RELAY_PORTS[1] for port in ports)


@pytest.mark.parametrize("who", ["publisher", "server"])
def test_publishing_by_way_of_coturn_only(turn, who):
    named = (IceServer(urls=turn, username=USER, credential=WORD),)
    # Either knows the TURN server; the WHIP server names it in a Link header.
    server = Server(ServerOptions(port=0, token=TOKEN, ice_servers=named if who == "server" else ()))
    with opened(server):
        server.ingest.opened = True
        own = named if who == "publisher" else ()
        url = f"{server.address}whip"
        sink = WhipSink(WhipSink.Options(url=url, token=TOKEN, ice_servers=own, relay_only=True))
        with Signer(sink):
            until(lambda: server.ingest.state == "sending")
            assert_stripes(server.ingest.arrivals.get(10).picture.to_ndarray(format="rgb24"))
            offer = server.ingest._session.connection.remoteDescription.sdp
    assert all_relayed(offer) and "typ host" not in offer


# aioice leaves the socket of a refused request to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_publishing_by_way_of_a_turn_server_that_refuses_says_so(turn):
    wrong = IceServer(urls=turn, username=USER, credential="another")
    sink = WhipSink(WhipSink.Options(url="http://127.0.0.1:9/whip", ice_servers=(wrong,), relay_only=True))
    with Signer(sink):
        until(lambda: "no TURN server" in sink.notice)
    gc.collect()


def test_a_viewer_behind_coturn_and_our_own_relay(turn):
    named = (IceServer(urls=turn, username=USER, credential=WORD),)
    server = Server(ServerOptions(port=0, ice_servers=named))
    sink = WebSink(context=Context(server=server))
    with Signer(sink):
        answer, picture = run_async(_watch(f"{sink.address}whep", turn))
        assert_stripes(picture)
    assert all_relayed(answer), "the server's own way by TURN is in its answer"


async def _watch(url: str, turn: str):
    # As a player does that takes its ICE servers from the endpoint, and whose network lets nothing else through.
    async with aiohttp.ClientSession() as http, http.options(url) as response:
        assert turn in response.headers["Link"]
    policy = RTCIceTransportPolicy.RELAY
    viewer = RTCPeerConnection(RTCConfiguration([RTCIceServer(turn, USER, WORD)], iceTransportPolicy=policy))
    receiver = viewer.addTransceiver("video", direction="recvonly").receiver
    try:
        await viewer.setLocalDescription(await viewer.createOffer())
        headers = {"Content-Type": "application/sdp"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(url, data=viewer.localDescription.sdp, headers=headers) as response,
        ):
            assert response.status == 201
            answer = await response.text()
        await viewer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        for _ in range(5):
            frame = await asyncio.wait_for(receiver.track.recv(), 20)
    finally:
        await viewer.close()
    return answer, frame.to_ndarray(format="rgb24")
