"""Rotation matrices as motion needs them: columns are images of the axes, every function takes batches."""

from __future__ import annotations

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale (..., 3) vectors to length 1; a zero vector stays near zero instead of becoming NaN."""
    return vectors / np.sqrt(np.maximum((vectors * vectors).sum(-1, keepdims=True), 1e-18))


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of (..., 3) arrays. `np.cross` costs five times as much on small arrays."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return np.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), -1)


def about(axis: np.ndarray, angle: np.ndarray | float) -> np.ndarray:
    """Turn by `angle` (radians, any batch shape) about unit `axis` (..., 3).

    Returns:
        (..., 3, 3) rotation matrices; the batch shapes of both arguments broadcast.
    """
    angle = np.asarray(angle, np.float64)
    shape = np.broadcast_shapes(angle.shape, axis.shape[:-1])
    cosine, sine = np.cos(angle), np.sin(angle)
    rest = 1 - cosine
    x, y, z = axis[..., 0], axis[..., 1], axis[..., 2]
    out = np.empty((*shape, 3, 3))
    xy, xz, yz = x * y * rest, x * z * rest, y * z * rest
    xs, ys, zs = x * sine, y * sine, z * sine
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = cosine + x * x * rest, xy - zs, xz + ys
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = xy + zs, cosine + y * y * rest, yz - xs
    out[..., 2, 0], out[..., 2, 1], out[..., 2, 2] = xz - ys, yz + xs, cosine + z * z * rest
    return out


def frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., 3, 3) right-handed axes as columns: `first`, then `second` made square to it, then their product."""
    x = unit(first)
    z = unit(cross(x, second))
    return np.stack((x, cross(z, x), z), -1)


def between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., 3, 3) shortest turn that takes unit vectors `start` to unit vectors `end`."""
    axis = cross(start, end)
    sine = np.sqrt((axis * axis).sum(-1))
    return about(unit(axis), np.arctan2(sine, (start * end).sum(-1)))


def to_vector(turn: np.ndarray) -> np.ndarray:
    """(..., 3) rotation vectors (axis times radians, 0..pi) of (..., 3, 3) matrices."""
    double_sine = np.stack((turn[..., 2, 1] - turn[..., 1, 2], turn[..., 0, 2] - turn[..., 2, 0],
                            turn[..., 1, 0] - turn[..., 0, 1]), -1)
    cosine = np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1)
    angle = np.arccos(cosine)
    vector = unit(double_sine) * angle[..., None]
    if np.any(angle > 3.1):  # near half a turn the sine part vanishes: read the axis from the squares
        square = (turn + np.swapaxes(turn, -1, -2)) / 2 - cosine[..., None, None] * np.eye(3)
        column = np.take_along_axis(square, square.diagonal(axis1=-2, axis2=-1).argmax(-1)[..., None, None], -1)
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
    swing = between(np.broadcast_to(axis, turn.shape[:-1]), turn @ axis)
    roll = np.swapaxes(swing, -1, -2) @ turn
    helper = np.eye(3)[np.abs(axis).argmin()]
    side = unit(cross(axis, helper))
    turned = roll @ side
    return np.arctan2((turned * cross(axis, side)).sum(-1), (turned * side).sum(-1))
