"""Rotation matrices as motion needs them: columns are images of the axes, every function takes batches."""

from __future__ import annotations

import math

import numba
import numpy as np

# Compiled, because a pose takes hundreds of these on arrays of a few numbers, where numpy's overhead is
# everything.
_compiled = {"nopython": True, "cache": True, "fastmath": False}


@numba.guvectorize(["(float64[:], float64[:])"], "(n)->(n)", **_compiled)
def unit(vector, out):
    """Scale (..., 3) vectors to length 1; a zero vector stays near zero instead of becoming NaN."""
    length = math.sqrt(max(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2], 1e-18))
    for k in range(3):
        out[k] = vector[k] / length


@numba.guvectorize(["(float64[:], float64[:], float64[:])"], "(n),(n)->(n)", **_compiled)
def cross(a, b, out):
    """Cross product of (..., 3) arrays."""
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]


@numba.guvectorize(["(float64[:], float64, float64[:, :])"], "(n),()->(n,n)", **_compiled)
def about(axis, angle, out):
    """(..., 3, 3) turns by `angle` (...) radians about unit `axis` (..., 3); the batches broadcast."""
    cosine, sine = math.cos(angle), math.sin(angle)
    rest = 1 - cosine
    x, y, z = axis[0], axis[1], axis[2]
    out[0, 0], out[0, 1], out[0, 2] = cosine + x * x * rest, x * y * rest - z * sine, x * z * rest + y * sine
    out[1, 0], out[1, 1], out[1, 2] = x * y * rest + z * sine, cosine + y * y * rest, y * z * rest - x * sine
    out[2, 0], out[2, 1], out[2, 2] = x * z * rest - y * sine, y * z * rest + x * sine, cosine + z * z * rest


@numba.guvectorize(["(float64[:], float64[:], float64[:, :])"], "(n),(n)->(n,n)", **_compiled)
def frame(first, second, out):
    """(..., 3, 3) right-handed axes as columns: `first`, `second` made square to it, their product."""
    length = math.sqrt(max(first[0] * first[0] + first[1] * first[1] + first[2] * first[2], 1e-18))
    x0, x1, x2 = first[0] / length, first[1] / length, first[2] / length
    z0, z1, z2 = (
        x1 * second[2] - x2 * second[1],
        x2 * second[0] - x0 * second[2],
        x0 * second[1] - x1 * second[0],
    )
    length = math.sqrt(max(z0 * z0 + z1 * z1 + z2 * z2, 1e-18))
    z0, z1, z2 = z0 / length, z1 / length, z2 / length
    out[0, 0], out[1, 0], out[2, 0] = x0, x1, x2
    out[0, 1], out[1, 1], out[2, 1] = z1 * x2 - z2 * x1, z2 * x0 - z0 * x2, z0 * x1 - z1 * x0
    out[0, 2], out[1, 2], out[2, 2] = z0, z1, z2


def between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., 3, 3) shortest turn that takes unit vectors `start` to unit vectors `end`."""
    axis = cross(start, end)
    sine = np.sqrt((axis * axis).sum(-1))
    return about(unit(axis), np.arctan2(sine, (start * end).sum(-1)))


def to_vector(turn: np.ndarray) -> np.ndarray:
    """(..., 3) rotation vectors (axis times radians, 0..pi) of (..., 3, 3) matrices."""
    double_sine = np.stack(
        (
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ),
        -1,
    )
    cosine = np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1)
    angle = np.arccos(cosine)
    vector = unit(double_sine) * angle[..., None]
    if np.any(angle > 3.1):  # near half a turn the sine part vanishes: read the axis from the squares
        square = (turn + np.swapaxes(turn, -1, -2)) / 2 - cosine[..., None, None] * np.eye(3)
        column = np.take_along_axis(
            square, square.diagonal(axis1=-2, axis2=-1).argmax(-1)[..., None, None], -1
        )
        axis = unit(column[..., 0])
        sign = np.where((axis * double_sine).sum(-1, keepdims=True) < 0, -1.0, 1.0)
        vector = np.where(angle[..., None] > 3.1, axis * sign * angle[..., None], vector)
    return vector


def from_vector(vector: np.ndarray) -> np.ndarray:
    """(..., 3, 3) matrices of (..., 3) rotation vectors (axis times radians)."""
    angle = np.sqrt((vector * vector).sum(-1))
    return about(vector / np.maximum(angle, 1e-12)[..., None], angle)


def blend(start: np.ndarray, end: np.ndarray, part: float) -> np.ndarray:
    """(..., 3, 3) the turn `part` (0..1) of the shortest way from `start` to `end`."""
    return start @ from_vector(part * to_vector(np.swapaxes(start, -1, -2) @ end))


def twist(turn: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(...) radians in -pi..pi: how far (..., 3, 3) `turn` rolls about unit `axis`, apart from its swing.

    The swing (the shortest turn of the axis) comes after the roll: turn = swing @ about(axis, roll).
    """
    swing = between(axis, turn @ axis)
    roll = np.swapaxes(swing, -1, -2) @ turn
    helper = np.eye(3)[np.abs(axis).argmin()]
    side = unit(cross(axis, helper))
    turned = roll @ side
    return np.arctan2((turned * cross(axis, side)).sum(-1), (turned * side).sum(-1))
