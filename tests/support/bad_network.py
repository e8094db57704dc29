"""A bad network for tests: UDP on its way through this process is lost, late, or not let through at all."""

import asyncio
import random
import re
import threading


class BadNetwork:
    """Stands between one machine's viewers and its server; both sides are 127.0.0.1 or another local address.

    Attributes:
        loss: share of datagrams that are lost, either way.
        jitter_s: each datagram is late by up to so much, so that they overtake each other.
        out: nothing passes.
        passed: datagrams let through.
    """

    def __init__(self, seed=0):
        self.loss, self.jitter_s, self.out, self.passed = 0.0, 0.0, False, 0
        self._random = random.Random(seed)
        self._ready, self._loop = threading.Event(), None
        self._transports = []
        self._thread = threading.Thread(target=self._run, name="bad-network", daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def way_to(self, answer_sdp):
        """Return an SDP answer whose only candidate leads through this network to the answer's first one."""
        pattern = r"^a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host"
        found = re.search(pattern, answer_sdp, re.MULTILINE)
        server = (found[1], int(found[2]))
        host, port = asyncio.run_coroutine_threadsafe(self._open_way(server), self._loop).result(5)
        ours = f"a=candidate:1 1 udp 2130706431 {host} {port} typ host"
        lines = answer_sdp.splitlines()
        first = next(k for k, line in enumerate(lines) if line.startswith("a=candidate:"))
        kept = [line for line in lines if not line.startswith("a=candidate:")]
        return "\r\n".join([*kept[:first], ours, *kept[first:], ""])

    @staticmethod
    def alone(offer_sdp):
        """Return an SDP offer without candidates: then the server can only answer on the way that it was asked."""
        lines = [line for line in offer_sdp.splitlines() if not line.startswith("a=candidate:")]
        return "\r\n".join([*lines, ""])

    def _run(self):
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._ready.set)
        self._loop.run_forever()
        for transport in self._transports:
            transport.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _open_way(self, server):
        door = _Door(self, server)
        transport, _ = await self._loop.create_datagram_endpoint(lambda: door, local_addr=(server[0], 0))
        self._transports.append(transport)
        return transport.get_extra_info("sockname")

    def carry(self, send):
        """Call `send` after this network's delay, or never."""
        if self.out or self._random.random() < self.loss:
            return
        self.passed += 1
        if self.jitter_s:
            self._loop.call_later(self._random.uniform(0, self.jitter_s), send)
        else:
            send()

    def keep(self, transport):
        self._transports.append(transport)


class _Door(asyncio.DatagramProtocol):
    """Where viewers send to; each gets a socket of its own towards the server."""

    def __init__(self, network, server):
        self.network, self.server, self.ways, self.transport = network, server, {}, None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.network.carry(lambda: asyncio.ensure_future(self._forward(data, address)))

    async def _forward(self, data, address):
        way = self.ways.get(address)
        if way is None:
            loop = asyncio.get_running_loop()
            way = loop.create_datagram_endpoint(lambda: _Back(self, address), remote_addr=self.server)
            way = self.ways[address] = asyncio.ensure_future(way)
        transport, _ = await way
        self.network.keep(transport)
        if not transport.is_closing():
            transport.sendto(data)


class _Back(asyncio.DatagramProtocol):
    """What the server answers goes back to the viewer who asked."""

    def __init__(self, door, address):
        self.door, self.address = door, address

    def datagram_received(self, data, _):
        self.door.network.carry(lambda: self.door.transport.sendto(data, self.address))
