"""The interfaces of the plug-in rooms, whole: what every stage has, and what it may have, with what that is by default.

A stage's `__init__` only stores its options; `open()` takes files, cameras, GPU memory; `close()` gives them
back and may be called twice. A plug-in file ends with `STAGE = TheClass`; its name is the type's name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from avatar_stream.controls import Controls
from avatar_stream.types import Avatar, Frame, PictureSide, Pose, Sound


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


class Stage(ABC):
    """What all stages have.

    Attributes:
        options: what its section of the pipeline file says.
        address: what to open in a browser, known after `open()`; empty: nothing.
    """

    options: Options = Options()
    address: str = ""

    @property
    def notice(self) -> str:
        """Why it gives or takes nothing now, in words for people, or empty; from any thread."""
        return ""

    @abstractmethod
    def open(self) -> None:
        """Take what it needs; an AvatarStreamError where that fails."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back. May be called twice."""


class Source(Stage):
    """Where frames come from.

    Attributes:
        live: True: the newest frame wins. False: every frame, in order.
        frame_count: how many frames there are, known after `open()`; None: nobody knows.
    """

    live: bool = False
    frame_count: int | None = None

    @abstractmethod
    def read(self) -> Frame:
        """Return the next frame; raise EndOfStream at the end."""

    def stop(self) -> None:
        """Let a waiting `read` end with EndOfStream; from any thread. Sources that never wait long need none."""


class Tracker(Stage):
    """Finds one person's landmarks."""

    @abstractmethod
    def track(self, frame: Frame) -> Pose | None:
        """Return the pose in `frame.image`, or None if nobody is there."""


class Synthesizer(Stage):
    """Makes the avatar's picture.

    Attributes:
        quality_levels: what is left away where a machine is too slow, in words; the first is everything.
    """

    quality_levels: Sequence[str] = ("everything",)

    @abstractmethod
    def synthesize(self, pose: Pose) -> np.ndarray:
        """Return (S, S, 4) uint8 RGBA, straight alpha, for a pose in canvas pixels; S is the option `size_px`."""

    def set_quality(self, level: int) -> None:
        """Take a level of `quality_levels`, from the next picture on."""

    def set_avatar(self, avatar: Avatar) -> bool:
        """Go on as another person while open; False: it cannot, that person needs a new synthesizer."""
        return False


class Sink(Stage):
    """Where finished frames go.

    Attributes:
        on_main_thread: it is opened, served and closed by the thread that called `run`.
        hears_at_once: `hear` is called on the thread that has the sound; else on the sink's own, before a picture.
    """

    on_main_thread: bool = False
    hears_at_once: bool = False

    def attach(self, controls: Controls) -> None:
        """Take what the pipeline is asked and tells; called once, before `open()`."""

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Take one frame; raise OutputClosed if the user closed the output."""

    def hear(self, sound: Sound) -> None:
        """Take a block of a show's sound."""

    def idle(self) -> None:
        """Look after itself while no frame comes, on the main thread; raise OutputClosed as `write` does."""

    def discard(self) -> None:
        """Close it and leave no half file."""
        self.close()
