"""What a covered pixel looks like: the geometry maps, the group and the look taken from the source image.

Compiled by numba. The runs of one solid along a row are painted at once, each pixel a single time, however many
solids lie behind each other there; what `rasterizer.cover` found says which.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from avatar_stream.modeling.drawing import rasterizer as r
from avatar_stream.modeling.drawing.head import fill_empty, join_trunk, turn_ball
from avatar_stream.modeling.drawing.rasterizer import COMPILED, INNER

# Channels of the geometry maps.
NORMAL_X, NORMAL_Y, DEPTH, PALM, CODE_A, CODE_B, HAND_CODE, FACE_CODE, LIMB_CODE, EYE_CODE = range(10)
CHANNELS = 10
DEPTH_SCALE_PX = 64.0

_ZERO, _HALF, _ONE, _TINY = map(np.float32, (0.0, 0.5, 1.0, 1e-6))
_PER_DEPTH, _MOST_DEPTH = np.float32(1.0 / DEPTH_SCALE_PX), np.float32(3.0)
# Places in the source image count in 32nds of its pixels, as OpenCV's do; its frame of nothing is two pixels wide.
_SUBPIXELS, _SHIFT, _BELOW = np.float32(32.0), np.int32(5), np.int32(31)
FRAME_PX = 2
EMPTY = 255  # in `source_limb`: the source image shows nothing there
# Four bytes of a pixel, spread over one word so that one product weighs them all.
_BYTES, _PAIRS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_LOW, _8, _16, _10 = np.uint64(0x000000FF000000FF), np.uint64(8), np.uint64(16), np.uint64(10)
_5, _31, _32, _ROUND = np.uint64(5), np.uint64(31), np.uint64(32), np.uint64(0x0000020000000200)


@njit(**COMPILED)
def shade(  # noqa: D417 - pragma: no cover - compiled
    capsules, vertices, triangles, paints, torso_maps, head, seam, groups, views, which, image,
    source_limb, look_of_group, limb_of_group, part_of_group, maps, look, owner, shares, flow,
):  # fmt: skip
    """Paint some views of one size; all outputs but a look without an image are written in full.

    Args:
        capsules, vertices, triangles, paints, views, which: as in `rasterizer.cover`.
        torso_maps: (2, 2, 3) float32, canvas px of the target -> canvas px of the source: of the trunk's look, of the
            head's.
        head: (HEAD_NUMBERS,) float32; seam: (SEAM_ROWS, 3) float32, see `head.py`.
        groups: (3,) uint8, what `owner` says of head and hair, of what is between them and the trunk, of the neck.
        image: (L, h + 4, w + 4) uint32, the source images' four bytes a pixel in a frame of zeros, `FRAME_PX` wide;
            L = 0: no look is taken.
        source_limb: (L, h, w) uint8, the limb at each place of the source images at half scale, 0 for what is no limb,
            `EMPTY` where there is nothing to see.
        look_of_group: uint8 table, which of the source images a group's look comes from.
        limb_of_group: uint8 table, the same for groups.
        part_of_group: uint8 table.
        maps: (V, CHANNELS, H, W) float32 out. owner: (V, H, W) uint8 out, groups, 0 = none.
        look: (V, H, W) uint32 out, the source image warped to this pose.
        shares: (V, P, n, n) float32 out, how much of each cell belongs to each part.
        flow: (V, H, W, 2) float32 out, canvas px of the source whose look belongs there, x and y; `rasterizer.NOWHERE`.
    """
    height, width = which.shape[1:]
    places, row_flow = np.empty(width, np.float32), np.empty((2, width), np.float32)
    reads = np.empty((3, width), np.int32)
    flow_x, flow_y, pixels, limbs = row_flow[0], row_flow[1], image.ravel(), source_limb.ravel()
    axes = _derive(capsules)
    shares[:] = 0.0
    for view in range(views.shape[0]):
        for column in range(width):
            places[column] = views[view, r.VIEW_X] + (column + 0.5) * views[view, r.STEP_X]
        sign, z0 = np.float32(np.sign(views[view, r.STEP_X])), np.float32(views[view, r.VIEW_DEPTH])
        for row in range(height):
            py = np.float32(views[view, r.VIEW_Y] + (row + 0.5) * views[view, r.STEP_Y])
            row_owner = owner[view, row]
            _shade_row(
                capsules, axes, vertices, triangles, paints, torso_maps, head, seam, groups,
                which[view, row], places, py, sign, z0, maps, np.uint64(view), np.uint64(row), row_owner,
                flow_x, flow_y,
            )  # fmt: skip
            if image.shape[0] > 0:
                _find_reads(flow_x, flow_y, image.shape[1], image.shape[2], source_limb.shape[1:], reads)
                _choose_looks(reads, row_owner, look_of_group, image[0].size, source_limb[0].size)
                _take_look(reads, row_owner, pixels, image.shape[2], limbs, limb_of_group, look[view, row])
            _add_shares(row_owner, part_of_group, shares[view, :, row * shares.shape[2] // width])
            for column in range(np.uint64(width)):
                flow[view, row, column, 0], flow[view, row, column, 1] = flow_x[column], flow_y[column]


@njit(**INNER)
def _derive(capsules):  # pragma: no cover - compiled
    """(N, 5) float32: the axis' unit vector in the target, 1 / its squared length, the unit vector in the source.

    A ball has no axis. Any one does, as long as it is the same in both: else all of it would show one place.
    """
    derived = np.empty((capsules.shape[0], 5), np.float32)
    for i in range(capsules.shape[0]):
        c = capsules[i]
        dx, dy = c[r.B] - c[r.A], c[r.B + 1] - c[r.A + 1]
        square = dx * dx + dy * dy
        is_ball = dx == _ZERO and dy == _ZERO and c[r.A + 2] == c[r.B + 2]
        derived[i, 2] = _ONE / (square + _TINY)
        sdx, sdy = c[r.SOURCE_B] - c[r.SOURCE_A], c[r.SOURCE_B + 1] - c[r.SOURCE_A + 1]
        if is_ball:
            dx = sdx = _ONE
        length = np.sqrt(dx * dx + dy * dy) + _TINY
        derived[i, 0], derived[i, 1] = dx / length, dy / length
        length = np.sqrt(sdx * sdx + sdy * sdy) + _TINY
        derived[i, 3], derived[i, 4] = sdx / length, sdy / length
    return derived


@njit(**INNER)
def _shade_row(
    capsules, axes, vertices, triangles, paints, torso_maps, head, seam, groups, which, places, py,
    sign, z0, maps, view, row, owner, flow_x, flow_y,
):  # fmt: skip  # pragma: no cover - compiled
    """One row, run by run. No slices here: each would cost as much as some pixels."""
    width, first_triangle = which.shape[0], 1 + 4 * capsules.shape[0]
    for channel in range(np.uint64(CHANNELS)):
        for i in range(np.uint64(width)):
            maps[view, channel, row, i] = _ZERO
    first = last = np.int64(0)
    while first < width:
        code = which[first]
        last = first + 1
        while last < width and which[last] == code:
            last += 1
        if code == 0:
            fill_empty(torso_maps, head, seam, groups, places, py, flow_x, flow_y, owner, first, last)
        elif code >= first_triangle:
            _shade_triangle(
                vertices, triangles, paints, code - first_triangle, places, py, sign, z0, maps, view, row, owner,
                flow_x, flow_y, first, last,
            )  # fmt: skip
        else:
            number = (code - 1) >> 2
            _shade_capsule(
                capsules, axes, number, (code - 1) & 3, places, py, sign, z0, maps, view, row, owner,
                flow_x, flow_y, first, last,
            )  # fmt: skip
            if capsules[number, r.END_FROM] > _ZERO:
                _replace_end(
                    capsules, axes, number, (code - 1) & 3, places, py, owner, flow_x, flow_y, first, last
                )
            if capsules[number, r.GROUP] == groups[0]:
                turn_ball(torso_maps, head, seam, places, py, flow_x, flow_y, first, last)
            elif capsules[number, r.GROUP] == groups[2]:
                join_trunk(torso_maps[1], head, places, py, flow_x, flow_y, first, last)
        first = last


@njit(**INNER)
def _shade_capsule(
    capsules, axes, number, kind, places, py, sign, z0, maps, view, row, owner, flow_x, flow_y, first, last
):  # pragma: no cover - compiled
    """Looks come from as far along the twin and beside it, in radii."""
    n = np.uint64(number)
    left, top, z = capsules[n, r.A], capsules[n, r.A + 1], capsules[n, r.A + 2] - z0
    dx, dy, dz = (
        capsules[n, r.B] - left,
        capsules[n, r.B + 1] - top,
        capsules[n, r.B + 2] - capsules[n, r.A + 2],
    )
    ra, rb = capsules[n, r.RADIUS_A], capsules[n, r.RADIUS_B]
    ux, uy, inverse, sux, suy = axes[n, 0], axes[n, 1], axes[n, 2], axes[n, 3], axes[n, 4]
    sx, sy, sr = capsules[n, r.SOURCE_A], capsules[n, r.SOURCE_A + 1], capsules[n, r.SOURCE_RADIUS_A]
    sdx, sdy = capsules[n, r.SOURCE_B] - sx, capsules[n, r.SOURCE_B + 1] - sy
    sdr = capsules[n, r.SOURCE_RADIUS_B] - sr
    low, high = _ONE if kind == r.AT_B else _ZERO, _ZERO if kind == r.AT_A else _ONE
    group, y = np.uint8(capsules[n, r.GROUP]), py - top
    palm_x, palm_y, palm_z = capsules[n, r.PALMAR], capsules[n, r.PALMAR + 1], capsules[n, r.PALMAR + 2]
    across_code, hand_code = capsules[n, r.ACROSS], capsules[n, r.HAND] * sign
    along, along_more = capsules[n, r.ALONG_A], capsules[n, r.ALONG_B] - capsules[n, r.ALONG_A]
    limb, eye = capsules[n, r.LIMB], capsules[n, r.EYE]
    for i in range(np.uint64(first), np.uint64(last)):
        x = places[i] - left
        t = min(max((x * dx + y * dy) * inverse, low), high)
        radius = ra + (rb - ra) * t
        per_radius = _ONE / radius
        nx, ny = (x - dx * t) * per_radius, (y - dy * t) * per_radius
        scale = sr + sdr * t
        across, beyond = (ny * ux - nx * uy) * scale, (nx * ux + ny * uy) * scale
        owner[i] = group
        flow_x[i] = sx + sdx * t + beyond * sux - across * suy
        flow_y[i] = sy + sdy * t + across * sux + beyond * suy
        if kind == r.BESIDE:
            continue
        nz = -np.sqrt(max(_ONE - nx * nx - ny * ny, _ZERO))
        maps[view, NORMAL_X, row, i] = nx * sign
        maps[view, NORMAL_Y, row, i] = ny
        maps[view, DEPTH, row, i] = min(
            max((z + dz * t + nz * radius) * _PER_DEPTH, -_MOST_DEPTH), _MOST_DEPTH
        )
        maps[view, PALM, row, i] = nx * palm_x + ny * palm_y + nz * palm_z
        maps[view, CODE_A, row, i] = across_code
        maps[view, CODE_B, row, i] = along + along_more * t
        maps[view, HAND_CODE, row, i] = hand_code
        maps[view, LIMB_CODE, row, i] = limb
        maps[view, EYE_CODE, row, i] = eye


@njit(**INNER)
def _replace_end(
    capsules, axes, number, kind, places, py, owner, flow_x, flow_y, first, last
):  # pragma: no cover - compiled
    """A capsule's end takes its look from a place of its own: as far along that twin and beside it."""
    n = np.uint64(number)
    left, y = capsules[n, r.A], py - capsules[n, r.A + 1]
    dx, dy = capsules[n, r.B] - left, capsules[n, r.B + 1] - capsules[n, r.A + 1]
    ra, sr = capsules[n, r.RADIUS_A], capsules[n, r.END_SOURCE_RADIUS_A]
    rb, sb = capsules[n, r.RADIUS_B], capsules[n, r.END_SOURCE_RADIUS_B]
    ux, uy, inverse = axes[n, 0], axes[n, 1], axes[n, 2]
    sx, sy = capsules[n, r.END_SOURCE_A], capsules[n, r.END_SOURCE_A + 1]
    sdx, sdy = capsules[n, r.END_SOURCE_B] - sx, capsules[n, r.END_SOURCE_B + 1] - sy
    length = np.sqrt(sdx * sdx + sdy * sdy) + _TINY
    sux, suy, begin = sdx / length, sdy / length, capsules[n, r.END_FROM]
    low, high = _ONE if kind == r.AT_B else _ZERO, _ZERO if kind == r.AT_A else _ONE
    group = np.uint8(capsules[n, r.END_GROUP])
    for i in range(np.uint64(first), np.uint64(last)):
        x = places[i] - left
        t = min(max((x * dx + y * dy) * inverse, low), high)
        if t < begin:
            continue
        scale = (sr + (sb - sr) * t) / (ra + (rb - ra) * t)
        nx, ny = x - dx * t, y - dy * t
        across, beyond = (ny * ux - nx * uy) * scale, (nx * ux + ny * uy) * scale
        owner[i] = group
        flow_x[i] = sx + sdx * t + beyond * sux - across * suy
        flow_y[i] = sy + sdy * t + across * sux + beyond * suy


