"""The avatar as a camera that meeting programs can choose (pyvirtualcam)."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import numpy as np
from PIL import ImageColor
from pydantic import Field

from avatar_stream import stages
from avatar_stream.errors import SinkError
from avatar_stream.images.fitting import fit
from avatar_stream.types import Frame

Side = Annotated[int, Field(ge=64, le=4096, multiple_of=2)]
_HOW_TO_GET_ONE = {
    "linux": "apt-get install v4l2loopback-dkms, then sudo modprobe v4l2loopback exclusive_caps=1 "
    'card_label="avatar_stream"',
    "darwin": "install OBS 30 or later and start its virtual camera once",
    "win32": "install OBS, which brings a virtual camera",
}


class VirtualCameraSink(stages.Sink):
    """Sends every picture to a virtual camera; a meeting program that looks at it gets the newest.

    Attributes:
        device: the camera's name as programs list it; known after `open()`.
    """

    class Options(stages.SinkOptions):
        """Which camera, and the picture that it gives."""

        device: str | None = None
        """`/dev/video2`, `OBS Virtual Camera`; null takes the first there is."""
        width_px: Side = 1280
        """Width of the camera's picture, px; even numbers; programs expect a wide one."""
        height_px: Side = 720
        """Height of the camera's picture, px; even numbers; programs expect a wide one."""
        fps: Annotated[float, Field(ge=1, le=120)] = 30.0
        """What the camera says of itself; pictures come as often as the avatar moves."""
        mirror: bool = False
        """As in a mirror. Meeting programs show you mirrored by themselves, others the right way round."""
        margin: str = "#dfe6ee"
        """Colour beside a picture of another shape."""

    options: Options

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Store the options; `open()` takes the camera."""
        super().__init__(options, context)
        self.device = ""
        self._camera: Any = None
        self._margin = (0, 0, 0)

    def open(self) -> None:
        """Take the camera.

        Raises:
            SinkError: pyvirtualcam is missing, there is no such camera, or the margin is no colour.
        """
        try:
            import pyvirtualcam
        except ImportError as error:
            raise SinkError(
                "the output 'virtual_camera' needs pyvirtualcam: pip install pyvirtualcam"
            ) from error
        options = self.options
        try:
            self._margin = ImageColor.getrgb(options.margin)[:3]
        except ValueError as error:
            raise SinkError(f"virtual_camera: margin {options.margin!r} is no colour") from error
        try:
            self._camera = pyvirtualcam.Camera(
                options.width_px, options.height_px, options.fps, device=options.device
            )
        except RuntimeError as error:
            which = f"the virtual camera {options.device}" if options.device else "a virtual camera"
            advice = _HOW_TO_GET_ONE.get(sys.platform, "see pyvirtualcam's documentation")
            raise SinkError(f"cannot open {which} ({error}). To get one: {advice}") from error
        self.device = self._camera.device

    def write(self, frame: Frame) -> None:
        """Send one picture.

        Args:
            frame: image (H, W, 3) uint8 RGB of any size; it is shown whole.

        Raises:
            SinkError: the sink is not open, or the camera is gone.
        """
        if self._camera is None:
            raise SinkError("the virtual camera is not open")
        picture = fit(frame.image, (self.options.width_px, self.options.height_px), self._margin)
        try:
            self._camera.send(np.ascontiguousarray(picture[:, ::-1]) if self.options.mirror else picture)
        except RuntimeError as error:
            raise SinkError(f"the virtual camera {self.device} takes no more pictures ({error})") from error

    def close(self) -> None:
        """Give the camera back. May be called twice."""
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()


STAGE = VirtualCameraSink
