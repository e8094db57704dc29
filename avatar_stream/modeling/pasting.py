"""The last steps of a picture, compiled: windows blended over the body, straight alpha. Two passes over the canvas."""

from __future__ import annotations

import numpy as np
from numba import njit

# A network never says quite 0 or 1: its small doubts would be a veil round the person and holes in it.
_NOTHING, _ALL = 0.1, 0.9
_OPACITY, _LESS = np.float32(255.0 / (_ALL - _NOTHING)), np.float32(255.0 * _NOTHING / (_ALL - _NOTHING))
_ZERO, _HALF, _ONE, _BYTE = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(255.0)
_COMPILED = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}


@njit(**_COMPILED)
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


def straighten(image: np.ndarray, straight: np.ndarray) -> None:
    """Turn premultiplied alpha into straight alpha; what is nearly nothing becomes nothing, what is nearly all, all.

    Args:
        image: (H, W, 4) float32 premultiplied RGBA, about 0..1, contiguous.
        straight: (H, W, 4) uint8 RGBA, straight alpha, contiguous, is written.
    """
    _straighten(image.reshape(-1, 4), straight.reshape(-1).view(np.uint32))


@njit(**_COMPILED)
def _straighten(image: np.ndarray, straight: np.ndarray) -> None:
    """(N, 4) float32 -> (N,) uint32, whole pixels of four bytes, for these are written faster."""
    for i in range(np.uint64(straight.shape[0])):
        opacity = image[i, 3] * _OPACITY - _LESS
        # Where nothing is seen the network's small errors would become gaudy colours, which cost coders bits.
        if opacity < _HALF:
            straight[i] = 0
            continue
        scale = _BYTE / min(image[i, 3], _ONE)
        red = np.int32(min(max(image[i, 0] * scale, _ZERO), _BYTE) + _HALF)
        green = np.int32(min(max(image[i, 1] * scale, _ZERO), _BYTE) + _HALF)
        blue = np.int32(min(max(image[i, 2] * scale, _ZERO), _BYTE) + _HALF)
        alpha = np.int32(min(opacity, _BYTE) + _HALF)
        straight[i] = red | (green << np.int32(8)) | (blue << np.int32(16)) | (alpha << np.int32(24))
