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

from avatar_stream.retarget.layout import (
    ELBOWS,
    FACE_OF_HEAD,
    HAND_OF_BODY,
    HAND_PARENTS,
    HANDS,
    HEAD_ROWS,
    HIPS,
    SHOULDERS,
    WRISTS,
)
from avatar_stream.types import FACE

TABLE = Path(__file__).with_name("tracker_noise.npz")
BODY_ROWS = np.concatenate([SHOULDERS, ELBOWS, WRISTS, HIPS])  # rows of the table's body
_BODY_PARENTS = np.concatenate([SHOULDERS, SHOULDERS, ELBOWS, HIPS])
_FROM_MIDDLE = np.array([0, 1, 6, 7])  # shoulders and hips count from the middle of the shoulders
_FOREHEAD, _CHIN, _EARS = 10, 152, (234, 454)
_TRUNK = np.concatenate([SHOULDERS, HIPS])
_ARM = np.stack([SHOULDERS, ELBOWS, WRISTS])
_LEVELS = (np.array([1, 5, 9, 13, 17]), *(np.array([2, 6, 10, 14, 18]) + k for k in range(3)))
_TAIL = 2.5  # standard deviations; what is further off is a loss, not noise
# A pose that is wrong but whole is just another pose: the network cannot know, and only blurs. So of the random
# error in the picture little is taught: what a drawing shows as inconsistent.
_HAND_SHARE, _FACE_SHARE, _BODY_SHARE = 0.15, 0.5, 0.06
_BODY_RANDOM_PX, _BODY_OFFSET_PX, _HAND_OFFSET_PX = 1.2, 1.0, 1.5  # at most, in the picture
_LENGTH_SPREAD = 0.04  # of arm bones, natural logarithm: live, lengths come from the portrait
_ANCHORS = 32  # places of the face at which its random error is drawn
_EPSILON = 1e-6


@cache
def load_table(path: Path = TABLE) -> dict[str, np.ndarray]:
    """The measured table: arrays by name, float32; see `tracker_study.measure`."""
    with np.load(path) as file:
        return {name: file[name].astype(np.float32) for name in file.files}


def hand_axes(hand: np.ndarray, side: int) -> np.ndarray:
    """Axes of hands: along (wrist to middle knuckle), across (to the index finger), out of the palm.

    Args:
        hand: (..., 21, 3) px.
        side: 0 left, 1 right.

    Returns:
        (..., 3, 3) rows are unit vectors; mirrored hands have mirrored axes.
    """
    along = _unit(hand[..., 9, :] - hand[..., 0, :])
    across = hand[..., 5, :] - hand[..., 17, :]
    across = _unit(across - along * (across * along).sum(-1, keepdims=True))
    palm = np.cross(along, across) * (1.0 if side == 0 else -1.0)
    return np.stack([along, across, palm], axis=-2)


def head_axes(face: np.ndarray) -> np.ndarray:
    """(..., 478, 3) px -> (..., 3, 3) unit rows: to the signer's left ear, to the chin, into the head."""
    left = _unit(face[..., _EARS[1], :] - face[..., _EARS[0], :])
    down = face[..., _CHIN, :] - face[..., _FOREHEAD, :]
    down = _unit(down - left * (down * left).sum(-1, keepdims=True))
    return np.stack([left, down, np.cross(left, down)], axis=-2)


def body_axes(points: np.ndarray) -> np.ndarray:
    """(..., 553, 3) px -> (..., 8, 3, 3) unit rows for `BODY_ROWS`: along the bone, across it, depth."""
    starts = points[..., _BODY_PARENTS, :].copy()
    middle = points[..., SHOULDERS, :].mean(-2, keepdims=True)
    starts[..., _FROM_MIDDLE, :] = middle
    flat = _unit((points[..., BODY_ROWS, :] - starts)[..., :2])
    axes = np.zeros((*flat.shape[:-1], 3, 3), flat.dtype)
    axes[..., 0, :2] = flat
    axes[..., 1, 0], axes[..., 1, 1] = -flat[..., 1], flat[..., 0]
    axes[..., 2, 2] = 1.0
    return axes


