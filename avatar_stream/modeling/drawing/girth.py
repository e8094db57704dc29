"""How thick a person's trunk, arms and head are, read from the matte of their picture.

The solids of `geometry.py` are a neutral person. A solid thicker than the real arm fetches background as its look and
promises the network a silhouette that is not there, a thinner trunk makes a broad person narrow; so every avatar's
solids take their girth from its own matte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from avatar_stream import types

# Half the thickness of a neutral person, canvas px; the canonical frame gives every adult about the same.
SHOULDER_PX, ELBOW_PX, WRIST_PX = 21.5, 14.8, 10.4  # medians of rendered portraits
# Heights of the trunk, from the shoulders (0) to the hips (1), and half a neutral person's width there, in halves of
# the distance from joint to joint; medians of rendered people whose arms are lifted.
TRUNK_SHARES = (0.0, 0.3, 0.55, 0.8, 1.0)
TRUNK_WIDTHS = (1.16, 1.15, 1.29, 1.57, 2.13)
TRUNK_JOINTS = (types.LEFT_SHOULDER, types.RIGHT_SHOULDER, types.LEFT_HIP, types.RIGHT_HIP)
_ARMS = (
    (types.LEFT_SHOULDER, types.LEFT_ELBOW, types.LEFT_WRIST, types.LEFT_HAND),
    (types.RIGHT_SHOULDER, types.RIGHT_ELBOW, types.RIGHT_WRIST, types.RIGHT_HAND),
)
_MIDDLE_TIP = 12  # of a hand's landmarks
_AXES = np.array(
    [
        axis
        for shoulder, elbow, wrist, hand in _ARMS
        for axis in ((shoulder, elbow), (elbow, wrist), (hand.start, hand.start + _MIDDLE_TIP))
    ]
)
_REACH_PX, _TRUNK_REACH_PX = 48, 160
_LEAST, _MOST = 0.45, 1.9  # beyond this a ray has met something else: the torso, the other arm, wide hair
_SLIM, _STOUT = 0.7, 1.7  # the same for the trunk
_HAND_PX = (20.0, 10.0)  # half the thickness of a hand that hangs, at wrist and fingertips
_CORE = 0.5  # a ray that comes so near to an arm's axis, in its radii, has met the arm
_ARM_RIM_PX = 45  # an arm's outer rim is no further than this from its core, however wide the sleeve
_BEHIND_ARM = 0.8  # trunks reach so many radii short of the axis of an arm that touches them
_LEAST_HALF_PX = 20  # a trunk seen from the side says nothing of its width
_STOUT_AS_ARMS = 0.25  # power of the arms' thickness that says most of a trunk unseen; of rendered people
_MOST_INSET = 0.8
_MATTE = 128


@dataclass(frozen=True)
class Girth:
    """What a matte says.

    Attributes:
        upper_arm, elbow, wrist: half the arm's thickness there, as multiples of the neutral person's.
        skull: half the head's width with its hair, a little above the ears, in neutral radii of the skull.
        crown: height of the head with its hair, from between the ears, in the same.
        trunk: (5,) half the trunk's width at `TRUNK_SHARES`, in halves of the distance from joint to joint there.
        inset: how far below and inside the tracked shoulders the arms begin, in `SHOULDER_PX`.
    """

    upper_arm: float = 1.0
    elbow: float = 1.0
    wrist: float = 1.0
    skull: float = 1.1
    crown: float = 1.9
    trunk: tuple[float, ...] = TRUNK_WIDTHS
    inset: float = 0.0


def measure_girth(alpha: np.ndarray, points: np.ndarray, head: tuple[np.ndarray, np.ndarray, float]) -> Girth:
    """Read a person's girth from their matte.

    Args:
        alpha: (512, 512) uint8, the picture's matte in the canonical signing frame.
        points: (553, 3) float32 landmarks in it, canvas px, NaN where not seen.
        head: middle between the ears (2,), unit vector up (2,), neutral radius of the skull, all canvas px.

    Returns:
        The Girth; what the matte does not show freely (an arm before the trunk) stays neutral.
    """
    places = points[:, :2]
    arms = _arms(alpha, places)
    trunk = _trunk(alpha, places, _limbs(places, *arms), arms[0] ** _STOUT_AS_ARMS)
    inset = _inset(alpha, places, arms[0])
    middle, up, radius = head
    if not (np.isfinite(middle).all() and np.isfinite(up).all()):
        return Girth(*arms, trunk=trunk, inset=inset)
    aside = np.array([-up[1], up[0]])
    sides = [_run_px(alpha, middle + 0.5 * radius * up, way * aside, 2.0 * radius) for way in (1.0, -1.0)]
    top = _run_px(alpha, middle, up, 3.0 * radius)
    skull, crown = np.clip(np.mean(sides) / radius, 0.9, 1.5), np.clip(top / radius, 1.4, 2.5)
    return Girth(*arms, float(skull), float(crown), trunk, inset)


def _arms(alpha: np.ndarray, places: np.ndarray) -> tuple[float, float, float]:
    found: dict[str, list[float]] = {"upper_arm": [], "elbow": [], "wrist": []}
    for shoulder, elbow, wrist, _ in _ARMS:
        upper, lower = (shoulder, elbow, SHOULDER_PX, ELBOW_PX), (elbow, wrist, ELBOW_PX, WRIST_PX)
        for name, (a, b, start_px, end_px), share in (
            ("upper_arm", upper, 0.45), ("upper_arm", upper, 0.65), ("elbow", upper, 0.9),
            ("elbow", lower, 0.15), ("wrist", lower, 0.6), ("wrist", lower, 0.85),
        ):  # fmt: skip
            neutral_px = start_px + share * (end_px - start_px)
            found[name].append(_half_px(alpha, places[a], places[b], share) / neutral_px)
    return _middle(found["upper_arm"]), _middle(found["elbow"]), _middle(found["wrist"])


class _Limbs(NamedTuple):
    """What may hide the trunk: K axes from start to end, (K, 2), and their radii at either, (K,), canvas px."""

    starts: np.ndarray
    ends: np.ndarray
    start_px: np.ndarray
    end_px: np.ndarray


def _limbs(places: np.ndarray, upper_arm: float, elbow: float, wrist: float) -> _Limbs:
    """Arms and hands that can be seen."""
    radii = (SHOULDER_PX * upper_arm, ELBOW_PX * elbow), (ELBOW_PX * elbow, WRIST_PX * wrist), _HAND_PX
    starts, ends = places[_AXES[:, 0]], places[_AXES[:, 1]]
    start_px, end_px = np.tile(np.array(radii), (len(_ARMS), 1)).T
    seen = np.isfinite(starts).all(axis=1) & np.isfinite(ends).all(axis=1)
    return _Limbs(starts[seen], ends[seen], start_px[seen], end_px[seen])


def _trunk(alpha: np.ndarray, places: np.ndarray, limbs: _Limbs, usual: float) -> tuple[float, ...]:
    """Half the trunk's width at `TRUNK_SHARES`.

    Where arms hide both sides it is as stout as elsewhere, or as is `usual` for such arms, and ends between the arms'
    inner and outer rims.
    """
    left, right, left_hip, right_hip = places[list(TRUNK_JOINTS)]
    bounds = []
    for share, neutral in zip(TRUNK_SHARES[1:], TRUNK_WIDTHS[1:], strict=True):
        a, b = left + share * (left_hip - left), right + share * (right_hip - right)
        sides = [_side(alpha, (a + b) / 2, way * (a - b) / 2, limbs) for way in (1.0, -1.0)]
        bounds.append(_joined(np.array(sides) / neutral))
    rest = _middle([least for least, most in bounds if least == most], _SLIM, _STOUT, usual)
    # At the shoulders the arms begin, which hide where the trunk ends.
    found = [1.0, *(min(max(rest, least), most) for least, most in bounds)]
    return tuple(factor * neutral for factor, neutral in zip(found, TRUNK_WIDTHS, strict=True))


def _inset(alpha: np.ndarray, places: np.ndarray, upper_arm: float) -> float:
    """How far shoulders of this thickness must be drawn inwards to stay within the matte.

    On people in thick clothes trackers put the joint near the cloth's rim; what is drawn beyond it the network fills.
    """
    runs_px = [
        _run_px(alpha, places[joint], outwards, _REACH_PX)
        for joint, outwards in zip(TRUNK_JOINTS, -shoulder_insets(places), strict=False)
        if np.isfinite([places[joint], outwards]).all()
    ]
    seen = [run_px / SHOULDER_PX for run_px in runs_px if run_px > 0]
    return float(np.clip(upper_arm - min(seen), 0.0, _MOST_INSET)) if seen else 0.0


def shoulder_insets(points: np.ndarray) -> np.ndarray:
    """(2, D) unit vectors from either shoulder down and towards the trunk's middle; points: (553, D)."""
    left, right, left_hip, right_hip = points[list(TRUNK_JOINTS)]
    across, down = _unit(right - left), _unit(left_hip + right_hip - left - right)
    return np.stack([_unit(down + across), _unit(down - across)])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / (np.sqrt(vector @ vector) + 1e-6)


