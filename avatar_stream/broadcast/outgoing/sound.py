"""A programme's sound for WebRTC viewers: Opus, encoded once for all of them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from fractions import Fraction

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from avatar_stream.types import SOUND_RATE, Sound

_BITRATE_BPS = 128_000
_BLOCK_SAMPLES = 960  # 20 ms: RFC 7587's usual packet
# A taker that falls behind by more goes on with the newest: late sound is worse than a gap.
_MOST_WAITING, _KEPT = 25, 3
_TIME_BASE = Fraction(1, SOUND_RATE)


class SoundStream:
    """Encodes blocks of 20 ms on the thread that brings them; works only while somebody listens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tracks: dict[SoundTrack, None] = {}  # only changed on the loop, read under the lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._encoder: av.AudioCodecContext | None = None
        self._start_s: float | None = None
        self._closed = False

    def hear(self, sound: Sound) -> None:
        """Send a block to all takers; from any one thread, never waits.

        Args:
            sound: (n, 2) int16 at 48 kHz; blocks of 960 are one packet each, others are cut into such.
        """
        if self._start_s is None:
            self._start_s = sound.time_s
        with self._lock:
            if not self._tracks or self._closed:
                self._encoder = None  # a newcomer's decoder knows nothing of what was before
                return
            packets = self._encode(sound)
            loop = self._loop
        try:
            loop.call_soon_threadsafe(self._deliver, packets)
        except RuntimeError:  # the loop has ended, and with it all who took
            self._closed = True

    def track(self) -> SoundTrack:
        """Return a track for one sender; on the event loop."""
        return SoundTrack(self)

    def close(self) -> None:
        """End all tracks; on the event loop."""
        self._closed = True
        for track in list(self._tracks):
            track.stop()

    def join_in(self, track: SoundTrack) -> None:
        """Begin to give a track every packet; on the event loop."""
        self._loop = asyncio.get_running_loop()
        with self._lock:
            self._tracks[track] = None

    def leave(self, track: SoundTrack) -> None:
        """Give a track nothing more; on the event loop."""
        with self._lock:
            self._tracks.pop(track, None)

    def _encode(self, sound: Sound) -> list[tuple[bytes, int]]:
        if self._encoder is None:
            self._encoder = _open_encoder()
        first = round((sound.time_s - self._start_s) * SOUND_RATE)
        packets = []
        for begin in range(0, len(sound.samples) - _BLOCK_SAMPLES + 1, _BLOCK_SAMPLES):
            block = np.ascontiguousarray(sound.samples[begin : begin + _BLOCK_SAMPLES]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, "s16", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, first + begin, _TIME_BASE
            packets += [(bytes(packet), first + begin) for packet in self._encoder.encode(frame)]
        return packets

    def _deliver(self, packets: list[tuple[bytes, int]]) -> None:
        for track in list(self._tracks):
            track.take(packets)


class SoundTrack(MediaStreamTrack):
    """One taker's track of ready Opus packets."""

    kind = "audio"

    def __init__(self, stream: SoundStream):
        """Take packets of a stream, from the first `recv` on."""
        super().__init__()
        self._stream, self._joined = stream, False
        self._queue: deque[tuple[bytes, int]] = deque()
        self._came = asyncio.Event()

    async def recv(self) -> av.Packet:
        """Return the next packet; MediaStreamError when the track has ended."""
        if not self._joined and self.readyState == "live":
            self._joined = True
            self._stream.join_in(self)
        while not self._queue:
            if self.readyState != "live":
                raise MediaStreamError
            self._came.clear()
            await self._came.wait()
        data, pts = self._queue.popleft()
        packet = av.Packet(data)
        packet.pts = packet.dts = max(0, pts) % 2**32
        packet.time_base = _TIME_BASE
        return packet

    def take(self, packets: list[tuple[bytes, int]]) -> None:
        """Queue packets; a taker that falls behind goes on with the newest."""
        self._queue.extend(packets)
        if len(self._queue) > _MOST_WAITING:
            while len(self._queue) > _KEPT:
                self._queue.popleft()
        self._came.set()

    def stop(self) -> None:
        """End it; whoever waits for a packet gets MediaStreamError."""
        super().stop()
        self._stream.leave(self)
        self._queue.clear()
        self._came.set()


def _open_encoder() -> av.AudioCodecContext:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = SOUND_RATE, "stereo", "s16"
    encoder.bit_rate, encoder.time_base = _BITRATE_BPS, _TIME_BASE
    encoder.options = {"application": "audio", "frame_duration": "20"}
    return encoder
