"""The last steps of a picture, compiled: rims mended, windows blended over the body, straight alpha."""

from __future__ import annotations

from functools import cache

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
_WEIGHED = 5  # values of a pixel that are smoothed
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


@cache
def rim_kernel(smooth_px: float) -> np.ndarray:
    """(2 n + 1,) float32: the Gaussian by which `mend_rim` smoothes. Not to be changed."""
    return cv2.getGaussianKernel(2 * int(np.ceil(2 * smooth_px)) + 1, smooth_px, cv2.CV_32F)[:, 0]


@njit(**_COMPILED)
def mend_rim(view: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Draw the outline of a person as a smooth line, and give its rim the colour of what lies inside.

    The network makes a picture of patches, each a little wrong about where the person ends and what colour half a
    person has: along an arm that is a scalloped edge with coloured specks. What is not much wider than the smoothing,
    as fingers are in the body's view, would be lost.

    All in one, with a blur of our own: between two calls of OpenCV the other threads take the GIL.

    Args:
        view: (H, W, 4) float32 premultiplied RGBA, about 0..1, contiguous; H and W larger than the kernel.
        kernel: from `rim_kernel`.

    Returns:
        the same, new, 0..1.
    """
    height, width = view.shape[:2]
    radius, row_length = kernel.shape[0] // 2, _WEIGHED * width
    weighed, near = np.empty((height, row_length), np.float32), np.empty(row_length, np.float32)
    padded, mended = (
        np.empty(row_length + 2 * _WEIGHED * radius, np.float32),
        np.empty(view.shape, np.float32),
    )
    for row in range(height):
        _weigh(view[row], weighed[row])
    for row in range(height):
        middle = padded[_WEIGHED * radius : _WEIGHED * radius + row_length]
        middle[:] = _ZERO
        for k in range(kernel.shape[0]):
            _add(weighed[_mirrored(row + k - radius, height)], kernel[k], middle)
        _mirror_ends(padded, radius, width)
        near[:] = _ZERO
        for k in range(kernel.shape[0]):
            _add(padded[_WEIGHED * k : _WEIGHED * k + row_length], kernel[k], near)
        _mend(view[row], near, mended[row])
    return mended


@njit(inline="always", **_COMPILED)
def _add(values, share, total):  # pragma: no cover - compiled
    for i in range(np.uint64(total.shape[0])):
        total[i] += values[i] * share


@njit(inline="always", **_COMPILED)
def _mirrored(place, count):  # pragma: no cover - compiled
    """Beyond the edge the picture goes on as in a mirror."""
    return count - 1 - abs(count - 1 - abs(place))


@njit(inline="always", **_COMPILED)
def _mirror_ends(padded, radius, width):  # pragma: no cover - compiled
    for away in range(1, radius + 1):
        for value in range(_WEIGHED):
            padded[_WEIGHED * (radius - away) + value] = padded[_WEIGHED * (radius + away) + value]
            last = radius + width - 1
            padded[_WEIGHED * (last + away) + value] = padded[_WEIGHED * (last - away) + value]


@njit(inline="always", **_COMPILED)
def _weigh(pixels, weighed):  # pragma: no cover - compiled
    """One row (W, 4) -> five values a pixel: the picture times its matte's square, and the matte within 0..1.

    A place that is hardly there says little of colour.
    """
    for i in range(np.uint64(pixels.shape[0])):
        opacity = min(max(pixels[i, 3], _ZERO), _ONE)
        square = opacity * opacity
        for channel in range(3):
            weighed[_WEIGHED * i + channel] = pixels[i, channel] * square
        weighed[_WEIGHED * i + 3], weighed[_WEIGHED * i + 4] = square * opacity, opacity


@njit(inline="always", **_COMPILED)
def _mend(pixels, near, mended):  # pragma: no cover - compiled
    """One row (W, 4): its own colour inside, that of near places at the rim; the smooth line made steep again."""
    for i in range(np.uint64(pixels.shape[0])):
        line = near[_WEIGHED * i + 4]
        alpha = min(max((line - _HALF) * _STEEP + _HALF, _ZERO), _ONE)
        if alpha == _ZERO or line > _WHOLE:  # nothing to mend, nearly everywhere
            for channel in range(3):
                mended[i, channel] = min(max(pixels[i, channel], _ZERO), _ONE) * alpha
            mended[i, 3] = alpha
            continue
        own = min(max((line - _INSIDE) / (_ONE - _INSIDE), _ZERO), _ONE)
        of_own, of_near = own / max(pixels[i, 3], _FAINT), (_ONE - own) / max(near[_WEIGHED * i + 3], _FAINT)
        for channel in range(3):
            colour = pixels[i, channel] * of_own + near[_WEIGHED * i + channel] * of_near
            mended[i, channel] = min(max(colour, _ZERO), _ONE) * alpha
        mended[i, 3] = alpha


@njit(**_COMPILED)
def add_window(
    canvas: np.ndarray, window: np.ndarray, weight: np.ndarray, left: int, top: int, mirrored: bool
) -> None:
    """Blend a window into the canvas; what reaches over the canvas' edge is left out.

    Args:
        canvas: (H, W, 4) float32, changed.
        window: (S, S, 4) float32, contiguous.
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