@njit(**INNER)
def _shade_triangle(
    vertices, triangles, paints, number, places, py, sign, z0, maps, view, row, owner, flow_x, flow_y, first, last
):  # fmt: skip  # pragma: no cover - compiled
    n = np.uint64(number)
    a, b, c = np.uint64(triangles[n, 0]), np.uint64(triangles[n, 1]), np.uint64(triangles[n, 2])
    left, top = vertices[a, 0], vertices[a, 1]
    bx, by, cx, cy = vertices[b, 0] - left, vertices[b, 1] - top, vertices[c, 0] - left, vertices[c, 1] - top
    per_area, y = _ONE / (bx * cy - by * cx), py - top
    group = np.uint8(paints[n, r.GROUP_PAINT])
    face, limb, eye = paints[n, r.FACE_PAINT], paints[n, r.LIMB_PAINT], paints[n, r.EYE_PAINT]
    for i in range(np.uint64(first), np.uint64(last)):
        x = places[i] - left
        v, w = (x * cy - y * cx) * per_area, (y * bx - x * by) * per_area
        u = _ONE - v - w
        owner[i] = group
        flow_x[i] = u * vertices[a, 8] + v * vertices[b, 8] + w * vertices[c, 8]
        flow_y[i] = u * vertices[a, 9] + v * vertices[b, 9] + w * vertices[c, 9]
        z = u * vertices[a, 2] + v * vertices[b, 2] + w * vertices[c, 2] - z0
        maps[view, NORMAL_X, row, i] = (u * vertices[a, 3] + v * vertices[b, 3] + w * vertices[c, 3]) * sign
        maps[view, NORMAL_Y, row, i] = u * vertices[a, 4] + v * vertices[b, 4] + w * vertices[c, 4]
        maps[view, DEPTH, row, i] = min(max(z * _PER_DEPTH, -_MOST_DEPTH), _MOST_DEPTH)
        maps[view, CODE_A, row, i] = u * vertices[a, 6] + v * vertices[b, 6] + w * vertices[c, 6]
        maps[view, CODE_B, row, i] = u * vertices[a, 7] + v * vertices[b, 7] + w * vertices[c, 7]
        maps[view, FACE_CODE, row, i] = face
        maps[view, LIMB_CODE, row, i] = limb
        maps[view, EYE_CODE, row, i] = eye


