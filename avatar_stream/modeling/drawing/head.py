"""Round a head: where its skull, its hair and what hangs beside the neck have their places in the source.

Nothing there is as rigid as an arm. Hair turns with the head where it grows, lies on the shoulders where it ends, and
meets the face in between; one place runs on into the next, so that no seam is seen. Compiled by numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from avatar_stream.modeling.drawing.rasterizer import COMPILED, INNER, NOWHERE

# Of the head's numbers, first the ball: centre x, y and radius in the target, the same in the source, rotation (3, 3)
# from the target's axes to the source's. Then the neck's axis in the target (where it begins, x and y, and per px how
# much nearer to the head's middle, x and y); the face's middle there; centre and half-axes of the head with its hair,
# source px, in the look of the head and in that of the trunk.
NECK_AXIS, FACE_MIDDLE, OVAL = 15, 19, 21
HEAD_NUMBERS = 29
SEAM_ROWS = 65  # of directions from the face's middle
# From here on, of the way from the shoulders to the head's middle, hair moves with the head; and how soon wholly.
_STAYS, _PER_TURN = np.float32(0.1), np.float32(2.0)
_PER_PULL = np.float32(1.0 / 0.45)  # the face pulls what is round it, as far as this share of its own size
CHIN = 0.6  # how far down the head's oval its own look reaches; below is neck and collar

_ZERO, _ONE, _THREE, _FOUR, _TINY = map(np.float32, (0.0, 1.0, 3.0, 4.0, 1e-6))
_NOWHERE, _CHIN = np.float32(NOWHERE), np.float32(CHIN)


@njit(**COMPILED)
def find_seam(rim, there, head, most):  # noqa: D417 - pragma: no cover - compiled
    """Find how the ball of the head must be moved where the face meets it.

    Args:
        rim: (N, 2) float32, canvas px of points round the face in the target; there: the same in the source.
        head: (HEAD_NUMBERS,) float32.
        most: px of the source by which it may be moved.

    Returns:
        (SEAM_ROWS, 3) float32, of directions from the face's middle in the target, even in `_direction`: how far away
        the face ends, and by how much its place in the source differs there from the ball's.
    """
    count = rim.shape[0]
    ways, values = np.empty(count, np.float32), np.empty((count, 3), np.float32)
    seam = np.empty((SEAM_ROWS, 3), np.float32)
    cosine, sine = _roll(head)
    for i in range(count):
        dx, dy = rim[i, 0] - head[FACE_MIDDLE], rim[i, 1] - head[FACE_MIDDLE + 1]
        x, y = _on_ball(head, cosine, sine, (rim[i, 0] - head[0]) / head[2], (rim[i, 1] - head[1]) / head[2])
        ways[i], values[i, 0] = _direction(dx, dy), np.sqrt(dx * dx + dy * dy)
        values[i, 1] = min(max(there[i, 0] - x, -most), most)
        values[i, 2] = min(max(there[i, 1] - y, -most), most)
    order, after = np.argsort(ways), 0
    for row in range(SEAM_ROWS):
        way = np.float32(4 * row / (SEAM_ROWS - 1))
        while after < count and ways[order[after]] <= way:
            after += 1
        a, b = order[after - 1], order[after % count]  # before the first comes the last
        begin = ways[a] - (_FOUR if after == 0 else _ZERO)
        end = ways[b] + (_FOUR if after == count else _ZERO)
        part = (way - begin) / (end - begin + _TINY)
        for each in range(3):
            seam[row, each] = values[a, each] + part * (values[b, each] - values[a, each])
    return seam


@njit(**INNER)
def turn_ball(torso_maps, head, seam, places, py, flow_x, flow_y, first, last):  # pragma: no cover - compiled
    """Places in the source of places on and round the head.

    The head's ball turns. Towards its rim and beyond, the turn gives way to the roll within the picture: a turned head
    shows other hair, but its outline stays as wide. At the face the ball is pulled to what the face's triangles show,
    and towards the shoulders it gives way to the trunk, on which long hair lies.
    """
    cosine, sine = _roll(head)
    per_radius = _ONE / head[2]
    ey = (py - head[1]) * per_radius
    for i in range(np.uint64(first), np.uint64(last)):
        x, y = _on_ball(head, cosine, sine, (places[i] - head[0]) * per_radius, ey)
        pull_x, pull_y = _pull(seam, places[i] - head[FACE_MIDDLE], py - head[FACE_MIDDLE + 1])
        flow_x[i], flow_y[i] = x + pull_x, y + pull_y
    join_trunk(torso_maps[1], head, places, py, flow_x, flow_y, first, last)


@njit(**INNER)
def _roll(head):  # pragma: no cover - compiled
    """Cosine and sine of the head's roll within the picture."""
    cosine, sine = head[6] + head[10], head[9] - head[7]
    length = np.sqrt(cosine * cosine + sine * sine) + _TINY
    return cosine / length, sine / length


@njit(**INNER)
def _on_ball(head, cosine, sine, ex, ey):  # pragma: no cover - compiled
    """The place in the source of one place of the target, in radii from the ball's middle."""
    square = min(ex * ex + ey * ey, _ONE)
    ez = -np.sqrt(_ONE - square)
    roll = square * square
    rx = head[6] * ex + head[7] * ey + head[8] * ez
    ry = head[9] * ex + head[10] * ey + head[11] * ez
    x = roll * (cosine * ex - sine * ey) + (_ONE - roll) * rx
    y = roll * (sine * ex + cosine * ey) + (_ONE - roll) * ry
    return head[3] + head[5] * x, head[4] + head[5] * y


