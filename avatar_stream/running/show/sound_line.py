"""A programme's sound as one line without gaps, cut into equal blocks."""

from __future__ import annotations

import numpy as np

from avatar_stream.types import SOUND_RATE, Sound

BLOCK_SAMPLES = 960  # 20 ms, one packet of Opus
BLOCK_S = BLOCK_SAMPLES / SOUND_RATE
# Two clocks never run alike: what is off by less follows on, so that nothing clicks.
_TOLERATED_SAMPLES = BLOCK_SAMPLES


class SoundLine:
    """Takes blocks as they come and gives blocks of 20 ms, each where the last one ended; silence where none came."""

    def __init__(self, begin_s: float):
        """Take the time of the first sample to be given."""
        self._begin_s, self._given = begin_s, 0
        self._waiting = np.empty((0, 2), np.int16)
        self._follows = False  # the line's end is sound, not silence that was put in

    @property
    def next_s(self) -> float:
        """When the next block begins."""
        return self._begin_s + self._given / SOUND_RATE

    def add(self, sound: Sound) -> None:
        """Put a block at its time; what of it lies before the line's end is cut."""
        end = self._given + len(self._waiting)
        ahead = round((sound.time_s - self._begin_s) * SOUND_RATE) - end
        samples = sound.samples
        if self._follows and abs(ahead) <= _TOLERATED_SAMPLES:
            ahead = 0
        if ahead < 0:
            samples = samples[-ahead:]
        elif ahead > 0:
            self._append(np.zeros((ahead, 2), np.int16))
        if len(samples):
            self._append(samples)
            self._follows = True

    def take(self, until_s: float | None = None) -> list[Sound]:
        """Give whole blocks.

        Args:
            until_s: give all that begin at this time or before, with silence for what has not come; None: what is here.
        """
        blocks = []
        while len(self._waiting) >= BLOCK_SAMPLES or (until_s is not None and self.next_s <= until_s):
            if until_s is not None and self.next_s > until_s:
                break
            if len(self._waiting) < BLOCK_SAMPLES:
                self._append(np.zeros((BLOCK_SAMPLES - len(self._waiting), 2), np.int16))
                self._follows = False
            blocks.append(Sound(np.ascontiguousarray(self._waiting[:BLOCK_SAMPLES]), self.next_s))
            self._waiting = self._waiting[BLOCK_SAMPLES:]
            self._given += BLOCK_SAMPLES
        return blocks

    def _append(self, samples: np.ndarray) -> None:
        self._waiting = np.concatenate([self._waiting, samples])
