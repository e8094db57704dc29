"""Tracks of ready packets: many takers of one encoding, each with a queue of its own on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

Item = TypeVar("Item")


class QueuedTrack(MediaStreamTrack, Generic[Item]):
    """One taker's track: gets what its fan-outs give from the first time that it is asked."""

    def __init__(self, *fans: Fanout):
        """Take what gives it packets."""
        super().__init__()
        self._fans: list[Any] = list(fans)
        self._queue: deque[Item] = deque()
        self._came = asyncio.Event()
        self._joined = False

    def push(self, item: Item) -> None:
        """Queue something for whoever waits."""
        self._queue.append(item)
        self._came.set()

    async def pull(self) -> Item:
        """Return what is oldest here, when there is something; MediaStreamError when the track has ended."""
        if not self._joined and self.readyState == "live":
            self._joined = True
            for fan in self._fans:
                fan.join(self)
        while not self._queue:
            if self.readyState != "live":
                raise MediaStreamError
            self._came.clear()
            await self._came.wait()
        return self._queue.popleft()

    def stop(self) -> None:
        """End it; whoever waits gets MediaStreamError."""
        super().stop()
        for fan in self._fans:
            fan.leave(self)
        self._queue.clear()
        self._came.set()


class Fanout:
    """Gives what one thread makes to tracks on an event loop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tracks: dict[Any, None] = {}  # in order of coming; only changed on the loop, under the lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def takers(self) -> int:
        """Number of tracks that take packets now."""
        return len(self._tracks)

    def join(self, track: Any) -> None:
        """Begin to give a track everything; on the event loop."""
        self._loop = asyncio.get_running_loop()
        if self._closed:
            track.stop()
            return
        with self._changed:
            self._tracks[track] = None
            self._changed.notify_all()

    def leave(self, track: Any) -> None:
        """Give a track nothing more; on the event loop."""
        with self._changed:
            self._tracks.pop(track, None)
            self._changed.notify_all()

    def end_tracks(self) -> None:
        """End all tracks; on the event loop."""
        for track in list(self._tracks):
            track.stop()

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Run a function on the event loop, soon; from any thread. Nothing happens before the first taker."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop has ended, and with it all who took
            self._closed = True
