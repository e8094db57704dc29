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

from avatar_stream.modeling.drawing.rasterizer import COMPILED, INNER, NOWHERE
from avatar_stream.modeling.drawing.shading import EMPTY, FRAME_PX, read_pixel

DISPLACEMENT_PX = 8.0  # the most by which a place moves, px of the view
MOVES = 5  # channels of a `moves` array: displacement x and y, gain of red, green and blue
OPAQUE, CLEAR = 0.95, 0.7  # alpha of the source above which its colour counts fully, below which not at all
SEAM_PX = 1.5  # the same where they are of two groups
JUMP_PX = 6.0  # neighbours whose places in the source are farther apart, px of the source per px, are no one surface

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_BYTE, _FAINT = np.float32(1.0 / 255.0), np.float32(0.02)
_CLEAR, _PER_OPACITY = np.float32(CLEAR), np.float32(1.0 / (OPAQUE - CLEAR))
_SUBPIXELS, _SHIFT, _BELOW = np.float32(32.0), np.int32(5), np.int32(31)  # as `shading.read_pixel` counts
_LOWEST, _8, _16, _24 = np.uint32(255), np.uint32(8), np.uint32(16), np.uint32(24)
_NEVER, _NO_PLACE = np.float32(1e9), np.float32(NOWHERE / 2)
_JUMP, _SEAM = np.float32(JUMP_PX), np.float32(SEAM_PX)


# Rows of what a row of a view says of its surface: how the place in the source changes to the right (x, y) and down
# (x, y), and whether the surface ends to the left, to the right, above and below, 1 or 0.
_RIGHT_X, _RIGHT_Y, _DOWN_X, _DOWN_Y, _LEFT_END, _RIGHT_END, _UPPER_END, _LOWER_END = range(8)
_SURFACE_ROWS = 8
# Rows of the steps between two neighbours: x, y, how long it is, and whether a surface ends between them.
_STEP_X, _STEP_Y, _APART, _END = range(4)
_STEP_ROWS = 4


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
    surface, steps = np.empty((_SURFACE_ROWS, width), np.float32), _no_steps(width)
    for row in range(height):
        _read_surface(flow, owner, row, np.float32(step), steps, surface)
        for column in range(width):
            for each in range(4):
                changes[row, column, each] = surface[each, column]
            changes[row, column, 4] = _firm(surface, column, _ZERO, _ZERO)
    return changes


@njit(**INNER)
def _read_surface(flow, owner, row, step, steps, surface):  # pragma: no cover - compiled
    """Write what one row says of its surface; `steps` keeps those down to the next row, for rows come in order.

    A change is read towards the neighbour whose place is nearer. The other one may lie across a crease between two
    bones: its few pixels of jump, times the displacement, would take the texture from far away, a dark or bright speck.
    """
    width, across, above, below = owner.shape[1], steps[0], steps[1 + row % 2], steps[2 - row % 2]
    _find_steps(flow[row, 1:], flow[row, :-1], owner[row, 1:], owner[row, :-1], step, across)
    if row == 0:
        above[:], above[_APART] = _ZERO, _NEVER
    if row + 1 < owner.shape[0]:
        _find_steps(flow[row + 1], flow[row], owner[row + 1], owner[row], step, below)
    else:
        below[:], below[_APART] = _ZERO, _NEVER
    surface[_LEFT_END, 0] = surface[_RIGHT_END, width - 1] = _ZERO
    for i in range(np.uint64(width)):
        x, y = _nearer(above, i, below, i)
        surface[_DOWN_X, i], surface[_DOWN_Y, i] = x, y
        surface[_UPPER_END, i], surface[_LOWER_END, i] = above[_END, i], below[_END, i]
    surface[_RIGHT_X, 0], surface[_RIGHT_Y, 0] = across[_STEP_X, 0], across[_STEP_Y, 0]
    for i in range(np.uint64(width - 1)):
        x, y = _nearer(across, i, across, i + np.uint64(1))
        surface[_RIGHT_X, i + 1], surface[_RIGHT_Y, i + 1] = x, y
        surface[_RIGHT_END, i] = surface[_LEFT_END, i + 1] = across[_END, i]


@njit(**INNER)
def _no_steps(width):  # pragma: no cover - compiled
    """Room for the steps across a row, and down from a row and from the one before."""
    steps = np.zeros((3, _STEP_ROWS, width), np.float32)
    steps[:, _APART] = _NEVER
    return steps


@njit(**INNER)
def _nearer(before, i, after, j):  # pragma: no cover - compiled
    """The shorter of two steps, x and y; one that leads to another surface does not count."""
    if before[_APART, i] < after[_APART, j]:
        return before[_STEP_X, i], before[_STEP_Y, i]
    return after[_STEP_X, j], after[_STEP_Y, j]


@njit(**INNER)
def _find_steps(there, here, owner_there, owner_here, step, steps):  # pragma: no cover - compiled
    """Steps between two rows of neighbours; zeros where they are on two surfaces."""
    most = _JUMP * step
    for i in range(np.uint64(owner_here.shape[0])):
        dx, dy = there[i, 0] - here[i, 0], there[i, 1] - here[i, 1]
        other = owner_there[i] != owner_here[i]
        apart = max(abs(dx), abs(dy))
        ends = (apart > most) | (other & (apart > _SEAM * step))
        same = (not other) & (apart < most)
        steps[_STEP_X, i], steps[_STEP_Y, i] = dx if same else _ZERO, dy if same else _ZERO
        steps[_APART, i] = abs(dx) + abs(dy) if same else _NEVER
        steps[_END, i] = _ONE if ends else _ZERO


