"""One place between two threads: live the newest wins, offline nothing is lost."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")
_PLACES = 4


class ShutDown(Exception):
    """Not an error: no more items or turns will come, so the thread that waits for them ends."""


class Handover(Generic[Item]):
    """From one producer to one consumer.

    Attributes:
        name: of the hand-over, for reports.
        dropped: live: items overwritten by newer ones since the consumer came for the first time.
    """

    def __init__(self, name: str, live: bool):
        """Live: one place, `put` overwrites and never waits. Offline: four places, `put` waits for one."""
        self.name = name
        self.dropped = 0
        self._live = live
        self._items: deque[Item] = deque(maxlen=1 if live else _PLACES)
        self._changed = threading.Condition()
        self._ended = self._aborted = self._awaited = False

    def put(self, item: Item) -> bool:
        """Hand over an item; False where nobody will take it any more: the producer may stop."""
        with self._changed:
            while not self._live and len(self._items) == _PLACES and not (self._ended or self._aborted):
                self._changed.wait()
            if self._ended or self._aborted:
                return False
            # While the consumer still loads its networks nothing is lost that anybody waited for.
            self.dropped += len(self._items) == self._items.maxlen and self._awaited
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> Item | None:
        """Take the oldest item; None where none came in time.

        Raises:
            ShutDown: no more will come.
        """
        with self._changed:
            self._awaited = True
            ready = self._changed.wait_for(lambda: self._items or self._ended or self._aborted, timeout_s)
            if self._aborted or (ready and not self._items):
                raise ShutDown
            if not ready:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def take(self) -> Item:
        """Take the oldest item, however long it takes to come.

        Raises:
            ShutDown: no more will come.
        """
        item = self.get()
        if item is None:
            raise ShutDown
        return item

    @property
    def waiting(self) -> bool:
        """Whether something is here to be taken."""
        return bool(self._items)

    def end(self) -> None:
        """No more will come: what is here is still handed out. May be called twice, from any thread."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Stop now: what is here is forgotten. May be called twice, from any thread."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()


class Turns:
    """Lets threads do something one after another, in the order of their numbers from 0."""

    def __init__(self) -> None:
        self._next, self._aborted = 0, False
        self._changed = threading.Condition()

    def wait(self, turn: int | None) -> None:
        """Wait until every lower number is done, None: for nobody; ShutDown where `abort` was called."""
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or turn is None or self._next >= turn)
            if self._aborted:
                raise ShutDown

    def done(self, turn: int | None) -> None:
        """Let the next number go; None had no turn."""
        with self._changed:
            self._next = self._next if turn is None else max(self._next, turn + 1)
            self._changed.notify_all()

    def reached(self, turn: int) -> bool:
        """Whether it is this number's turn or was."""
        return self._next >= turn

    def abort(self) -> None:
        """Let nobody go any more."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()
