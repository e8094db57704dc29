"""What goes out to one taker: ready packets into aiortc's sender, and what the taker reports back."""

from __future__ import annotations

import asyncio
import time

from aiortc import RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpsender import RTCEncodedFrame
from aiortc.rtp import (
    RTCP_PSFB_APP,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSrPacket,
    unpack_remb_fci,
)

from avatar_stream.broadcast.outgoing.rung import Rung
from avatar_stream.broadcast.outgoing.streams import PacketTrack

# What may wait in front of a taker's network. aiortc never asks: over TURN by TCP minutes would gather there.
_MOST_WAITING_BYTES = 64 * 1024
_LOOK_AGAIN_S = 0.02


class Sending:
    """Makes a sender send a track's pictures as they were packetised once for all takers.

    aiortc's sender alone would cut every picture again for every taker, and forget what the taker says of its network.

    Attributes:
        heard_s: `time.monotonic()` of the taker's last report of what it received; None: none yet.
        loss: 0..1, part of the packets that its last report misses.
        estimate_bps: what its network carries, by its own estimate (REMB); None: it has not told.
        round_trip_s: to the taker and back, at its last report (RFC 3550, 6.4.1); None: that did not tell.
    """

    def __init__(self, sender: RTCRtpSender, track: PacketTrack):
        """Take over; before the connection stands, on the event loop."""
        self._sender, self._track = sender, track
        self._handle = sender._handle_rtcp_packet
        self.heard_s: float | None = None
        self.loss = 0.0
        self.estimate_bps: float | None = None
        self.round_trip_s: float | None = None
        self._rung, self._judged_s = Rung(), None
        track.sender = sender
        sender._next_encoded_frame = self._next
        sender._handle_rtcp_packet = self._listen
        sender._send_keyframe = track.request_keyframe

    async def _next(self, _: RTCRtpCodecParameters) -> RTCEncodedFrame | None:
        # Meanwhile the track falls behind and skips to a keyframe: newest wins.
        while self.waiting_bytes() > _MOST_WAITING_BYTES:
            await asyncio.sleep(_LOOK_AGAIN_S)
        shared = await self._track.next()
        if not self._sender._enabled:
            return None
        return RTCEncodedFrame(shared.payloads, self._track.pts % 2**32, None)

    def wants_half(self, now_s: float) -> bool:
        """Whether the taker's network carries half the side only, by its reports until `now_s` (monotonic)."""
        # An old report says nothing new; while the network is away there are none.
        if self.heard_s != self._judged_s:
            self._judged_s, sent_bps = self.heard_s, self._track.stream.bitrate_bps
            self._rung.judge(now_s, self.loss, self.estimate_bps, sent_bps, self.round_trip_s)
        return self._rung.half

    def waiting_bytes(self) -> int:
        """How much of what was sent has not left this process yet."""
        pair = self._sender.transport.transport._connection._nominated.get(1)
        transport = getattr(getattr(pair, "protocol", None), "transport", None)
        relayed = getattr(transport, "_TurnTransport__inner_protocol", None)
        transport = relayed.transport if relayed is not None else transport
        return transport.get_write_buffer_size() if transport is not None else 0

    async def _listen(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == self._sender._ssrc:
                    self.heard_s, self.loss = time.monotonic(), report.fraction_lost / 256
                    self._note_round_trip(report)
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            self._note_estimate(packet.fci)
        await self._handle(packet)

    def _note_round_trip(self, report: RtcpReceiverInfo) -> None:
        # aiortc keeps an average that lags ten seconds behind; when the report's sender report left, it knows.
        self.round_trip_s = None
        if report.dlsr and report.lsr == getattr(self._sender, "_RTCRtpSender__lsr", None):
            left_s = self._sender._RTCRtpSender__lsr_time
            self.round_trip_s = max(0.0, time.time() - left_s - report.dlsr / 65536)

    def _note_estimate(self, fci: bytes) -> None:
        try:
            estimate_bps, sources = unpack_remb_fci(fci)
        except ValueError:
            return  # another application's message
        if self._sender._ssrc in sources:
            self.estimate_bps = float(estimate_bps)
