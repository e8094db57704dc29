"""Which solid is in front, pixel by pixel: a small z-buffer for tapered capsules and triangles.

Compiled by numba, free of the GIL, deterministic. It knows nothing of bodies; `geometry.py` makes its lists and
`shading.py` paints what it finds. Drawing is part of every live frame, so the loops over a row are free of branches
and in float32, which lets the compiler take many pixels at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of a capsule (float32): a sphere-swept segment from a to b and what is painted on it.
A, RADIUS_A, B, RADIUS_B = 0, 3, 4, 7  # a and b are x, y, z
ACROSS, ALONG_A, ALONG_B, HAND, LIMB = 8, 9, 10, 11, 12
PALMAR = 13  # unit vector towards the palm side, x, y, z; zeros where there is none
SOURCE_A, SOURCE_B, SOURCE_RADIUS_A, SOURCE_RADIUS_B = 16, 18, 20, 21
GROUP, HALO, EYE = 22, 23, 24
ONLY_INSIDE = 25  # 1: paint only on triangles of its own group (an iris within the lids)
# Its end may have a place in the source of its own: from END_FROM of the way to b on; 0: it has none.
END_FROM, END_GROUP = 26, 27
END_SOURCE_A, END_SOURCE_B, END_SOURCE_RADIUS_A, END_SOURCE_RADIUS_B = 28, 30, 32, 33  # of the whole capsule
CAPSULE_COLUMNS = 34

NOWHERE = -1e4  # a place in the source image that is in no picture

# Columns of a vertex (float32): place, normal, two painted values, place in the source image.
VERTEX_COLUMNS = 10
# Columns of a triangle's paint (float32): face, eye, limb, group.
FACE_PAINT, EYE_PAINT, LIMB_PAINT, GROUP_PAINT = range(4)
PAINT_COLUMNS = 4

# Columns of a view (float64): canvas px of its first column's outer edge and of its top, canvas px a pixel to the
# right (negative in a mirrored view) and down, and the depth taken as zero.
VIEW_X, VIEW_Y, STEP_X, STEP_Y, VIEW_DEPTH = range(5)
VIEW_COLUMNS = 5

# What `which` says of a pixel: 0 nothing; 1 + 4 i + one of these for capsule i; then one number for each triangle.
BETWEEN, AT_A, AT_B, BESIDE = range(4)

COMPILED = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}
# Called by compiled code only: what calls them is kept in the cache, they need no way in from Python.
INNER = COMPILED | {"cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_ZERO, _ONE, _FAR = np.float32(0.0), np.float32(1.0), np.float32(1e9)
_JOINT = np.float32(
    0.02
)  # bones share the sphere at their joint: the first keeps it, else rounding would speckle it
_RIVAL = np.float32(1e-3)
_SMALL_PX = 150  # up to so many pixels a triangle is tested pixel by pixel


@njit(**COMPILED)
def cover(capsules, vertices, triangles, paints, views, which):  # noqa: D417 - pragma: no cover - compiled
    """Find the solid in front for every pixel of some views of one size.

    Args:
        capsules: (N, CAPSULE_COLUMNS) float32, all finite.
        vertices: (P, VERTEX_COLUMNS) float32; triangles: (T, 3) int32; paints: (T, PAINT_COLUMNS) float32.
        views: (V, VIEW_COLUMNS) float64.
        which: (V, H, W) int32 out; see `BETWEEN`.
    """
    height, width = which.shape[1:]
    depth = np.empty((height, width), np.float32)
    halo = np.empty((height, width), np.float32)
    places = np.empty(width, np.float32)
    for view in range(views.shape[0]):
        depth[:] = _FAR
        halo[:] = _FAR
        which[view] = 0
        for column in range(width):
            places[column] = views[view, VIEW_X] + (column + 0.5) * views[view, STEP_X]
        _cover_triangles(
            vertices, triangles, 1 + 4 * capsules.shape[0], views[view], places, which[view], depth
        )
        for i in range(capsules.shape[0]):
            if capsules[i, ONLY_INSIDE] > 0:
                _cover_inside(
                    capsules[i], i, paints, 1 + 4 * capsules.shape[0], views[view], which[view], depth
                )
            else:
                _cover_capsule(capsules[i], i, views[view], places, which[view], depth, halo)


@njit(**INNER)
def _span(low, high, origin, step, count):  # pragma: no cover - compiled
    """First and last pixel whose middle is between two places; none: the last comes before the first."""
    a, b = (low - origin) / step - 0.5, (high - origin) / step - 0.5
    first, last = np.ceil(min(a, b)), np.floor(max(a, b))
    return int(min(max(first, 0.0), count)), int(max(min(last, count - 1.0), -1.0))


@njit(**INNER)
def _cover_capsule(c, number, view, places, which, depth, halo):  # pragma: no cover - compiled
    height, width = which.shape
    ax, ay, bx, by = float(c[0]), float(c[1]), float(c[4]), float(c[5])
    reach = max(c[RADIUS_A], c[RADIUS_B]) * c[HALO]
    length = np.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
    ux, uy = (bx - ax) / (length + 1e-6), (by - ay) / (length + 1e-6)
    top, bottom = _span(min(ay, by) - reach, max(ay, by) + reach, view[VIEW_Y], view[STEP_Y], height)
    for row in range(top, bottom + 1):
        py = view[VIEW_Y] + (row + 0.5) * view[STEP_Y]
        low, high = min(ax, bx) - reach, max(ax, bx) + reach
        # A slanted capsule fills little of its bounding box: the row ends where the box along its axis does.
        if abs(uy) > 1e-3:
            middle, half = ax + (py - ay) * ux / uy, reach / abs(uy)
            low, high = max(low, middle - half), min(high, middle + half)
        if abs(ux) > 1e-3:
            start = ax - (py - ay) * uy / ux
            a, b = start - reach / ux, start + (length + reach) / ux
            low, high = max(low, min(a, b)), min(high, max(a, b))
        first, last = _span(low, high, view[VIEW_X], view[STEP_X], width)
        if last >= first:
            _cover_row(c, 1 + 4 * number, np.float32(py), places, which, depth, halo, row, first, last)


@njit(**INNER)
def _cover_row(c, code, py, places, which, depth, halo, row, first, last):  # pragma: no cover - compiled
    """A run of one row: the capsule's front where it is hit, and beside it, where nothing else is, its halo."""
    ax, az, ra = c[A], c[A + 2], c[RADIUS_A]
    dx, dy, dz = c[B] - c[A], c[B + 1] - c[A + 1], c[B + 2] - c[A + 2]
    rb, dr, b_depth = c[RADIUS_B], c[RADIUS_B] - c[RADIUS_A], c[B + 2]
    inverse = _ONE / (dx * dx + dy * dy + np.float32(1e-6))
    widest = c[HALO] if c[HALO] > _ONE else _ZERO
    y = py - c[A + 1]
    yb = y - dy
    between, at_a = np.int32(code + BETWEEN), np.int32(code + AT_A)
    at_b, beside = np.int32(code + AT_B), np.int32(code + BESIDE)
    for i in range(np.uint64(first), np.uint64(last + 1)):
        x = places[i] - ax
        t = min(max((x * dx + y * dy) * inverse, _ZERO), _ONE)
        r, ex, ey, xb = ra + dr * t, x - dx * t, y - dy * t, x - dx
        square = ex * ex + ey * ey
        h = r * r - square
        z = az + dz * t - np.sqrt(max(h, _ZERO)) if h > _ZERO else _FAR
        # A bone that points at the viewer projects to a dot: its two ends must be tried too.
        h = ra * ra - x * x - y * y
        za = az - np.sqrt(max(h, _ZERO)) if h > _ZERO else _FAR
        h = rb * rb - xb * xb - yb * yb
        zb = b_depth - np.sqrt(max(h, _ZERO)) if h > _ZERO else _FAR
        kind = at_a if za < z else between
        z = min(z, za)
        kind = at_b if zb < z else kind
        z = min(z, zb)
        gap = np.sqrt(square) / r
        is_free = (z >= _FAR) & (depth[row, i] >= _FAR)
        # No sleeve behind a limb's root: there the trunk (or the limb before) goes on.
        is_beside = is_free & (gap <= widest) & (t > _ZERO) & (gap < halo[row, i] - _RIVAL)
        is_front = z < depth[row, i] - _JOINT
        depth[row, i] = z if is_front else depth[row, i]
        halo[row, i] = gap if is_beside else halo[row, i]
        which[row, i] = kind if is_front else (beside if is_beside else which[row, i])


