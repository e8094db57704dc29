"""What outputs may ask of the running pipeline, and what it tells them: one object, safe between threads.

A window's keys and a page's buttons ask; the pipeline's render thread answers between two frames. Outputs are given
it by `attach(controls)`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum


class Wish(Enum):
    """What can be asked for."""

    NEXT_AVATAR = "next avatar"
    PREVIOUS_AVATAR = "previous avatar"
    NEXT_BACKGROUND = "next background"
    SKELETON = "skeleton on or off"
    RECORD = "recording on or off"
    FREEZE = "freeze or go on"
    CALIBRATE = "measure the signer anew"
    AVATAR = "this avatar"
    HOLD = "hold card or go on"
    HUMAN = "the signer's own picture or the avatar"
    QUIT = "quit"


@dataclass(frozen=True)
class Setting:
    """A wish that says what is to be afterwards, so that asking twice does no harm.

    Attributes:
        what: AVATAR, HOLD, HUMAN, RECORD, FREEZE or SKELETON.
        to: the avatar's name; True or False for the others.
    """

    what: Wish
    to: str | bool


@dataclass(frozen=True)
class Status:
    """How the pipeline does, over the last seconds.

    Attributes:
        fps: finished frames a second.
        delay_ms: from capture to the outputs, median; p95_ms: 95th percentile.
        dropped: frames overwritten by newer ones, by hand-over, since the start.
        avatar: the avatar's name.
        recording, frozen, skeleton: what is switched on.
        held: the hold card stands in for the signer. human: the signer's own picture does.
        framing: what the signer can do to be seen better; also among the messages.
        stages: milliseconds of work a frame, median of the last seconds, by stage.
        target_delay_ms: what everything is held until after its capture; None: nothing is held.
        left_ms: with a target delay, from capture to leaving, median; spread_ms: between its 5th and 95th percentiles.
        late: frames that came later than they were due, since the start.
        messages: what the crew should know now (a silent stage, framing, quality stepped down), newest last.
        notices: those that viewers may know too: framing, quality, the camera; no names of files and servers.
    """

    fps: float = 0.0
    delay_ms: float = 0.0
    p95_ms: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)
    avatar: str = ""
    recording: bool = False
    frozen: bool = False
    skeleton: bool = False
    held: bool = False
    human: bool = False
    framing: tuple[str, ...] = ()
    stages: dict[str, float] = field(default_factory=dict)
    target_delay_ms: int | None = None
    left_ms: float = 0.0
    spread_ms: float = 0.0
    late: int = 0
    messages: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class Controls:
    """Wishes from outputs to the pipeline, status from the pipeline to outputs; from any thread, nothing waits.

    Attributes:
        status: the newest one.
    """

    def __init__(self) -> None:
        self.status = Status()
        self._wishes: deque[Wish | Setting] = deque(maxlen=64)  # safe between threads by itself

    def ask(self, wish: Wish | Setting) -> None:
        """Ask for something."""
        self._wishes.append(wish)

    def take(self) -> list[Wish | Setting]:
        """All wishes since the last call, oldest first; for the pipeline."""
        return [self._wishes.popleft() for _ in range(len(self._wishes))]

    def tell(self, status: Status) -> None:
        """Publish a new status; for the pipeline."""
        self.status = status
