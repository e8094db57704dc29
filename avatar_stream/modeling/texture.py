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
from avatar_stream.modeling.shading import EMPTY, FRAME_PX, NOWHERE, read_pixel

DISPLACEMENT_PX = 8.0  # the most by which a place moves, px of the view
MOVES = 5  # channels of a `moves` array: displacement x and y, gain of red, green and blue
OPAQUE, CLEAR = 0.95, 0.7  # alpha of the source above which its colour counts fully, below which not at all
JUMP_PX = 6.0  # neighbours whose places in the source are farther apart, px of the source per px, are no one surface

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_BYTE, _FAINT = np.float32(1.0 / 255.0), np.float32(0.02)
_CLEAR, _PER_OPACITY = np.float32(CLEAR), np.float32(1.0 / (OPAQUE - CLEAR))
_SUBPIXELS, _SHIFT, _BELOW = np.float32(32.0), np.int32(5), np.int32(31)  # as `shading.read_pixel` counts
_LOWEST, _8, _16, _24 = np.uint32(255), np.uint32(8), np.uint32(16), np.uint32(24)
_NO_PLACE, _JUMP = np.float32(NOWHERE / 2), np.float32(JUMP_PX)


@njit(**COMPILED)
def stretch(flow: np.ndarray, owner: np.ndarray, step: float) -> np.ndarray:  # pragma: no cover - compiled
    """How a place in the source moves with a pixel of the view.

    Args:
        flow: (H, W, 2) float32, canvas px of the source, of one view.
        owner: (H, W) uint8, groups; a neighbour of another group says nothing.
        step: canvas px per px of the view.

    Returns:
        (H, W, 5) float32: change of x and y per px to the right, of x and y per px down; and how firmly the pixel
        belongs to its surface: half of it for each neighbour on another.
    """
    height, width = owner.shape
    changes = np.empty((height, width, 5), np.float32)
    for row in range(height):
        for column in range(width):
            changes[row, column, :4] = _changes(flow, owner, row, column, np.float32(step))
            ends = _ends(flow, row, column, np.float32(step))
            changes[row, column, 4] = _firm(ends, _ZERO, _ZERO)
    return changes


@njit(**INNER)
def _ends(flow, row, column, step):  # pragma: no cover - compiled
    """Whether the surface ends to the left, to the right, above and below: 1 or 0."""
    return (
        _parts(flow, row, column, row, np.uint64(np.int64(column) - 1), step),
        _parts(flow, row, column, row, np.uint64(np.int64(column) + 1), step),
        _parts(flow, row, column, np.uint64(np.int64(row) - 1), column, step),
        _parts(flow, row, column, np.uint64(np.int64(row) + 1), column, step),
    )


@njit(**INNER)
def _parts(flow, row, column, other_row, other_column, step):  # pragma: no cover - compiled
    if other_row >= np.uint64(flow.shape[0]) or other_column >= np.uint64(flow.shape[1]):
        return _ZERO
    dx = flow[other_row, other_column, 0] - flow[row, column, 0]
    dy = flow[other_row, other_column, 1] - flow[row, column, 1]
    return _ONE if abs(dx) > _JUMP * step or abs(dy) > _JUMP * step else _ZERO


@njit(**INNER)
def _firm(ends, dx, dy):  # pragma: no cover - compiled
    """How much of the texture counts at a place of a cell: none at its end, all a pixel away; else it shows steps."""
    left, right, above, below = ends
    firm = (_ONE - left * (_HALF - dx)) * (_ONE - right * (_HALF + dx))
    return firm * (_ONE - above * (_HALF - dy)) * (_ONE - below * (_HALF + dy))


