"""What sessions of WHEP and WHIP share, whichever side offers: a connection, its name, and a quick goodbye."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiortc import MediaStreamTrack, RTCPeerConnection

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 5.0


@dataclass(eq=False, kw_only=True)
class Session:
    """One peer connection and what ends with it.

    Attributes:
        connection: aiortc's object.
        id: unguessable, part of the session's address.
        since_s: `time.monotonic()` of its beginning.
        tracks: what we send in it.
    """

    connection: RTCPeerConnection
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    since_s: float = field(default_factory=time.monotonic)
    tracks: list[MediaStreamTrack] = field(default_factory=list)

    @property
    def etag(self) -> str:
        """Names this ICE session, as PATCH's If-Match wants it (RFC 9725, 4.3.1)."""
        return f'"{self.id[:8]}"'

    @property
    def state(self) -> str:
        """`new`, `connecting`, `connected`, `failed` or `closed` (W3C WebRTC 1.0, 4.3.3)."""
        return self.connection.connectionState

    async def close(self) -> None:
        """End its tracks and its connection."""
        for track in self.tracks:
            track.stop()
        try:
            await asyncio.wait_for(self.connection.close(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            logger.warning("a connection did not close in %.0f s", _CLOSE_TIMEOUT_S)


class Background:
    """What is done while nobody waits: a goodbye to one who is gone takes seconds. On one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Return when all is done."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
