"""An event loop that takes UDP ports of a range: what a firewall lets through is a range, and aioice has no option."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

logger = logging.getLogger(__name__)


def make_loop(udp_ports: tuple[int, int] | None = None) -> asyncio.AbstractEventLoop:
    """Make a new event loop.

    Args:
        udp_ports: first and last local port for media; None: whichever is free.
    """
    return asyncio.new_event_loop() if udp_ports is None else RangeLoop(udp_ports)


class RangeLoop(asyncio.SelectorEventLoop):
    """Gives every UDP socket that asks for any local port one of a range.

    Sockets that go to one address (`remote_addr`, a TURN server's) keep whichever port is free: a firewall lets
    answers to them in by itself.
    """

    def __init__(self, udp_ports: tuple[int, int]):
        """Store the range: its first and its last port."""
        super().__init__()
        self._first, self._count = udp_ports[0], udp_ports[1] - udp_ports[0] + 1
        # One after another: a port that has just been given back may still get packets of its last peer.
        self._next = 0

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **options: Any
    ) -> Any:
        """Do as asyncio's does; a local port 0 means a free one of the range.

        Raises:
            OSError: EADDRINUSE: all ports of the range are taken.
        """
        create = super().create_datagram_endpoint
        if local_addr is None or local_addr[1] != 0 or remote_addr is not None:
            return await create(protocol_factory, local_addr, remote_addr, **options)
        for step in range(self._count):
            offset = (self._next + step) % self._count
            try:
                endpoint = await create(protocol_factory, (local_addr[0], self._first + offset), **options)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            self._next = (offset + 1) % self._count
            return endpoint
        last = self._first + self._count - 1
        message = (
            f"all UDP ports from {self._first} to {last} are taken on {local_addr[0]}: widen server.udp_ports"
        )
        logger.warning("%s", message)  # aioice goes on without this address and would tell nobody
        raise OSError(errno.EADDRINUSE, message)