@njit(**INNER)
def _find_reads(flow_x, flow_y, height, width, limb_shape, reads):  # pragma: no cover - compiled
    """Where to read: the pixel's and the limb's numbers in their tables, and how far to the right and down of it."""
    frame, row_px, columns = np.int32(FRAME_PX), np.int32(width), np.int32(limb_shape[1])
    right, bottom = np.int32(width - 2 * FRAME_PX), np.int32(height - 2 * FRAME_PX)
    last_x, last_y = np.int32(limb_shape[1] - 1), np.int32(limb_shape[0] - 1)
    for i in range(flow_x.shape[0]):
        # Places are pixel centres: canvas x = 0.5 is the middle of the first pixel.
        x = np.int32(np.rint((flow_x[i] - _HALF) * _SUBPIXELS))
        y = np.int32(np.rint((flow_y[i] - _HALF) * _SUBPIXELS))
        x = min(max(x, np.int32(-32 * FRAME_PX)), right << _SHIFT)
        y = min(max(y, np.int32(-32 * FRAME_PX)), bottom << _SHIFT)
        reads[0, i] = ((y >> _SHIFT) + frame) * row_px + (x >> _SHIFT) + frame
        reads[1, i] = (x & _BELOW) | ((y & _BELOW) << _SHIFT)
    for i in range(flow_x.shape[0]):
        x, y = np.int32(flow_x[i] * _HALF), np.int32(flow_y[i] * _HALF)
        reads[2, i] = min(max(y, np.int32(0)), last_y) * columns + min(max(x, np.int32(0)), last_x)


