"""UDP ports of a range: every connection's candidates lie in it, and a range that is used up says so."""

import asyncio
import logging
import re
import socket

import pytest
from support.stages import opened
from support.waiting import run_async
from support.web import ask, offering

from avatar_stream.broadcast.ports import RangeLoop, make_loop
from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.sinks.web import WebSink
from avatar_stream.stages import Context


def free_ports(count: int) -> tuple[int, int]:
    """First and last of neighbouring UDP ports that are free on every address now."""
    for _ in range(50):
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        try:
            sockets[0].bind(("0.0.0.0", 0))
            first = sockets[0].getsockname()[1]
            for step, other in enumerate(sockets[1:], 1):
                other.bind(("0.0.0.0", first + step))
            return first, first + count - 1
        except (OSError, OverflowError):
            continue
        finally:
            for taken in sockets:
                taken.close()
    pytest.skip(f"no {count} neighbouring UDP ports are free")


def run(udp_ports, coroutine):
    return run_async(coroutine, lambda: make_loop(udp_ports))


def candidate_ports(sdp: str) -> list[int]:
    return [int(port) for port in re.findall(r"^a=candidate:(?:\S+ ){5}(\d+) ", sdp, re.M)]


async def bound_port(port=0, **options) -> tuple[asyncio.DatagramTransport, int]:
    loop = asyncio.get_running_loop()
    given = {"local_addr": ("127.0.0.1", port), **options}
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, **given)
    return transport, transport.get_extra_info("sockname")[1]


def test_candidates_of_a_connection_lie_in_the_range():
    first, last = free_ports(40)

    async def offer() -> str:
        async with offering() as connection:
            return connection.localDescription.sdp

    ports = candidate_ports(run((first, last), offer()))
    assert ports and all(first <= port <= last for port in ports)


def test_a_taken_port_is_passed_over_and_one_given_back_is_taken_last():
    first, last = free_ports(3)

    async def take() -> list[int]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", first + 1))
            one, one_port = await bound_port()
            one.close()
            await asyncio.sleep(0)
            two, two_port = await bound_port()
            two.close()
            return [one_port, two_port]

    assert run((first, last), take()) == [first, last]


def test_a_range_that_is_used_up_says_so(caplog):
    first, last = free_ports(2)

    async def take() -> None:
        taken = [await bound_port(), await bound_port()]
        try:
            with pytest.raises(OSError, match=f"from {first} to {last} are taken"):
                await bound_port()
        finally:
            for transport, _ in taken:
                transport.close()

    with caplog.at_level(logging.WARNING):
        run((first, last), take())
    assert "widen server.udp_ports" in caplog.text


def test_a_port_that_is_named_stays_and_without_a_range_nothing_changes():
    first, named = free_ports(4)

    async def take() -> int:
        transport, port = await bound_port(named)
        transport.close()
        return port

    assert run((first, named - 1), take()) == named
    loop = make_loop(None)
    assert not isinstance(loop, RangeLoop)
    loop.close()


def test_media_of_viewers_and_signers_lie_in_the_servers_range():
    first, last = free_ports(40)
    server = Server(ServerOptions(port=0, udp_ports=(first, last)))

    async def answers() -> str:
        told = ""
        for path, direction in (("whep", "recvonly"), ("whip", "sendonly")):
            async with offering(direction=direction) as connection:
                offer, given = connection.localDescription.sdp, {"Content-Type": "application/sdp"}
                code, _, text = await asyncio.to_thread(ask, server.address + path, "POST", offer, **given)
                assert code == 201
                told += text
        return told

    with opened(WebSink(context=Context(server=server))):
        server.ingest.opened = True
        ports = candidate_ports(run_async(answers()))
    assert len(ports) >= 2 and all(first <= port <= last for port in ports)
