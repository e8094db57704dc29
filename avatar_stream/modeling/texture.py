"""The source's texture at full resolution: the last step of a frame, compiled.

What a network of patches makes is soft: prints, folds, hair and skin pass through a latent of fewer numbers than
pixels. The source image has them. Each drawn pixel knows its place in the source (`geometry.Drawing.flow`). TargetNet
says how far that place moves (displacement), how much brighter it is in this pose (gain), and whether it shows what
belongs there at all (share). Flow and mask predicted together are known from Liquid Warping GAN (arXiv
1909.12224) and the First Order Motion Model (arXiv 2003.00196); here they are steps of a few pixels beside solids.

`flow.lay_texture` is the same on tensors, where gradients are needed; a test holds the two together.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from avatar_stream.modeling.rasterizer import COMPILED, INNER
from avatar_stream.modeling.shading import EMPTY, FRAME_PX, NOWHERE

DISPLACEMENT_PX = 8.0  # the most by which a place moves, px of the view
MOVES = 5  # channels of a `moves` array: displacement x and y, gain of red, green and blue
OPAQUE, CLEAR = 0.95, 0.7  # alpha of the source above which its colour counts fully, below which not at all
JUMP_PX = 6.0  # neighbours whose places in the source are farther apart, px of the source per px, are no one surface

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_BYTE, _FAINT = np.float32(1.0 / 255.0), np.float32(0.02)
_CLEAR, _PER_OPACITY = np.float32(CLEAR), np.float32(1.0 / (OPAQUE - CLEAR))
_NO_PLACE, _JUMP = np.float32(NOWHERE / 2), np.float32(JUMP_PX)


@njit(**COMPILED)
def stretch(flow: np.ndarray, owner: np.ndarray, step: float) -> np.ndarray:  # pragma: no cover - compiled
    """How a place in the source moves with a pixel of the view.

    Args:
        flow: (H, W, 2) float32, canvas px of the source, of one view.
        owner: (H, W) uint8, groups; a neighbour of another group says nothing.
        step: canvas px per px of the view.

    Returns:
        (H, W, 4) float32: change of x and y per px to the right, of x and y per px down.
    """
    height, width = owner.shape
    changes = np.empty((height, width, 4), np.float32)
    for row in range(height):
        for column in range(width):
            changes[row, column] = _changes(flow, owner, row, column, np.float32(step))
    return changes


@njit(**INNER)
def _changes(flow, owner, row, column, step):  # pragma: no cover - compiled
    """The four numbers of `stretch` at one pixel; zeros where no neighbour is on the same surface."""
    most = _JUMP * step
    x, y, group = flow[row, column, 0], flow[row, column, 1], owner[row, column]
    right_x = right_y = down_x = down_y = _ZERO
    for way in (1, -1):
        other = column + way
        if 0 <= other < owner.shape[1] and owner[row, other] == group:
            dx, dy = flow[row, other, 0] - x, flow[row, other, 1] - y
            if abs(dx) < most and abs(dy) < most:
                right_x, right_y = dx * np.float32(way), dy * np.float32(way)
                break
    for way in (1, -1):
        other = row + way
        if 0 <= other < owner.shape[0] and owner[other, column] == group:
            dx, dy = flow[other, column, 0] - x, flow[other, column, 1] - y
            if abs(dx) < most and abs(dy) < most:
                down_x, down_y = dx * np.float32(way), dy * np.float32(way)
                break
    return right_x, right_y, down_x, down_y


@njit(**COMPILED)
def lay_texture(  # pragma: no cover - compiled
    picture: np.ndarray,
    moves: np.ndarray,
    share: np.ndarray,
    flow: np.ndarray,
    owner: np.ndarray,
    step: float,
    texture: np.ndarray,
    limbs: np.ndarray,
    limb_of_group: np.ndarray,
    scale: float,
    left: int,
    top: int,
) -> None:
    """Lay the source's texture over a picture of one view, in place, as the network says; the matte stays.

    Args:
        picture: (P, Q, 4) float32 premultiplied RGBA, 0..1, of any resolution.
        moves: (h, w, 5) float32: displacement x, y in px of the view, gain of red, green, blue; coarser than the view.
        share: (H, W) float32, 0..1, how much of the texture counts.
        flow: (H, W, 2) float32, canvas px of the source.
        owner: (H, W) uint8 groups.
        step: canvas px per px of the view.
        texture: (S + 4, S + 4) uint32, premultiplied RGBA of the source image in a frame of nothing; any S.
        limbs: (256, 256) uint8, see `geometry.Picture`: no limb takes another's texture.
        limb_of_group: uint8 table, the same for groups.
        scale: px of the picture per px of the view.
        left: px of the picture at which the view begins.
        top: the same from above.
    """
    height, width = owner.shape
    per_px, coarse = np.float32(1.0 / scale), np.float32(moves.shape[1] / width)
    fine = np.float32((texture.shape[1] - 2 * FRAME_PX) / 512.0)
    bottom = min(picture.shape[0], top + int(np.ceil(height * scale)))
    right = min(picture.shape[1], left + int(np.ceil(width * scale)))
    for y in range(max(top, 0), bottom):
        at_y = (np.float32(y - top) + _HALF) * per_px - _HALF
        row = min(max(np.int64(np.rint(at_y)), 0), height - 1)
        for x in range(max(left, 0), right):
            alpha = picture[y, x, 3]
            if alpha < _FAINT:
                continue
            at_x = (np.float32(x - left) + _HALF) * per_px - _HALF
            column = min(max(np.int64(np.rint(at_x)), 0), width - 1)
            counts = _between(share, at_y, at_x)
            if counts < _FAINT or flow[row, column, 0] < _NO_PLACE:
                continue
            my, mx = (at_y + _HALF) * coarse - _HALF, (at_x + _HALF) * coarse - _HALF
            move_x, move_y, red, green, blue = _moves_between(moves, my, mx)
            move_x, move_y = move_x + at_x - np.float32(column), move_y + at_y - np.float32(row)
            right_x, right_y, down_x, down_y = _changes(flow, owner, row, column, np.float32(step))
            sx = flow[row, column, 0] + right_x * move_x + down_x * move_y
            sy = flow[row, column, 1] + right_y * move_x + down_y * move_y
            limb_x = min(max(np.int64(sx * _HALF), 0), limbs.shape[1] - 1)
            limb = limbs[min(max(np.int64(sy * _HALF), 0), limbs.shape[0] - 1), limb_x]
            if limb == EMPTY or (limb != 0 and limb != limb_of_group[owner[row, column]]):
                continue
            r, g, b, a = _read(texture, sx * fine - _HALF, sy * fine - _HALF)
            counts *= min(max((a - _CLEAR) * _PER_OPACITY, _ZERO), _ONE)
            if counts < _FAINT:
                continue
            bright = alpha / a
            picture[y, x, 0] += counts * (min(r * red * bright, alpha) - picture[y, x, 0])
            picture[y, x, 1] += counts * (min(g * green * bright, alpha) - picture[y, x, 1])
            picture[y, x, 2] += counts * (min(b * blue * bright, alpha) - picture[y, x, 2])


@njit(**INNER)
def _corners(at, count):  # pragma: no cover - compiled
    """Both neighbours of a place between `count` samples, and the share of the second."""
    at = min(max(at, _ZERO), np.float32(count - 1))
    low = min(np.int64(at), count - 1)
    return low, min(low + 1, count - 1), at - np.float32(low)


@njit(**INNER)
def _between(values, at_y, at_x):  # pragma: no cover - compiled
    """(H, W) at a place between its pixels."""
    y0, y1, down = _corners(at_y, values.shape[0])
    x0, x1, across = _corners(at_x, values.shape[1])
    upper = values[y0, x0] + across * (values[y0, x1] - values[y0, x0])
    lower = values[y1, x0] + across * (values[y1, x1] - values[y1, x0])
    return upper + down * (lower - upper)


@njit(**INNER)
def _moves_between(moves, at_y, at_x):  # pragma: no cover - compiled
    """The five numbers of a place between those of `moves`."""
    y0, y1, down = _corners(at_y, moves.shape[0])
    x0, x1, across = _corners(at_x, moves.shape[1])
    a, b = (_ONE - down) * (_ONE - across), (_ONE - down) * across
    c, d = down * (_ONE - across), down * across
    return (
        a * moves[y0, x0, 0] + b * moves[y0, x1, 0] + c * moves[y1, x0, 0] + d * moves[y1, x1, 0],
        a * moves[y0, x0, 1] + b * moves[y0, x1, 1] + c * moves[y1, x0, 1] + d * moves[y1, x1, 1],
        a * moves[y0, x0, 2] + b * moves[y0, x1, 2] + c * moves[y1, x0, 2] + d * moves[y1, x1, 2],
        a * moves[y0, x0, 3] + b * moves[y0, x1, 3] + c * moves[y1, x0, 3] + d * moves[y1, x1, 3],
        a * moves[y0, x0, 4] + b * moves[y0, x1, 4] + c * moves[y1, x0, 4] + d * moves[y1, x1, 4],
    )


@njit(**INNER)
def _read(texture, at_x, at_y):  # pragma: no cover - compiled
    """Red, green, blue, alpha, 0..1, premultiplied, between four pixels of a framed picture."""
    frame, most_x, most_y = np.float32(FRAME_PX), texture.shape[1] - 2, texture.shape[0] - 2
    at_x, at_y = max(at_x + frame, _ZERO), max(at_y + frame, _ZERO)
    x, y = min(np.int64(at_x), most_x), min(np.int64(at_y), most_y)
    across, down = min(at_x - np.float32(x), _ONE), min(at_y - np.float32(y), _ONE)
    wa, wb = (_ONE - down) * (_ONE - across) * _BYTE, (_ONE - down) * across * _BYTE
    wc, wd = down * (_ONE - across) * _BYTE, down * across * _BYTE
    a, b, c, d = texture[y, x], texture[y, x + 1], texture[y + 1, x], texture[y + 1, x + 1]
    return (
        _byte(a, 0) * wa + _byte(b, 0) * wb + _byte(c, 0) * wc + _byte(d, 0) * wd,
        _byte(a, 8) * wa + _byte(b, 8) * wb + _byte(c, 8) * wc + _byte(d, 8) * wd,
        _byte(a, 16) * wa + _byte(b, 16) * wb + _byte(c, 16) * wc + _byte(d, 16) * wd,
        _byte(a, 24) * wa + _byte(b, 24) * wb + _byte(c, 24) * wc + _byte(d, 24) * wd,
    )


@njit(**INNER)
def _byte(pixel, shift):  # pragma: no cover - compiled
    return np.float32((pixel >> np.uint32(shift)) & np.uint32(255))
