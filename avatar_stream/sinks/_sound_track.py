"""A sound track beside the pictures of a file or a stream."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import av
import numpy as np

from avatar_stream.types import SOUND_RATE, Sound

_BITRATES = {"aac": 160_000, "libopus": 128_000}
_MOST_WAITING = 2000  # blocks, 40 s: sound comes before the first picture, or while an encoder is busy
_BITEXACT = 1 << 23  # AV_CODEC_FLAG_BITEXACT: no library versions in the stream


class FileSoundTrack:
    """Encodes blocks of sound; those before the pictures' start are cut."""

    def __init__(self, codec: str):
        """Take the codec, `aac` or `libopus`."""
        self._codec = codec
        self._stream: av.AudioStream | None = None
        self._waiting: deque[Sound] = deque(maxlen=_MOST_WAITING)
        self._end = 0  # samples until the end of what was encoded

    def add_to(self, container: av.container.OutputContainer) -> None:
        """Add the stream to a container that has written nothing yet."""
        self._stream = container.add_stream(self._codec, rate=SOUND_RATE, layout="stereo")
        self._stream.codec_context.bit_rate = _BITRATES[self._codec]
        self._stream.codec_context.flags |= _BITEXACT

    def hear(self, sound: Sound) -> None:
        """Take a block; it waits for `encode`, also before there is a container."""
        self._waiting.append(sound)

    def encode(self, start_s: float, until_s: float) -> list[av.Packet]:
        """Encode what waits.

        Args:
            start_s: the time that is 0 in the file, on the blocks' clock.
            until_s: blocks that begin later go on waiting.
        """
        packets = []
        while self._waiting and self._waiting[0].time_s <= until_s:
            sound = self._waiting.popleft()
            begin = round((sound.time_s - start_s) * SOUND_RATE)
            # One block goes on where the last one ended; rounding must not tear them apart.
            begin = self._end if abs(begin - self._end) <= 2 else begin
            samples = sound.samples[max(0, self._end - begin) :]
            if len(samples):
                block = np.ascontiguousarray(samples).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(block, "s16", "stereo")
                frame.sample_rate, frame.pts = SOUND_RATE, max(begin, self._end)
                frame.time_base = Fraction(1, SOUND_RATE)
                packets += self._stream.encode(frame)
                self._end = frame.pts + len(samples)
        return packets

    def finish(self) -> list[av.Packet]:
        """Give what the encoder still holds."""
        return self._stream.encode(None) if self._end else []
