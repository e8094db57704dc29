"""The avatar to an existing media server or CDN: RTMP, SRT, RTSP."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from avatar_stream import stages
from avatar_stream.broadcast.outgoing.backoff import Backoff
from avatar_stream.broadcast.outgoing.encoder import Encoder
from avatar_stream.broadcast.settings import EncodingOptions
from avatar_stream.errors import SinkError
from avatar_stream.handover import Handover, ShutDown
from avatar_stream.messages import shown_address
from avatar_stream.types import TICKS_PER_S, Frame, Sound

if TYPE_CHECKING:
    from avatar_stream.broadcast.outgoing.push import Carrier

logger = logging.getLogger(__name__)

_SCHEMES = ("rtmp", "rtmps", "rtsp", "rtsps", "srt")
# Servers let go of a publisher that says nothing for some seconds: in a silence the last picture is sent again.
_REPEAT_AFTER_S = 1.0
_CLOSE_TIMEOUT_S = 4.0
# RTMP counts milliseconds: pictures that follow a repeated one closely must not share one.
_LEAST_STEP = 180
_MOST_SOUNDS = 100  # blocks of 20 ms


class PushSink(stages.Sink):
    """Publishes to an address; reconnects by itself. `write` never waits: the newest picture wins.

    Attributes:
        notice: why nothing is published now, or empty; read from any thread.
        connections: how often the server has let us in.
    """

    class Options(stages.SinkOptions):
        """Where to, and how well."""

        url: str
        """Where to: rtmp://HOST/APP/KEY, rtmps://, rtsp://HOST/PATH, rtsps://, srt://HOST:PORT?streamid=..."""
        bitrate_kbps: Annotated[int, Field(ge=100, le=50_000)] = 4000
        """Bit rate at most; fast hands blur first where it is too low."""
        keyframe_interval_s: Annotated[float, Field(ge=0.2, le=20)] = 2.0
        """Longest time between keyframes; 2 s is what the large platforms ask for."""
        silent_audio: bool = False
        """Add a silent AAC track, for servers that show nothing without sound (YouTube, Facebook)."""

    options: Options
    notice = ""

    def __init__(self, options: Options, context: stages.Context | None = None):
        """Store the options; `open()` starts the thread."""
        super().__init__(options, context)
        self.connections = 0
        self._thread: threading.Thread | None = None
        self._frames: Handover[Frame] = Handover("push", live=True)
        self._sounds: deque[Sound] = deque(maxlen=_MOST_SOUNDS)
        self._stopped = threading.Event()
        self._orders: Any = None
        self._carrier: Carrier | None = None
        self._shown = ""

    def open(self) -> None:
        """Check the address and start publishing; the server may come later.

        Raises:
            SinkError: an address that cannot be published to, or nothing here speaks its protocol.
        """
        try:
            from avatar_stream.broadcast.outgoing.carrier import Orders
            from avatar_stream.broadcast.outgoing.push import CarrierError, program_for
        except ImportError as error:  # fcntl
            raise SinkError(f"the output 'push' needs Linux or macOS ({error})") from error

        options = self.options
        try:
            parts = urlsplit(options.url)
            known = parts.scheme in _SCHEMES and bool(parts.hostname)
            wrong = not known or (parts.scheme == "srt" and not parts.port)
        except ValueError:
            wrong = True
        if wrong:
            raise SinkError(
                f"cannot push to {options.url!r}: the address must be rtmp://HOST/APP/KEY, rtsp://HOST/PATH or "
                "srt://HOST:PORT"
            )
        try:
            program = program_for(options.url)
        except CarrierError as error:
            raise SinkError(f"cannot push to {shown_address(options.url)}: {error}") from error
        self._shown = shown_address(options.url)
        self._orders = Orders(options.url, options.silent_audio or self.context.sound, program)
        self._frames = Handover("push", live=True)
        self._sounds.clear()
        self._stopped.clear()
        self.notice, self.connections = f"push: connecting to {self._shown}", 0
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    def write(self, frame: Frame) -> None:
        """Publish a frame; never waits.

        Args:
            frame: image (H, W, 3) uint8 RGB; `time_s` becomes the picture's time.

        Raises:
            SinkError: the sink is not open, or its thread has failed.
        """
        if self._thread is None:
            raise SinkError("the push output is not open")
        if not self._thread.is_alive():
            raise SinkError(f"the push to {self._shown} has ended: {self.notice}")
        self._frames.put(frame)

    def hear(self, sound: Sound) -> None:
        """Take a block of the show's sound; never waits. Where nobody takes them the oldest are lost."""
        self._sounds.append(sound)

    def close(self) -> None:
        """Finish the stream and join the thread. May be called twice.

        Raises:
            SinkError: the thread does not end.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopped.set()
        self._frames.end()
        thread.join(_CLOSE_TIMEOUT_S)
        if thread.is_alive() and self._carrier is not None:
            self._carrier.kill()  # it waits for a server that does not answer
            thread.join(_CLOSE_TIMEOUT_S)
        if thread.is_alive():
            raise SinkError(f"the thread of the push to {self._shown} does not end")

    def _run(self) -> None:
        from avatar_stream.broadcast.outgoing.push import CarrierError

        backoff = Backoff()
        while not self._stopped.is_set():
            start_s = time.monotonic()
            try:
                self._publish()
            except ShutDown:
                return
            except CarrierError as error:
                pause_s = backoff.pause_s(time.monotonic() - start_s)
                self.notice = (
                    f"push: {self._shown} is not reached ({error}); the next try is in {pause_s:.0f} s"
                )
                logger.warning("%s", self.notice)
                self._stopped.wait(pause_s)
            except Exception as error:  # the thread's shell: told to whoever writes next
                logger.exception("the push failed")
                self.notice = str(error)
                return

    def _publish(self) -> None:
        from avatar_stream.broadcast.outgoing.push import Carrier

        frame = self._frames.take()
        rates = self.options.model_dump(include={"bitrate_kbps", "keyframe_interval_s"})
        encoder = Encoder("h264", EncodingOptions(**rates))
        carrier = self._carrier = Carrier(self._orders)
        try:
            carrier.start(encoder.encode(frame.image, 0, keyframe=True)[0])
            self.connections += 1
            self.notice = ""
            logger.info("publishing to %s", self._shown)
            self._feed(encoder, carrier, frame)
        finally:
            carrier.close()
            encoder.close()

    def _feed(self, encoder: Encoder, carrier: Carrier, frame: Frame) -> None:
        # Until the end, or until the picture's size changes, which a stream cannot: then a new one begins.
        size, keyframe = frame.image.shape, True
        frame = self._frames.get(0) or frame
        clock = _Clock(frame.time_s)
        while frame.image.shape == size:
            while self._sounds:
                sound = self._sounds.popleft()
                carrier.send_sound(sound.samples, clock.ticks(sound.time_s))
            for unit in encoder.encode(frame.image, clock.pts(frame.time_s), keyframe=keyframe):
                carrier.send(unit)
            keyframe = False
            frame = self._frames.get(_REPEAT_AFTER_S) or frame


class _Clock:
    """A stream's times: those of its frames; where one is sent again, the time that has passed."""

    def __init__(self, start_s: float):
        self._start_s = start_s
        self._given_s = self._sent_s = float("-inf")
        self._pts = 0

    def pts(self, time_s: float) -> int:
        """Return ticks of 1/90000 s for a frame's time, always above the last ones."""
        now_s = time.monotonic()
        ticks = self.ticks(time_s)
        if time_s == self._given_s:
            ticks = self._pts + round((now_s - self._sent_s) * TICKS_PER_S)
        elif ticks < self._pts - TICKS_PER_S:  # the source's clock has jumped back
            self._start_s, ticks = time_s - self._pts / TICKS_PER_S, self._pts
        self._pts = max(ticks, self._pts + _LEAST_STEP)
        self._given_s, self._sent_s = time_s, now_s
        return self._pts

    def ticks(self, time_s: float) -> int:
        """Return a time on the stream's clock, ticks of 1/90000 s."""
        return round((time_s - self._start_s) * TICKS_PER_S)


STAGE = PushSink
