"""Exact landmarks disturbed as those that reach the network live: tracked, then retargeted.

Driven by a table that `avatar-stream study-tracker` measures. What the Retargeter guarantees holds here too: bones
keep their lengths, a hand hangs on its wrist, the body's points of head and hands go with face and hands.
Depth is disturbed as much as measured, the picture little: nothing in a pose tells what was moved there at random,
and a network that is shown it learns to blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from avatar_stream.landmarks import (
    BONE_ENDS,
    BONE_STARTS,
    CHIN,
    EARS_OF_FACE,
    ELBOWS,
    FACE_OF_HEAD,
    FOREHEAD,
    HAND_CHAIN,
    HAND_OF_BODY,
    HAND_PARENTS,
    HANDS,
    HEAD_ROWS,
    HIPS,
    SHOULDERS,
    WRISTS,
    both_hands,
    hand_bones,
)
from avatar_stream.turns import VIEW, about, cross, length, middle, unit
from avatar_stream.types import BODY, FACE

TABLE = Path(__file__).with_name("tracker_noise.npz")
BODY_ROWS = np.concatenate([SHOULDERS, ELBOWS, WRISTS, HIPS])  # rows of the table's body
_BODY_PARENTS = np.concatenate([SHOULDERS, SHOULDERS, ELBOWS, HIPS])
_FROM_MIDDLE = np.array([0, 1, 6, 7])  # shoulders and hips count from the middle of the shoulders
_OF_TRUNK = np.isin(BODY_ROWS, np.concatenate([SHOULDERS, HIPS]))[:, None]
_BONES, _SIDES = np.array([0, 0, 1, 1]), np.array([0, 1])  # rows of the table for the four bones; left, right
_BODY_PALMS = np.array([body + side for body in HAND_OF_BODY for side in (0, 1)])
_PALM_OF_BODY = np.array(list(HAND_OF_BODY.values()))
# Palms (wrist to middle knuckle), face (forehead to chin), shoulders.
_SIZE_ENDS = np.array([*(hand.start + 9 for hand in HANDS), FACE.start + CHIN, SHOULDERS[0]])
_SIZE_STARTS = np.array([*(hand.start for hand in HANDS), FACE.start + FOREHEAD, SHOULDERS[1]])
_TAIL = 2.5  # standard deviations; what is further off is a loss, not noise
# A pose that is wrong but whole is just another pose: the network cannot know, and only blurs. So of the random
# error in the picture little is taught: what a drawing shows as inconsistent.
_HAND_SHARE, _FACE_SHARE, _BODY_SHARE = 0.15, 0.5, 0.06
_BODY_RANDOM_PX, _BODY_OFFSET_PX, _HAND_OFFSET_PX = 1.2, 1.0, 1.5  # at most, in the picture
_LENGTH_SPREAD = 0.04  # of arm bones, natural logarithm: live, lengths come from the portrait
NEAR_PALMS = 0.8  # palm lengths; hands that are nearer to each other are lost more often
_EXAMPLES = 6  # of lost hands, of which the most alike is taken
_MESH_MEAN = np.where(np.arange(478) < 468, 1 / 468, 0.0)  # irises move by themselves
_EPSILON = 1e-6


@cache
def load_table(path: Path = TABLE) -> dict[str, np.ndarray]:
    """The measured table: arrays by name, float64; see `tracker_study.measure` and `tracker_losses.loss_table`."""
    with np.load(path) as file:
        return {name: file[name].astype(np.float64) for name in file.files}


def hand_axes(hands: np.ndarray, side: int | np.ndarray) -> np.ndarray:
    """Axes of hands: along (wrist to middle knuckle), across (to the index finger), out of the palm.

    Args:
        hands: (..., 21, 3) px.
        side: 0 left, 1 right; or one for each of the last hands, (K,) for (..., K, 21, 3).

    Returns:
        (..., 3, 3) rows are unit vectors; mirrored hands have mirrored axes.
    """
    along = unit(hands[..., 9, :] - hands[..., 0, :])
    across = hands[..., 5, :] - hands[..., 17, :]
    across = unit(across - along * (across * along).sum(-1, keepdims=True))
    palm = cross(along, across) * (1.0 - 2.0 * np.asarray(side)[..., None])
    return np.stack([along, across, palm], axis=-2)


def head_axes(face: np.ndarray) -> np.ndarray:
    """(..., 478, 3) px -> (..., 3, 3) unit rows: to the signer's left ear, to the chin, into the head."""
    left = unit(face[..., EARS_OF_FACE[1], :] - face[..., EARS_OF_FACE[0], :])
    down = face[..., CHIN, :] - face[..., FOREHEAD, :]
    down = unit(down - left * (down * left).sum(-1, keepdims=True))
    return np.stack([left, down, cross(left, down)], axis=-2)


