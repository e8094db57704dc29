"""The avatar onwards to a media server by WHIP: one machine makes it, another one carries the audience."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field

from avatar_stream import stages
from avatar_stream.broadcast.settings import EncodingOptions, IceServer
from avatar_stream.errors import SinkError
from avatar_stream.types import TICKS_PER_S, Frame, Sound

if TYPE_CHECKING:
    from aiortc import RTCConfiguration

    from avatar_stream.broadcast.outgoing.sound import SoundStream
    from avatar_stream.broadcast.outgoing.stream_set import StreamSet
    from avatar_stream.broadcast.outgoing.whip_client import WhipClient

logger = logging.getLogger(__name__)

_START_TIMEOUT_S, _CLOSE_TIMEOUT_S = 10.0, 15.0


class WhipSink(stages.Sink):
    """Publishes to a WHIP endpoint; reconnects by itself. `write` never waits: the newest picture wins."""

    class Options(EncodingOptions, stages.SinkOptions):
        """Where to, and how well."""

        url: str
        """The WHIP endpoint, https://HOST/PATH."""
        token: Annotated[str, Field(min_length=1, pattern=r"^[!-~]+$")] | None = None
        """Sent as `Authorization: Bearer`."""
        ice_servers: tuple[IceServer, ...] = ()
        """STUN and TURN for this connection; none: those of the section `server`. Those that the server
        names come on top."""
        relay_only: bool = False
        """Only by way of a TURN server, for networks that let nothing else through."""

    options: Options
    needs_server = True  # its ICE servers and UDP ports are used here too

    def __init__(self, options: Options, context: stages.Context | None = None):
        """Store the options; `open()` starts the thread."""
        super().__init__(options, context)
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._streams: StreamSet | None = None
        self._sound: SoundStream | None = None
        self._client: WhipClient | None = None
        self._error: BaseException | None = None
        self._start_s: float | None = None

    @property
    def notice(self) -> str:
        """Why nothing is published now, or empty; from any thread."""
        return self._client.notice if self._client is not None else ""

    @property
    def connections(self) -> int:
        """How often the server has let us in; from any thread."""
        return self._client.connections if self._client is not None else 0

    def open(self) -> None:
        """Start publishing; the server may come later.

        Raises:
            SinkError: an address that is none.
        """
        from avatar_stream.broadcast.outgoing.sound import SoundStream
        from avatar_stream.broadcast.outgoing.stream_set import StreamSet
        from avatar_stream.broadcast.outgoing.whip_client import WhipClient

        options = self.options
        self._check_address()
        self._streams, self._start_s, self._error = StreamSet(options), None, None
        self._sound = SoundStream() if self.context.sound else None
        self._client = WhipClient(
            options.url,
            options.token,
            self._configuration,
            self._streams,
            options.codecs,
            self._sound,
        )
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="whip", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S) or self._error is not None:
            self.close()
            raise SinkError(f"the output 'whip' did not start: {self._error or 'no answer'}") from self._error

    def write(self, frame: Frame) -> None:
        """Publish a frame; never waits, and costs nothing while nothing is connected.

        Args:
            frame: image (H, W, 3) uint8 RGB; `time_s` becomes the picture's RTP time.

        Raises:
            SinkError: the sink is not open, or its thread or encoding has failed.
        """
        from avatar_stream.broadcast.outgoing.stream_set import AVATAR

        if self._thread is None:
            raise SinkError("the whip output is not open")
        if not self._thread.is_alive():
            raise SinkError(f"the whip output has ended: {self._error or 'unknown'}") from self._error
        if self._start_s is None:
            self._start_s = frame.time_s
        pts = max(0, round((frame.time_s - self._start_s) * TICKS_PER_S))
        self._streams.put({AVATAR: frame.image}, pts)

    def hear(self, sound: Sound) -> None:
        """Take a block of the show's sound; never waits."""
        if self._sound is not None:
            self._sound.hear(sound)

    def close(self) -> None:
        """End the session at the server (DELETE) and join the thread. May be called twice.

        Raises:
            SinkError: the thread does not end.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(_CLOSE_TIMEOUT_S)
        self._streams.close()
        if thread.is_alive():
            raise SinkError("the thread of the output 'whip' does not end")

    def _check_address(self) -> None:
        try:
            parts = urlsplit(self.options.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise SinkError(f"cannot publish to {self.options.url!r}: a WHIP address is https://HOST/PATH")

    def _configuration(self) -> RTCConfiguration:
        from aiortc.rtcconfiguration import RTCConfiguration, RTCIceTransportPolicy

        from avatar_stream.broadcast.exchange import rtc_servers

        options, server = self.options, self.context.server
        servers = options.ice_servers or (server.options.ice_servers if server is not None else ())
        policy = RTCIceTransportPolicy.RELAY if options.relay_only else RTCIceTransportPolicy.ALL
        return RTCConfiguration(rtc_servers(servers), iceTransportPolicy=policy)

    def _run(self) -> None:
        from avatar_stream.broadcast.ports import make_loop

        server = self.context.server
        ports = server.options.udp_ports if server is not None else None
        try:
            with asyncio.Runner(loop_factory=partial(make_loop, ports)) as runner:
                runner.run(self._serve())
        except Exception as error:  # the thread's shell: told to whoever writes next
            logger.exception("publishing by WHIP failed")
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        try:
            await self._client.run(self._stop)
        finally:
            if self._sound is not None:
                self._sound.close()


STAGE = WhipSink
