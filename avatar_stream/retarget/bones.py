"""Bones of arms: depth from foreshortening, blends of directions, elbows from two lengths."""

from __future__ import annotations

import math

import numpy as np

from avatar_stream.turns import length, unit


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
    distance = max(math.hypot(*reach), 1e-9)
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
