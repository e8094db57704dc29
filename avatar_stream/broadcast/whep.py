"""Viewers by WebRTC: a WHEP endpoint's answer, one pair of tracks a viewer, and who is still there.

Everything here runs on one event loop. Pictures come ready (yuv420p): nothing here works on pixels.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import av
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.codecs import h264, vpx
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError

logger = logging.getLogger(__name__)

TICKS_PER_S = 90_000  # RTP's clock for video
AVATAR, DRIVER = "avatar", "driver"
_CONNECT_TIMEOUT_S = 15.0
_WATCH_INTERVAL_S = 1.0
# A source that is silent leaves the last picture standing; whoever comes new must get it too.
_REPEAT_AFTER_S = 0.5
_CLOSE_TIMEOUT_S = 5.0


class OfferError(Exception):
    """The offer cannot be answered; the text says why."""


class CrowdError(Exception):
    """As many viewers as are allowed are there."""


@dataclass(frozen=True)
class Pictures:
    """What is sent at one moment.

    Attributes:
        frames: yuv420p video frames by name (AVATAR, DRIVER), all with the same `pts` in RTP ticks.
        pts: RTP ticks since the broadcast's first frame.
    """

    frames: Mapping[str, av.VideoFrame]
    pts: int


class Newest:
    """The newest pictures; whoever waits is woken, nothing queues."""

    def __init__(self):
        self.pictures: Pictures | None = None
        self._came = asyncio.Event()

    def put(self, pictures: Pictures) -> None:
        """Replace the pictures and wake who waits."""
        self.pictures = pictures
        self._came.set()
        self._came = asyncio.Event()

    async def after(self, pts: int) -> Pictures:
        """Return the newest pictures as soon as they are later than `pts`."""
        while self.pictures is None or self.pictures.pts <= pts:
            await self._came.wait()
        return self.pictures


class PictureTrack(MediaStreamTrack):
    """One viewer's track: always the newest picture, at its capture time.

    Attributes:
        sender: the RTP sender that reads it, once known.
        origin: what the sender adds to `pts` to make RTP timestamps (mod 2^32); None until a frame was sent.
    """

    kind = "video"

    def __init__(self, newest: Newest, name: str):
        """Read pictures called `name` out of `newest`."""
        super().__init__()
        self._newest, self._name = newest, name
        self._pts = -1
        self.sender: RTCRtpSender | None = None
        self.origin: int | None = None

    async def recv(self) -> av.VideoFrame:
        """Return the next frame for the encoder; MediaStreamError when the track was stopped."""
        self._note_origin()
        while True:
            if self.readyState != "live":
                raise MediaStreamError
            pictures = await self._newest.after(self._pts)
            self._pts = pictures.pts
            if self._name in pictures.frames:
                return pictures.frames[self._name]

    def _note_origin(self) -> None:
        # aiortc begins its RTP timestamps at a random number that it shows nobody; yet with it a viewer can tell
        # the capture time of the very frame on its screen. Called before the next frame is asked for, all packets
        # of the last one have gone, so the sender's own note belongs to `self._pts`.
        sent = getattr(self.sender, "_RTCRtpSender__rtp_timestamp", None)
        if sent and self._pts >= 0 and self.origin is None:
            self.origin = (sent - self._pts) % 2**32


@dataclass
class Viewer:
    """One peer connection.

    Attributes:
        id: unguessable, part of the WHEP resource's address.
        connection: aiortc's object.
        track: the avatar's track.
        since_s: `time.monotonic()` of its offer.
        heard_s: `time.monotonic()` of its last report of what it received.
    """

    id: str
    connection: RTCPeerConnection
    track: PictureTrack
    since_s: float
    heard_s: float = field(default=0.0)


class Audience:
    """All viewers of one broadcast."""

    def __init__(self, max_viewers: int, with_driver: bool, viewer_timeout_s: float):
        """Make it on the running event loop; `watch` must run beside."""
        self.newest = Newest()
        self.viewers: dict[str, Viewer] = {}
        self._max_viewers, self._with_driver = max_viewers, with_driver
        self._viewer_timeout_s = viewer_timeout_s
        self._put_s = 0.0
        self._first_put_s: float | None = None
        self._leaving: set[asyncio.Task] = set()

    @property
    def connected(self) -> int:
        """Number of viewers whose connection stands."""
        return sum(viewer.connection.connectionState == "connected" for viewer in self.viewers.values())

    def put(self, pictures: Pictures) -> None:
        """Send pictures to all viewers; what a slow one has not taken yet is replaced."""
        self._put_s = time.monotonic()
        self._first_put_s = self._first_put_s or self._put_s
        last = self.newest.pictures
        if last is not None and pictures.pts <= last.pts:
            # After a repeated picture, or of a source whose clock jumped: RTP time only goes forward.
            pictures = Pictures(pictures.frames, last.pts + 1)
            for frame in pictures.frames.values():
                frame.pts = pictures.pts
        self.newest.put(pictures)

    async def answer(self, offer_sdp: str, address: str | None) -> tuple[Viewer, str]:
        """Answer a viewer's offer.

        Args:
            offer_sdp: SDP with at least one video section; a second one gets the driving picture.
            address: the IP address that asked.

        Returns:
            The new viewer and the answer's SDP, complete with candidates.

        Raises:
            OfferError: no SDP, no video, or nothing in common.
            CrowdError: no place left.
        """
        sections = len(re.findall(r"^m=video ", offer_sdp, re.MULTILINE))
        if sections == 0:
            raise OfferError("the offer has no video section (m=video)")
        if len(self.viewers) >= self._max_viewers:
            raise CrowdError(f"{self._max_viewers} viewers are the most: raise max_viewers")
        # No STUN server: viewers are on this machine or in its network, and asking one would cost seconds.
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        now_s = time.monotonic()
        viewer = Viewer(uuid.uuid4().hex, connection, PictureTrack(self.newest, AVATAR), now_s, now_s)
        self.viewers[viewer.id] = viewer
        connection.on("connectionstatechange", lambda: self._state_changed(viewer))
        try:
            viewer.track.sender = connection.addTrack(viewer.track)
            if self._with_driver and sections > 1:
                connection.addTrack(PictureTrack(self.newest, DRIVER))
            offer = RTCSessionDescription(sdp=_reachable(offer_sdp, address), type="offer")
            await connection.setRemoteDescription(offer)
            await connection.setLocalDescription(await connection.createAnswer())
        except (ValueError, KeyError, IndexError, AttributeError, AssertionError) as error:
            await self.leave(viewer.id)  # what aiortc raises on SDP it cannot read
            raise OfferError(f"the offer is not SDP that can be answered ({error})") from error
        except (InternalError, InvalidAccessError, InvalidStateError, OperationError) as error:
            await self.leave(viewer.id)
            raise OfferError(str(error)) from error
        except BaseException:
            await self.leave(viewer.id)
            raise
        return viewer, connection.localDescription.sdp

    async def leave(self, viewer_id: str) -> bool:
        """Close a viewer's connection; False if there is no such viewer."""
        viewer = self.viewers.pop(viewer_id, None)
        if viewer is None:
            return False
        try:
            await asyncio.wait_for(viewer.connection.close(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            logger.warning("a viewer's connection did not close in %.0f s", _CLOSE_TIMEOUT_S)
        return True

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(self.leave(viewer_id) for viewer_id in list(self.viewers)))
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def watch(self) -> None:
        """Until cancelled: repeat the last picture in silence, and let go of viewers that vanished."""
        seen_s = 0.0
        while True:
            await asyncio.sleep(_REPEAT_AFTER_S)
            now_s = time.monotonic()
            pictures = self.newest.pictures
            if pictures is not None and self.viewers and now_s - self._put_s >= _REPEAT_AFTER_S:
                loop = asyncio.get_running_loop()
                repeated = await loop.run_in_executor(None, _later, pictures, now_s - self._put_s)
                if self.newest.pictures is pictures:
                    self.put(repeated)
            if now_s - seen_s >= _WATCH_INTERVAL_S:
                seen_s = now_s
                for viewer in list(self.viewers.values()):
                    await self._check(viewer, now_s)

    async def _check(self, viewer: Viewer, now_s: float) -> None:
        state = viewer.connection.connectionState
        if state != "connected":
            if now_s - viewer.since_s > _CONNECT_TIMEOUT_S:
                logger.info("a viewer did not connect in %.0f s", _CONNECT_TIMEOUT_S)
                self._let_go(viewer)
            return
        stats = await viewer.connection.getStats()
        times = [entry.timestamp for entry in stats.values() if entry.type == "remote-inbound-rtp"]
        if times:
            age_s = (datetime.datetime.now(datetime.UTC) - max(times)).total_seconds()
            viewer.heard_s = max(viewer.heard_s, now_s - age_s)
        if self._first_put_s is None:
            return  # who got nothing has nothing to report
        viewer.heard_s = max(viewer.heard_s, self._first_put_s)
        if now_s - viewer.heard_s > self._viewer_timeout_s:
            logger.info("a viewer has not been heard of for %.0f s", now_s - viewer.heard_s)
            self._let_go(viewer)

    def _state_changed(self, viewer: Viewer) -> None:
        state = viewer.connection.connectionState
        logger.debug("viewer %s: %s", viewer.id[:8], state)
        if state in ("failed", "closed") and viewer.id in self.viewers:
            self._let_go(viewer)

    def _let_go(self, viewer: Viewer) -> None:
        # Saying goodbye to one who is gone takes seconds: nobody else waits for that.
        task = asyncio.get_running_loop().create_task(self.leave(viewer.id))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


def raise_bitrates(bitrate_kbps: int) -> None:
    """Let aiortc's encoders use this bitrate for a picture; for the whole process.

    Its own limits (VP8 0.5, at most 1.5 Mbit/s) blur fast hands. A viewer's network may still lower it to a half.
    """
    for codec in (vpx, h264):
        codec.DEFAULT_BITRATE = codec.MAX_BITRATE = bitrate_kbps * 1000
        codec.MIN_BITRATE = bitrate_kbps * 500


def _reachable(offer_sdp: str, address: str | None) -> str:
    # Browsers hide their address behind a name ending with .local, which many networks do not resolve and which
    # costs seconds. The address that asked is where the browser is; a wrong guess is corrected by its own checks.
    if address is None:
        return offer_sdp
    host = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(host, "ipv4_mapped", None) or host
    return re.sub(r"^(a=candidate:(?:\S+ ){4})\S+\.local ", rf"\g<1>{mapped} ", offer_sdp, flags=re.MULTILINE)


def _later(pictures: Pictures, delay_s: float) -> Pictures:
    # Copies: the encoders still hold the frames as they were, and have put their times on clocks of their own.
    pts = pictures.pts + max(1, round(delay_s * TICKS_PER_S))
    frames = {}
    for name, frame in pictures.frames.items():
        copy = av.VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
        copy.pts, copy.time_base = pts, Fraction(1, TICKS_PER_S)
        frames[name] = copy
    return Pictures(frames, pts)
