"""The avatar onwards to a media server by WHIP: one machine makes it, another one carries the audience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field

from avatar_stream import stages
from avatar_stream.broadcast.settings import AVATAR, EncodingOptions, IceServer
from avatar_stream.errors import SinkError
from avatar_stream.types import TICKS_PER_S, Frame, Sound

if TYPE_CHECKING:
    from aiortc import RTCConfiguration

    from avatar_stream.broadcast.loop_thread import LoopThread
    from avatar_stream.broadcast.outgoing.sound import SoundStream
    from avatar_stream.broadcast.outgoing.stream_set import StreamSet
    from avatar_stream.broadcast.outgoing.whip_client import WhipClient


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
        self._thread: LoopThread | None = None
        self._streams: StreamSet | None = None
        self._sound: SoundStream | None = None
        self._client: WhipClient | None = None
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
        from avatar_stream.broadcast.loop_thread import LoopThread
        from avatar_stream.broadcast.outgoing.sound import SoundStream
        from avatar_stream.broadcast.outgoing.stream_set import StreamSet
        from avatar_stream.broadcast.outgoing.whip_client import WhipClient

        options = self.options
        self._check_address()
        self._streams, self._start_s = StreamSet(options), None
        self._sound = SoundStream() if self.context.sound else None
        whereto = options.url, options.token, self._configuration
        self._client = WhipClient(*whereto, self._streams, options.codecs, self._sound)
        server = self.context.server
        ports = server.options.udp_ports if server is not None else None
        self._thread = LoopThread("whip output", self._serve, SinkError, ports)
        try:
            self._thread.start()
        except SinkError:
            self.close()
            raise

    def write(self, frame: Frame) -> None:
        """Publish a frame; never waits, and costs nothing while nothing is connected.

        Args:
            frame: image (H, W, 3) uint8 RGB; `time_s` becomes the picture's RTP time.

        Raises:
            SinkError: the sink is not open, or its thread or encoding has failed.
        """
        if self._thread is None:
            raise SinkError("the whip output is not open")
        self._thread.check()
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
        if thread is not None:
            try:
                thread.stop()
            finally:
                self._streams.close()

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

    async def _serve(self, ready: Callable[[], None], stop: asyncio.Event) -> None:
        ready()
        try:
            await self._client.run(stop)
        finally:
            if self._sound is not None:
                self._sound.close()


STAGE = WhipSink