def _joined(sides: np.ndarray) -> tuple[float, float]:
    """Least and most width by both sides, (2, 2) in neutral widths; the same twice where at least one is seen."""
    sides = sides[(sides[:, 1] > _SLIM) & (sides[:, 0] < _STOUT)]
    seen = sides[sides[:, 0] == sides[:, 1], 0]
    if len(seen):
        return float(seen.mean()), float(seen.mean())
    least, most = sides.min(axis=0) if len(sides) else (_SLIM, _STOUT)
    return float(least), float(most)


def _side(alpha: np.ndarray, middle: np.ndarray, half: np.ndarray, limbs: _Limbs) -> tuple[float, float]:
    """How far the trunk reaches along `half` at least and at most, in its lengths; the same twice where it is seen."""
    length = np.linalg.norm(half)
    if not length > _LEAST_HALF_PX:
        return 0.0, np.inf
    way = half / length
    run = int(_run_px(alpha, middle, way, _TRUNK_REACH_PX))
    beyond = middle + run * way
    if run in (0, _TRUNK_REACH_PX) or not ((beyond > 0) & (beyond < alpha.shape[::-1])).all():
        return 0.0, np.inf  # no trunk there, or it goes on beyond the picture
    path = middle + way * np.arange(run)[:, None]
    return float(_hidden_from(path, limbs) / length), float(run / length)


def _hidden_from(path: np.ndarray, limbs: _Limbs) -> float:
    """Where limbs begin to hide the end of a path, (N, 2) a px a step, N where none does.

    Trunks were found to end no nearer than that.
    """
    bones, apart = limbs.ends - limbs.starts, path[:, None] - limbs.starts
    along = np.clip((apart * bones).sum(axis=2) / ((bones * bones).sum(axis=1) + 1e-6), 0.0, 1.0)
    apart -= along[..., None] * bones
    radii = limbs.start_px + along * (limbs.end_px - limbs.start_px)
    depths = np.sqrt((apart * apart).sum(axis=2)) / radii
    steps, met = np.nonzero(depths < _CORE)
    hiding = np.unique(met[steps >= len(path) - _ARM_RIM_PX])
    nearest = depths[:, hiding].argmin(axis=0)
    return float(np.min(nearest - _BEHIND_ARM * radii[nearest, hiding], initial=len(path)))


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


def _middle(factors: list[float], least: float = _LEAST, most: float = _MOST, unknown: float = 1.0) -> float:
    sure = [factor for factor in factors if least < factor < most]
    return float(np.median(sure)) if sure else unknown
