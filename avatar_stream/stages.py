"""The interfaces of the plug-in rooms, whole: what every stage has, and what it may have, with what that is by default.

A stage's `__init__` only stores its options; `open()` takes files, cameras, GPU memory; `close()` gives them
back and may be called twice. A plug-in file ends with `STAGE = TheClass`; its name is the type's name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_stream.controls import Controls
from avatar_stream.options import Options
from avatar_stream.provenance import Signing
from avatar_stream.types import Avatar, Frame, PictureSide, Pose, Sound

if TYPE_CHECKING:
    from avatar_stream.broadcast.server import Server


@dataclass(frozen=True)
class Context:
    """What a pipeline lends all its stages; each takes what it needs.

    Attributes:
        server: the web server that they share; only where one of them `needs_server`.
        live: the source's times are a clock's, which began long before the first frame.
        label: what is written into the picture, for outputs that leave it out; None: nothing.
        sound: there is a show whose sound outputs will `hear`.
        composite: there is more in the picture than the model made: a programme, a photograph.
        signing: how MP4 recordings are signed; None: not at all.
        avatar: who signs.
        size_px: side of the avatar's picture that need not be enlarged.
    """

    server: Server | None = None
    live: bool = False
    label: str | None = None
    sound: bool = False
    composite: bool = False
    signing: Signing | None = None
    avatar: Avatar | None = None
    size_px: PictureSide = 512


class Stage(ABC):
    """What all stages have.

    Attributes:
        Options: what its section of the pipeline file may say; each stage has its own.
        options: what it says.
        context: what its pipeline lends it.
        needs_server: `context.server` is one, of the pipeline's options.
        address: what to open in a browser, known after `open()`; empty: nothing.
    """

    Options: Any = Options
    options: Any = Options()
    context: Context = Context()
    needs_server: bool = False
    address: str = ""

    def __init__(self, options: Any = None, context: Context | None = None):
        """Store both; `open()` takes what is needed."""
        self.options = self.Options() if options is None else options
        self.context = context or Context()

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


class SynthesizerOptions(Options):
    """Options of every synthesizer."""

    size_px: PictureSide | None = None
    """Side of the avatar's picture, px; without it, large enough for the picture that outputs show."""


class Synthesizer(Stage):
    """Makes the avatar's picture.

    Attributes:
        quality_levels: what is left away where a machine is too slow, in words; the first is everything.
    """

    quality_levels: Sequence[str] = ("everything",)

    @property
    def size_px(self) -> PictureSide:
        """Side of its pictures."""
        return self.options.size_px or self.context.size_px

    @abstractmethod
    def synthesize(self, pose: Pose) -> np.ndarray:
        """Return (S, S, 4) uint8 RGBA, straight alpha, for a pose in canvas pixels; S is `size_px`."""

    def set_quality(self, level: int) -> None:
        """Take a level of `quality_levels`, from the next picture on."""

    def set_avatar(self, avatar: Avatar) -> bool:
        """Go on as another person while open; False: it cannot, that person needs a new synthesizer."""
        return False


class SinkOptions(Options):
    """Options of every output."""

    optional: bool = False
    """The run goes on where it cannot be opened."""
    side_by_side: bool = False
    """Show driver, pose and avatar beside each other."""


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