@njit(**INNER)
def _choose_looks(reads, owner, look_of_group, image_size, limb_size):  # pragma: no cover - compiled
    """Each group reads its own source image, which lies behind the others."""
    for i in range(np.uint64(owner.shape[0])):
        look = np.int32(look_of_group[owner[i]])
        reads[0, i] += look * np.int32(image_size)
        reads[2, i] += look * np.int32(limb_size)


@njit(**INNER)
def _take_look(reads, owner, pixels, row_px, limbs, limb_of_group, look):  # pragma: no cover - compiled
    """Read the source image at one row's places, bilinearly; no limb takes the look of another part."""
    for i in range(look.shape[0]):
        limb = limbs[np.uint32(reads[2, i])]
        if limb == EMPTY or (limb != 0 and limb != limb_of_group[owner[i]]):
            look[i] = 0
        else:
            look[i] = read_pixel(pixels, np.uint32(row_px), np.uint32(reads[0, i]), np.uint64(reads[1, i]))


@njit(**INNER)
def read_pixel(image, row_px, pixel, between):  # pragma: no cover - compiled
    """The colour between four pixels, thirty-seconds to the right and down."""
    right, down = between & _31, between >> _5
    a, b = np.uint64(image[pixel]), np.uint64(image[pixel + np.uint32(1)])
    c, d = np.uint64(image[pixel + row_px]), np.uint64(image[pixel + row_px + np.uint32(1)])
    upper = _spread(a) * (_32 - right) + _spread(b) * right
    lower = _spread(c) * (_32 - right) + _spread(d) * right
    even = (upper & _PAIRS) * (_32 - down) + (lower & _PAIRS) * down + _ROUND
    odd = ((upper >> _16) & _PAIRS) * (_32 - down) + ((lower >> _16) & _PAIRS) * down + _ROUND
    return _gather((even >> _10) & _LOW, (odd >> _10) & _LOW)


