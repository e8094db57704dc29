"""A small z-buffer rasteriser for tapered capsules and triangles: what a pose looks like as geometry.

Compiled by numba, free of the GIL, deterministic. It knows nothing of bodies; `geometry.py` makes its lists.
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
ONLY_INSIDE = 25  # 1: paint only on what its own group already covers (an iris within the lids)
CAPSULE_COLUMNS = 26

# Columns of a vertex (float32): place, normal, two painted values, place in the source image.
VERTEX_COLUMNS = 10
# Columns of a triangle's paint (float32): face, eye, limb, group.
PAINT_COLUMNS = 4

# Channels of the geometry maps.
NORMAL_X, NORMAL_Y, DEPTH, PALM, CODE_A, CODE_B, HAND_CODE, FACE_CODE, LIMB_CODE, EYE_CODE = range(10)
CHANNELS = 10

CHIN = 0.6  # how far down the head's oval its own look reaches; below is neck and collar
NOWHERE = -1e4  # a place in the source image that is in no picture


@njit(cache=True, nogil=True, fastmath=True)
def _paint_capsule(
    c, x0, y0, step, hand_sign, z0, maps, flow, owner, depth, halo
):  # pragma: no cover - compiled
    height, width = owner.shape
    ax, ay, az, ra = c[0], c[1], c[2], c[3]
    bx, by, bz, rb = c[4], c[5], c[6], c[7]
    reach = max(ra, rb) * c[HALO]
    left = max(int((min(ax, bx) - reach - x0) / step), 0)
    right = min(int((max(ax, bx) + reach - x0) / step) + 1, width - 1)
    top = max(int((min(ay, by) - reach - y0) / step), 0)
    bottom = min(int((max(ay, by) + reach - y0) / step) + 1, height - 1)
    dx, dy, dz = bx - ax, by - ay, bz - az
    square = dx * dx + dy * dy
    length = np.sqrt(square) + 1e-6
    ux, uy = dx / length, dy / length
    sdx, sdy = c[SOURCE_B] - c[SOURCE_A], c[SOURCE_B + 1] - c[SOURCE_A + 1]
    source_length = np.sqrt(sdx * sdx + sdy * sdy) + 1e-6
    sux, suy = sdx / source_length, sdy / source_length
    for row in range(top, bottom + 1):
        py = y0 + (row + 0.5) * step
        for column in range(left, right + 1):
            if c[ONLY_INSIDE] > 0 and owner[row, column] != c[GROUP]:
                continue
            px = x0 + (column + 0.5) * step
            t = ((px - ax) * dx + (py - ay) * dy) / (square + 1e-6)
            t = min(max(t, 0.0), 1.0)
            best_t, best_z, hit = t, 1e9, False
            # A bone that points at the viewer projects to a dot: its two ends must be tried too.
            for k in range(3):
                s = t if k == 0 else (0.0 if k == 1 else 1.0)
                r = ra + (rb - ra) * s
                ex, ey = px - (ax + dx * s), py - (ay + dy * s)
                h = r * r - ex * ex - ey * ey
                if h > 0:
                    z = az + dz * s - np.sqrt(h)
                    if z < best_z:
                        best_z, best_t, hit = z, s, True
            r = ra + (rb - ra) * best_t
            ex, ey = px - (ax + dx * best_t), py - (ay + dy * best_t)
            if hit:
                # Bones share the sphere at their joint: the first keeps it, else rounding would speckle it.
                if best_z >= depth[row, column] - 0.02 and c[ONLY_INSIDE] == 0:
                    continue
                depth[row, column] = min(best_z, depth[row, column])
                halo[row, column] = 0.0
            else:
                gap = np.sqrt(ex * ex + ey * ey) / r
                # No sleeve behind a limb's root: there the trunk (or the limb before) goes on.
                if gap > c[HALO] or best_t <= 0.0 or gap >= halo[row, column] - 1e-3:
                    continue
                halo[row, column] = gap
            owner[row, column] = int(c[GROUP])
            across = (ex * -uy + ey * ux) / r
            beyond = (ex * ux + ey * uy) / r
            sr = c[SOURCE_RADIUS_A] + (c[SOURCE_RADIUS_B] - c[SOURCE_RADIUS_A]) * best_t
            flow[row, column, 0] = c[SOURCE_A] + sdx * best_t + sr * (across * -suy + beyond * sux)
            flow[row, column, 1] = c[SOURCE_A + 1] + sdy * best_t + sr * (across * sux + beyond * suy)
            if not hit:
                continue
            nx, ny = ex / r, ey / r
            nz = -np.sqrt(max(1.0 - nx * nx - ny * ny, 0.0))
            maps[NORMAL_X, row, column] = nx
            maps[NORMAL_Y, row, column] = ny
            maps[DEPTH, row, column] = best_z - z0
            maps[PALM, row, column] = nx * c[PALMAR] + ny * c[PALMAR + 1] + nz * c[PALMAR + 2]
            maps[CODE_A, row, column] = c[ACROSS]
            maps[CODE_B, row, column] = c[ALONG_A] + (c[ALONG_B] - c[ALONG_A]) * best_t
            maps[HAND_CODE, row, column] = c[HAND] * hand_sign
            maps[FACE_CODE, row, column] = 0.0
            maps[LIMB_CODE, row, column] = c[LIMB]
            maps[EYE_CODE, row, column] = c[EYE]


@njit(cache=True, nogil=True, fastmath=True)
def _paint_triangle(
    a, b, c, paint, x0, y0, step, z0, maps, flow, owner, depth, halo
):  # pragma: no cover - compiled
    height, width = owner.shape
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if abs(area) < 1e-6:
        return
    left = max(int((min(a[0], b[0], c[0]) - x0) / step - 0.5), 0)
    right = min(int((max(a[0], b[0], c[0]) - x0) / step + 0.5), width - 1)
    top = max(int((min(a[1], b[1], c[1]) - y0) / step - 0.5), 0)
    bottom = min(int((max(a[1], b[1], c[1]) - y0) / step + 0.5), height - 1)
    for row in range(top, bottom + 1):
        py = y0 + (row + 0.5) * step
        for column in range(left, right + 1):
            px = x0 + (column + 0.5) * step
            u = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area
            v = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area
            w = 1.0 - u - v
            if u < 0 or v < 0 or w < 0:
                continue
            z = u * a[2] + v * b[2] + w * c[2]
            if z >= depth[row, column]:
                continue
            depth[row, column] = z
            halo[row, column] = 0.0
            owner[row, column] = int(paint[3])
            flow[row, column, 0] = u * a[8] + v * b[8] + w * c[8]
            flow[row, column, 1] = u * a[9] + v * b[9] + w * c[9]
            maps[NORMAL_X, row, column] = u * a[3] + v * b[3] + w * c[3]
            maps[NORMAL_Y, row, column] = u * a[4] + v * b[4] + w * c[4]
            maps[DEPTH, row, column] = z - z0
            maps[PALM, row, column] = 0.0
            maps[CODE_A, row, column] = u * a[6] + v * b[6] + w * c[6]
            maps[CODE_B, row, column] = u * a[7] + v * b[7] + w * c[7]
            maps[HAND_CODE, row, column] = 0.0
            maps[FACE_CODE, row, column] = paint[0]
            maps[LIMB_CODE, row, column] = paint[2]
            maps[EYE_CODE, row, column] = paint[1]


@njit(cache=True, nogil=True, fastmath=True)
def _turn_ball(ball, px, py):  # pragma: no cover - compiled
    """Place in the source of a place on the head's ball.

    Towards the rim and beyond, the turn gives way to the roll within the picture: a turned head shows other hair, but
    its outline stays as wide.
    """
    ex, ey = (px - ball[0]) / ball[2], (py - ball[1]) / ball[2]
    square = ex * ex + ey * ey
    cosine, sine = ball[6] + ball[10], ball[9] - ball[7]
    length = np.sqrt(cosine * cosine + sine * sine) + 1e-6
    rx, ry = (cosine * ex - sine * ey) / length, (sine * ex + cosine * ey) / length
    if square < 1.0:
        ez = -np.sqrt(1.0 - square)
        roll = square * square
        rx = roll * rx + (1.0 - roll) * (ball[6] * ex + ball[7] * ey + ball[8] * ez)
        ry = roll * ry + (1.0 - roll) * (ball[9] * ex + ball[10] * ey + ball[11] * ez)
    return ball[3] + ball[5] * rx, ball[4] + ball[5] * ry


@njit(cache=True, nogil=True, fastmath=True)
def _fill_flow(
    x0, y0, step, torso_map, head_ball, head_oval, head_group, flow, owner
):  # pragma: no cover - compiled
    """On the skull, and where no primitive is within a wide oval (hair): the head's ball; elsewhere the torso's map."""
    height, width = owner.shape
    for row in range(height):
        py = y0 + (row + 0.5) * step
        for column in range(width):
            if owner[row, column] != 0 and owner[row, column] != head_group:
                continue
            px = x0 + (column + 0.5) * step
            sx, sy = _turn_ball(head_ball, px, py)
            ex, ey = (sx - head_oval[0]) / head_oval[2], (sy - head_oval[1]) / head_oval[3]
            if ex * ex + ey * ey < 1.0 or owner[row, column] == head_group:
                owner[row, column] = head_group
            else:
                sx = torso_map[0, 0] * px + torso_map[0, 1] * py + torso_map[0, 2]
                sy = torso_map[1, 0] * px + torso_map[1, 1] * py + torso_map[1, 2]
                ex, ey = (sx - head_oval[0]) / head_oval[2], (sy - head_oval[1]) / head_oval[3]
                if ex * ex + ey * ey < 1.0 and ey < CHIN:
                    sx, sy = NOWHERE, NOWHERE  # the head has left this place
            flow[row, column, 0] = sx
            flow[row, column, 1] = sy


@njit(cache=True, nogil=True, fastmath=True)
def rasterize(  # noqa: D417 - pragma: no cover - compiled
    capsules,
    vertices,
    triangles,
    paints,
    torso_map,
    head_ball,
    head_oval,
    head_group,
    x0,
    y0,
    step,
    hand_sign,
    z0,
    maps,
    flow,
    owner,
):
    """Draw one view into `maps`, `flow` and `owner`, which the caller gives zeroed.

    Args:
        capsules: (N, CAPSULE_COLUMNS) float32, all finite.
        vertices: (V, VERTEX_COLUMNS) float32; triangles: (T, 3) int32; paints: (T, PAINT_COLUMNS) float32.
        torso_map: (2, 3) float32, canvas px of the target -> canvas px of the source.
        head_ball: (15,) float32: centre x, y and radius of the head's ball in the target, the same in the source,
            rotation (3, 3) from the target's to the source's.
        head_oval: (4,) float32, centre and half-axes of the head with its hair, source px.
        head_group: what `owner` says within that oval.
        x0, y0, step: canvas px of the view's corner, and canvas px per pixel of the view.
        hand_sign: 1, or -1 for a view in which the left hand is "own".
        z0: depth taken as zero.
        maps: (CHANNELS, H, W) float32 out. flow: (H, W, 2) float32 out, where in the source image each
            pixel's look comes from. owner: (H, W) uint8 out, group of the nearest primitive, 0 = none.
    """
    depth = np.full(owner.shape, 1e9, np.float32)
    halo = np.full(owner.shape, 1e9, np.float32)
    for i in range(triangles.shape[0]):
        a, b, c = vertices[triangles[i, 0]], vertices[triangles[i, 1]], vertices[triangles[i, 2]]
        _paint_triangle(a, b, c, paints[i], x0, y0, step, z0, maps, flow, owner, depth, halo)
    for i in range(capsules.shape[0]):
        _paint_capsule(capsules[i], x0, y0, step, hand_sign, z0, maps, flow, owner, depth, halo)
    _fill_flow(x0, y0, step, torso_map, head_ball, head_oval, head_group, flow, owner)


@njit(cache=True, nogil=True)
def forget_foreign_looks(flow, owner, source_owner, limb_of_group):  # pragma: no cover - compiled
    """Send to nowhere what would take one limb's look for another part.

    Args:
        flow: (H, W, 2) float32, changed in place.
        owner: (H, W) uint8 of the same view.
        source_owner: (h, w) uint8, groups in the source image at half scale.
        limb_of_group: uint8 table, 0 for what is no limb.
    """
    height, width = owner.shape
    rows, columns = source_owner.shape
    for row in range(height):
        for column in range(width):
            y, x = int(flow[row, column, 1] / 2), int(flow[row, column, 0] / 2)
            source_limb = limb_of_group[source_owner[min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)]]
            if source_limb != 0 and source_limb != limb_of_group[owner[row, column]]:
                flow[row, column, 0] = NOWHERE
                flow[row, column, 1] = NOWHERE


@njit(cache=True, nogil=True)
def share_parts(owner, part_of_group, cell_px, shares):  # pragma: no cover - compiled
    """Add up in `shares` (P, H/cell, W/cell) float32 how much of each cell belongs to each part."""
    height, width = owner.shape
    for row in range(height):
        for column in range(width):
            shares[part_of_group[owner[row, column]], row // cell_px, column // cell_px] += 1.0 / (
                cell_px * cell_px
            )