def body_axes(points: np.ndarray) -> np.ndarray:
    """(..., 553, 3) px -> (..., 8, 3, 3) unit rows for `BODY_ROWS`: along the bone, across it, depth."""
    starts = points[..., _BODY_PARENTS, :2]
    starts[..., _FROM_MIDDLE, :] = points[..., SHOULDERS, :2].mean(-2, keepdims=True)
    flat = unit(points[..., BODY_ROWS, :2] - starts)
    axes = np.zeros((*flat.shape[:-1], 3, 3), flat.dtype)
    axes[..., 0, :2] = flat
    axes[..., 1, 0], axes[..., 1, 1] = -flat[..., 1], flat[..., 0]
    axes[..., 2, 2] = 1.0
    return axes


def sizes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(..., 553, 3) px -> palms (..., 2), face height (...), shoulder width (...), px."""
    ends, starts = points[..., _SIZE_ENDS, :], points[..., _SIZE_STARTS, :]
    lengths = length(ends - starts)
    return lengths[..., :2], lengths[..., 2], lengths[..., 3]


def tracker_noise(points: np.ndarray, rng: np.random.Generator, amount: float = 1.0) -> np.ndarray:
    """Disturb exact landmarks as tracking and retargeting do.

    Args:
        points: (553, 3) float32, canvas px; what is not finite stays so.
        rng: random numbers.
        amount: 1 as measured, 0 not at all.

    Returns:
        (553, 3) float32.
    """
    if amount <= 0:
        return points.copy()
    drawn = _NoiseDraw.of(points, rng, amount)
    noisy = points.astype(np.float64)
    moves = _body(noisy, drawn)
    hands = both_hands(noisy)
    hands[:] = _hands(hands, drawn)
    hands[..., :2] += moves[WRISTS, None, :2]
    shift = drawn.normal(3) * drawn.table["face_shift"] * drawn.shoulders_px * drawn.strength
    shift = _within(_BODY_SHARE * shift, _BODY_RANDOM_PX) + middle(moves, SHOULDERS)
    noisy[FACE] = _face(noisy[FACE], drawn)
    noisy[FACE, :2] += shift[:2]
    noisy[BODY] += moves
    _carry(noisy, points)
    return np.where(np.isfinite(noisy), noisy, points).astype(np.float32)


def hand_gaps(points: np.ndarray) -> np.ndarray:
    """(..., 553, 3) px -> (...) px in the picture between the nearest points of both hands."""
    left, right = (points[..., rows, None, :2] for rows in HANDS)
    return length(left - right.swapaxes(-2, -3)).min((-2, -1))


def lose_hands(points: np.ndarray, rng: np.random.Generator, share: float = 1.0) -> np.ndarray:
    """Lose hands as the default tracker does: they get the shape and turn that the Retargeter then shows.

    Wrists stay where they are, and bones keep their lengths. Which hand the signer really makes, nothing in such a
    pose tells.

    Args:
        points: (553, 3) float32, canvas px.
        rng: random numbers.
        share: 1 as often as measured, which is more often where hands are near each other; 0 never.

    Returns:
        (553, 3) float32.
    """
    table, chance = load_table(), rng.random(2)
    if (chance >= share * table["lost_share"].max()).all():
        return points
    palms, noisy = sizes(points)[0], points.astype(np.float64)
    hands = both_hands(noisy)
    near = hand_gaps(points) < NEAR_PALMS * palms
    for side in np.flatnonzero(chance < share * table["lost_share"][near.astype(int)]):
        hands[side] = _lost(hands[side], side, rng)
    _carry(noisy, points)
    return np.where(np.isfinite(noisy), noisy, points).astype(np.float32)


def _lost(hand: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """(21, 3) px: what stood for a hand like this one when it was lost."""
    table, axes = load_table(), hand_axes(hand, side)
    own = (hand - hand[0]) @ axes.T / (length(hand[9] - hand[0]) + _EPSILON)
    some = rng.integers(len(table["lost_exact"]), size=_EXAMPLES)
    # The one of a few whose truth is most alike: a hand lost for a moment keeps much of its shape.
    alike = some[length(table["lost_exact"][some] - own).mean(1).argmin()]
    return hand[0] + _with_bones(table["lost_live"][alike] @ axes, hand)


@dataclass(frozen=True)
class _NoiseDraw:
    """What one call of `tracker_noise` has in common for all parts."""

    table: dict[str, np.ndarray]
    rng: np.random.Generator
    palms_px: np.ndarray
    face_px: float
    shoulders_px: float
    strength: float  # of what is random
    gain: float  # of what is systematic

    @classmethod
    def of(cls, points: np.ndarray, rng: np.random.Generator, amount: float) -> _NoiseDraw:
        palms, face, shoulders = sizes(points.astype(np.float64))
        # Clips differ more than frames: some come out nearly exact, some twice as shaky as usual.
        strength = amount * min(rng.gamma(4.0, 0.25), 2.0)
        return cls(
            load_table(), rng, palms, float(face), float(shoulders), strength, amount * rng.uniform(0, 1)
        )

    def normal(self, shape: int | tuple[int, ...]) -> np.ndarray:
        return self.rng.standard_normal(shape).clip(-_TAIL, _TAIL)


def _carry(noisy: np.ndarray, exact: np.ndarray) -> None:
    """Let the body's own points of head and hands go with face and hands."""
    noisy[HEAD_ROWS] += (noisy[FACE] - exact[FACE])[FACE_OF_HEAD]
    moved = (both_hands(noisy) - both_hands(exact))[:, _PALM_OF_BODY]
    moved[..., 2] += (noisy[WRISTS, 2] - exact[WRISTS, 2])[:, None]
    noisy[_BODY_PALMS] = exact[_BODY_PALMS] + moved.swapaxes(0, 1).reshape(-1, 3)


