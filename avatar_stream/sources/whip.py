"""The signer sends by WHIP: from the page `/signer` in any browser, from OBS, from any WHIP client."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from avatar_stream import options, stages
from avatar_stream.controls import Wish
from avatar_stream.errors import EndOfStream, SourceError
from avatar_stream.types import Frame

if TYPE_CHECKING:
    import av

    from avatar_stream.broadcast.incoming.whip import Arrival
    from avatar_stream.broadcast.server import Server

_LARGEST_SIDE_PX = 1920  # more costs time at every step and shows the tracker nothing
_WAIT_S = 0.5
_NOBODY_PX = (640, 360)
_NOBODY_GREY = 40
_ROTATIONS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


class WhipSource(stages.Source):
    """Takes the pictures of one signer at a time, the newest wins. A signer who leaves is silence, not an end."""

    class Options(options.Options):
        """What to do with the pictures."""

        flip: bool = False
        """The pictures come mirrored (some cameras and OBS scenes are): turn them back, because left and right must
        be the signer's own."""

    options: Options
    live = True
    needs_server = True

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Store the options; without a server in the context it makes one of its own, with default options."""
        super().__init__(options, context)
        self._server: Server | None = None
        self._stopped = threading.Event()
        self._index, self._last_s = 0, float("-inf")
        self._signer: int | None = None

    @property
    def notice(self) -> str:
        """What people should know about the signer's connection now, or empty."""
        server = self._server
        if server is None:
            return ""
        return {
            "nobody": "no signer is connected: one joins on the page /signer, or by WHIP",
            "connecting": "the signer is connecting",
            "silent": "the signer is connected, and no picture comes: is the camera on?",
        }.get(server.ingest.state, "")

    def open(self) -> None:
        """Open the server to signers.

        Raises:
            ServerError: the server's port is taken, or its host is none of this machine's.
            SourceError: another source takes its signer already.
        """
        from avatar_stream.broadcast.server import Server

        server = self.context.server or Server()
        if server.ingest.opened:
            raise SourceError("a pipeline has one source of the type whip")
        server.ingest.opened = True  # before the first request can come
        try:
            server.open()
        except BaseException:
            server.ingest.opened = False
            raise
        self._server = server
        self._stopped.clear()
        self._index, self._last_s, self._signer = 0, float("-inf"), None

    def read(self) -> Frame:
        """Return the next frame: (H, W, 3) uint8 RGB, upright; waits for one.

        The first frame, and one whenever a signer leaves, is plain grey: the avatar comes to rest, and nobody's last
        picture stays on other people's screens.

        Raises:
            EndOfStream: `stop` was called.
            SourceError: the source is not open.
            ServerError: the server has died.
        """
        if self._server is None:
            raise SourceError("the source whip is not open")
        if self._index == 0:
            return self._frame(_nobody(), time.monotonic())
        while not self._stopped.is_set():
            self._server.thread.check()
            arrival = self._server.ingest.arrivals.get(_WAIT_S)
            if arrival is not None:
                self._welcome(arrival)
                image = _nobody() if arrival.picture is None else self._upright(arrival.picture)
                return self._frame(image, arrival.time_s)
        raise EndOfStream

    def stop(self) -> None:
        """Let a waiting `read` end; from any thread."""
        self._stopped.set()
        server = self._server
        if server is not None:
            server.ingest.arrivals.put(None)

    def close(self) -> None:
        """Let the signer go and the server too. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.ingest.opened = False
            try:
                server.thread.wait_for(server.ingest.close())
            finally:
                server.close()

    def _frame(self, image: np.ndarray, time_s: float) -> Frame:
        # Also from one signer to the next time only goes forward.
        self._last_s = max(time_s, self._last_s + 1e-4)
        frame = Frame(image=image, time_s=self._last_s, index=self._index)
        self._index += 1
        return frame

    def _welcome(self, arrival: Arrival) -> None:
        if arrival.picture is not None and arrival.signer != self._signer:
            controls = self._server.api.controls
            if self._signer is not None and controls is not None:
                controls.ask(Wish.CALIBRATE)  # another body than the one that was measured
            self._signer = arrival.signer

    def _upright(self, picture: av.VideoFrame) -> np.ndarray:
        # Browsers turn a phone's picture before they send it; other senders may only say how it is to be turned.
        scale = min(1.0, _LARGEST_SIDE_PX / max(picture.width, picture.height))
        width_px, height_px = (max(1, round(side * scale)) for side in (picture.width, picture.height))
        image = picture.to_ndarray(format="rgb24", width=width_px, height=height_px)
        turn = _ROTATIONS.get(round(picture.rotation) % 360)
        if turn is not None:
            image = cv2.rotate(image, turn)
        return np.ascontiguousarray(image[:, ::-1] if self.options.flip else image)


def _nobody() -> np.ndarray:
    return np.full((_NOBODY_PX[1], _NOBODY_PX[0], 3), _NOBODY_GREY, np.uint8)


STAGE = WhipSource
