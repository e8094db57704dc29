"""The interfaces of the plug-in rooms: one `Options` class, `open()`, one verb, `close()`.

A stage's `__init__` only stores its options; `open()` takes files, cameras, GPU memory; `close()` gives them
back and may be called twice. A plug-in file ends with `STAGE = TheClass`; its name is the type's name.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from avatar_stream.types import Frame, PictureSide, Pose


class Options(BaseModel):
    """Base of every stage's options: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


# Of a synthesizer's picture. The schema of pipeline files names no default: the pipeline finds out what is needed.
PersonSide = Annotated[
    PictureSide,
    Field(
        description="side of the avatar's picture, px; without it, large enough for the picture that outputs show",
        json_schema_extra=lambda schema: schema.pop("default", None),
    ),
]


class Source(Protocol):
    """Where frames come from."""

    live: bool  # True: the newest frame wins. False: every frame, in order.

    def open(self) -> None:
        """Take the camera or file; SourceError where it cannot be read."""

    def read(self) -> Frame:
        """Return the next frame; raise EndOfStream at the end."""

    def close(self) -> None:
        """Give everything back. May be called twice."""


class Tracker(Protocol):
    """Finds one person's landmarks."""

    def open(self) -> None:
        """Load the tracker's networks."""

    def track(self, frame: Frame) -> Pose | None:
        """Return the pose in `frame.image`, or None if nobody is there."""

    def close(self) -> None:
        """Give everything back. May be called twice."""


class Synthesizer(Protocol):
    """Makes the avatar's picture."""

    def open(self) -> None:
        """Load weights and encode the avatar's source image, once."""

    def synthesize(self, pose: Pose) -> np.ndarray:
        """Return (S, S, 4) uint8 RGBA, straight alpha, for a pose in canvas pixels; S is the option `size_px`."""

    def close(self) -> None:
        """Give everything back. May be called twice."""


class Sink(Protocol):
    """Where finished frames go."""

    def open(self) -> None:
        """Take the output; SinkError where that fails."""

    def write(self, frame: Frame) -> None:
        """Take one frame; raise EndOfStream if the user closed the output."""

    def close(self) -> None:
        """Finish the output. May be called twice."""
