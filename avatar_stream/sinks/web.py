"""The avatar in browsers: pages, and WebRTC for them and for other players (WHEP)."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from avatar_stream import stages
from avatar_stream.broadcast.settings import AVATAR, DRIVER, OVERLAY, EncodingOptions
from avatar_stream.controls import Controls, Status
from avatar_stream.errors import SinkError
from avatar_stream.types import TICKS_PER_S, Frame, Sound

if TYPE_CHECKING:
    from avatar_stream.broadcast.outgoing.overlay import OverlayPacker
    from avatar_stream.broadcast.outgoing.sound import SoundStream
    from avatar_stream.broadcast.outgoing.whep import Audience
    from avatar_stream.broadcast.server import Server

_WINDOW_S = 3.0


class WebSink(stages.Sink):
    """Serves the pages and a WHEP endpoint at `/whep`; the newest frame wins, and is encoded once for all viewers."""

    class Options(EncodingOptions, stages.SinkOptions):
        """How well, and for how many."""

        driver: bool = False
        """Send the source's own picture too: whoever can open the page then sees the signer."""
        driver_width_px: Annotated[int, Field(ge=32, le=1920)] = 320
        """Width of the signer's own picture at most."""
        max_viewers: Annotated[int, Field(ge=1, le=1000)] = 100
        """Viewers at the same time at most."""
        viewer_timeout_s: Annotated[float, Field(ge=2, le=600)] = 20.0
        """Let go of a viewer that is not heard of, or takes nothing, for so long."""

    options: Options
    needs_server = True
    hears_at_once = True  # sound must not wait for pictures and come in lumps

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Store the options; without a server in the context it makes one of its own, with default options."""
        super().__init__(options, context)
        self._controls: Controls | None = None
        self._server: Server | None = None
        self._audience: Audience | None = None
        self._packer: OverlayPacker | None = None
        self._sound: SoundStream | None = None
        self._start_s: float | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=300)  # (when written, delay until then)

    def attach(self, controls: Controls) -> None:
        """Take what the page tells about the pipeline; called once before `open()`."""
        self._controls = controls

    def open(self) -> None:
        """Take the port, unless another stage has, and let viewers in.

        Raises:
            ServerError: the port is taken, the host is none of this machine's, or the pipeline has another
                output 'web' (ConfigError).
        """
        from avatar_stream.broadcast.outgoing.overlay import OverlayPacker
        from avatar_stream.broadcast.outgoing.sound import SoundStream
        from avatar_stream.broadcast.outgoing.whep import Audience
        from avatar_stream.broadcast.server import Server

        self._start_s = None
        self._recent.clear()
        self._packer = OverlayPacker(self.context.label)
        self._sound = SoundStream() if self.context.sound else None
        server = self.context.server or Server()
        if self._controls is not None:
            server.attach(self._controls)
        server.open()
        self._server, self.address, options = server, server.address, self.options
        most, driver, timeout_s = options.max_viewers, options.driver, options.viewer_timeout_s
        try:
            self._audience = server.admit_viewers(
                lambda: Audience(server.configuration, options, most, driver, timeout_s, self._sound),
                self._status,
            )
        except BaseException:
            self.close()
            raise

    def write(self, frame: Frame) -> None:
        """Show a frame to all viewers; never waits for one, and costs nothing while there is none.

        Args:
            frame: image (H, W, 3) uint8 RGB; `driver` (H, W, 3) uint8 RGB of any size, or None; `person` for the
                overlay, or None. `time_s` becomes the picture's RTP time.

        Raises:
            SinkError: the sink is not open, or encoding has failed.
            ServerError: its server has died.
        """
        if self._audience is None:
            raise SinkError("the web output is not open")
        self._server.thread.check()
        now_s = time.monotonic()
        self._recent.append((now_s, now_s - frame.time_s))
        if self._start_s is None:
            self._start_s = frame.time_s
        pts = max(0, round((frame.time_s - self._start_s) * TICKS_PER_S))
        self._audience.streams.put(self._pictures(frame), pts)

    def hear(self, sound: Sound) -> None:
        """Send a block of 20 ms to all who listen: (960, 2) int16, 48 kHz; from any one thread, never waits."""
        if self._sound is not None:
            self._sound.hear(sound)

    def close(self) -> None:
        """Say goodbye to all viewers, give the port back. May be called twice."""
        server, self._server = self._server, None
        audience, self._audience = self._audience, None
        if server is None:
            return
        try:
            if audience is not None:
                server.dismiss_viewers()
        finally:
            server.close()

    def _pictures(self, frame: Frame) -> dict[str, Any]:
        # Functions: called only where somebody takes that kind, and not on this thread.
        pictures: dict[str, Any] = {AVATAR: frame.image}
        if frame.person is not None:
            pictures[OVERLAY] = partial(self._packer.pack, frame.person, frame.synthetic)
        if self.options.driver and frame.driver is not None:
            pictures[DRIVER] = partial(_at_most, frame.driver, self.options.driver_width_px)
        return pictures

    def _status(self) -> dict:
        # Called on the event loop: reads what other threads replace or append to, never waits.
        status = self._controls.status if self._controls is not None else Status()
        now_s = time.monotonic()
        recent = [(when_s, delay_s) for when_s, delay_s in self._recent.copy() if now_s - when_s < _WINDOW_S]
        last_s = self._recent[-1][0] if self._recent else None
        figures = {
            "sent_delay_ms": 1000 * median(delay_s for _, delay_s in recent) if recent else None,
            "silent_s": now_s - last_s if last_s is not None else None,
            "start_s": self._start_s,
            "sound": self._sound is not None,
            "driver": self.options.driver,
            "overlay_label": self._packer.label_box if self._packer is not None else None,
        }
        if status.fps == 0 and len(recent) > 1:
            figures["fps"] = (len(recent) - 1) / max(1e-6, recent[-1][0] - recent[0][0])
        return figures


def _at_most(image: np.ndarray, width_px: int) -> np.ndarray:
    height, width = image.shape[:2]
    if width <= width_px:
        return image
    size = (width_px, max(2, round(height * width_px / width)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


STAGE = WebSink
