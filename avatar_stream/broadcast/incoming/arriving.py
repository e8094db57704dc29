"""Pictures that arrive by RTP: whole as early as can be, never long behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from aiortc import RTCRtpReceiver
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtp import RtpPacket
from aiortc.utils import uint16_add

_BUFFERED_PACKETS = 2048  # more than a keyframe of 4K at 20 Mbit/s has; a power of two
_VP8_KEYFRAME = b"\x9d\x01\x2a"  # RFC 6386, 9.1
_H264_KEYFRAME = re.compile(rb"\x00\x00\x01[\x05\x25\x45\x65]")  # a slice of an IDR picture


class PromptBuffer(JitterBuffer):
    """aiortc's buffer for pictures, for a conversation: nothing waits that need not.

    aiortc's own holds a picture back until the next one begins; the marker says earlier that it is whole. Where a lost
    packet does not come again it waits until 512 newer ones are there, seconds; here a fifth of a second later all is
    thrown away up to the next keyframe, which is asked for. The same where the decoder falls behind.
    """

    _GIVE_UP_S, _ASK_AGAIN_S, _MOST_WAITING = 0.2, 0.5, 12

    def __init__(self, waiting: Callable[[], int] = lambda: 0, clock: Callable[[], float] = time.monotonic):
        """Make it empty.

        Args:
            waiting: tells how many pictures the decoder has before it.
            clock: seconds.
        """
        super().__init__(_BUFFERED_PACKETS, is_video=True)
        self._waiting, self._clock = waiting, clock
        self._newest: int | None = None
        self._gap_since_s: float | None = None
        self._until_keyframe, self._asked_s = True, float("-inf")

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Add a packet; returns (ask for a keyframe, a whole picture or None) as aiortc's does."""
        if self._newest is None or uint16_add(packet.sequence_number, -self._newest) < 2**15:
            self._newest = packet.sequence_number
        lost, picture = super().add(packet)
        if picture is None or not picture.data:
            picture = self._whole()  # what is empty only fills up
        if self._waiting() > self._MOST_WAITING or lost or self._gives_up():
            self._until_keyframe, picture, lost = True, None, True
        if self._until_keyframe and picture is not None:
            self._until_keyframe = not is_keyframe(picture.data)
            picture = None if self._until_keyframe else picture
            lost = self._until_keyframe
        return self._may_ask(lost), picture

    def _whole(self) -> JitterFrame | None:
        packets = []
        for packet in self._in_order():
            if packets and packet.timestamp != packets[0].timestamp:
                return None  # a picture whose marker was lost: aiortc's buffer takes it from here
            packets.append(packet)
            if packet.marker:
                break
        else:
            return None
        self.remove(len(packets))
        data = b"".join(packet._data for packet in packets)
        return JitterFrame(data=data, timestamp=packets[0].timestamp) if data else None

    def _in_order(self):
        for step in range(self._capacity):
            packet = self._packets[(self._origin + step) % self._capacity]
            if packet is None:
                return
            yield packet

    def _gives_up(self) -> bool:
        # Whether a gap has stood for so long that everything up to now was thrown away.
        there = sum(1 for _ in self._in_order())
        ahead = uint16_add(self._newest, -self._origin) + 1
        if ahead > self._capacity or there >= ahead:
            self._gap_since_s = None
            return False
        now_s = self._clock()
        if self._gap_since_s is None:
            self._gap_since_s = now_s
        if now_s - self._gap_since_s < self._GIVE_UP_S:
            return False
        self.remove(ahead)
        self._gap_since_s = None
        return True

    def _may_ask(self, wanted: bool) -> bool:
        now_s = self._clock()
        if not wanted or now_s - self._asked_s < self._ASK_AGAIN_S:
            return False
        self._asked_s = now_s
        return True


def is_keyframe(data: bytes) -> bool:
    """Whether a whole picture, VP8 or H.264 (Annex B), can be decoded without any before it."""
    if data.startswith(b"\x00\x00\x00\x01"):
        return _H264_KEYFRAME.search(data) is not None
    return len(data) >= 10 and not data[0] & 1 and data[3:6] == _VP8_KEYFRAME


def hasten(receiver: RTCRtpReceiver) -> None:
    """Let a receiver use `PromptBuffer`; call it before the connection stands."""
    # No public way leads there. Should aiortc rename them, its own buffer goes on: one picture more of delay.
    queue = getattr(receiver, "_RTCRtpReceiver__decoder_queue", None)
    waiting = queue.qsize if queue is not None else lambda: 0
    receiver._RTCRtpReceiver__jitter_buffer = PromptBuffer(waiting)
