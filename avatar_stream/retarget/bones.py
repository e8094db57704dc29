"""Bones in three dimensions: depth from foreshortening, blends of directions, elbows from two lengths.

A frame has some hundred tiny arrays, on which numpy takes its time for the call and not for the sum; what is used
most has a shorter way here.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

_EPSILON = 1e-9


def length(vectors: np.ndarray) -> np.ndarray:
    """(..., N) -> (...) lengths."""
    return np.sqrt(np.einsum("...i,...i", vectors, vectors))


def unit(vectors: np.ndarray) -> np.ndarray:
    """(..., 3) -> the same directions with length 1."""
    return vectors / (length(vectors)[..., None] + _EPSILON)


def middle(points: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """(N, D) points and two rows -> (D,) the middle between these two."""
    return 0.5 * (points[pair[0]] + points[pair[1]])


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3,) product of two (3,) vectors."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 2 or 3) and (M, 2 or 3) points -> (N, M) distances in the picture."""
    x, y = (a[:, None, axis] - b[:, axis] for axis in (0, 1))
    return np.sqrt(x * x + y * y)


def lift_bones(flat: np.ndarray, lengths: np.ndarray, depth_sign: np.ndarray) -> np.ndarray:
    """Give bones seen in a picture their depth, from what their length has lost.

    Args:
        flat: (N, 2) bones in the picture.
        lengths: (N,) their true lengths in the same unit; a bone that looks longer lies flat.
        depth_sign: (N,) -1 towards the camera, 1 away.

    Returns:
        (N, 3) directions of length 1.
    """
    flat = flat / np.maximum(lengths, length(flat))[:, None]
    depth = np.sqrt(np.maximum(1.0 - (flat**2).sum(axis=1), 0.0))
    return np.concatenate([flat, (depth * depth_sign)[:, None]], axis=1)


def blend_directions(rest: np.ndarray, seen: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N, 3) from `rest` (weight 0) to `seen` (weight 1); opposite directions meet in front of the body."""
    weight = weight[:, None]
    ahead = weight * (1.0 - weight) * np.array([0.0, 0.0, -0.5])
    return unit((1.0 - weight) * rest + weight * seen + ahead)


def turn_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(3, 3) the smallest rotation that takes unit vector `start` to `end`."""
    axis, cosine = cross(start, end), float(start @ end)
    if cosine < -0.999:  # no smallest one: half a turn about any axis across
        across = unit(cross(start, np.array([0.0, 0.0, 1.0] if abs(start[2]) < 0.9 else [1.0, 0.0, 0.0])))
        return 2.0 * np.outer(across, across) - np.eye(3)
    skew = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + cosine)


def solve_elbow(
    shoulder: np.ndarray, elbow: np.ndarray, wrist: np.ndarray, upper: float, fore: float
) -> tuple[np.ndarray, np.ndarray]:
    """Put an arm's wrist somewhere and find the elbow nearest to where it was.

    Args:
        shoulder: (3,) px.
        elbow: (3,) where the elbow was; says to which side the arm bends.
        wrist: (3,) where the wrist shall be. Out of reach: depth gives way first, then the picture.
        upper: length of the upper arm, px.
        fore: length of the forearm, px.

    Returns:
        (3,) elbow and (3,) wrist; their distances are exactly the two lengths.
    """
    reach = wrist - shoulder
    longest, shortest = 0.999 * (upper + fore), abs(upper - fore) * 1.001 + 1e-6
    if math.hypot(*reach) > longest:
        flat = math.hypot(reach[0], reach[1])
        reach = reach.copy()
        if flat >= longest:
            reach[:2] *= 0.9999 * longest / flat
            flat = 0.9999 * longest
        reach[2] = math.copysign(math.sqrt(longest**2 - flat**2), reach[2])
    distance = max(math.hypot(*reach), _EPSILON)
    if distance < shortest:
        reach, distance = reach * (shortest / distance), shortest
    along = reach / distance
    advance = (upper**2 - fore**2 + distance**2) / (2.0 * distance)
    height = math.sqrt(max(upper**2 - advance**2, 0.0))
    bend = elbow - shoulder
    bend = bend - along * (bend @ along)
    if math.hypot(*bend) < 1e-3 * upper:  # a straight arm has no side: let the elbow sink
        bend = np.array([0.0, 1.0, 0.2])
        bend = bend - along * (bend @ along)
    return shoulder + advance * along + height * unit(bend), shoulder + reach


def part_of_turn(turn: np.ndarray, weight: float) -> np.ndarray:
    """(3, 3) the part `weight` (0..1) of the rotation `turn` (3, 3)."""
    return turn if weight >= 1.0 else cv2.Rodrigues(weight * cv2.Rodrigues(turn)[0])[0]
