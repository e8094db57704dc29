"""How long to wait before the next try, for all that reconnects by itself."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double while it fails, and are never the same for two publishers."""

    def __init__(self, first_s: float = 1.0, longest_s: float = 10.0, good_after_s: float = 20.0):
        """Begin with the shortest wait.

        Args:
            first_s: the first wait, at most.
            longest_s: no wait is longer.
            good_after_s: a connection that held for so long was a good one: waits are short again.
        """
        self._first_s, self._longest_s, self._good_after_s = first_s, longest_s, good_after_s
        self._next_s = first_s

    def pause_s(self, held_s: float) -> float:
        """Return how long to wait now; `held_s`: how long the try, or the connection, lasted."""
        if held_s > self._good_after_s:
            self._next_s = self._first_s
        # Not all publishers of a server that was started anew may come back in the same moment.
        pause_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(2 * self._next_s, self._longest_s)
        return pause_s
