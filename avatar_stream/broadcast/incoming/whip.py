"""The signer's way in: WHIP (RFC 9725). One signer at a time; the newest decoded picture wins.

A second signer is refused with 409 while the first one's pictures come. It takes over at once where it is the same
signer (`?signer=` with the same word, as our page sends after a reload), where it asks for that (`?takeover`), and
where the first one has been silent for two seconds: OBS that crashed and came back waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import av
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError

from avatar_stream.broadcast.aiortc_inside import use_prompt_buffer
from avatar_stream.broadcast.exchange import SDP, OfferError, answer, created, read_body, take_offer, trickle
from avatar_stream.broadcast.session import Background, Session
from avatar_stream.clocks import ArrivalClock
from avatar_stream.handover import Handover

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 15.0
_SILENT_S = 2.0
_NOT_ASKED = "nobody waits for a signer here: the pipeline's source must be {type: whip}"
_TAKEN = "another signer is sending: ask them to stop, or send with ?takeover=1"


@dataclass(frozen=True)
class Arrival:
    """What came from the signer.

    Attributes:
        picture: as the decoder gave it, yuv420p; None: the signer has left.
        time_s: `time.monotonic()` of its capture as far as that can be told: arrival, less the network's jitter.
        signer: counts those who came, so that a new one is known as such.
    """

    picture: av.VideoFrame | None
    time_s: float
    signer: int


@dataclass(eq=False, kw_only=True)
class _SignerSession(Session):
    """One who sends. `name`: what the signer calls itself; `number`: which of those who came it is."""

    name: str | None
    number: int
    heard_s: float | None = None
    size: tuple[int, int] = (0, 0)
    times_s: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    receiving: asyncio.Task[None] | None = None

    @property
    def silent_s(self) -> float:
        return time.monotonic() - (self.heard_s or self.since_s)

    async def close(self) -> None:
        if self.receiving is not None:
            self.receiving.cancel()
        await super().close()


class Ingest:
    """Takes one signer's pictures. Handlers run on the event loop; `arrivals`, `state` are for any thread.

    Attributes:
        opened: a source waits for pictures; without it signers are told that none does.
        arrivals: the newest picture, or that the signer has left; None wakes whoever waits.
    """

    def __init__(self, configuration: Callable[[], RTCConfiguration]):
        """Store what makes a connection's configuration; nobody is connected."""
        self.opened = False
        self.arrivals: Handover[Arrival | None] = Handover("whip", live=True)
        self._configuration = configuration
        self._session: _SignerSession | None = None
        self._closing = Background()
        self._last_name: str | None = None
        self._count = 0

    @property
    def state(self) -> str:
        """`nobody`, `connecting`, `silent` (connected, and nothing comes) or `sending`."""
        session = self._session
        if session is None:
            return "nobody"
        if session.heard_s is None:
            return "connecting" if session.silent_s < _CONNECT_TIMEOUT_S else "silent"
        return "silent" if session.silent_s > _SILENT_S else "sending"

    def status(self) -> dict[str, Any]:
        """What `/status` says of the signer: state, size in px, pictures a second."""
        session, state = self._session, self.state
        if session is None or state != "sending":
            return {"state": state}
        times_s = list(session.times_s)
        fps = (len(times_s) - 1) / max(1e-6, times_s[-1] - times_s[0]) if len(times_s) > 1 else 0.0
        return {
            "state": state,
            "width_px": session.size[0],
            "height_px": session.size[1],
            "fps": round(fps, 1),
        }

    # Handlers -----------------------------------------------------------------------------------------------

    async def post(self, request: web.Request) -> web.Response:
        """POST: connect a signer; 201 with Location and ETag.

        Raises:
            HTTPServiceUnavailable: no source waits for a signer.
            HTTPConflict: another one is sending.
            HTTPBadRequest, HTTPUnsupportedMediaType: the offer cannot be answered.
        """
        if not self.opened:
            raise web.HTTPServiceUnavailable(text=_NOT_ASKED)
        sdp = await read_body(request, SDP)
        name, before = request.query.get("signer"), self._session
        self._check_place(before, name, "takeover" in request.query)
        connection = RTCPeerConnection(self._configuration())
        session = _SignerSession(connection=connection, name=name, number=self._number(name))
        try:
            answer_sdp = await self._answer(session, sdp, request.remote)
            if self._session is not before:  # two came at once
                self._check_place(self._session, name, "takeover" in request.query)
        except BaseException:
            await session.close()
            raise
        self._replace(session)
        return created(answer_sdp, f"{request.path}/{session.id}", session.etag)

    async def patch(self, request: web.Request) -> web.Response:
        """PATCH: candidates that were found late; see `exchange.trickle`."""
        session = self._known(request)
        return await trickle(request, session.connection, session.etag)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE: the signer goes."""
        await self._close(self._known(request))
        return web.Response(text="bye")

    async def close(self) -> None:
        """Let the signer go and wait until all is closed."""
        if self._session is not None:
            await self._close(self._session)
        await self._closing.wait()

    # Sessions -----------------------------------------------------------------------------------------------

    def _known(self, request: web.Request) -> _SignerSession:
        session = self._session
        if session is None or session.id != request.match_info["session"]:
            raise web.HTTPNotFound(text="no such session: it has ended, or another signer has taken over")
        return session

    def _check_place(self, before: _SignerSession | None, name: str | None, takeover: bool) -> None:
        same = before is not None and name is not None and name == before.name
        if before is not None and not (same or takeover or before.silent_s > _SILENT_S):
            raise web.HTTPConflict(text=_TAKEN, headers={"Retry-After": "5"})

    def _number(self, name: str | None) -> int:
        # The same signer again keeps the number; one without a name may be anybody.
        if name is None or name != self._last_name:
            self._count, self._last_name = self._count + 1, name
        return self._count

    async def _answer(self, session: _SignerSession, sdp: str, address: str | None) -> str:
        connection = session.connection
        await take_offer(connection, sdp, address)
        transceivers = connection.getTransceivers()
        receivers = [transceiver.receiver for transceiver in transceivers if transceiver.kind == "video"]
        receivers = [receiver for receiver in receivers if receiver.track is not None]
        if not receivers:
            raise OfferError("the offer sends no video: it needs a section m=video with a=sendonly")
        for transceiver in transceivers:
            if transceiver.receiver is not receivers[0]:
                transceiver.direction = "inactive"  # nobody listens to sound, or to a second picture
        use_prompt_buffer(receivers[0])
        connection.on("connectionstatechange", lambda: self._state_changed(session))
        answer_sdp = await answer(connection)
        session.receiving = asyncio.create_task(self._receive(session, receivers[0].track))
        return answer_sdp

    def _replace(self, session: _SignerSession) -> None:
        before, self._session = self._session, session
        if before is not None:
            logger.info("another signer takes over")
            self._closing.begin(before.close())
        asyncio.get_running_loop().call_later(_CONNECT_TIMEOUT_S, self._check_connected, session)

    def _check_connected(self, session: _SignerSession) -> None:
        if self._session is session and session.state in ("new", "connecting"):
            logger.info("the signer did not connect in %.0f s", _CONNECT_TIMEOUT_S)
            self._closing.begin(self._close(session))

    def _state_changed(self, session: _SignerSession) -> None:
        logger.debug("signer %s: %s", session.id[:8], session.state)
        if session.state == "connected" and self._session is session:
            logger.info("a signer is connected")
        if session.state in ("failed", "closed") and self._session is session:
            self._closing.begin(self._close(session))

    async def _close(self, session: _SignerSession) -> None:
        if self._session is session:
            logger.info("the signer has left")
            self._session = None
            self.arrivals.put(Arrival(None, time.monotonic(), session.number))
        await session.close()

    # Pictures -----------------------------------------------------------------------------------------------

    async def _receive(self, session: _SignerSession, track: MediaStreamTrack) -> None:
        # Captured at even steps, pictures arrive at uneven ones: movement judged by times of arrival would tremble.
        clock, captured_s = ArrivalClock(), float("-inf")
        while True:
            try:
                picture = await track.recv()
            except MediaStreamError:
                if self._session is session:
                    self._closing.begin(self._close(session))
                return
            if self._session is not session or not isinstance(picture, av.VideoFrame):
                continue  # one who has not the place yet, or not any more
            session.heard_s = now_s = time.monotonic()
            session.size = (picture.width, picture.height)
            session.times_s.append(now_s)
            sent_s = now_s if picture.time is None else picture.time
            captured_s = max(clock.capture_s(sent_s, now_s), captured_s + 1e-4)
            self.arrivals.put(Arrival(picture, captured_s, session.number))
