"""The signer's way in: WHIP (RFC 9725). One signer at a time; the newest decoded picture wins.

A second signer is refused with 409 while the first one's pictures come. It takes over at once where it is the same
signer (`?signer=` with the same word, as our page sends after a reload), where it asks for that (`?takeover`), and
where the first one has been silent for two seconds: OBS that crashed and came back waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import av
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError

from avatar_stream.broadcast.exchange import SDP, OfferError, answer, created, read_body, take_offer, trickle
from avatar_stream.broadcast.incoming.arriving import hasten
from avatar_stream.clocks import ArrivalClock

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 15.0
_CLOSE_TIMEOUT_S = 5.0
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


@dataclass
class _Session:
    """One WHIP session."""

    connection: RTCPeerConnection
    word: str | None
    number: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    since_s: float = field(default_factory=time.monotonic)
    heard_s: float | None = None
    size: tuple[int, int] = (0, 0)
    times_s: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    pump: asyncio.Task | None = None

    @property
    def etag(self) -> str:
        return f'"{self.id[:8]}"'

    @property
    def silent_s(self) -> float:
        return time.monotonic() - (self.heard_s or self.since_s)


class Ingest:
    """Takes one signer's pictures. Handlers run on the event loop; `take`, `wake`, `state` on any thread.

    Attributes:
        opened: a source waits for pictures; without it signers are told that none does.
    """

    def __init__(self, configuration: Callable[[], RTCConfiguration]):
        """Store what makes a connection's configuration; nobody is connected."""
        self.opened = False
        self._configuration = configuration
        self._session: _Session | None = None
        self._leaving: set[asyncio.Task] = set()
        self._signers: dict[str | None, int] = {}
        self._counted = 0
        self._changed = threading.Condition()
        self._newest: Arrival | None = None

    # For the source, from any thread ------------------------------------------------------------------------

    def take(self, timeout_s: float) -> Arrival | None:
        """Return what came newest since the last call; None after `timeout_s`, or when woken."""
        with self._changed:
            if self._newest is None:
                self._changed.wait(timeout_s)
            taken, self._newest = self._newest, None
        return taken

    def wake(self) -> None:
        """Let a waiting `take` return."""
        with self._changed:
            self._changed.notify_all()

    @property
    def state(self) -> str:
        """`nobody`, `connecting`, `silent` (connected, and nothing comes) or `sending`."""
        session = self._session
        if session is None:
            return "nobody"
        if session.heard_s is None:
            return "connecting" if session.silent_s < _CONNECT_TIMEOUT_S else "silent"
        return "silent" if session.silent_s > _SILENT_S else "sending"

    def tell(self) -> dict:
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

    async def offer(self, request: web.Request) -> web.Response:
        """POST: connect a signer; 201 with Location and ETag.

        Raises:
            HTTPServiceUnavailable: no source waits for a signer.
            HTTPConflict: another one is sending.
            HTTPBadRequest, HTTPUnsupportedMediaType: the offer cannot be answered.
        """
        if not self.opened:
            raise web.HTTPServiceUnavailable(text=_NOT_ASKED)
        sdp = await read_body(request, SDP)
        word, before = request.query.get("signer"), self._session
        self._check_place(before, word, "takeover" in request.query)
        session = _Session(RTCPeerConnection(self._configuration()), word, self._number(word))
        try:
            answered = await self._answer(session, sdp, request.remote)
            if self._session is not before:  # two came at once
                self._check_place(self._session, word, "takeover" in request.query)
        except BaseException as error:
            await self._hang_up(session)
            if isinstance(error, OfferError):
                raise web.HTTPBadRequest(text=str(error)) from error
            raise
        self._replace(session)
        return created(answered, f"{request.path}/{session.id}", session.etag)

    async def change(self, request: web.Request) -> web.Response:
        """PATCH: candidates that were found late; see `exchange.trickle`."""
        session = self._known(request)
        return await trickle(request, session.connection, session.etag)

    async def leave(self, request: web.Request) -> web.Response:
        """DELETE: the signer goes."""
        session = self._known(request)
        self._forget(session)
        await self._hang_up(session)
        return web.Response(text="bye")

    async def close(self) -> None:
        """Let the signer go and wait until all is closed."""
        session = self._session
        if session is not None:
            self._forget(session)
            await self._hang_up(session)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    # Sessions -----------------------------------------------------------------------------------------------

    def _known(self, request: web.Request) -> _Session:
        session = self._session
        if session is None or session.id != request.match_info["session"]:
            raise web.HTTPNotFound(text="no such session: it has ended, or another signer has taken over")
        return session

    def _check_place(self, before: _Session | None, word: str | None, takeover: bool) -> None:
        same = before is not None and word is not None and word == before.word
        if before is not None and not (same or takeover or before.silent_s > _SILENT_S):
            raise web.HTTPConflict(text=_TAKEN, headers={"Retry-After": "5"})

    def _number(self, word: str | None) -> int:
        # The same signer again keeps the number; one who says no word may be anybody.
        if word is None or word not in self._signers:
            self._counted += 1
            self._signers = {word: self._counted}
        return self._signers[word]

    async def _answer(self, session: _Session, sdp: str, address: str | None) -> str:
        connection = session.connection
        await take_offer(connection, sdp, address)
        receivers = [each.receiver for each in connection.getTransceivers() if each.kind == "video"]
        receivers = [receiver for receiver in receivers if receiver.track is not None]
        if not receivers:
            raise OfferError("the offer sends no video: it needs a section m=video with a=sendonly")
        for transceiver in connection.getTransceivers():
            if transceiver.receiver is not receivers[0]:
                transceiver.direction = "inactive"  # nobody listens to sound, or to a second picture
        hasten(receivers[0])
        connection.on("connectionstatechange", lambda: self._state_changed(session))
        answered = await answer(connection)
        session.pump = asyncio.create_task(self._pump(session, receivers[0].track))
        return answered

    def _replace(self, session: _Session) -> None:
        before, self._session = self._session, session
        if before is not None:
            logger.info("another signer takes over")
            self._let_go(before)
        asyncio.get_running_loop().call_later(_CONNECT_TIMEOUT_S, self._check_connected, session)

    def _check_connected(self, session: _Session) -> None:
        if self._session is session and session.connection.connectionState in ("new", "connecting"):
            logger.info("the signer did not connect in %.0f s", _CONNECT_TIMEOUT_S)
            self._let_go(session)

    def _state_changed(self, session: _Session) -> None:
        state = session.connection.connectionState
        logger.debug("signer %s: %s", session.id[:8], state)
        if state == "connected" and self._session is session:
            logger.info("a signer is connected")
        if state in ("failed", "closed") and self._session is session:
            self._let_go(session)

    def _forget(self, session: _Session) -> None:
        if self._session is session:
            logger.info("the signer has left")
            self._session = None
            self._put(Arrival(None, time.monotonic(), session.number))

    def _let_go(self, session: _Session) -> None:
        # Saying goodbye to one who is gone takes seconds: nobody waits for that.
        self._forget(session)
        task = asyncio.get_running_loop().create_task(self._hang_up(session))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _hang_up(self, session: _Session) -> None:
        if session.pump is not None:
            session.pump.cancel()
        try:
            await asyncio.wait_for(session.connection.close(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            logger.warning("the signer's connection did not close in %.0f s", _CLOSE_TIMEOUT_S)

    # Pictures -----------------------------------------------------------------------------------------------

    async def _pump(self, session: _Session, track: MediaStreamTrack) -> None:
        # Captured at even steps, pictures arrive at uneven ones: movement judged by times of arrival would tremble.
        clock, captured_s = ArrivalClock(), float("-inf")
        while True:
            try:
                picture = await track.recv()
            except MediaStreamError:
                if self._session is session:
                    self._let_go(session)
                return
            if self._session is not session:
                continue  # one who has not the place yet, or not any more
            session.heard_s = time.monotonic()
            session.size = (picture.width, picture.height)
            session.times_s.append(session.heard_s)
            sent_s = float(picture.pts * picture.time_base) if picture.pts is not None else session.heard_s
            captured_s = max(clock.capture_s(sent_s, session.heard_s), captured_s + 1e-4)
            self._put(Arrival(picture, captured_s, session.number))

    def _put(self, arrival: Arrival) -> None:
        with self._changed:
            self._newest = arrival
            self._changed.notify_all()
