"""What outputs may ask of the running pipeline, and what it tells them: one object, safe between threads.

A window's keys and a page's buttons ask; the pipeline's render thread answers between two frames. Outputs that want
it have a method `attach(controls)`, called once before `open()`.
"""

from __future__ import annotations

import threading
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
    QUIT = "quit"


@dataclass(frozen=True)
class Status:
    """How the pipeline does, over the last seconds.

    Attributes:
        fps: finished frames a second.
        delay_ms: from capture to the outputs, median; p95_ms: 95th percentile.
        dropped: frames overwritten by newer ones, by hand-over, since the start.
        avatar: the avatar's name.
        recording, frozen, skeleton: what is switched on.
        messages: what a person should know now (a silent stage, framing, quality stepped down), newest last.
    """

    fps: float = 0.0
    delay_ms: float = 0.0
    p95_ms: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)
    avatar: str = ""
    recording: bool = False
    frozen: bool = False
    skeleton: bool = False
    messages: tuple[str, ...] = ()


class Controls:
    """Wishes from outputs to the pipeline, status from the pipeline to outputs."""

    def __init__(self):
        self._lock = threading.Lock()
        self._wishes: deque[Wish] = deque(maxlen=64)
        self._status = Status()

    def ask(self, wish: Wish) -> None:
        """Ask for something; from any thread, never waits."""
        with self._lock:
            self._wishes.append(wish)

    def take(self) -> list[Wish]:
        """All wishes since the last call, oldest first; for the pipeline."""
        with self._lock:
            taken = list(self._wishes)
            self._wishes.clear()
        return taken

    @property
    def status(self) -> Status:
        """The newest status."""
        with self._lock:
            return self._status

    def tell(self, status: Status) -> None:
        """Publish a new status; for the pipeline."""
        with self._lock:
            self._status = status
