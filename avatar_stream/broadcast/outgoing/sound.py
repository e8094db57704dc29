"""A programme's sound for WebRTC viewers: Opus, encoded once for all of them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from avatar_stream.broadcast.outgoing.tracks import Fanout, QueuedTrack
from avatar_stream.types import SOUND_RATE, Sound

_BITRATE_BPS = 128_000
_BLOCK_SAMPLES = 960  # 20 ms: RFC 7587's usual packet
# A taker that falls behind by more goes on with the newest: late sound is worse than a gap.
_MOST_WAITING, _KEPT = 25, 3
_TIME_BASE = Fraction(1, SOUND_RATE)


class SoundStream(Fanout):
    """Encodes blocks of 20 ms on the thread that brings them; works only while somebody listens."""

    def __init__(self) -> None:
        super().__init__()
        self._encoder: av.AudioCodecContext | None = None
        self._start_s: float | None = None

    def hear(self, sound: Sound) -> None:
        """Send a block to all takers; from any one thread, never waits.

        Args:
            sound: (n, 2) int16 at 48 kHz; blocks of 960 are one packet each, others are cut into such.
        """
        if self._start_s is None:
            self._start_s = sound.time_s
        with self._changed:
            if not self._tracks or self._closed:
                self._encoder = None  # a newcomer's decoder knows nothing of what was before
                return
            packets = self._encode(sound, round((sound.time_s - self._start_s) * SOUND_RATE))
        self.call(self._deliver, packets)

    def track(self) -> OpusTrack:
        """Return a track for one sender; on the event loop."""
        return OpusTrack(self)

    def close(self) -> None:
        """End all tracks; on the event loop."""
        self._closed = True
        self.end_tracks()

    def _encode(self, sound: Sound, first: int) -> list[tuple[bytes, int]]:
        if self._encoder is None:
            self._encoder = _open_encoder()
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


class OpusTrack(QueuedTrack[tuple[bytes, int]]):
    """One taker's track of ready Opus packets."""

    kind = "audio"

    async def recv(self) -> av.Packet:
        """Return the next packet; MediaStreamError when the track has ended."""
        data, pts = await self.pull()
        packet = av.Packet(data)
        packet.pts = packet.dts = max(0, pts) % 2**32
        packet.time_base = _TIME_BASE
        return packet

    def take(self, packets: list[tuple[bytes, int]]) -> None:
        """Queue packets; a taker that falls behind goes on with the newest."""
        for packet in packets:
            self.push(packet)
        if len(self._queue) > _MOST_WAITING:
            while len(self._queue) > _KEPT:
                self._queue.popleft()


def _open_encoder() -> av.AudioCodecContext:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = SOUND_RATE, "stereo", "s16"
    encoder.bit_rate, encoder.time_base = _BITRATE_BPS, _TIME_BASE
    encoder.options = {"application": "audio", "frame_duration": "20"}
    return encoder