@njit(**INNER)
def join_trunk(torso, head, places, py, flow_x, flow_y, first, last):  # pragma: no cover - compiled
    """Towards the shoulders, places of head and neck give way to the trunk's."""
    middle_x, middle_y = torso[0, 1] * py + torso[0, 2], torso[1, 1] * py + torso[1, 2]
    upwards = (py - head[NECK_AXIS + 1]) * head[NECK_AXIS + 3]
    for i in range(np.uint64(first), np.uint64(last)):
        share = _turning((places[i] - head[NECK_AXIS]) * head[NECK_AXIS + 2] + upwards)
        trunk_x, trunk_y = torso[0, 0] * places[i] + middle_x, torso[1, 0] * places[i] + middle_y
        flow_x[i] = trunk_x + share * (flow_x[i] - trunk_x)
        flow_y[i] = trunk_y + share * (flow_y[i] - trunk_y)


@njit(**INNER)
def _turning(up):  # pragma: no cover - compiled
    """How much of the head's turn a place takes part in; `up`: 0 at the shoulders, 1 at the head's middle."""
    share = min(max((up - _STAYS) * _PER_TURN, _ZERO), _ONE)
    return share * share * (_THREE - share - share)


@njit(**INNER)
def _pull(seam, x, y):  # pragma: no cover - compiled
    """By how much a place beside the face is moved, source px, so that face and head meet in one place."""
    at = _direction(x, y) * np.float32((seam.shape[0] - 1) / 4)
    low = np.uint64(at)
    part = at - np.float32(low)
    high = min(low + np.uint64(1), np.uint64(seam.shape[0] - 1))
    ends = seam[low, 0] + part * (seam[high, 0] - seam[low, 0])
    share = min(max(_ONE - (np.sqrt(x * x + y * y) - ends) * _PER_PULL / (ends + _TINY), _ZERO), _ONE)
    return (
        share * (seam[low, 1] + part * (seam[high, 1] - seam[low, 1])),
        share * (seam[low, 2] + part * (seam[high, 2] - seam[low, 2])),
    )


@njit(**INNER)
def _direction(x, y):  # pragma: no cover - compiled
    """0..4 once round, as an angle is; cheaper."""
    across = x / (abs(x) + abs(y) + _TINY)
    return _ONE + across if y < _ZERO else _THREE - across


@njit(**INNER)
def fill_empty(
    torso_maps, head, seam, groups, places, py, flow_x, flow_y, owner, first, last
):  # pragma: no cover - compiled
    """Where no solid is: the head within a wide oval (hair), below it the collar, the trunk elsewhere."""
    upwards = (py - head[NECK_AXIS + 1]) * head[NECK_AXIS + 3]
    from_x, per_x = head[NECK_AXIS], head[NECK_AXIS + 2]
    highest = max((places[first] - from_x) * per_x, (places[last - 1] - from_x) * per_x) + upwards
    if highest <= _ZERO:  # most of a picture is below the shoulders
        _fill_trunk(torso_maps[0], head, places, py, flow_x, flow_y, owner, first, last)
        return
    turn_ball(torso_maps, head, seam, places, py, flow_x, flow_y, first, last)
    hx, hy, wide, tall = head[OVAL], head[OVAL + 1], _ONE / head[OVAL + 2], _ONE / head[OVAL + 3]
    for i in range(np.uint64(first), np.uint64(last)):
        ex, ey = (flow_x[i] - hx) * wide, (flow_y[i] - hy) * tall
        is_head = ex * ex + ey * ey < _ONE
        is_below = (
            (not is_head) & ((places[i] - from_x) * per_x + upwards > _ZERO) & (ey > _ZERO) & (abs(ex) < _ONE)
        )
        sx, sy = _on_trunk(torso_maps[0], head, places[i], py)
        flow_x[i] = flow_x[i] if is_head | is_below else sx
        flow_y[i] = flow_y[i] if is_head | is_below else sy
        owner[i] = groups[0] if is_head else (groups[1] if is_below else np.uint8(0))


@njit(**INNER)
def _fill_trunk(torso, head, places, py, flow_x, flow_y, owner, first, last):  # pragma: no cover - compiled
    for i in range(np.uint64(first), np.uint64(last)):
        flow_x[i], flow_y[i] = _on_trunk(torso, head, places[i], py)
        owner[i] = np.uint8(0)


@njit(**INNER)
def _on_trunk(torso, head, px, py):  # pragma: no cover - compiled
    """The place in the trunk's look; nowhere where the head was there and has left."""
    x = torso[0, 0] * px + torso[0, 1] * py + torso[0, 2]
    y = torso[1, 0] * px + torso[1, 1] * py + torso[1, 2]
    ex, ey = (x - head[OVAL + 4]) / head[OVAL + 6], (y - head[OVAL + 5]) / head[OVAL + 7]
    is_left = (ex * ex + ey * ey < _ONE) & (ey < _CHIN)
    return _NOWHERE if is_left else x, _NOWHERE if is_left else y