def _body(points: np.ndarray, drawn: _NoiseDraw) -> np.ndarray:
    """(33, 3) px, how far the body's joints move; arms keep the lengths of their bones."""
    table, unit = drawn.table, drawn.shoulders_px
    random = drawn.normal((len(BODY_ROWS), 3)) * table["body_spread"] * (unit * drawn.strength)
    random[:, :2] *= _BODY_SHARE
    # An elbow or wrist that is elsewhere is an arm in another pose; shoulders and hips belong to the trunk.
    offset = table["body_offset"] * _OF_TRUNK * (drawn.gain * unit)
    local = _within(random, _BODY_RANDOM_PX) + _within(offset, _BODY_OFFSET_PX)
    moves = np.zeros((BODY.stop, 3))
    moves[BODY_ROWS] = (local[:, None] @ body_axes(points))[:, 0]
    arms = points[BONE_ENDS] + moves[BONE_ENDS] - points[BONE_STARTS] - moves[BONE_STARTS]
    depths = _bone_depths(points[BONE_ENDS] - points[BONE_STARTS], arms[:, :2], drawn)
    moves[ELBOWS, 2] = points[SHOULDERS, 2] + moves[SHOULDERS, 2] + depths[:2] - points[ELBOWS, 2]
    moves[WRISTS, 2] = points[ELBOWS, 2] + moves[ELBOWS, 2] + depths[2:] - points[WRISTS, 2]
    moves[BODY_ROWS, 2] -= 0.5 * (moves[HIPS[0], 2] + moves[HIPS[1], 2])  # depth counts from between the hips
    return moves


