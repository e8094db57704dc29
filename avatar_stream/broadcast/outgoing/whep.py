"""Viewers by WebRTC: WHEP's answers (draft-ietf-wish-whep), what each viewer gets, and who is still there.

Everything here runs on the server's event loop, except `Audience.put`. Pictures are encoded elsewhere, once for all.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver
from aiortc.rtcrtpparameters import RTCRtpCodecCapability

from avatar_stream.broadcast import exchange
from avatar_stream.broadcast.exchange import OfferError
from avatar_stream.broadcast.outgoing.encoder import TICKS_PER_S
from avatar_stream.broadcast.outgoing.sending import Sending
from avatar_stream.broadcast.outgoing.sound import SoundStream, SoundTrack
from avatar_stream.broadcast.outgoing.stream_set import AVATAR, DRIVER, OVERLAY, StreamSet
from avatar_stream.broadcast.outgoing.streams import PacketTrack, Picture
from avatar_stream.broadcast.settings import EncodingOptions

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 15.0
_WATCH_INTERVAL_S = 1.0
_CLOSE_TIMEOUT_S = 5.0


class CrowdError(Exception):
    """As many viewers as are allowed are there."""


@dataclass
class Line:
    """One kind of picture on its way to one viewer."""

    kind: str
    track: PacketTrack
    sending: Sending


@dataclass
class Viewer:
    """One peer connection.

    Attributes:
        id: unguessable, part of the WHEP resource's address.
        connection: aiortc's object.
        address: the IP address that asked, or None.
        since_s: `time.monotonic()` of its offer.
        lines: what it gets; the first one is what it asked for.
        sound: the programme's, where there is any and it asked for it.
    """

    id: str
    connection: RTCPeerConnection
    address: str | None
    since_s: float
    lines: list[Line] = field(default_factory=list)
    sound: SoundTrack | None = None

    @property
    def etag(self) -> str:
        """Names this ICE session, as PATCH's If-Match wants it."""
        return f'"{self.id[:8]}"'


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
        """Make it on the running event loop; `start` it there.

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
        self._watching: asyncio.Task | None = None
        self._leaving: set[asyncio.Task] = set()

    @property
    def connected(self) -> int:
        """Number of viewers whose connection stands."""
        return sum(viewer.connection.connectionState == "connected" for viewer in self.viewers.values())

    def start(self) -> None:
        """Begin to look after viewers."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def put(self, pictures: Mapping[str, Picture], pts: int) -> None:
        """Show new pictures to all viewers; from any thread, never waits; see `StreamSet.put`."""
        self.streams.put(pictures, pts)

    def count_from(self, address: str | None) -> int:
        """Number of viewers that came from an IP address."""
        return sum(viewer.address == address for viewer in self.viewers.values())

    def tell(self, viewer_id: str) -> dict:
        """What `/status` says about viewers, and to this one."""
        viewer = self.viewers.get(viewer_id)
        return {
            "viewers": len(self.viewers),
            "connected": self.connected,
            "known": viewer is not None,
            "ticks_per_s": TICKS_PER_S,
            "rtp_origin": viewer.lines[0].track.origin if viewer is not None and viewer.lines else None,
        } | self.streams.tell()

    async def offer(self, request: web.Request) -> web.Response:
        """POST /whep: an SDP offer; `?picture=overlay` or `driver` asks for another kind than the avatar."""
        sdp = await exchange.read_body(request, exchange.SDP)
        try:
            viewer, answer = await self.answer(sdp, request.remote, request.query.get("picture", AVATAR))
        except OfferError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        except CrowdError as error:
            raise web.HTTPServiceUnavailable(text=str(error), headers={"Retry-After": "5"}) from error
        return exchange.created(answer, f"/whep/{viewer.id}", viewer.etag)

    async def change(self, request: web.Request) -> web.Response:
        """PATCH /whep/ID: more ICE candidates of the viewer (RFC 8840)."""
        viewer = self.viewers.get(request.match_info["viewer"])
        if viewer is None:
            raise web.HTTPNotFound(text="no such viewer")
        return await exchange.trickle(request, viewer.connection, viewer.etag, lenient=True)

    async def leave(self, request: web.Request) -> web.Response:
        """DELETE /whep/ID: goodbye."""
        if not await self.let_go(request.match_info["viewer"]):
            raise web.HTTPNotFound(text="no such viewer")
        return web.Response(text="bye")

    async def answer(self, offer: str, address: str | None, kind: str = AVATAR) -> tuple[Viewer, str]:
        """Answer a viewer's offer.

        Args:
            offer: SDP with at least one video section; a second one gets the driving picture, where that is sent.
            address: the IP address that asked.
            kind: of picture, for the first section.

        Returns:
            The new viewer and the answer's SDP, complete with candidates.

        Raises:
            OfferError: no SDP, no video, no such picture, or nothing in common.
            CrowdError: no place left.
        """
        kinds = self._kinds(kind)[: len(re.findall(r"^m=video ", offer, re.MULTILINE))]
        if not kinds:
            raise OfferError("the offer has no video section (m=video)")
        if len(self.viewers) >= self._max_viewers:
            raise CrowdError(f"{self._max_viewers} viewers are the most: raise max_viewers")
        connection = RTCPeerConnection(self._configuration())
        viewer = Viewer(uuid.uuid4().hex, connection, address, time.monotonic())
        self.viewers[viewer.id] = viewer
        connection.on("connectionstatechange", lambda: self._state_changed(viewer))
        try:
            sdp = await self._negotiate(viewer, offer, kinds)
        except BaseException:
            await self.let_go(viewer.id)
            raise
        return viewer, sdp

    async def let_go(self, viewer_id: str) -> bool:
        """Close a viewer's connection; False if there is no such viewer."""
        viewer = self.viewers.pop(viewer_id, None)
        if viewer is None:
            return False
        for line in viewer.lines:
            line.track.stop()
        if viewer.sound is not None:
            viewer.sound.stop()
        try:
            await asyncio.wait_for(viewer.connection.close(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            logger.warning("a viewer's connection did not close in %.0f s", _CLOSE_TIMEOUT_S)
        return True

    async def close(self) -> None:
        """Close all connections and end all streams."""
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*(self.let_go(viewer_id) for viewer_id in list(self.viewers)))
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._sound is not None:
            self._sound.close()
        await asyncio.to_thread(self.streams.close)

    def _kinds(self, kind: str) -> list[str]:
        known = [AVATAR, OVERLAY] + ([DRIVER] if self._with_driver else [])
        if kind == DRIVER and not self._with_driver:
            raise OfferError("the driving picture is not sent: set the output's option driver")
        if kind not in known:
            raise OfferError(f"there is no picture {kind!r}: known are {', '.join(known)}")
        return [kind] + ([DRIVER] if self._with_driver and kind != DRIVER else [])

    async def _negotiate(self, viewer: Viewer, offer: str, kinds: list[str]) -> str:
        connection = viewer.connection
        transceivers = [connection.addTransceiver("video", direction="sendonly") for _ in kinds]
        for transceiver in transceivers:
            transceiver.setCodecPreferences(codec_preferences(self._codecs))
        heard = self._add_sound(viewer, offer)
        try:
            await exchange.take_offer(connection, offer, viewer.address)
        except OfferError as error:
            raise OfferError(f"{error}; this broadcast is sent as {' or '.join(self._codecs)}") from error
        for kind, transceiver in zip(kinds, transceivers, strict=True):
            viewer.lines.append(self._line(kind, transceiver))
        if heard is not None:
            heard.sender.replaceTrack(viewer.sound)
        sdp = await exchange.answer(connection)
        if "sendonly" not in {transceiver.currentDirection for transceiver in transceivers}:
            raise OfferError("the offer does not want to receive video (a=recvonly)")
        return sdp

    def _add_sound(self, viewer: Viewer, offer: str) -> RTCRtpTransceiver | None:
        if self._sound is None or not re.search(r"^m=audio ", offer, re.MULTILINE):
            return None
        viewer.sound = self._sound.track()
        transceiver = viewer.connection.addTransceiver("audio", direction="sendonly")
        known = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences([codec for codec in known if codec.name.lower() == "opus"])
        return transceiver

    def _line(self, kind: str, transceiver: RTCRtpTransceiver) -> Line:
        codec = transceiver._codecs[0].name.lower()
        track = self.streams.stream(kind, codec).track()
        transceiver.sender.replaceTrack(track)
        return Line(kind, track, Sending(transceiver.sender, track))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            now_s = time.monotonic()
            if self._begun_s is None and self.streams.begun:
                self._begun_s = now_s
            for viewer in list(self.viewers.values()):
                self._check(viewer, now_s)

    def _check(self, viewer: Viewer, now_s: float) -> None:
        if viewer.connection.connectionState != "connected":
            if now_s - viewer.since_s > _CONNECT_TIMEOUT_S:
                logger.info("a viewer did not connect in %.0f s", _CONNECT_TIMEOUT_S)
                self._dismiss(viewer)
            return
        if self._begun_s is None:
            return  # who got nothing has nothing to report
        heard = [line.sending.heard_s for line in viewer.lines if line.sending.heard_s is not None]
        silent_s = now_s - max([viewer.since_s, self._begun_s, *heard])
        behind_s = max(line.track.behind_s for line in viewer.lines)
        if max(silent_s, behind_s) > self._viewer_timeout_s:
            logger.info("a viewer has not been heard of, or took nothing, for %.0f s", self._viewer_timeout_s)
            self._dismiss(viewer)
            return
        for line in viewer.lines:
            self._judge(line, now_s)

    def _judge(self, line: Line, now_s: float) -> None:
        stream, half = line.track.stream, line.sending.wants_half(now_s)
        if half != stream.half:
            logger.info("a viewer's network is %s: %s", *_RUNG_WORDS[half])
            line.track.switch(self.streams.stream(line.kind, stream.codec, half))

    def _state_changed(self, viewer: Viewer) -> None:
        state = viewer.connection.connectionState
        logger.debug("viewer %s: %s", viewer.id[:8], state)
        if state in ("failed", "closed") and viewer.id in self.viewers:
            self._dismiss(viewer)

    def _dismiss(self, viewer: Viewer) -> None:
        # Saying goodbye to one who is gone takes seconds: nobody else waits for that.
        task = asyncio.get_running_loop().create_task(self.let_go(viewer.id))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


_RUNG_WORDS = {True: ("poor", "half the resolution"), False: ("good again", "the whole resolution")}


def codec_preferences(codecs: tuple[str, ...]) -> list[RTCRtpCodecCapability]:
    """Codecs for a transceiver's answer: in this order, and constrained baseline before baseline."""
    known = RTCRtpSender.getCapabilities("video").codecs

    def rank(codec: RTCRtpCodecCapability) -> tuple[int, bool]:
        return codecs.index(codec.name.lower()), codec.parameters.get("profile-level-id") != "42e01f"

    wanted = sorted((each for each in known if each.name.lower() in codecs), key=rank)
    return wanted + [each for each in known if each.name.lower() == "rtx"]
