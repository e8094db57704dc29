"""Vectors and turns (rotation matrices whose columns are the axes' images); every function takes batches.

A frame has hundreds of these on arrays of a few numbers, where numpy's overhead is everything: the innermost ones are
compiled. Those for vectors keep float32. Why not `guvectorize`: two programs that compile for the first time at once
leave caches of it that do not fit together, and each later start crashes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

VIEW = np.array([0.0, 0.0, 1.0])  # the axis that a picture is seen along


def length(vector: np.ndarray) -> np.ndarray:
    """(...) lengths of (..., N) vectors."""
    return np.sqrt(np.einsum("...i,...i->...", vector, vector))


def unit(vector: np.ndarray) -> np.ndarray:
    """Scale (..., N) vectors to length 1; a zero vector stays near zero instead of becoming NaN."""
    rows = np.ascontiguousarray(vector).reshape(-1, vector.shape[-1])
    return _unit(rows).reshape(vector.shape)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of (..., 3) arrays."""
    first, second, shape = _pairs(a, b)
    return _cross(first, second).reshape(*shape, 3)


def about(axis: np.ndarray, angle: np.ndarray | float) -> np.ndarray:
    """(..., 3, 3) turns by `angle` (...) radians about unit `axis` (..., 3); the batches broadcast."""
    batch, angles_shape = axis.shape[:-1], np.shape(angle)
    shape = batch if angles_shape in ((), batch) else np.broadcast_shapes(batch, angles_shape)
    axes, angles = np.empty((*shape, 3)), np.empty(shape)
    axes[...], angles[...] = axis, angle
    return _about(axes.reshape(-1, 3), angles.reshape(-1)).reshape(*shape, 3, 3)


def frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., 3, 3) right-handed axes as columns: `first`, `second` made square to it, their product."""
    a, b, shape = _pairs(first, second, np.float64)
    return _frame(a, b).reshape(*shape, 3, 3)


def _axis(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 3) unit axis about which one unit vector turns to another, and (...) the sine of the angle."""
    a, b, shape = _pairs(start, end, np.float64)
    axis, sine = _axes(a, b)
    return axis.reshape(*shape, 3), sine.reshape(shape)


def _pairs(a: np.ndarray, b: np.ndarray, dtype: Any = None) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Two batches of vectors as (M, 3) each, and the shape of the batch that both broadcast to."""
    a, b = np.asarray(a), np.asarray(b)
    shape = a.shape if a.shape == b.shape else np.broadcast_shapes(a.shape, b.shape)
    pairs = np.empty((2, *shape), dtype or np.result_type(a, b))
    pairs[0], pairs[1] = a, b
    first, second = pairs.reshape(2, -1, 3)
    return first, second, shape[:-1]


@njit(cache=True)
def _unit(vectors):
    out = np.empty_like(vectors)
    for m in range(len(vectors)):
        vector = vectors[m]
        squares = vector[0] * vector[0]
        for k in range(1, len(vector)):
            squares += vector[k] * vector[k]
        size = math.sqrt(squares) + 1e-9 * (squares == 0.0)  # in this form NaN warns of nothing
        for k in range(len(vector)):
            out[m, k] = vector[k] / size
    return out


@njit(cache=True)
def _cross(first, second):
    out = np.empty_like(first)
    for m in range(len(first)):
        a, b = first[m], second[m]
        out[m, 0] = a[1] * b[2] - a[2] * b[1]
        out[m, 1] = a[2] * b[0] - a[0] * b[2]
        out[m, 2] = a[0] * b[1] - a[1] * b[0]
    return out


@njit(cache=True)
def _about(axes, angles):
    turns = np.empty((len(axes), 3, 3))
    for m in range(len(axes)):
        cosine, sine = math.cos(angles[m]), math.sin(angles[m])
        rest, out = 1 - cosine, turns[m]
        x, y, z = axes[m, 0], axes[m, 1], axes[m, 2]
        out[0, 0], out[0, 1], out[0, 2] = (
            cosine + x * x * rest,
            x * y * rest - z * sine,
            x * z * rest + y * sine,
        )
        out[1, 0], out[1, 1], out[1, 2] = (
            x * y * rest + z * sine,
            cosine + y * y * rest,
            y * z * rest - x * sine,
        )
        out[2, 0], out[2, 1], out[2, 2] = (
            x * z * rest - y * sine,
            y * z * rest + x * sine,
            cosine + z * z * rest,
        )
    return turns


@njit(cache=True)
def _frame(firsts, seconds):
    turns = np.empty((len(firsts), 3, 3))
    for m in range(len(firsts)):
        first, second, out = firsts[m], seconds[m], turns[m]
        size = math.sqrt(max(first[0] * first[0] + first[1] * first[1] + first[2] * first[2], 1e-18))
        x0, x1, x2 = first[0] / size, first[1] / size, first[2] / size
        z0 = x1 * second[2] - x2 * second[1]
        z1 = x2 * second[0] - x0 * second[2]
        z2 = x0 * second[1] - x1 * second[0]
        size = math.sqrt(max(z0 * z0 + z1 * z1 + z2 * z2, 1e-18))
        z0, z1, z2 = z0 / size, z1 / size, z2 / size
        out[0, 0], out[1, 0], out[2, 0] = x0, x1, x2
        out[0, 1], out[1, 1], out[2, 1] = z1 * x2 - z2 * x1, z2 * x0 - z0 * x2, z0 * x1 - z1 * x0
        out[0, 2], out[1, 2], out[2, 2] = z0, z1, z2
    return turns


@njit(cache=True)
def _axes(starts, ends):
    axes, sines = np.empty_like(starts), np.empty(len(starts))
    for m in range(len(starts)):
        start, end, axis = starts[m], ends[m], axes[m]
        axis[0] = start[1] * end[2] - start[2] * end[1]
        axis[1] = start[2] * end[0] - start[0] * end[2]
        axis[2] = start[0] * end[1] - start[1] * end[0]
        sines[m] = math.sqrt(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2])
        size = max(sines[m], 1e-9)
        if sines[m] < 1e-8:  # opposite, or the same: any axis across
            k = 0 if abs(start[0]) < 0.6 else 1
            axis[k], axis[k - 1], axis[k - 2] = 0.0, start[k - 2], -start[k - 1]
            size = math.sqrt(start[k - 1] * start[k - 1] + start[k - 2] * start[k - 2])
        for k in range(3):
            axis[k] /= size
    return axes, sines


def middle(points: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """(N, D) points and two rows -> (D,) the middle between these two."""
    return 0.5 * (points[pair[0]] + points[pair[1]])


def gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 2 or 3) and (M, 2 or 3) points -> (N, M) distances in the picture."""
    x, y = (a[:, None, axis] - b[:, axis] for axis in (0, 1))
    return np.sqrt(x * x + y * y)


