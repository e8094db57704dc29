"""The avatar and its transparency in an ordinary video: colour above, matte below; `pages/overlay.js` undoes it.

No codec that browsers receive live carries transparency. The colour is multiplied by the matte, so that the codec's
halved colour resolution and its ringing mix the edge with black, which the page adds to nothing. The matte's levels
keep a distance from clear and solid (`MATTE_RANGE`): what the codec's noise does to 0 and 255 is cut off again.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np

from avatar_stream.images.lettering import draw_label
from avatar_stream.types import CANVAS_PX

# Levels of the packed matte that stand for "just above clear" and "just below solid"; 0 and 255 are those themselves.
# Wide enough that a player which takes limited range (16..235) for full range keeps both exact. As in overlay.js.
MATTE_RANGE = (24, 231)
_PANEL = (16, 18, 24, 205)  # behind the label: letters must be read before whatever the overlay is put over
_GAP_PART = 1 / 50  # of the side, from the edge to the label


class OverlayPacker:
    """Packs persons, on the threads that call it: one for each codec and size that somebody watches.

    Attributes:
        label_box: left, top, right, bottom of the label as parts of the person's side, or None without a label.
    """

    def __init__(self, label: str | None = None, side_px: int = CANVAS_PX):
        """Draw the label.

        Args:
            label: a small text at the top left, where hands seldom are; None for none.
            side_px: of the persons to come; those of another side are packed too.
        """
        first, last = MATTE_RANGE
        levels = np.rint(np.linspace(first, last, 256)).astype(np.uint8)
        levels[[0, 255]] = 0, 255
        self._levels = levels
        self._lock = threading.Lock()
        self._text = label
        self._fit(side_px)

    def pack(self, person: np.ndarray, synthetic: bool = True) -> np.ndarray:
        """Return a person as one opaque picture.

        Args:
            person: (S, S, 4) uint8 RGBA, straight alpha; not changed.
            synthetic: it is the avatar: the label is written on it.

        Returns:
            (2 S, S, 3) uint8 RGB: above, the colour multiplied by alpha; below, alpha as grey, its levels 1..254
            moved into `MATTE_RANGE`.
        """
        side_px = person.shape[0]
        packed = np.empty((2 * side_px, side_px, 3), np.uint8)
        with self._lock:
            if side_px != self._side_px:
                self._fit(side_px)
            cv2.split(person, self._planes)
            *parts, alpha = self._planes
            for part in parts:
                cv2.multiply(part, alpha, dst=part, scale=1 / 255)
            cv2.merge(parts, packed[:side_px])
            if self._label is not None and synthetic:
                self._write_label(self._label, packed[:side_px], alpha)
            cv2.LUT(alpha, self._levels, dst=alpha)
            cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB, dst=packed[side_px:])
        return packed

    def _fit(self, side_px: int) -> None:
        # Planes are kept from picture to picture: fresh memory would cost more than all the arithmetic.
        self._side_px, self._gap_px = side_px, round(_GAP_PART * side_px)
        self._planes = [np.empty((side_px, side_px), np.uint8) for _ in range(4)]
        self._label = self._draw_label(self._text) if self._text is not None else None
        high, wide = self._label.shape[:2] if self._label is not None else (0, 0)
        box = tuple((self._gap_px + end) / side_px for end in (0, 0, wide, high))
        # In one step: pages are told it meanwhile.
        self.label_box = box if self._label is not None else None

    def _draw_label(self, text: str) -> np.ndarray:
        # (H, W, 4) uint16 RGBA, colours multiplied by alpha
        most_px = self._side_px - self._gap_px
        label: np.ndarray = draw_label(text, most_px - self._gap_px, self._side_px, _PANEL)
        label = label[:most_px, :most_px].astype(np.uint16)
        label[..., :3] = (label[..., :3] * label[..., 3:] + 127) // 255
        return label

    def _write_label(self, label: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> None:
        # In place; both are this picture's own.
        high, wide = label.shape[:2]
        square = (slice(self._gap_px, self._gap_px + high), slice(self._gap_px, self._gap_px + wide))
        behind = 255 - label[..., 3]
        colour[square] = label[..., :3] + (colour[square] * behind[..., None] + 127) // 255
        alpha[square] = label[..., 3] + (alpha[square] * behind + 127) // 255
