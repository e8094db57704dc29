"""Small meshes for what people wear: a tube along any path, a bead."""

from __future__ import annotations

import numpy as np


def swept(
    path: np.ndarray, outward: np.ndarray, halves_m: np.ndarray | float, closed: bool = False, sides: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An ellipse swept along a path: (V, 3) positions and normals, (T, 3) triangles.

    Args:
        path: (N, 3) metres.
        outward: (3,) or (N, 3), roughly across the path.
        halves_m: the ellipse's half axes outward and across, one for all or (N, 2).
        closed: the path ends where it begins; else its ends get flat caps.
        sides: of the polygon that stands for the ellipse.
    """
    count = len(path)
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    out = outward - ahead * (ahead * outward).sum(1, keepdims=True)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    across = np.cross(ahead, out)
    half = np.broadcast_to(halves_m, (count, 2))[:, None]
    angles = 2 * np.pi * np.arange(sides) / sides
    cosine, sine = np.cos(angles)[None, :, None], np.sin(angles)[None, :, None]
    rings = path[:, None] + cosine * half[..., :1] * out[:, None] + sine * half[..., 1:] * across[:, None]
    normals = cosine * half[..., 1:] * out[:, None] + sine * half[..., :1] * across[:, None]
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    row, k = np.divmod(np.arange((count if closed else count - 1) * sides), sides)
    a, b = row * sides + k, row * sides + (k + 1) % sides
    c, d = ((row + 1) % count) * sides + k, ((row + 1) % count) * sides + (k + 1) % sides
    triangles = [np.stack([a, b, c], 1), np.stack([b, d, c], 1)]
    positions, normals = [rings.reshape(-1, 3)], [normals.reshape(-1, 3)]
    for end, way in () if closed else ((0, -1), (count - 1, 1)):
        start = sum(len(part) for part in positions)
        positions += [rings[end], path[end : end + 1]]
        normals.append(np.tile(way * ahead[end], (sides + 1, 1)))
        around = np.arange(sides)
        fan = np.stack([np.full(sides, sides), around, (around + 1) % sides], 1)
        triangles.append(start + fan[:, ::way])
    return np.concatenate(positions), np.concatenate(normals), np.concatenate(triangles)


def loop(centre: np.ndarray, first: np.ndarray, second: np.ndarray, count: int = 24) -> np.ndarray:
    """(count, 3) an ellipse with half axes `first` and `second`, metres."""
    angles = 2 * np.pi * np.arange(count)[:, None] / count
    return centre + np.cos(angles) * first + np.sin(angles) * second


def ball(centre: np.ndarray, radius_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A round bead: (V, 3) positions and normals, (T, 3) triangles; centre (3,), metres."""
    angles = np.linspace(-1.4, 1.4, 6)
    path = centre + radius_m * np.sin(angles)[:, None] * [0, 0, 1]
    return swept(path, np.array([0, 1.0, 0]), radius_m * np.cos(angles)[:, None] * [1, 1])
