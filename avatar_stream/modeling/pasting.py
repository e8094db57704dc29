"""The last steps of a picture, compiled: windows blended over the body, straight alpha. Two passes over the canvas."""

from __future__ import annotations

import numpy as np
from numba import njit

# A network never says quite 0 or 1: its small doubts would be a veil round the person and holes in it.
_NOTHING, _ALL = np.float32(0.1), np.float32(0.9)


@njit(cache=True, nogil=True, fastmath=True)
def blend_window(
    canvas: np.ndarray, window: np.ndarray, weight: np.ndarray, left: int, top: int, mirrored: bool
) -> None:
    """Blend a window into the canvas, in place; what reaches over the canvas' edge is left out.

    Args:
        canvas: (H, W, 4) float32.
        window: (S, S, 4) float32.
        weight: (S, S) float32, 0..1, how much the window counts.
        left: canvas px of the window's left edge, may be outside.
        top: the same of its upper edge.
        mirrored: the window is read from right to left.
    """
    height, width = canvas.shape[:2]
    side = window.shape[0]
    for row in range(max(0, -top), min(side, height - top)):
        for column in range(max(0, -left), min(side, width - left)):
            share = weight[row, column]
            read = side - 1 - column if mirrored else column
            for channel in range(4):
                before = canvas[top + row, left + column, channel]
                after = before + share * (window[row, read, channel] - before)
                canvas[top + row, left + column, channel] = after


@njit(cache=True, nogil=True, fastmath=True)
def straighten(image: np.ndarray, straight: np.ndarray) -> None:
    """Turn premultiplied alpha into straight alpha; what is nearly nothing becomes nothing, what is nearly all, all.

    Args:
        image: (H, W, 4) float32 premultiplied RGBA, about 0..1.
        straight: (H, W, 4) uint8 RGBA, straight alpha, is written.
    """
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            alpha = min(max(image[row, column, 3], np.float32(0.0)), np.float32(1.0))
            sure = min(max((alpha - _NOTHING) / (_ALL - _NOTHING), np.float32(0.0)), np.float32(1.0))
            opacity = np.uint8(sure * np.float32(255.0) + np.float32(0.5))
            # Where nothing is seen the network's small errors would become gaudy colours, which cost coders bits.
            scale = np.float32(255.0) / alpha if opacity > 0 else np.float32(0.0)
            for channel in range(3):
                colour = image[row, column, channel] * scale
                colour = min(max(colour, np.float32(0.0)), np.float32(255.0))
                straight[row, column, channel] = np.uint8(colour + np.float32(0.5))
            straight[row, column, 3] = opacity