def sizes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(..., 553, 3) px -> palms (..., 2), face height (...), shoulder width (...), px."""
    palms = np.stack(
        [_length(points[..., h, :][..., 9, :] - points[..., h, :][..., 0, :]) for h in HANDS], -1
    )
    face = points[..., FACE, :]
    height = _length(face[..., _CHIN, :] - face[..., _FOREHEAD, :])
    shoulders = _length(points[..., 11, :] - points[..., 12, :])
    return palms, height, shoulders


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
    drawn = _Drawn.of(points, rng, amount)
    noisy = points.astype(np.float64)
    moves = _body(noisy, drawn)
    for side, rows in enumerate(HANDS):
        noisy[rows] = _hand(noisy[rows], side, drawn) + moves[WRISTS[side]] * [1, 1, 0]
    shift = drawn.normal(3) * drawn.table["face_shift"] * drawn.shoulders_px * drawn.strength
    shift = _within(_BODY_SHARE * shift, _BODY_RANDOM_PX) + moves[SHOULDERS].mean(0)
    noisy[FACE] = _face(noisy[FACE], drawn) + shift * [1, 1, 0]
    noisy[:33] += moves
    _carry(noisy, points)
    return np.where(np.isfinite(noisy), noisy, points).astype(np.float32)


@dataclass(frozen=True)
class _Drawn:
    """What one call of `tracker_noise` has in common for all parts."""

    table: dict[str, np.ndarray]
    rng: np.random.Generator
    palms_px: np.ndarray
    face_px: float
    shoulders_px: float
    strength: float  # of what is random
    gain: float  # of what is systematic

    @classmethod
    def of(cls, points: np.ndarray, rng: np.random.Generator, amount: float) -> _Drawn:
        palms, face, shoulders = sizes(points.astype(np.float64))
        # Clips differ more than frames: some come out nearly exact, some twice as shaky as usual.
        strength = amount * min(rng.gamma(4.0, 0.25), 2.0)
        return cls(
            load_table(), rng, palms, float(face), float(shoulders), strength, amount * rng.uniform(0, 1)
        )

    def normal(self, shape: int | tuple[int, ...]) -> np.ndarray:
        return np.clip(self.rng.standard_normal(shape), -_TAIL, _TAIL)


def _carry(noisy: np.ndarray, exact: np.ndarray) -> None:
    """Let the body's own points of head and hands go with face and hands."""
    noisy[HEAD_ROWS] += (noisy[FACE] - exact[FACE])[FACE_OF_HEAD]
    for body, row in HAND_OF_BODY.items():
        for side, hand in enumerate(HANDS):
            moved = noisy[hand][row] - exact[hand][row]
            moved[2] += noisy[WRISTS[side], 2] - exact[WRISTS[side], 2]
            noisy[body + side] = exact[body + side] + moved


def _body(points: np.ndarray, drawn: _Drawn) -> np.ndarray:
    """(33, 3) px, how far the body's joints move; arms keep the lengths of their bones."""
    table, unit = drawn.table, drawn.shoulders_px
    random = drawn.normal((len(BODY_ROWS), 3)) * table["body_spread"] * unit * drawn.strength
    random[:, :2] *= _BODY_SHARE
    # An elbow or wrist that is elsewhere is an arm in another pose; shoulders and hips belong to the trunk.
    offset = table["body_offset"] * np.isin(BODY_ROWS, _TRUNK)[:, None]
    local = _within(random, _BODY_RANDOM_PX) + _within(drawn.gain * offset * unit, _BODY_OFFSET_PX)
    moved = points[:33].copy()
    moved[BODY_ROWS] += np.einsum("na,nab->nb", local, body_axes(points))
    for side in (0, 1):
        for bone, (start, end) in enumerate(zip(_ARM[:-1, side], _ARM[1:, side], strict=True)):
            flat = moved[end, :2] - moved[start, :2]
            depth = _bone_depth(points[end] - points[start], flat, bone, drawn)
            moved[end] = moved[start] + [*flat, depth]
    moved[:, 2] -= moved[HIPS, 2].mean() - points[HIPS, 2].mean()  # depth counts from between the hips
    moves = moved - points[:33]
    moves[np.setdiff1d(np.arange(33), BODY_ROWS)] = 0.0
    return moves


