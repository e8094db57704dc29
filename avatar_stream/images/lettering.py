"""Text on pictures: drawn once with a real typeface, blended many times."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# The lines' distance as a part of the letters' size; a panel's edge as a part of the same.
_LINE, _EDGE = 1.45, 0.7
_LABEL_INK, _LABEL_PANEL = (248, 249, 250), (16, 18, 24, 150)
_LABEL_PART, _LABEL_LEAST_PX = 1 / 40, 12  # letters' height as a part of the picture's shorter side


def draw_lines(
    lines: Sequence[tuple[str, tuple[int, int, int]]],
    size_px: int,
    panel: tuple[int, int, int, int] = (16, 18, 24, 170),
    columns: Sequence[float] = (),
) -> np.ndarray:
    """Draw lines of text on a panel with round corners.

    Args:
        lines: each text with its colour (RGB, 0..255); a tab goes to the next column.
        size_px: height of the letters' box.
        panel: RGBA 0..255 of what is behind the text.
        columns: where the texts after tabs begin, in letter sizes from the panel's left edge.

    Returns:
        (H, W, 4) uint8 RGBA, straight alpha, as small as the text allows.
    """
    font = ImageFont.load_default(size_px)
    edge_px = round(_EDGE * size_px)
    starts = [edge_px, *(round(column * size_px) + edge_px for column in columns)]
    cells = [
        [(start, text) for start, text in zip(starts, line.split("\t"), strict=False)] for line, _ in lines
    ]
    width_px = max(start + font.getlength(text) for row in cells for start, text in row) + edge_px
    height_px = 2 * edge_px + round(_LINE * size_px * (len(lines) - 1) + 1.1 * size_px)
    image = _draw_panel((int(np.ceil(width_px)), height_px), round(0.45 * size_px), panel)
    pen = ImageDraw.Draw(image)
    for row, (cell, (_, colour)) in enumerate(zip(cells, lines, strict=True)):
        for start, text in cell:
            pen.text((start, edge_px + round(_LINE * size_px * row)), text, font=font, fill=(*colour, 255))
    return np.array(image)


def draw_label(
    text: str, width_px: int, shorter_px: int, panel: tuple[int, int, int, int] = _LABEL_PANEL
) -> np.ndarray:
    """Draw what is written in a picture of the avatar: on one line, or on more where the picture is narrow.

    Args:
        text: a few words.
        width_px: the widest that it may be; one long word may be wider.
        shorter_px: the picture's shorter side, to which the letters' size belongs.
        panel: RGBA 0..255 of what is behind the text; lets something of the picture through.

    Returns:
        (H, W, 4) uint8 RGBA, straight alpha.
    """
    size_px = max(_LABEL_LEAST_PX, round(_LABEL_PART * shorter_px))
    for columns in range(len(text), 0, -1):
        lines = textwrap.wrap(text, columns, break_long_words=False)
        label = draw_lines([(line, _LABEL_INK) for line in lines], size_px, panel)
        if label.shape[1] <= width_px or len(lines) == len(text.split()):
            break
    return label


def _draw_panel(size: tuple[int, int], radius_px: int, colour: tuple[int, int, int, int]) -> Image.Image:
    # Pillow draws corners in steps: four times as large, then made small, they are round.
    large = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, large.width - 1, large.height - 1), 4 * radius_px, fill=colour[3]
    )
    image = Image.new("RGBA", size, colour[:3])
    image.putalpha(large.resize(size, Image.Resampling.BOX))
    return image


class Patch:
    """A small RGBA picture ready to be blended into many pictures."""

    def __init__(self, picture: np.ndarray):
        """Prepare (H, W, 4) uint8 RGBA, straight alpha."""
        alpha = picture[..., 3:].astype(np.uint16)
        self.height_px, self.width_px = picture.shape[:2]
        self._front = picture[..., :3] * alpha
        self._inverse = 255 - alpha

    def blend(self, image: np.ndarray, left_px: int, top_px: int) -> None:
        """Blend into (H, W, 3) uint8 RGB in place; what would be outside is cut off."""
        top, left = max(0, top_px), max(0, left_px)
        bottom = min(image.shape[0], top_px + self.height_px)
        right = min(image.shape[1], left_px + self.width_px)
        if bottom <= top or right <= left:
            return
        part = (slice(top - top_px, bottom - top_px), slice(left - left_px, right - left_px))
        target = image[top:bottom, left:right]
        target[:] = (self._front[part] + target * self._inverse[part] + 127) // 255
