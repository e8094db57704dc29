"""The avatar in browsers: a page, and WebRTC for it and for other players (WHEP)."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from fractions import Fraction
from statistics import median
from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
from pydantic import Field

from avatar_stream import stages
from avatar_stream.controls import Controls, Status
from avatar_stream.errors import SinkError
from avatar_stream.types import Frame

if TYPE_CHECKING:
    from avatar_stream.broadcast.server import Server

_PORTS_SEARCHED = 20
# Without viewers a picture now and then is enough: the first one must not wait for a source that is silent.
_IDLE_INTERVAL_S = 0.5
_WINDOW_S = 3.0


class WebSink:
    """Serves a page at `/` and a WHEP endpoint at `/whep`; the newest frame wins for every viewer.

    Attributes:
        address: what to open in a browser; known after `open()`.
    """

    class Options(stages.Options):
        """Where, and how well.

        Attributes:
            host: 127.0.0.1 for this machine only, 0.0.0.0 for everybody in the network.
            port: of the page; 0 takes any free one.
            port_search: try the next 20 ports where it is taken.
            driver: send the source's own picture too: whoever can open the page then sees the signer.
            driver_width_px: its width at most.
            bitrate_kbps: of a viewer's picture; its network may lower it to a half.
            max_viewers: at the same time; each costs an encoder.
            viewer_timeout_s: let go of a viewer not heard of for so long.
            origins: other pages that may show the broadcast, `https://example.org` each; else only its own may.
        """

        host: str = "127.0.0.1"
        port: Annotated[int, Field(ge=0, le=65535)] = 8080
        port_search: bool = False
        driver: bool = False
        driver_width_px: Annotated[int, Field(ge=32, le=1920)] = 320
        bitrate_kbps: Annotated[int, Field(ge=200, le=50_000)] = 4000
        max_viewers: Annotated[int, Field(ge=1, le=100)] = 8
        viewer_timeout_s: Annotated[float, Field(ge=2, le=600)] = 10.0
        origins: tuple[str, ...] = ()

    def __init__(self, options: WebSink.Options | None = None):
        """Store the options; `open()` takes the port."""
        self.options = options or WebSink.Options()
        self.address = ""
        self._controls: Controls | None = None
        self._server: Server | None = None
        self._start_s: float | None = None
        self._sent_s = float("-inf")
        self._recent: deque[tuple[float, float]] = deque(maxlen=300)  # (when written, delay until then)

    def attach(self, controls: Controls) -> None:
        """Take what the page tells about the pipeline; called once before `open()`."""
        self._controls = controls

    def open(self) -> None:
        """Take the port and start the server's thread.

        Raises:
            SinkError: the port is taken, the host is none of this machine's, or aiortc is missing.
        """
        try:
            from avatar_stream.broadcast.server import Server, listen, reachable_host
            from avatar_stream.broadcast.whep import raise_bitrates
        except ImportError as error:
            raise SinkError(f"the output 'web' needs {error.name}: pip install aiortc aiohttp") from error
        options = self.options
        listening = listen(options.host, options.port, _PORTS_SEARCHED if options.port_search else 0)
        self.address = f"http://{reachable_host(options.host)}:{listening.getsockname()[1]}/"
        raise_bitrates(options.bitrate_kbps)
        self._start_s, self._sent_s = None, float("-inf")
        self._recent.clear()
        audience = {
            "max_viewers": options.max_viewers,
            "with_driver": options.driver,
            "viewer_timeout_s": options.viewer_timeout_s,
        }
        self._server = Server(listening, self._status, audience, options.origins)
        try:
            self._server.start()
        except SinkError:
            self.close()
            raise

    def write(self, frame: Frame) -> None:
        """Send a frame to all viewers; never waits for one.

        Args:
            frame: image (H, W, 3) uint8 RGB; `driver` (H, W, 3) uint8 RGB of any size, or None. `time_s` becomes
                the picture's RTP time.

        Raises:
            SinkError: the sink is not open, or its server has died.
        """
        if self._server is None:
            raise SinkError("the web output is not open")
        now_s = time.monotonic()
        self._recent.append((now_s, now_s - frame.time_s))
        if self._start_s is None:
            self._start_s = frame.time_s
        if self._server.count == 0 and now_s - self._sent_s < _IDLE_INTERVAL_S:
            return
        self._sent_s = now_s
        self._server.put(self._pictures(frame))

    def close(self) -> None:
        """Say goodbye to all viewers, give the port back. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def _pictures(self, frame: Frame):
        from avatar_stream.broadcast.whep import AVATAR, DRIVER, TICKS_PER_S, Pictures

        pts = max(0, round((frame.time_s - self._start_s) * TICKS_PER_S))
        frames = {AVATAR: _as_video(frame.image, pts, TICKS_PER_S)}
        if self.options.driver and frame.driver is not None:
            small = _at_most(frame.driver, self.options.driver_width_px)
            frames[DRIVER] = _as_video(small, pts, TICKS_PER_S)
        return Pictures(frames, pts)

    def _status(self) -> dict:
        # Called on the event loop: reads what other threads replace or append to, never waits.
        status = self._controls.status if self._controls is not None else Status()
        now_s = time.monotonic()
        recent = [(when_s, delay_s) for when_s, delay_s in self._recent.copy() if now_s - when_s < _WINDOW_S]
        told = dataclasses.asdict(status)
        if status.fps == 0 and len(recent) > 1:
            told["fps"] = (len(recent) - 1) / max(1e-6, recent[-1][0] - recent[0][0])
        last_s = self._recent[-1][0] if self._recent else None
        return told | {
            "sent_delay_ms": 1000 * median(delay_s for _, delay_s in recent) if recent else None,
            "silent_s": now_s - last_s if last_s is not None else None,
            "start_s": self._start_s,
        }


def _as_video(image: np.ndarray, pts: int, ticks_per_s: int):
    import av

    # Encoders want even sides; a row or column at the edge is not worth a stretched picture.
    height_px, width_px = (side - side % 2 for side in image.shape[:2])
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height_px, :width_px]), format="rgb24")
    picture = picture.reformat(format="yuv420p")
    picture.pts, picture.time_base = pts, Fraction(1, ticks_per_s)
    return picture


def _at_most(image: np.ndarray, width_px: int) -> np.ndarray:
    height, width = image.shape[:2]
    if width <= width_px:
        return image
    size = (width_px, max(2, round(height * width_px / width)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


STAGE = WebSink