def _bone_depth(exact: np.ndarray, flat: np.ndarray, bone: int, drawn: _Drawn) -> float:
    """Depth of an arm's bone as the Retargeter finds it: from what its length loses in the picture, and a guess."""
    length = _length(exact) * np.exp(_LENGTH_SPREAD * drawn.strength * drawn.normal(()))
    depth = np.sqrt(max(length**2 - float(flat @ flat), 0.0))
    away = exact[2] > 0
    wrong = drawn.rng.random() < drawn.table["flips"][bone, int(away)] * min(drawn.strength, 1.0)
    return float(depth if away != wrong else -depth)


def _hand(hand: np.ndarray, side: int, drawn: _Drawn) -> np.ndarray:
    """(21, 3) px: fingers bent a little otherwise, bones as long as before; then tilted in depth as a whole."""
    table, palm_px = drawn.table, drawn.palms_px[side]
    lengths = _length(hand - hand[HAND_PARENTS])
    random = _along_chain(drawn.normal((21, 3)) * table["hand_spread"], float(table["hand_chain"]))
    offset = drawn.gain * table["hand_offset"] * palm_px
    offset *= np.minimum(1.0, _HAND_OFFSET_PX / (_length(offset)[:, None] + _EPSILON))
    local = offset + drawn.strength * _HAND_SHARE * random * palm_px
    turns = drawn.normal(3) * table["hand_turn"] * drawn.strength
    shaped = _turned(hand + local @ hand_axes(hand, side) - hand[0], _HAND_SHARE * turns[2])
    made = np.tile(hand[0], (21, 1))
    for rows in _LEVELS:
        parents = HAND_PARENTS[rows]
        way = _unit(shaped[rows] - shaped[parents])
        made[rows] = made[parents] + way * lengths[rows, None]
    return _tilted(made, made[0], turns)


def _along_chain(random: np.ndarray, share: float) -> np.ndarray:
    """Give each joint's (21, 3) error a share of the one before it on its finger."""
    own = np.sqrt(max(1.0 - share**2, 0.0))
    for rows in _LEVELS[1:]:
        random[rows] = share * random[HAND_PARENTS[rows]] + own * random[rows]
    random[0] = 0.0
    return random


def _face(face: np.ndarray, drawn: _Drawn) -> np.ndarray:
    """(478, 3) px: a face turned a little as a whole, its parts moved with what is near them."""
    table = drawn.table
    centre = face[:468].mean(0)
    shape = (face - centre) / max(drawn.face_px, _EPSILON)
    anchors = drawn.rng.choice(468, _ANCHORS, replace=False)
    apart = ((shape[:, None] - shape[None, anchors]) ** 2).sum(-1)
    near = np.exp(-0.5 * apart / float(table["face_reach"]) ** 2)
    near /= np.maximum(_length(near)[:, None], 0.3)  # far from every anchor nothing moves
    random = (near @ drawn.normal((_ANCHORS, 3))) * table["face_spread"]
    local = drawn.gain * table["face_offset"] + drawn.strength * _FACE_SHARE * random
    turns = drawn.normal(3) * table["face_turn"] * drawn.strength
    moved = _turned(shape + local @ head_axes(face), _FACE_SHARE * turns[2])
    return centre + _tilted(moved, np.zeros(3), turns) * drawn.face_px


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    """(N, 3) turned about the view's axis, radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])


def _tilted(points: np.ndarray, about: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """(N, 3) with the depth that turns about x and y, radians, would give them; the picture stays."""
    tilted = points.copy()
    away = points - about
    tilted[:, 2] += np.tan(turns[0]) * away[:, 1] - np.tan(turns[1]) * away[:, 0]
    return tilted


def _within(moves: np.ndarray, most_px: float) -> np.ndarray:
    """(..., 3) px, in the picture (or along and across a bone) not longer than `most_px`; depth as it is."""
    part = np.minimum(1.0, most_px / (_length(moves[..., :2]) + _EPSILON))
    return moves * np.stack([part, part, np.ones_like(part)], -1)


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt((vectors * vectors).sum(-1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (_length(vectors)[..., None] + _EPSILON)
