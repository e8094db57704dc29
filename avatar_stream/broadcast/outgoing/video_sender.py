"""One kind of picture on its way to one taker: ready packets into aiortc's sender, and what the taker reports back."""

from __future__ import annotations

import asyncio
import logging
import time

from aiortc import RTCRtpTransceiver, rtp

from avatar_stream.broadcast import aiortc_inside
from avatar_stream.broadcast.outgoing.rung import Rung
from avatar_stream.broadcast.outgoing.stream_set import StreamSet

logger = logging.getLogger(__name__)

# What may wait in front of a taker's network. aiortc never asks: over TURN by TCP minutes would gather there.
_MOST_WAITING_BYTES = 64 * 1024
_LOOK_AGAIN_S = 0.02
_NETWORK_IS = {True: ("poor", "half the resolution"), False: ("good again", "the whole resolution")}


class VideoSender:
    """Makes a sender send pictures as they were packetised once for all takers, and suits them to its network.

    aiortc's sender alone would cut every picture again for every taker, and forget what the taker says of its network.

    Attributes:
        track: what it sends.
        heard_s: `time.monotonic()` of the taker's last report of what it received; None: none yet.
        loss: 0..1, part of the packets that its last report misses.
        estimate_bps: what its network carries, by its own estimate (REMB); None: it has not told.
        round_trip_s: to the taker and back, at its last report (RFC 3550, 6.4.1); None: that did not tell.
    """

    def __init__(self, transceiver: RTCRtpTransceiver, streams: StreamSet, kind: str):
        """Take over a transceiver's sender before the connection stands; on the event loop.

        Args:
            transceiver: the other side's description is set, so that its codec is known.
            streams: give the pictures.
            kind: of picture.
        """
        self._sender, self._streams, self._kind = transceiver.sender, streams, kind
        self._codec = aiortc_inside.negotiated_codec(transceiver)
        self.track = streams.stream(kind, self._codec).track()
        self.heard_s: float | None = None
        self.loss = 0.0
        self.estimate_bps: float | None = None
        self.round_trip_s: float | None = None
        self._rung = Rung()
        self._judged_s: float | None = None
        self.track.sender = self._sender
        self._sender.replaceTrack(self.track)
        aiortc_inside.take_over(self._sender, self._next, self._listen, self.track.request_keyframe)

    def adapt(self, now_s: float) -> None:
        """Send the resolution that the taker's network carries, by its reports until `now_s` (monotonic)."""
        if self.heard_s == self._judged_s:
            return  # an old report says nothing new; while the network is away there are none
        self._judged_s, sent_bps = self.heard_s, self.track.stream.bitrate_bps
        half = self._rung.judge(now_s, self.loss, self.estimate_bps, sent_bps, self.round_trip_s)
        if half != self.track.stream.half:
            logger.info("a receiver's network is %s: %s", *_NETWORK_IS[half])
            self.track.switch(self._streams.stream(self._kind, self._codec, half))

    def waiting_bytes(self) -> int:
        """How much of what was sent has not left this process yet."""
        return aiortc_inside.waiting_bytes(self._sender)

    async def _next(self) -> tuple[list[bytes], int]:
        # Meanwhile the track falls behind and skips to a keyframe: newest wins.
        while self.waiting_bytes() > _MOST_WAITING_BYTES:
            await asyncio.sleep(_LOOK_AGAIN_S)
        shared = await self.track.next()
        return shared.payloads, self.track.pts

    def _listen(self, packet: rtp.AnyRtcpPacket) -> None:
        if isinstance(packet, rtp.RtcpRrPacket | rtp.RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == aiortc_inside.ssrc_of(self._sender):
                    self.heard_s, self.loss = time.monotonic(), report.fraction_lost / 256
                    self.round_trip_s = aiortc_inside.round_trip_s(self._sender, report)
        elif isinstance(packet, rtp.RtcpPsfbPacket) and packet.fmt == rtp.RTCP_PSFB_APP:
            try:
                estimate_bps, sources = rtp.unpack_remb_fci(packet.fci)
            except ValueError:
                return  # another application's message
            if aiortc_inside.ssrc_of(self._sender) in sources:
                self.estimate_bps = float(estimate_bps)