@njit(**INNER)
def _firm(surface, column, dx, dy):  # pragma: no cover - compiled
    """How much of the texture counts at a place of a cell: none at its end, all a pixel away; else it shows steps."""
    firm = (_ONE - surface[_LEFT_END, column] * (_HALF - dx)) * (
        _ONE - surface[_RIGHT_END, column] * (_HALF + dx)
    )
    firm *= _ONE - surface[_UPPER_END, column] * (_HALF - dy)
    return firm * (_ONE - surface[_LOWER_END, column] * (_HALF + dy))


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
    surface, steps = np.empty((_SURFACE_ROWS, width), np.float32), _no_steps(width)
    line = np.empty((moves.shape[1], MOVES), np.float32)
    rows_y, columns_x = (
        _edges(owner.shape[0], scale, top, picture.shape[0]),
        _edges(width, scale, left, picture.shape[1]),
    )
    for row in range(np.uint64(owner.shape[0])):
        _read_surface(flow, owner, row, np.float32(step), steps, surface)
        first_y, last_y = rows_y[row], rows_y[row + np.uint64(1)]
        if first_y == last_y:
            continue
        _read_line(moves, (np.float32(row) + _HALF) * coarse - _HALF, line)
        for column in range(np.uint64(width)):
            trust = trust_of_group[owner[row, column]]
            if flow[row, column, 0] < _NO_PLACE or share[row, column] * trust < _FAINT:
                continue
            first_x, last_x = columns_x[column], columns_x[column + np.uint64(1)]
            if first_x == last_x or not _shows(picture, first_y, last_y, first_x, last_x):
                continue
            limb_here, look = limb_of_group[owner[row, column]], np.uint64(look_of_group[owner[row, column]])
            move_x, move_y, red, green, blue = _moves_between(
                line, (np.float32(column) + _HALF) * coarse - _HALF
            )
            right_x, right_y = surface[_RIGHT_X, column], surface[_RIGHT_Y, column]
            down_x, down_y = surface[_DOWN_X, column], surface[_DOWN_Y, column]
            place_x = flow[row, column, 0] + right_x * move_x + down_x * move_y
            place_y = flow[row, column, 1] + right_y * move_x + down_y * move_y
            for y in range(np.uint64(first_y), np.uint64(last_y)):
                dy = (np.float32(y) - from_y) * per_px - _HALF - np.float32(row)
                for x in range(np.uint64(first_x), np.uint64(last_x)):
                    alpha = picture[y, x, 3]
                    dx = (np.float32(x) - from_x) * per_px - _HALF - np.float32(column)
                    sx = place_x + right_x * dx + down_x * dy
                    sy = place_y + right_y * dx + down_y * dy
                    limb_x = np.uint64(min(max(sx * _HALF, _ZERO), last_limb_x))
                    limb = limbs[look, np.uint64(min(max(sy * _HALF, _ZERO), last_limb_y)), limb_x]
                    if limb == EMPTY or (limb != 0 and limb != limb_here):
                        continue
                    r, g, b, a = _read(pixels, look, rows, row_px, sx * fine - _HALF, sy * fine - _HALF)
                    counts = min(max((a - _CLEAR) * _PER_OPACITY, _ZERO), _ONE) * trust
                    counts *= _firm(surface, column, dx, dy)
                    counts *= _between(share, np.float32(row) + dy, np.float32(column) + dx)
                    if counts < _FAINT:
                        continue
                    bright = alpha / a
                    picture[y, x, 0] += counts * (min(r * red * bright, alpha) - picture[y, x, 0])
                    picture[y, x, 1] += counts * (min(g * green * bright, alpha) - picture[y, x, 1])
                    picture[y, x, 2] += counts * (min(b * blue * bright, alpha) - picture[y, x, 2])


@njit(**INNER)
def _edges(count, scale, start, most):  # pragma: no cover - compiled
    """Of the view's rows or columns, and one more: the first pixel of the picture whose middle lies beyond its edge."""
    edges = np.empty(count + 1, np.int64)
    for i in range(count + 1):
        edges[i] = min(max(np.int64(np.ceil(i * scale - 0.5)) + start, 0), most)
    return edges


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
def _read_line(moves, at_y, line):  # pragma: no cover - compiled
    """The row of `moves` at a place between two of them."""
    y0, y1, down = _corners(at_y, moves.shape[0])
    for x in range(line.shape[0]):
        for each in range(MOVES):
            line[x, each] = moves[y0, x, each] + down * (moves[y1, x, each] - moves[y0, x, each])


@njit(**INNER)
def _moves_between(line, at_x):  # pragma: no cover - compiled
    """The five numbers of a place between those of a line."""
    x0, x1, share = _corners(at_x, line.shape[0])
    return (
        line[x0, 0] + share * (line[x1, 0] - line[x0, 0]),
        line[x0, 1] + share * (line[x1, 1] - line[x0, 1]),
        line[x0, 2] + share * (line[x1, 2] - line[x0, 2]),
        line[x0, 3] + share * (line[x1, 3] - line[x0, 3]),
        line[x0, 4] + share * (line[x1, 4] - line[x0, 4]),
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