def between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., 3, 3) shortest turn that takes unit vectors `start` to unit vectors `end`; of opposite ones, any such."""
    axis, sine = _axis(start, end)
    return about(axis, np.arctan2(sine, (start * end).sum(-1)))


def to_vector(turn: np.ndarray) -> np.ndarray:
    """(..., 3) rotation vectors (axis times radians, 0..pi) of (..., 3, 3) matrices."""
    turn = np.asarray(turn, np.float64)
    double_sine = np.stack(
        [
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ],
        axis=-1,
    )
    cosine = np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1)
    angle = np.arccos(cosine)
    vector = unit(double_sine) * angle[..., None]
    if np.any(angle > 3.1):  # near half a turn the sine part vanishes: read the axis from the squares
        square = (turn + np.swapaxes(turn, -1, -2)) / 2 - cosine[..., None, None] * np.eye(3)
        longest = square.diagonal(axis1=-2, axis2=-1).argmax(-1)[..., None, None]
        axis = unit(np.take_along_axis(square, longest, -1)[..., 0])
        sign = np.where((axis * double_sine).sum(-1, keepdims=True) < 0, -1.0, 1.0)
        vector = np.where(angle[..., None] > 3.1, axis * sign * angle[..., None], vector)
    return vector


def from_vector(vector: np.ndarray) -> np.ndarray:
    """(..., 3, 3) matrices of (..., 3) rotation vectors (axis times radians)."""
    angle = length(vector)
    return about(vector / np.maximum(angle, 1e-12)[..., None], angle)


def part_of(turn: np.ndarray, part: float) -> np.ndarray:
    """(..., 3, 3) the part 0..1 of turns (..., 3, 3)."""
    return turn if part >= 1.0 else from_vector(part * to_vector(turn))


def twist(turn: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(...) radians in -pi..pi: how far (..., 3, 3) `turn` rolls about unit `axis`, apart from its swing.

    The swing (the shortest turn of the axis) comes after the roll: turn = swing @ about(axis, roll).
    """
    swing = between(axis, turn @ axis)
    roll = np.swapaxes(swing, -1, -2) @ turn
    side = unit(cross(axis, np.eye(3)[np.abs(axis).argmin()]))
    turned = roll @ side
    return np.arctan2((turned * cross(axis, side)).sum(-1), (turned * side).sum(-1))


def fit(model: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(..., 3, 3) turns that take model points (..., N, 3) nearest to seen points (..., N, 3): Kabsch's."""
    u, _, vt = np.linalg.svd(np.swapaxes(seen, -1, -2) @ model)
    u[..., 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt
