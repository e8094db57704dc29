"""What a broadcast shows: its kinds of pictures, and their streams, made as viewers ask for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from avatar_stream.broadcast.outgoing.encoder import MOST_BLOCKS, MOST_OVERLAY_BLOCKS
from avatar_stream.broadcast.outgoing.streams import PictureOrMaker, VideoStream
from avatar_stream.broadcast.settings import OVERLAY, Codec, EncodingOptions


class StreamSet:
    """All streams of one broadcast: one for each kind of picture, codec and rung that somebody takes."""

    def __init__(self, options: EncodingOptions):
        """Take the options of every stream; nothing is made yet."""
        self._options = options
        self._lock = threading.Lock()
        self._streams: dict[tuple[str, Codec, bool], VideoStream] = {}
        self._last: dict[str, tuple[PictureOrMaker, int]] = {}

    @property
    def begun(self) -> bool:
        """Whether there was a picture yet."""
        return bool(self._last)

    def put(self, pictures: Mapping[str, PictureOrMaker], pts: int) -> None:
        """Show new pictures; from any thread, never waits and does no work on them.

        Args:
            pictures: by kind, see `streams.PictureOrMaker`.
            pts: ticks of 1/90000 s, of all of them.

        Raises:
            SinkError: encoding has failed.
        """
        with self._lock:
            self._last.update({kind: (picture, pts) for kind, picture in pictures.items()})
            streams = list(self._streams.items())
        for (kind, *_), stream in streams:
            if kind in pictures:
                stream.put(pictures[kind], pts)

    def stream(self, kind: str, codec: Codec, half: bool = False) -> VideoStream:
        """Return the one stream of a kind, codec and rung."""
        key = kind, codec, half
        with self._lock:
            if key not in self._streams:
                most_blocks = MOST_OVERLAY_BLOCKS if kind == OVERLAY else MOST_BLOCKS
                self._streams[key] = VideoStream(codec, self._options, half, kind, most_blocks)
                if kind in self._last:
                    self._streams[key].put(*self._last[kind])
            return self._streams[key]

    def status(self) -> dict[str, float]:
        """Figures of all streams: kbit/s now, keyframes and pictures encoded so far; on the event loop."""
        streams = list(self._streams.values())
        return {
            "bitrate_kbps": round(sum(stream.bitrate_bps for stream in streams) / 1000, 1),
            "keyframes": sum(stream.keyframes for stream in streams),
            "encoded": sum(stream.encoded for stream in streams),
        }

    def close(self) -> None:
        """End all streams; waits for their threads. May be called twice."""
        with self._lock:
            streams = list(self._streams.values())
            self._streams.clear()
        for stream in streams:
            stream.close()
