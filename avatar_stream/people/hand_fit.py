"""A hand's turn and its joint angles from MediaPipe's 21 points: lengths are known, depth is only a hint."""

from __future__ import annotations

import numpy as np

from avatar_stream.people.handshapes import HIGHEST, LOWEST, Hand, shape
from avatar_stream.turns import fit, from_vector

# How far a point may be off, metres: in the picture, and in the tracker's guess of depth.
_PICTURE_M = 0.003
_DEPTH_M = 0.014
_FINGER_DEPTH_M = 0.010
_PALM_ROWS = (0, 5, 9, 13, 17, 1)  # wrist, four knuckles, the thumb's root
_PALM_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.4])
_SCALE_SPREAD = 0.10  # hands differ from the rig's by about this part
_STEP = 1e-4
# What a finger does when the picture does not say: radians and how strongly.
_USUAL = np.deg2rad([[20, 30, 12, 12]] + [[18, 25, 16, 0]] * 4)
_SPREAD_OF_USUAL = np.deg2rad([[60, 60, 60, 60]] + [[80, 80, 60, 22]] * 4)
_COUPLING = 0.62  # the end joint follows the middle one
_COUPLING_SPREAD = np.deg2rad(24)


def fit_palm(
    hand: Hand, seen_m: np.ndarray, scale: float, before: np.ndarray | None
) -> tuple[np.ndarray, float, float]:
    """The hand's turn and size.

    Args:
        hand: the rig's hand.
        seen_m: (21, 3) metres from the wrist, x right, y up, z towards the viewer.
        scale: the expected size of the seen hand in rig hands.
        before: (3, 3) the last turn, or None; it decides between two turns that look alike.

    Returns:
        (3, 3) accumulated turn, the scale found, and the cost (about 1 per point that is off by its spread).
    """
    root = np.zeros((1, 3))
    model = np.concatenate((root, hand.offsets_m[1:, 0], hand.offsets_m[:1, 0]))
    seen = seen_m[list(_PALM_ROWS)]
    both = np.stack([seen, seen * (1, 1, -1)])  # as seen, and with depth the other way round
    turns = fit(model, both * _PALM_WEIGHTS[:, None])
    sizes = np.full(2, scale)
    weights = np.repeat(_PALM_WEIGHTS[:, None], 3, 1) / (_PICTURE_M, _PICTURE_M, _DEPTH_M)
    weights = weights.reshape(-1)
    for _ in range(7):
        placed = sizes[:, None, None] * (model @ np.swapaxes(turns, 1, 2))
        error = np.concatenate(
            ((placed - seen).reshape(2, -1) * weights, (np.log(sizes / scale) / _SCALE_SPREAD)[:, None]), 1
        )
        slope = np.zeros((2, len(weights) + 1, 4))
        x, y, z = (placed[..., k] for k in range(3))
        zero = np.zeros_like(x)
        # a small turn w moves a point p by w x p
        turn_slope = np.stack(
            [np.stack([zero, z, -y], -1), np.stack([-z, zero, x], -1), np.stack([y, -x, zero], -1)], -2
        )
        slope[:, :-1, :3] = turn_slope.reshape(2, -1, 3) * weights[:, None]
        slope[:, :-1, 3] = placed.reshape(2, -1) * weights
        slope[:, -1, 3] = 1 / _SCALE_SPREAD
        normal = np.swapaxes(slope, 1, 2) @ slope + 1e-3 * np.eye(4)
        step = -np.linalg.solve(normal, np.swapaxes(slope, 1, 2) @ error[..., None])[..., 0]
        turns = from_vector(np.clip(step[:, :3], -0.6, 0.6)) @ turns
        sizes = sizes * np.exp(np.clip(step[:, 3], -0.1, 0.1))
    cost = (error**2).sum(1)
    if before is not None:
        away = np.arccos(np.clip((np.einsum("nij,ij->n", turns, before) - 1) / 2, -1, 1))
        cost = cost + 3.0 * away**2
    best = int(cost.argmin())
    return turns[best], float(np.clip(sizes[best], 0.6, 1.6)), float(cost[best])


class FingerFit:
    """Joint angles of one hand from frame to frame."""

    def __init__(self, hand: Hand):
        """Keep the rig's hand."""
        self._hand = hand
        self._starts = np.stack([shape("relaxed"), shape("s"), shape("five"), shape("bent_b"), shape("claw")])

    def fit(self, seen_m: np.ndarray, turn: np.ndarray, scale: float, before: np.ndarray) -> np.ndarray:
        """Angles that look like the seen fingers.

        Args:
            seen_m: (21, 3) metres from the wrist, x right, y up, z towards the viewer.
            turn: (3, 3) accumulated turn of the hand.
            scale: size of the seen hand in rig hands.
            before: (5, 4) the last angles, radians: one of the starts.

        Returns:
            (5, 4) radians within the limits.
        """
        seen = seen_m[1:].reshape(5, 4, 3) / scale
        bones = (seen - seen[:, :1])[:, 1:] @ turn  # in the hand's unturned axes, from each finger's root
        weight = turn / np.array([_PICTURE_M, _PICTURE_M, _FINGER_DEPTH_M])[:, None]
        angles = np.concatenate((before[None], self._starts))
        for _ in range(8):
            angles = self._improve(angles, bones, weight)
        cost = (self._errors(angles, bones, weight) ** 2).sum(-1)
        best = cost.argmin(0)
        return angles[best, np.arange(5)]

    def _errors(self, angles: np.ndarray, bones: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(..., 5, 14): nine numbers of where three joints are, then what is unusual."""
        points = self._hand.points(self._hand.rotations(angles))
        off = ((points[..., 1:, :] - points[..., :1, :]) - bones) @ weight.T
        usual = (angles - _USUAL) / _SPREAD_OF_USUAL
        coupling = (angles[..., 2:3] - _COUPLING * angles[..., 1:2]) / _COUPLING_SPREAD
        coupling[..., 0, :] = 0
        return np.concatenate((off.reshape(*off.shape[:-2], 9), usual, coupling), -1)

    def _improve(self, angles: np.ndarray, bones: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """One damped Gauss-Newton step of all fingers of all starts, back inside the limits."""
        steps = np.zeros((5, 1, 1, 4))
        steps[1:, 0, 0] = _STEP * np.eye(4)
        errors = self._errors(angles + steps, bones, weight)  # fingers do not depend on each other
        slope = np.moveaxis((errors[1:] - errors[:1]) / _STEP, 0, -1)
        transposed = np.swapaxes(slope, -1, -2)
        normal = transposed @ slope + 2.0 * np.eye(4)
        move = np.linalg.solve(normal, transposed @ errors[0][..., None])[..., 0]
        return np.clip(angles - np.clip(move, -0.7, 0.7), LOWEST, HIGHEST)