def _bone_depths(exact: np.ndarray, flat: np.ndarray, drawn: _NoiseDraw) -> np.ndarray:
    """Depths (4,) of the arms' bones as the Retargeter finds them: what their lengths lose in the picture, a guess.

    Args:
        exact: (4, 3) px, both upper arms and both forearms.
        flat: (4, 2) px, the same in the picture, disturbed.
        drawn: this call's.
    """
    squares = (exact**2).sum(1) * np.exp(2 * _LENGTH_SPREAD * drawn.strength * drawn.normal(4))
    depths = np.sqrt(np.maximum(squares - (flat**2).sum(1), 0.0))
    away = exact[:, 2] > 0
    flips = drawn.table["flips"][_BONES, away.astype(int)] * min(drawn.strength, 1.0)
    return np.where(away != (drawn.rng.random(4) < flips), depths, -depths)


def _hands(hands: np.ndarray, drawn: _NoiseDraw) -> np.ndarray:
    """(2, 21, 3) px: fingers bent a little otherwise, bones as long as before; then tilted in depth as a whole."""
    table, palms_px = drawn.table, drawn.palms_px[:, None, None]
    random = _chain_mix(float(table["hand_chain"])) @ (drawn.normal((2, 21, 3)) * table["hand_spread"])
    offset = table["hand_offset"] * (drawn.gain * palms_px)
    offset *= np.minimum(1.0, _HAND_OFFSET_PX / (length(offset)[..., None] + _EPSILON))
    local = offset + random * (drawn.strength * _HAND_SHARE * palms_px)
    turns = drawn.normal((2, 3)) * table["hand_turn"] * drawn.strength
    turn = about(VIEW, -_HAND_SHARE * turns[:, 2])
    shaped = hands @ turn + local @ (hand_axes(hands, _SIDES) @ turn)
    return hands[:, :1] + _with_bones(shaped, hands) @ _tilt(turns)


def _with_bones(shaped: np.ndarray, hands: np.ndarray) -> np.ndarray:
    """(..., 21, 3) from the wrist: bones point as in `shaped`, wherever it is, and are as long as in `hands`."""
    ways = hand_bones(shaped)
    ways *= (length(hand_bones(hands)) / (length(ways) + _EPSILON))[..., None]
    return HAND_CHAIN @ ways


@cache
def _chain_mix(share: float) -> np.ndarray:
    """(21, 21): of independent errors, those where each joint has a share of the one before it on its finger."""
    own, mix = np.sqrt(max(1.0 - share**2, 0.0)), np.eye(21)
    mix[0, 0] = 0.0
    for row in np.flatnonzero(HAND_PARENTS):
        mix[row] = share * mix[HAND_PARENTS[row]] + own * mix[row]
    return mix


def _face(face: np.ndarray, drawn: _NoiseDraw) -> np.ndarray:
    """(478, 3) px: a face turned a little as a whole, its parts moved with what is near them."""
    table, modes = drawn.table, drawn.table["face_modes"]
    centre = _MESH_MEAN @ face
    shape = (face - centre) / max(drawn.face_px, _EPSILON)
    random = (modes @ drawn.normal((modes.shape[1], 3))) * table["face_spread"]
    local = drawn.gain * table["face_offset"] + (drawn.strength * _FACE_SHARE) * random
    turns = drawn.normal(3) * table["face_turn"] * drawn.strength
    way = about(VIEW, -_FACE_SHARE * turns[2]) @ _tilt(turns) * drawn.face_px
    return centre + shape @ way + local @ (head_axes(face) @ way)


def _tilt(turns: np.ndarray) -> np.ndarray:
    """(..., 3) radians -> (..., 3, 3): depth that turns about x and y would give, while the picture stays."""
    tilt = np.zeros((*turns.shape, 3))
    tilt[...] = np.eye(3)
    slope = np.tan(turns)
    tilt[..., 0, 2], tilt[..., 1, 2] = -slope[..., 1], slope[..., 0]
    return tilt


def _within(moves: np.ndarray, most_px: float) -> np.ndarray:
    """(..., 3) px, in the picture (or along and across a bone) not longer than `most_px`; depth as it is."""
    moves[..., :2] *= np.minimum(1.0, most_px / (length(moves[..., :2]) + _EPSILON))[..., None]
    return moves
