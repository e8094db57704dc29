"""How real each part of the pose is: seen, held for a moment, on its way to rest, at rest."""

from __future__ import annotations

import numpy as np

from avatar_stream.retarget.contacts import smooth_step, smooth_steps
from avatar_stream.retarget.observation import FACE_PART, HAND, PARTS, UPPER

_RISE_S = 0.12
_PART_FALL_S = 0.5
_HOLD_HAND_S = 0.3  # a lost hand or arm
_HOLD_FACE_S = 0.5
_HOLD_ALL_S = 0.5  # everything, when nobody is in view
_TO_REST_S = 1.0  # the way to rest after that
_HELD_TRUST = 0.4  # confidence at the end of holding


class Presence:
    """Weights of the parts, driven by what is seen in each frame."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._hold_s = np.full(PARTS, _HOLD_HAND_S)
        self._hold_s[UPPER] = self._hold_s[FACE_PART] = _HOLD_FACE_S
        self.reset()

    def reset(self) -> None:
        """Forget: what is seen next is real at once."""
        self._weight = np.zeros(PARTS)
        self._age_s = np.zeros(PARTS)
        self._present, self._gone_s = 0.0, 0.0
        self._fresh = True

    def update(
        self, seen: np.ndarray | None, step_s: float, touching: np.ndarray | None = None
    ) -> np.ndarray:
        """Take one frame.

        Args:
            seen: (PARTS,) bool, or None where nobody is there.
            step_s: seconds since the last frame.
            touching: (2,) 0..1, lost hands whose place a seen one tells: they stay, though nobody sees them.

        Returns:
            (PARTS,) weights, 0 (rest) .. 1 (as seen or held).
        """
        if seen is None:
            self._gone_s += step_s
            falling_s = min(step_s, self._gone_s - _HOLD_ALL_S)
            if falling_s > 0:
                self._present = max(0.0, self._present - falling_s / _TO_REST_S)
        else:
            self._present = 1.0 if self._fresh else min(1.0, self._present + step_s / (2 * _RISE_S))
            self._gone_s = 0.0
            self._update_parts(seen, step_s, np.zeros(2) if touching is None else touching)
            self._fresh = False
        return smooth_steps(self._weight, 0.0, 1.0) * self.present

    @property
    def present(self) -> float:
        """0 (at rest, nobody there) .. 1 (somebody, or held)."""
        return smooth_step(self._present, 0.0, 1.0)

    @property
    def trust(self) -> float:
        """Confidence of the body as a whole."""
        all_held = 1.0 - (1.0 - _HELD_TRUST) * min(self._gone_s / _HOLD_ALL_S, 1.0)
        return self._present * all_held

    def confidence(self) -> np.ndarray:
        """(PARTS,) 1 for seen parts, less while held, 0 at rest."""
        held = 1.0 - (1.0 - _HELD_TRUST) * np.clip(self._age_s / self._hold_s, 0.0, 1.0)
        return self._weight * held * self.trust

    def _update_parts(self, seen: np.ndarray, step_s: float, touching: np.ndarray) -> None:
        self._age_s = np.where(seen, 0.0, self._age_s + step_s)
        falling = np.maximum(self._age_s - self._hold_s, 0.0)
        down = np.minimum(step_s, falling) / _PART_FALL_S
        up = 1.0 if self._fresh else step_s / _RISE_S
        change = np.where(seen, up, -down)
        change[HAND] = np.where(touching > 0.5, up, change[HAND])
        self._weight = np.clip(self._weight + change, 0.0, 1.0)