@njit(**INNER)
def _changes(flow, owner, row, column, step):  # pragma: no cover - compiled
    """The four numbers of `stretch` at one pixel; zeros where no neighbour is on the same surface."""
    most = _JUMP * step
    x, y, group = flow[row, column, 0], flow[row, column, 1], owner[row, column]
    right_x = right_y = down_x = down_y = _ZERO
    for way in (1, -1):
        other = np.uint64(np.int64(column) + way)  # before the first it is more than there are
        if other < np.uint64(owner.shape[1]) and owner[row, other] == group:
            dx, dy = flow[row, other, 0] - x, flow[row, other, 1] - y
            if abs(dx) < most and abs(dy) < most:
                right_x, right_y = dx * np.float32(way), dy * np.float32(way)
                break
    for way in (1, -1):
        other = np.uint64(np.int64(row) + way)
        if other < np.uint64(owner.shape[0]) and owner[other, column] == group:
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
    look_of_group: np.ndarray,
    trust_of_group: np.ndarray,
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
        texture: (L, S + 4, S + 4) uint32, premultiplied RGBA of the source images in a frame of nothing; any S.
        limbs: (L, 256, 256) uint8, see `geometry.Picture`: no limb takes another's texture.
        look_of_group: uint8 table, which source image a group's texture comes from.
        trust_of_group: float32 table, how far it may be believed.
        limb_of_group: uint8 table, the same for groups.
        scale: px of the picture per px of the view.
        left: px of the picture at which the view begins.
        top: the same from above.
    """
    width, coarse = owner.shape[1], np.float32(moves.shape[1] / owner.shape[1])
    fine = np.float32((texture.shape[2] - 2 * FRAME_PX) / 512.0)
    last_limb_y, last_limb_x = np.float32(limbs.shape[1] - 1), np.float32(limbs.shape[2] - 1)
    pixels, row_px, rows = texture.ravel(), np.int32(texture.shape[2]), np.int32(texture.shape[1])
    per_px, from_x, from_y = np.float32(1.0 / scale), np.float32(left - 0.5), np.float32(top - 0.5)
    for row in range(np.uint64(owner.shape[0])):
        # The picture's pixels whose middles lie in this row of the view, and below in this column.
        first_y, last_y = _covered(row, scale, top, picture.shape[0])
        if first_y == last_y:
            continue
        for column in range(np.uint64(width)):
            if flow[row, column, 0] < _NO_PLACE or share[row, column] < _FAINT:
                continue
            first_x, last_x = _covered(column, scale, left, picture.shape[1])
            if first_x == last_x or not _shows(picture, first_y, last_y, first_x, last_x):
                continue
            trust = trust_of_group[owner[row, column]]
            limb_here, look = limb_of_group[owner[row, column]], np.uint64(look_of_group[owner[row, column]])
            at_y, at_x = (
                (np.float32(row) + _HALF) * coarse - _HALF,
                (np.float32(column) + _HALF) * coarse - _HALF,
            )
            move_x, move_y, red, green, blue = _moves_between(moves, at_y, at_x)
            right_x, right_y, down_x, down_y = _changes(flow, owner, row, column, np.float32(step))
            ends = _ends(flow, row, column, np.float32(step))
            place_x = flow[row, column, 0] + right_x * move_x + down_x * move_y
            place_y = flow[row, column, 1] + right_y * move_x + down_y * move_y
            for y in range(np.uint64(first_y), np.uint64(last_y)):
                dy = (np.float32(y) - from_y) * per_px - _HALF - np.float32(row)
                for x in range(np.uint64(first_x), np.uint64(last_x)):
                    alpha = picture[y, x, 3]
                    if alpha < _FAINT:
                        continue
                    dx = (np.float32(x) - from_x) * per_px - _HALF - np.float32(column)
                    sx = place_x + right_x * dx + down_x * dy
                    sy = place_y + right_y * dx + down_y * dy
                    limb_x = np.uint64(min(max(sx * _HALF, _ZERO), last_limb_x))
                    limb = limbs[look, np.uint64(min(max(sy * _HALF, _ZERO), last_limb_y)), limb_x]
                    if limb == EMPTY or (limb != 0 and limb != limb_here):
                        continue
                    r, g, b, a = _read(pixels, look, rows, row_px, sx * fine - _HALF, sy * fine - _HALF)
                    counts = min(max((a - _CLEAR) * _PER_OPACITY, _ZERO), _ONE)
                    counts *= (
                        trust
                        * _firm(ends, dx, dy)
                        * _between(share, np.float32(row) + dy, np.float32(column) + dx)
                    )
                    if counts < _FAINT:
                        continue
                    bright = alpha / a
                    picture[y, x, 0] += counts * (min(r * red * bright, alpha) - picture[y, x, 0])
                    picture[y, x, 1] += counts * (min(g * green * bright, alpha) - picture[y, x, 1])
                    picture[y, x, 2] += counts * (min(b * blue * bright, alpha) - picture[y, x, 2])


@njit(**INNER)
def _covered(place, scale, start, count):  # pragma: no cover - compiled
    """First and last, exclusive, pixel of the picture whose middle lies in a row or column of the view."""
    first = np.int64(np.ceil(place * scale - 0.5)) + start
    last = np.int64(np.ceil((place + 1) * scale - 0.5)) + start
    return min(max(first, 0), count), min(max(last, 0), count)


@njit(**INNER)
def _shows(picture, first_y, last_y, first_x, last_x):  # pragma: no cover - compiled
    """Whether the first or the last pixel is part of the person: nothing is as small as to lie between."""
    first = picture[np.uint64(first_y), np.uint64(first_x), 3]
    return first >= _FAINT or picture[np.uint64(last_y - 1), np.uint64(last_x - 1), 3] >= _FAINT


@njit(**INNER)
def _corners(at, count):  # pragma: no cover - compiled
    """Both neighbours of a place between `count` samples, and the share of the second."""
    at = min(max(at, _ZERO), np.float32(count - 1))
    low = np.uint64(at)
    return low, np.uint64(min(at + _ONE, np.float32(count - 1))), at - np.float32(low)


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
def _read(pixels, look, rows, row_px, at_x, at_y):  # pragma: no cover - compiled
    """Red, green, blue, alpha, 0..1, premultiplied, between four pixels of one of several framed pictures."""
    frame = np.int32(FRAME_PX)
    x = min(max(np.int32(np.rint(at_x * _SUBPIXELS)), np.int32(0)), (row_px - 2 * frame - 1) << _SHIFT)
    y = min(max(np.int32(np.rint(at_y * _SUBPIXELS)), np.int32(0)), (rows - 2 * frame - 1) << _SHIFT)
    pixel = np.uint32((np.int32(look) * rows + (y >> _SHIFT) + frame) * row_px + (x >> _SHIFT) + frame)
    word = read_pixel(pixels, np.uint32(row_px), pixel, np.uint64((x & _BELOW) | ((y & _BELOW) << _SHIFT)))
    return (
        np.float32(word & _LOWEST) * _BYTE,
        np.float32((word >> _8) & _LOWEST) * _BYTE,
        np.float32((word >> _16) & _LOWEST) * _BYTE,
        np.float32(word >> _24) * _BYTE,
    )
