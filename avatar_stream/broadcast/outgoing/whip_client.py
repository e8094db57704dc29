"""WHIP out (RFC 9725): publishes a stream to a media server, and comes back when the server does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription

from avatar_stream.broadcast.exchange import SDP, reachable
from avatar_stream.broadcast.outgoing.backoff import Backoff
from avatar_stream.broadcast.outgoing.sound import SoundStream
from avatar_stream.broadcast.outgoing.stream_set import StreamSet
from avatar_stream.broadcast.outgoing.video_sender import VideoSender
from avatar_stream.broadcast.outgoing.whep import codec_preferences
from avatar_stream.broadcast.session import Session
from avatar_stream.broadcast.settings import AVATAR, ICE_URL, Codec
from avatar_stream.messages import shown_address

logger = logging.getLogger(__name__)

_HTTP_TIMEOUT_S, _OPTIONS_TIMEOUT_S = 10.0, 4.0
_CONNECT_TIMEOUT_S, _DELETE_TIMEOUT_S = 15.0, 3.0
_LOOK_EVERY_S = 1.0
# A server that reported what it got, and does not any more, is gone: ICE alone would notice after half a minute.
_SILENT_S = 10.0
_MOST_REDIRECTS = 5
_LONGEST_PAUSE_S = 300.0  # that a server can ask for
_MOST_WORDS = 200
_UNREADABLE = (ValueError, KeyError, IndexError, AttributeError, AssertionError, TypeError)
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))*)')
_LINK_PART = re.compile(r';\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))')


class PublishError(Exception):
    """The server cannot be published to now; the text says why, without any secret."""

    def __init__(self, reason: str, retry_after_s: float = 0.0):
        """Store the reason, and how long the server wants to be left alone."""
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Reply:
    """What a server said.

    Attributes:
        status: HTTP's.
        location: an absolute address, or None.
        links: the values of Link headers.
        retry_after_s: how long it wants to be left alone.
        text: the body.
    """

    status: int
    location: str | None
    links: tuple[str, ...]
    retry_after_s: float
    text: str


@dataclass(eq=False, kw_only=True)
class _ServerSession(Session):
    """One session at the server. `resource`: its address, for DELETE; `changed`: its state has."""

    resource: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class WhipClient:
    """Publishes the avatar of a StreamSet to one address, on one event loop.

    Candidates are all in the offer, so that nothing has to be sent later (PATCH).

    Attributes:
        notice: why nothing is published now, or empty; read from any thread.
        connections: how often the server has let us in.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        configuration: Callable[[], RTCConfiguration],
        streams: StreamSet,
        codecs: tuple[Codec, ...] = ("h264", "vp8"),
        sound: SoundStream | None = None,
    ):
        """Store where to and what.

        Args:
            url: of the WHIP endpoint, http:// or https://.
            token: sent as `Authorization: Bearer`; None: no such header.
            configuration: ICE servers of our own; those that the server names come on top.
            streams: gives the stream of the codec that the server chooses.
            codecs: offered, the best first.
            sound: a show's, or None.
        """
        self._url, self._token, self._shown = url, token, shown_address(url, key_in_path=False)
        self.notice, self.connections = f"whip: connecting to {self._shown}", 0
        self._configuration, self._streams, self._codecs = configuration, streams, codecs
        self._sound = sound
        self._named: list[RTCIceServer] = []  # ICE servers that the last answer named

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set; reconnect whenever that is needed."""
        publishing = asyncio.create_task(self._keep_publishing())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({publishing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (publishing, stopping):
            task.cancel()
        await asyncio.gather(publishing, stopping, return_exceptions=True)
        if not publishing.cancelled():
            publishing.result()

    async def _keep_publishing(self) -> None:
        backoff = Backoff()
        timeout = aiohttp.ClientTimeout(total=_HTTP_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                start_s = time.monotonic()
                try:
                    await self._publish(http)
                except PublishError as error:
                    pause_s = max(backoff.pause_s(time.monotonic() - start_s), error.retry_after_s)
                    self.notice = f"whip: nothing is published to {self._shown}: {error}"
                    logger.warning("%s; the next try is in %.0f s", self.notice, pause_s)
                    await asyncio.sleep(pause_s)

    async def _publish(self, http: aiohttp.ClientSession) -> None:
        configuration = self._configuration()
        servers = await self._ask_servers(http) or self._named
        configuration.iceServers = [*(configuration.iceServers or []), *servers]
        session = _ServerSession(connection=RTCPeerConnection(configuration))
        session.connection.on("connectionstatechange", session.changed.set)
        try:
            video = await self._negotiate(http, session)
            await self._until_connected(session)
            self.connections += 1
            self.notice = ""
            logger.info("publishing to %s", self._shown)
            await self._watch(session, video)
        finally:
            await self._end(http, session)

    async def _ask_servers(self, http: aiohttp.ClientSession) -> list[RTCIceServer]:
        # RFC 9725, 4.6: for those who, as aiortc, cannot take ICE servers once the offer is made.
        try:
            async with asyncio.timeout(_OPTIONS_TIMEOUT_S):
                reply = await self._request(http, "OPTIONS", self._url)
        except (PublishError, TimeoutError):
            return []  # not every server has it; if it is not there at all, the offer will tell
        return ice_servers(reply.links)

    async def _negotiate(self, http: aiohttp.ClientSession, session: _ServerSession) -> VideoSender:
        connection = session.connection
        transceiver = connection.addTransceiver("video", direction="sendonly")
        transceiver.setCodecPreferences(codec_preferences(self._codecs))
        if self._sound is not None:
            session.tracks.append(self._sound.track())
            connection.addTransceiver(session.tracks[-1], direction="sendonly")
        await connection.setLocalDescription(await connection.createOffer())
        if "a=candidate:" not in connection.localDescription.sdp:
            raise PublishError("no way out was found: no network, or no TURN server lets us in")
        reply = await self._request(http, "POST", self._url, connection.localDescription.sdp)
        if reply.status != 201:
            raise _refusal(reply)
        session.resource, self._named = reply.location, ice_servers(reply.links)
        try:
            answer = RTCSessionDescription(sdp=reachable(reply.text, None), type="answer")
            await connection.setRemoteDescription(answer)
        except _UNREADABLE as error:
            raise PublishError(f"its answer cannot be read ({error})") from error
        except Exception as error:  # aiortc's own errors have no common base
            raise PublishError(f"its answer does not fit the offer ({error})") from error
        if transceiver.currentDirection != "sendonly":
            raise PublishError("it takes no video")
        video = VideoSender(transceiver, self._streams, AVATAR)
        session.tracks.append(video.track)
        return video

    async def _until_connected(self, session: _ServerSession) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                while session.state in ("new", "connecting"):
                    session.changed.clear()
                    await session.changed.wait()
        if session.state != "connected":
            raise PublishError("it answers, but no media get through: a firewall, or ICE servers are needed")

    async def _watch(self, session: _ServerSession, video: VideoSender) -> None:
        while session.state == "connected":
            now_s = time.monotonic()
            if video.heard_s is not None and now_s - video.heard_s > _SILENT_S:
                raise PublishError(f"it has not been heard of for {_SILENT_S:.0f} s")
            video.adapt(now_s)
            session.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await session.changed.wait()
        raise PublishError("it has closed the connection, or cannot be reached any more")

    async def _end(self, http: aiohttp.ClientSession, session: _ServerSession) -> None:
        if session.resource is not None:
            try:
                async with asyncio.timeout(_DELETE_TIMEOUT_S):
                    await self._request(http, "DELETE", session.resource)
            except (PublishError, TimeoutError) as error:
                logger.debug("the server was not told that the session has ended: %s", error)
        await session.close()

    async def _request(
        self, http: aiohttp.ClientSession, method: str, url: str, sdp: str | None = None
    ) -> Reply:
        # Redirections by hand: libraries make a GET of some, and leave away the token that the other host waits for.
        for _ in range(_MOST_REDIRECTS):
            headers = {"Accept": SDP, "Content-Type": SDP} if sdp is not None else {}
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
            try:
                async with http.request(
                    method, url, data=sdp, headers=headers, allow_redirects=False
                ) as response:
                    reply = await _read(url, response)
            except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError, ValueError) as error:
                raise PublishError(f"no answer ({str(error) or type(error).__name__})") from error
            if reply.status not in (301, 302, 307, 308) or not reply.location:
                return reply
            before, url = url, reply.location
            if urlsplit(before).scheme == "https" and urlsplit(url).scheme != "https":
                raise PublishError("it leads from https to an address without: the token would be readable")
        raise PublishError(f"it leads to another address more than {_MOST_REDIRECTS} times")


def ice_servers(links: Iterable[str]) -> list[RTCIceServer]:
    """Return the ICE servers that Link headers name (RFC 9725, 4.6).

    Args:
        links: the headers' values: `<turn:host:port>; rel="ice-server"; username="..."; credential="..."`.
    """
    servers = []
    for url, rest in (link.groups() for value in links for link in _LINK.finditer(value)):
        parts: dict[str, str] = {}
        for name, quoted, bare in _LINK_PART.findall(rest):
            parts.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or bare)
        if "ice-server" in parts.get("rel", "").split() and ICE_URL.fullmatch(url):
            servers.append(RTCIceServer(url, parts.get("username"), parts.get("credential")))
    return servers


async def _read(url: str, response: aiohttp.ClientResponse) -> Reply:
    headers = response.headers
    location = urljoin(url, headers["Location"]) if headers.get("Location") else None
    try:
        retry_after_s = min(_LONGEST_PAUSE_S, max(0.0, float(headers.get("Retry-After", 0))))
    except ValueError:
        retry_after_s = 0.0  # a date
    links = tuple(headers.getall("Link", ()))
    return Reply(response.status, location, links, retry_after_s, await response.text())


def _refusal(reply: Reply) -> PublishError:
    words = " ".join(re.sub(r"<[^>]*>", " ", reply.text).split())[:_MOST_WORDS]
    reasons = {
        401: "it wants a token, or another one",
        403: "the token does not allow it",
        404: "no such endpoint",
    }
    reason = reasons.get(reply.status, "it refuses")
    return PublishError(f"{reason} (HTTP {reply.status}{': ' + words if words else ''})", reply.retry_after_s)