@njit(**INNER)
def _spread(pixel):  # pragma: no cover - compiled
    """Bytes 0 1 2 3 of a pixel -> 16 bits each of one word."""
    word = np.uint64(pixel)
    word = (word | (word << _16)) & _PAIRS
    return (word | (word << _8)) & _BYTES


@njit(**INNER)
def _gather(even, odd):  # pragma: no cover - compiled
    """Bytes 0 and 2 (in 32 bits each), 1 and 3 -> one pixel."""
    word = even | (odd << _8)
    return np.uint32((word & _PAIRS) | (word >> _16))


@njit(**INNER)
def _add_shares(owner, part_of_group, shares):  # pragma: no cover - compiled
    """Add one row's part of each cell; shares (P, n) float32."""
    cells = shares.shape[1]
    cell_px = owner.shape[0] // cells
    one = _ONE / np.float32(cell_px * cell_px)
    for cell in range(cells):
        first, group, others = cell * cell_px, owner[cell * cell_px], 0
        for column in range(np.uint64(first), np.uint64(first + cell_px)):
            others |= owner[column] ^ group
        if others == 0:
            shares[part_of_group[group], cell] += one * np.float32(cell_px)
            continue
        for column in range(first, first + cell_px):
            shares[part_of_group[owner[column]], cell] += one
