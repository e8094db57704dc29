"""A webcam by OpenCV (V4L2 on Linux): modes asked for and verified, and it survives being unplugged."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from avatar_stream import options, stages
from avatar_stream.errors import EndOfStream, SourceError
from avatar_stream.types import Frame

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_BAD_READS = 3  # one bad frame is a hiccup of the bus, three are a camera that is gone
_LARGEST_SIDE_PX = 1920  # more costs time at every step and shows the tracker nothing
_FIRST_FRAMES = 5  # some cameras give nothing for the first moments
_NUMBERS_TRIED = 10
_COMMON_MODES = ((640, 480), (1280, 720), (1920, 1080))


class WebcamSource(stages.Source):
    """Reads a camera. Where it is unplugged, `read` waits and tries again each second until it is back.

    Attributes:
        mode: (width, height, fps) that the camera really gives, known after `open()`.
    """

    class Options(options.Options):
        """Which camera, and the mode to ask for."""

        index: Annotated[int, Field(ge=0)] | str = 0
        """Number of the camera, or its path (/dev/video2, /dev/v4l/by-id/...)."""
        width: Annotated[int, Field(ge=16, le=7680)] = 1280
        """Width of the picture, px. Where the camera gives another size, a warning says so."""
        height: Annotated[int, Field(ge=16, le=4320)] = 720
        """Height of the picture, px."""
        fps: Annotated[float, Field(gt=0, le=240)] = 30.0
        """Frames a second."""
        flip: bool = False
        """The camera's picture comes mirrored (some drivers and phone cameras do): turn it back, because
        left and right must be the signer's own."""

    options: Options
    live = True
    notice = ""

    def __init__(
        self,
        options: Options | None = None,
        context: stages.Context | None = None,
        capture: Callable[[int | str], Any] | None = None,
    ):
        """Store the options.

        Args:
            options: which camera.
            context: what the pipeline lends; nothing of it is needed.
            capture: opens a camera by index or path and returns what behaves as `cv2.VideoCapture`.
        """
        super().__init__(options, context)
        self.mode: tuple[int, int, float] | None = None
        self._make = capture or _open_capture
        self._capture: Any = None
        self._stopped = threading.Event()
        self._index = 0
        self._size: tuple[int, int] | None = None

    def open(self) -> None:
        """Take the camera and verify its mode.

        Raises:
            SourceError: there is no such camera (the message lists those that are there), or it gives no pictures.
        """
        self._stopped.clear()
        self._index, self.notice = 0, ""
        if not self._connect():
            raise SourceError(
                f'cannot open camera {self.options.index}: {_whats_there()}; "avatar-stream doctor" shows more'
            )
        if not any(self._grab() is not None for _ in range(_FIRST_FRAMES)):
            self.close()
            raise SourceError(
                f"camera {self.options.index} gives no pictures: unplug it and plug it in again"
            )

    def read(self) -> Frame:
        """Return the next frame: (H, W, 3) uint8 RGB; `time_s` is right after the camera gave it.

        Raises:
            EndOfStream: `stop` was called.
            SourceError: the source is not open.
        """
        if self._capture is None and not self.notice:
            raise SourceError("the camera is not open")
        bad = 0
        while not self._stopped.is_set():
            image = self._grab() if self._capture is not None else None
            time_s = time.monotonic()
            if image is not None:
                self._recovered()
                frame = Frame(image=self._prepare(image), time_s=time_s, index=self._index)
                self._index += 1
                return frame
            bad += 1
            if bad >= _BAD_READS or self._capture is None:
                self._lost()
                self._stopped.wait(_RETRY_S)
                if not self._stopped.is_set() and self._connect():
                    bad = 0  # one that has come back may need a moment, as at the start
        raise EndOfStream

    def stop(self) -> None:
        """Let a waiting `read` end; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Give the camera back. May be called twice."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def _connect(self) -> bool:
        self.close()
        capture = self._make(self.options.index)
        if not capture.isOpened():
            capture.release()
            return False
        wanted = self.options
        for what, value in (
            # Most cameras give more than 640x480 at 30 fps only as Motion-JPEG.
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, wanted.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height),
            (cv2.CAP_PROP_FPS, wanted.fps),
            (cv2.CAP_PROP_BUFFERSIZE, 1),  # older pictures than the newest are of no use
        ):
            capture.set(what, value)
        self._capture = capture
        self._verify()
        return True

    def _verify(self) -> None:
        names = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
        width, height, fps = (self._capture.get(name) for name in names)
        before, self.mode = self.mode, (int(width), int(height), float(fps))
        wanted = (self.options.width, self.options.height, self.options.fps)
        differs = self.mode[:2] != wanted[:2] or (fps > 0 and abs(fps - wanted[2]) > 1)
        if differs and self.mode != before:
            text = "camera %s gives %dx%d at %.0f fps, not the %dx%d at %.0f asked for"
            logger.warning(text, self.options.index, *self.mode, *wanted)

    def _grab(self) -> np.ndarray | None:
        # (H, W, 3) uint8 BGR. What a driver gives while the camera goes may be anything.
        try:
            good, image = self._capture.read()
        except cv2.error as error:
            logger.debug("the camera failed: %s", error)
            return None
        usable = good and isinstance(image, np.ndarray) and image.size > 0 and image.dtype == np.uint8
        return image if usable else None

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        height_px, width_px = image.shape[:2]
        if self._size not in (None, (width_px, height_px)):
            logger.warning("the camera's picture is %dx%d now", width_px, height_px)
        self._size = (width_px, height_px)
        scale = _LARGEST_SIDE_PX / max(width_px, height_px)
        if scale < 1:
            size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        image = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2RGB)
        return cv2.flip(image, 1) if self.options.flip else image

    def _lost(self) -> None:
        if not self.notice:
            self.notice = f"the camera {self.options.index} is gone: plug it in again, this goes on by itself"
            logger.warning("%s", self.notice)
        self.close()

    def _recovered(self) -> None:
        if self.notice:
            logger.warning("the camera %s is back", self.options.index)
            self.notice = ""


def list_cameras() -> list[str]:
    """The cameras of this machine as far as they can be told without opening them: paths, with their names."""
    cameras = []
    for path in sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name)):
        name = Path("/sys/class/video4linux") / path.name / "name"
        try:
            cameras.append(f"{path} ({name.read_text().strip()})")
        except OSError:
            cameras.append(str(path))
    return cameras


def probe_modes(index: int | str) -> list[str]:
    """The modes that a camera really gives of the common ones, `1280x720 at 30 fps` each; empty: it does not open."""
    capture, modes = _open_capture(index), []
    try:
        for width, height in _COMMON_MODES if capture.isOpened() else ():
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
            names = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
            mode = "{:.0f}x{:.0f} at {:.0f} fps".format(*(capture.get(name) for name in names))
            modes += [mode] if mode not in modes else []
    finally:
        capture.release()
    return modes


def _whats_there() -> str:
    if not sys.platform.startswith("linux"):
        return f"another program may use it, or try other numbers, 0 to {_NUMBERS_TRIED - 1}"
    cameras = list_cameras()
    if not cameras:
        return "no camera is connected to this machine"
    return f"here are {', '.join(cameras)}; another program may use it"


def _open_capture(index: int | str) -> cv2.VideoCapture:
    # Else a camera that stops giving pictures holds `read`, and with it the end of the program, for 10 s.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
    cv2.setLogLevel(2)  # we tell it ourselves, in plain words
    backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
    return cv2.VideoCapture(index, backend)


STAGE = WebcamSource