@njit(**INNER)
def _cover_inside(c, number, paints, first_triangle, view, which, depth):  # pragma: no cover - compiled
    """A ball that is seen only on triangles of its own group, and there always."""
    height, width = which.shape
    x, y, radius = float(c[0]), float(c[1]), float(c[RADIUS_A])
    left, right = _span(x - radius, x + radius, view[VIEW_X], view[STEP_X], width)
    top, bottom = _span(y - radius, y + radius, view[VIEW_Y], view[STEP_Y], height)
    for row in range(top, bottom + 1):
        ey = view[VIEW_Y] + (row + 0.5) * view[STEP_Y] - y
        for column in range(left, right + 1):
            ex = view[VIEW_X] + (column + 0.5) * view[STEP_X] - x
            below = which[row, column] - first_triangle
            h = radius * radius - ex * ex - ey * ey
            if h > 0 and below >= 0 and paints[below, GROUP_PAINT] == c[GROUP]:
                which[row, column] = 1 + 4 * number + BETWEEN
                depth[row, column] = min(c[2] - np.sqrt(h), depth[row, column])


@njit(**INNER)
def _cover_triangles(vertices, triangles, code, view, places, which, depth):  # pragma: no cover - compiled
    """Triangles, in pixels of the view: whole numbers are the middles of pixels."""
    height, width = which.shape
    x = (vertices[:, 0] - view[VIEW_X]) / view[STEP_X] - 0.5
    y = (vertices[:, 1] - view[VIEW_Y]) / view[STEP_Y] - 0.5
    for i in range(triangles.shape[0]):
        a, b, c = triangles[i, 0], triangles[i, 1], triangles[i, 2]
        left, right = max(min(x[a], x[b], x[c]), 0.0), min(max(x[a], x[b], x[c]), width - 1.0)
        top, bottom = max(min(y[a], y[b], y[c]), 0.0), min(max(y[a], y[b], y[c]), height - 1.0)
        if not (left <= right and top <= bottom):
            continue
        bx, by, cx, cy = x[b] - x[a], y[b] - y[a], x[c] - x[a], y[c] - y[a]
        area = bx * cy - by * cx
        if area == 0.0:
            continue
        # Shares of b and c are linear in the place, counted from a.
        bxs, bys, cxs, cys = cy / area, -cx / area, -by / area, bx / area
        za = vertices[a, 2]
        zb, zc = vertices[b, 2] - za, vertices[c, 2] - za
        slope_x, slope_y = bxs * zb + cxs * zc, bys * zb + cys * zc
        is_small = (bottom - top) * (right - left) <= _SMALL_PX
        for row in range(int(np.ceil(top)), int(bottom) + 1):
            py = row - y[a]
            if is_small:
                for column in range(int(np.ceil(left)), int(right) + 1):
                    px = column - x[a]
                    v, w = px * bxs + py * bys, px * cxs + py * cys
                    z = za + px * slope_x + py * slope_y
                    if v >= 0 and w >= 0 and v + w <= 1 and z < depth[row, column]:
                        depth[row, column] = z
                        which[row, column] = code + i
                continue
            low, high = _between(py * bys, bxs, left - x[a], right - x[a])
            low, high = _between(py * cys, cxs, low, high)
            low, high = _between(1.0 - py * (bys + cys), -(bxs + cxs), low, high)
            first, last = int(np.ceil(low + x[a])), int(np.floor(high + x[a]))
            z = za + py * slope_y + (first - x[a]) * slope_x
            _cover_flat_row(np.float32(z), np.float32(slope_x), code + i, which, depth, row, first, last)


