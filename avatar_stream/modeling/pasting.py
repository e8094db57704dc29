"""The last steps of a picture, compiled: rims mended, windows blended over the body, straight alpha."""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit

# A network never says quite 0 or 1: its small doubts would be a veil round the person and holes in it.
_NOTHING, _ALL = 0.1, 0.9
_OPACITY, _LESS = np.float32(255.0 / (_ALL - _NOTHING)), np.float32(255.0 * _NOTHING / (_ALL - _NOTHING))
_ZERO, _HALF, _ONE, _BYTE = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(255.0)
_FAINT = np.float32(1e-3)  # no matte is divided by less
_WHOLE = np.float32(0.999)
_FOUR, _EIGHTH = np.float32(4.0), np.float32(0.125)
# A step between patches that is no real edge, and how far values move.
_STEP, _MOST = np.float32(0.08), np.float32(0.02)
_COMPILED = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}
_STEEP = np.float32(3.0)  # how steep a smoothed rim becomes again
_INSIDE = np.float32(0.85)  # smoothed matte above which a place's own colour begins to count


@njit(**_COMPILED)
def smooth_patches(view: np.ndarray, patch_px: int) -> None:
    """Take away steps between the autoencoder's patches, in place, where both sides are smooth themselves.

    The filter that H.264 uses on the edges of its blocks (ITU-T H.264, 8.7.2.3), with thresholds of our own: two pixels
    on each side move by little, and what is a real edge stays one.

    Args:
        view: (H, W, 4) float32 premultiplied RGBA, about 0..1, contiguous; H and W are whole patches.
        patch_px: side of a patch.
    """
    height, width = view.shape[:2]
    flat = view.reshape(height, -1)
    for row in range(height):
        line = flat[row]
        for edge in range(4 * patch_px, 4 * width, 4 * patch_px):
            for i in range(edge, edge + 4):
                _smooth_edge(line, i - 12, line, i - 8, line, i - 4, line, i, line, i + 4, line, i + 8)
    for edge in range(patch_px, height, patch_px):
        a, b, c = flat[edge - 3], flat[edge - 2], flat[edge - 1]
        d, e, f = flat[edge], flat[edge + 1], flat[edge + 2]
        for i in range(4 * width):
            _smooth_edge(a, i, b, i, c, i, d, i, e, i, f, i)


@njit(inline="always", **_COMPILED)
def _smooth_edge(row_p2, i_p2, row_p1, i_p1, row_p0, i_p0, row_q0, i_q0, row_q1, i_q1, row_q2, i_q2):  # fmt: skip
    """Six values across an edge, p2 p1 p0 | q0 q1 q2, of which the middle four may change."""
    p2, p1, p0 = row_p2[i_p2], row_p1[i_p1], row_p0[i_p0]
    q0, q1, q2 = row_q0[i_q0], row_q1[i_q1], row_q2[i_q2]
    if abs(q0 - p0) < _STEP and abs(p1 - p0) < _STEP and abs(q1 - q0) < _STEP:
        near = min(max(((q0 - p0) * _FOUR + (p1 - q1)) * _EIGHTH, -_MOST), _MOST)
        middle = (p0 + q0) * _HALF
        row_p1[i_p1] = p1 + min(max((p2 + middle) * _HALF - p1, -_MOST * _HALF), _MOST * _HALF)
        row_q1[i_q1] = q1 + min(max((q2 + middle) * _HALF - q1, -_MOST * _HALF), _MOST * _HALF)
        row_p0[i_p0], row_q0[i_q0] = p0 + near, q0 - near


def mend_rim(view: np.ndarray, smooth_px: float) -> np.ndarray:
    """Draw the outline of a person as a smooth line, and give its rim the colour of what lies inside.

    The network makes a picture of patches, each a little wrong about where the person ends and what colour half a
    person has: along an arm that is a scalloped edge with coloured specks. What is not much wider than the smoothing,
    as fingers are in the body's view, would be lost.

    Args:
        view: (H, W, 4) float32 premultiplied RGBA, about 0..1, contiguous.
        smooth_px: of the Gaussian that smoothes, up to 2.

    Returns:
        the same, new, 0..1.
    """
    weighted = np.empty(view.shape, np.float32)
    alpha = np.empty(view.shape[:2], np.float32)
    _weigh(view, weighted, alpha)
    size = 2 * int(np.ceil(2 * smooth_px)) + 1
    near, line = (cv2.GaussianBlur(each, (size, size), smooth_px) for each in (weighted, alpha))
    mended = np.empty(view.shape, np.float32)
    _mend(view.reshape(-1, 4), near.reshape(-1, 4), line.reshape(-1), mended.reshape(-1, 4))
    return mended


@njit(**_COMPILED)
def _weigh(view: np.ndarray, weighted: np.ndarray, alpha: np.ndarray) -> None:
    """The matte within 0..1, and the picture times its square: a place that is hardly there says little of colour."""
    for row in range(view.shape[0]):
        for column in range(view.shape[1]):
            opacity = min(max(view[row, column, 3], _ZERO), _ONE)
            alpha[row, column] = opacity
            for channel in range(3):
                weighted[row, column, channel] = view[row, column, channel] * opacity * opacity
            weighted[row, column, 3] = opacity * opacity * opacity


@njit(**_COMPILED)
def _mend(view: np.ndarray, near: np.ndarray, line: np.ndarray, mended: np.ndarray) -> None:
    """All (N, 4), `line` (N,): its own colour inside, that of near places at the rim; the line made steep again."""
    for i in range(view.shape[0]):
        alpha = min(max((line[i] - _HALF) * _STEEP + _HALF, _ZERO), _ONE)
        if alpha == _ZERO or line[i] > _WHOLE:  # nothing to mend, nearly everywhere
            for channel in range(3):
                mended[i, channel] = min(max(view[i, channel], _ZERO), _ONE) * alpha
            mended[i, 3] = alpha
            continue
        own = min(max((line[i] - _INSIDE) / (_ONE - _INSIDE), _ZERO), _ONE)
        of_own, of_near = own / max(view[i, 3], _FAINT), (_ONE - own) / max(near[i, 3], _FAINT)
        for channel in range(3):
            colour = view[i, channel] * of_own + near[i, channel] * of_near
            mended[i, channel] = min(max(colour, _ZERO), _ONE) * alpha
        mended[i, 3] = alpha


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
