"""All that reaches into private parts of aiortc, and of aioice below it; no other file does.

Written for aiortc 1.16, where `setup.cfg` holds it: an update begins with this file. aiortc has no public way to send
packets that are ready, to learn what the other side reports, or to see what waits in front of the network; and its
buffer for what arrives waits where a conversation must not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiortc import RTCRtpReceiver, RTCRtpSender, RTCRtpTransceiver
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcrtpsender import RTCEncodedFrame
from aiortc.rtp import AnyRtcpPacket, RtcpReceiverInfo, RtpPacket
from aiortc.utils import uint16_add

from avatar_stream.broadcast.settings import Codec

_BUFFERED_PACKETS = 2048  # more than a keyframe of 4K at 20 Mbit/s has; a power of two
_VP8_KEYFRAME = b"\x9d\x01\x2a"  # RFC 6386, 9.1
_H264_KEYFRAME = re.compile(rb"\x00\x00\x01[\x05\x25\x45\x65]")  # a slice of an IDR picture


# What is sent -----------------------------------------------------------------------------------------------


def negotiated_codec(transceiver: RTCRtpTransceiver) -> Codec:
    """Return the codec that both sides chose; once the other side's description is set."""
    inside: Any = transceiver
    codec: Codec = inside._codecs[0].name.lower()
    return codec


def take_over(
    sender: RTCRtpSender,
    next_picture: Callable[[], Awaitable[tuple[list[bytes], int]]],
    listen: Callable[[AnyRtcpPacket], None],
    request_keyframe: Callable[[], None],
) -> None:
    """Let a sender send what is packetised already; before the connection stands, on the event loop.

    Args:
        sender: of video.
        next_picture: gives the next picture's RTP payloads and its time, ticks of 1/90000 s.
        listen: gets each RTCP packet that arrives for the sender (RFC 3550, 6; RFC 4585, 6).
        request_keyframe: called when the other side asks for a keyframe (PLI, FIR).
    """
    inside: Any = sender
    handle = inside._handle_rtcp_packet

    async def next_encoded_frame(_: object) -> RTCEncodedFrame | None:
        payloads, pts = await next_picture()
        no_level: Any = None  # only sound has one
        return RTCEncodedFrame(payloads, pts % 2**32, no_level) if inside._enabled else None

    async def handle_rtcp_packet(packet: AnyRtcpPacket) -> None:
        listen(packet)
        await handle(packet)

    inside._next_encoded_frame, inside._handle_rtcp_packet = next_encoded_frame, handle_rtcp_packet
    inside._send_keyframe = request_keyframe


def ssrc_of(sender: RTCRtpSender) -> int:
    """Return the synchronization source under which a sender sends (RFC 3550, 3)."""
    return sender._ssrc


def last_timestamp(sender: RTCRtpSender) -> int | None:
    """Return the RTP timestamp of the packets sent last; None before the first."""
    return getattr(sender, "_RTCRtpSender__rtp_timestamp", None) or None


def round_trip_s(sender: RTCRtpSender, report: RtcpReceiverInfo) -> float | None:
    """Return the way there and back that a report tells (RFC 3550, 6.4.1); None where it tells none.

    aiortc keeps an average that lags ten seconds behind, but it knows when the report's sender report left.
    """
    inside: Any = sender
    if not report.dlsr or report.lsr != getattr(inside, "_RTCRtpSender__lsr", None):
        return None
    return max(0.0, time.time() - inside._RTCRtpSender__lsr_time - report.dlsr / 65536)


def waiting_bytes(sender: RTCRtpSender) -> int:
    """Return how much of what was sent has not left this process yet."""
    transports: Any = sender.transport.transport
    pair = transports._connection._nominated.get(1)
    transport = getattr(getattr(pair, "protocol", None), "transport", None)
    relayed = getattr(transport, "_TurnTransport__inner_protocol", None)
    transport = relayed.transport if relayed is not None else transport
    return transport.get_write_buffer_size() if transport is not None else 0


# What arrives -----------------------------------------------------------------------------------------------


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
        number = packet.sequence_number
        if self._newest is None or uint16_add(number, -self._newest) < 2**15:
            self._newest = number
        lost, picture = super().add(packet)
        if picture is None or not picture.data:
            picture = self._whole()  # what is empty only fills up
        if self._waiting() > self._MOST_WAITING or lost or self._gives_up(self._newest):
            self._until_keyframe, picture, lost = True, None, True
        if self._until_keyframe and picture is not None:
            self._until_keyframe = lost = not is_keyframe(picture.data)
            picture = None if lost else picture
        return self._may_ask(lost), picture

    def _whole(self) -> JitterFrame | None:
        packets: list[Any] = []
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

    def _in_order(self) -> Iterator[RtpPacket]:
        for step in range(self._capacity):
            packet = self._packets[((self._origin or 0) + step) % self._capacity]
            if packet is None:
                return
            yield packet

    def _gives_up(self, newest: int) -> bool:
        # Whether a gap has stood for so long that everything up to now was thrown away.
        in_order = sum(1 for _ in self._in_order())
        ahead = uint16_add(newest, -(self._origin or 0)) + 1
        if ahead > self._capacity or in_order >= ahead:
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


def use_prompt_buffer(receiver: RTCRtpReceiver) -> None:
    """Let a receiver use `PromptBuffer`; call it before the connection stands."""
    inside: Any = receiver
    inside._RTCRtpReceiver__jitter_buffer = PromptBuffer(inside._RTCRtpReceiver__decoder_queue.qsize)
