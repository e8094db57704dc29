"""How thick a person's arms and head are, read from the matte of their picture.

The solids of `geometry.py` are a neutral person. A solid thicker than the real arm fetches background as its look and
promises the network a silhouette that is not there; so every avatar's solids take their girth from its own matte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar_stream import types

# Half the thickness of a neutral person, canvas px; the canonical frame gives every adult about the same.
SHOULDER_PX, ELBOW_PX, WRIST_PX = 21.5, 14.8, 10.4  # medians of rendered portraits
_REACH_PX = 48
_LEAST, _MOST = 0.45, 1.7  # beyond this a ray has met something else: the torso, the other arm, wide hair
_MATTE = 128


@dataclass(frozen=True)
class Girth:
    """What a matte says.

    Attributes:
        upper_arm, elbow, wrist: half the arm's thickness there, as multiples of the neutral person's.
        skull: half the head's width with its hair, a little above the ears, in neutral radii of the skull.
        crown: height of the head with its hair, from between the ears, in the same.
    """

    upper_arm: float = 1.0
    elbow: float = 1.0
    wrist: float = 1.0
    skull: float = 1.1
    crown: float = 1.9


def measure_girth(alpha: np.ndarray, points: np.ndarray, head: tuple[np.ndarray, np.ndarray, float]) -> Girth:
    """Read a person's girth from their matte.

    Args:
        alpha: (512, 512) uint8, the picture's matte in the canonical signing frame.
        points: (553, 3) float32 landmarks in it, canvas px, NaN where not seen.
        head: middle between the ears (2,), unit vector up (2,), neutral radius of the skull, all canvas px.

    Returns:
        The Girth; what the matte does not show freely (an arm before the trunk) stays neutral.
    """
    upper_arm, elbow, wrist = _arms(alpha, points[:, :2])
    middle, up, radius = head
    if not (np.isfinite(middle).all() and np.isfinite(up).all()):
        return Girth(upper_arm, elbow, wrist)
    aside = np.array([-up[1], up[0]])
    sides = [_run_px(alpha, middle + 0.5 * radius * up, way * aside, 2.0 * radius) for way in (1.0, -1.0)]
    top = _run_px(alpha, middle, up, 3.0 * radius)
    return Girth(
        upper_arm,
        elbow,
        wrist,
        float(np.clip(np.mean(sides) / radius, 0.9, 1.5)),
        float(np.clip(top / radius, 1.4, 2.5)),
    )


def _arms(alpha: np.ndarray, places: np.ndarray) -> tuple[float, float, float]:
    found: dict[str, list[float]] = {"upper_arm": [], "elbow": [], "wrist": []}
    for shoulder, elbow, wrist in (
        (types.LEFT_SHOULDER, types.LEFT_ELBOW, types.LEFT_WRIST),
        (types.RIGHT_SHOULDER, types.RIGHT_ELBOW, types.RIGHT_WRIST),
    ):
        upper, lower = (shoulder, elbow, SHOULDER_PX, ELBOW_PX), (elbow, wrist, ELBOW_PX, WRIST_PX)
        for name, (a, b, start_px, end_px), share in (
            ("upper_arm", upper, 0.45), ("upper_arm", upper, 0.65), ("elbow", upper, 0.9),
            ("elbow", lower, 0.15), ("wrist", lower, 0.6), ("wrist", lower, 0.85),
        ):  # fmt: skip
            neutral_px = start_px + share * (end_px - start_px)
            found[name].append(_half_px(alpha, places[a], places[b], share) / neutral_px)
    return tuple(_middle(values) for values in found.values())


def _half_px(alpha: np.ndarray, a: np.ndarray, b: np.ndarray, share: float) -> float:
    """Half the thickness across the bone from a to b; the freer side counts, for the other may touch the trunk."""
    bone = b - a
    length = np.linalg.norm(bone)
    if not length > 40:
        return np.nan
    place, across = a + share * bone, np.array([-bone[1], bone[0]]) / length
    return min(_run_px(alpha, place, way * across, _REACH_PX) for way in (1.0, -1.0))


def _run_px(alpha: np.ndarray, place: np.ndarray, way: np.ndarray, reach_px: float) -> float:
    """How far the matte goes on from a place in one direction; `reach_px` where it does not end."""
    steps = np.arange(0.0, reach_px, 1.0)
    x, y = np.rint(place[:, None] + way[:, None] * steps - 0.5).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < alpha.shape[1]) & (y < alpha.shape[0])
    solid = inside & (alpha[np.clip(y, 0, alpha.shape[0] - 1), np.clip(x, 0, alpha.shape[1] - 1)] >= _MATTE)
    return float(np.argmin(solid)) if not solid.all() else reach_px


def _middle(factors: list[float]) -> float:
    sure = [factor for factor in factors if _LEAST < factor < _MOST]
    return float(np.median(sure)) if sure else 1.0