@njit(**INNER)
def _between(share, slope, low, high):  # pragma: no cover - compiled
    """Narrow the places from low to high to those where `share + slope * place` is not negative."""
    if slope > 1e-12:
        return max(low, -share / slope), high
    if slope < -1e-12:
        return low, min(high, -share / slope)
    return (low, high) if share >= 0 else (1.0, 0.0)


@njit(**INNER)
def _cover_flat_row(start, slope, code, which, depth, row, first, last):  # pragma: no cover - compiled
    for i in range(np.int32(max(last + 1 - first, 0))):
        column = np.uint64(first) + np.uint64(i)
        z = start + slope * np.float32(i)
        is_front = z < depth[row, column]
        depth[row, column] = z if is_front else depth[row, column]
        which[row, column] = np.int32(code) if is_front else which[row, column]


@njit(cache=True, nogil=True)  # no fastmath: a place that is not a number makes the normals round it the same
def vertex_normals(places, triangles):  # pragma: no cover - compiled
    """(P, 3) float32 places, (T, 3) int32 triangles -> (P, 3) float32 unit normals, towards the viewer is -z."""
    normals = np.zeros(places.shape, np.float32)
    for i in range(triangles.shape[0]):
        a, b, c = triangles[i, 0], triangles[i, 1], triangles[i, 2]
        ux, uy, uz = (
            places[b, 0] - places[a, 0],
            places[b, 1] - places[a, 1],
            places[b, 2] - places[a, 2],
        )
        vx, vy, vz = (
            places[c, 0] - places[a, 0],
            places[c, 1] - places[a, 1],
            places[c, 2] - places[a, 2],
        )
        for k in (a, b, c):
            # Clockwise on the screen means towards the viewer.
            normals[k, 0] -= uy * vz - uz * vy
            normals[k, 1] -= uz * vx - ux * vz
            normals[k, 2] -= ux * vy - uy * vx
    for k in range(places.shape[0]):
        x, y, z = normals[k, 0], normals[k, 1], normals[k, 2]
        length = np.sqrt(x * x + y * y + z * z) + np.float32(1e-6)
        normals[k, 0], normals[k, 1], normals[k, 2] = x / length, y / length, z / length
    return normals
