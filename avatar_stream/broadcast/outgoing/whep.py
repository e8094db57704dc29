"""Viewers by WebRTC: WHEP's answers (draft-ietf-wish-whep), what each viewer gets, and who is still there.

Everything here runs on the server's event loop, except `StreamSet.put`. Pictures are encoded elsewhere, once for all.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver
from aiortc.rtcrtpparameters import RTCRtpCodecCapability

from avatar_stream.broadcast import exchange
from avatar_stream.broadcast.exchange import OfferError
from avatar_stream.broadcast.outgoing.sound import SoundStream
from avatar_stream.broadcast.outgoing.stream_set import StreamSet
from avatar_stream.broadcast.outgoing.video_sender import VideoSender
from avatar_stream.broadcast.session import Background, Session
from avatar_stream.broadcast.settings import AVATAR, DRIVER, OVERLAY, Codec, EncodingOptions
from avatar_stream.types import TICKS_PER_S

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 15.0
_WATCH_INTERVAL_S = 1.0


@dataclass(eq=False, kw_only=True)
class Viewer(Session):
    """One who watches.

    Attributes:
        address: the IP address that asked, or None.
        videos: what it gets; the first one is what it asked for.
    """

    address: str | None
    videos: list[VideoSender] = field(default_factory=list)


class Audience:
    """All viewers of one broadcast."""

    def __init__(
        self,
        configuration: Callable[[], RTCConfiguration],
        encoding: EncodingOptions,
        max_viewers: int = 100,
        with_driver: bool = False,
        viewer_timeout_s: float = 20.0,
        sound: SoundStream | None = None,
    ):
        """Make it on the running event loop; it begins to look after viewers.

        Args:
            configuration: gives the ICE servers, for every connection.
            encoding: of all its streams.
            max_viewers: at the same time.
            with_driver: send the driving picture too, to those who ask for two pictures or for that one.
            viewer_timeout_s: let go of viewers not heard of, or whose packets wait to be sent, for so long.
            sound: the programme's, for those whose offer has an audio section; None: there is none.
        """
        self._sound = sound
        self.viewers: dict[str, Viewer] = {}
        self.streams = StreamSet(encoding)
        self._configuration, self._codecs = configuration, encoding.codecs
        self._max_viewers, self._with_driver = max_viewers, with_driver
        self._viewer_timeout_s = viewer_timeout_s
        self._begun_s: float | None = None
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        self._closing = Background()

    @property
    def connected(self) -> int:
        """Number of viewers whose connection stands."""
        return sum(viewer.state == "connected" for viewer in self.viewers.values())

    def count_from(self, address: str | None) -> int:
        """Number of viewers that came from an IP address."""
        return sum(viewer.address == address for viewer in self.viewers.values())

    def status(self, viewer_id: str) -> dict[str, Any]:
        """What `/status` says about viewers, and to this one."""
        viewer = self.viewers.get(viewer_id)
        return {
            "viewers": len(self.viewers),
            "connected": self.connected,
            "known": viewer is not None,
            "ticks_per_s": TICKS_PER_S,
            "rtp_origin": viewer.videos[0].track.origin if viewer is not None and viewer.videos else None,
        } | self.streams.status()

    async def post(self, request: web.Request) -> web.Response:
        """POST /whep: an SDP offer; `?picture=overlay` or `driver` asks for another kind than the avatar.

        Its first video section gets that kind, a second one the driving picture, where that is sent. The answer is
        complete with candidates.

        Raises:
            HTTPServiceUnavailable: no place left.
            HTTPBadRequest, HTTPUnsupportedMediaType: no SDP, no video, no such picture, or nothing in common.
        """
        offer = await exchange.read_body(request, exchange.SDP)
        kinds = self._kinds(request.query.get("picture", AVATAR), offer)
        if len(self.viewers) >= self._max_viewers:
            text = f"{self._max_viewers} viewers are the most: raise max_viewers"
            raise web.HTTPServiceUnavailable(text=text, headers={"Retry-After": "5"})
        viewer = Viewer(connection=RTCPeerConnection(self._configuration()), address=request.remote)
        self.viewers[viewer.id] = viewer
        viewer.connection.on("connectionstatechange", lambda: self._state_changed(viewer))
        try:
            answer = await self._negotiate(viewer, offer, kinds)
        except BaseException:
            await self._close(viewer)
            raise
        return exchange.created(answer, f"/whep/{viewer.id}", viewer.etag)

    async def patch(self, request: web.Request) -> web.Response:
        """PATCH /whep/ID: more ICE candidates of the viewer (RFC 8840)."""
        viewer = self._known(request)
        return await exchange.trickle(request, viewer.connection, viewer.etag, lenient=True)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /whep/ID: goodbye."""
        await self._close(self._known(request))
        return web.Response(text="bye")

    async def close(self) -> None:
        """Close all connections and end all streams."""
        self._watching.cancel()
        await asyncio.gather(*map(self._close, list(self.viewers.values())))
        await self._closing.wait()
        if self._sound is not None:
            self._sound.close()
        await asyncio.to_thread(self.streams.close)

    def _known(self, request: web.Request) -> Viewer:
        viewer = self.viewers.get(request.match_info["viewer"])
        if viewer is None:
            raise web.HTTPNotFound(text="no such viewer")
        return viewer

    async def _close(self, viewer: Viewer) -> None:
        self.viewers.pop(viewer.id, None)
        await viewer.close()

    def _kinds(self, kind: str, offer: str) -> list[str]:
        known = [AVATAR, OVERLAY] + ([DRIVER] if self._with_driver else [])
        if kind == DRIVER and not self._with_driver:
            raise OfferError("the driving picture is not sent: set the output's option driver")
        if kind not in known:
            raise OfferError(f"there is no picture {kind!r}: known are {', '.join(known)}")
        kinds = list(dict.fromkeys([kind, *known[2:]]))[: len(re.findall(r"^m=video ", offer, re.MULTILINE))]
        if not kinds:
            raise OfferError("the offer has no video section (m=video)")
        return kinds

    async def _negotiate(self, viewer: Viewer, offer: str, kinds: list[str]) -> str:
        connection = viewer.connection
        transceivers = [connection.addTransceiver("video", direction="sendonly") for _ in kinds]
        for transceiver in transceivers:
            transceiver.setCodecPreferences(codec_preferences(self._codecs))
        audio = self._add_audio(connection, offer)
        try:
            await exchange.take_offer(connection, offer, viewer.address)
        except OfferError as error:
            raise OfferError(
                f"{error.text}; this broadcast is sent as {' or '.join(self._codecs)}"
            ) from error
        for kind, transceiver in zip(kinds, transceivers, strict=True):
            viewer.videos.append(VideoSender(transceiver, self.streams, kind))
            viewer.tracks.append(viewer.videos[-1].track)
        if audio is not None and self._sound is not None:
            viewer.tracks.append(self._sound.track())
            audio.sender.replaceTrack(viewer.tracks[-1])
        sdp = await exchange.answer(connection)
        if "sendonly" not in {transceiver.currentDirection for transceiver in transceivers}:
            raise OfferError("the offer does not want to receive video (a=recvonly)")
        return sdp

    def _add_audio(self, connection: RTCPeerConnection, offer: str) -> RTCRtpTransceiver | None:
        if self._sound is None or not re.search(r"^m=audio ", offer, re.MULTILINE):
            return None
        transceiver = connection.addTransceiver("audio", direction="sendonly")
        known = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences([codec for codec in known if codec.name.lower() == "opus"])
        return transceiver

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            now_s = time.monotonic()
            if self._begun_s is None and self.streams.begun:
                self._begun_s = now_s
            for viewer in list(self.viewers.values()):
                self._check(viewer, now_s)

    def _check(self, viewer: Viewer, now_s: float) -> None:
        if viewer.state != "connected":
            if now_s - viewer.since_s > _CONNECT_TIMEOUT_S:
                logger.info("a viewer did not connect in %.0f s", _CONNECT_TIMEOUT_S)
                self._closing.begin(self._close(viewer))
            return
        if self._begun_s is None:
            return  # who got nothing has nothing to report
        heard = [video.heard_s for video in viewer.videos if video.heard_s is not None]
        silent_s = now_s - max([viewer.since_s, self._begun_s, *heard])
        behind_s = max(video.track.behind_s for video in viewer.videos)
        if max(silent_s, behind_s) > self._viewer_timeout_s:
            logger.info("a viewer has not been heard of, or took nothing, for %.0f s", self._viewer_timeout_s)
            self._closing.begin(self._close(viewer))
            return
        for video in viewer.videos:
            video.adapt(now_s)

    def _state_changed(self, viewer: Viewer) -> None:
        logger.debug("viewer %s: %s", viewer.id[:8], viewer.state)
        if viewer.state in ("failed", "closed") and viewer.id in self.viewers:
            self._closing.begin(self._close(viewer))


def codec_preferences(codecs: Iterable[Codec]) -> list[RTCRtpCodecCapability]:
    """Codecs for a transceiver's answer: in this order, and constrained baseline before baseline."""
    known = RTCRtpSender.getCapabilities("video").codecs
    baseline = sorted(known, key=lambda codec: codec.parameters.get("profile-level-id") != "42e01f")
    return [codec for name in (*codecs, "rtx") for codec in baseline if codec.name.lower() == name]
