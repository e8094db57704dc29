"""A small reader of fingerspelled letters: it names the handshape of 21 landmarks that MediaPipe found.

Logistic regression, trained on rendered people alone by `scripts/train_reader.py`. It asks whether an avatar's hand is
as legible as its model's: what it cannot read there is not asked of the avatar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from avatar_stream.lab.renders.signing import PostureSampler
from avatar_stream.lab.training.tracker_noise import hand_axes
from avatar_stream.people.expressions import MORPHS
from avatar_stream.people.handshapes import LETTERS, shape
from avatar_stream.people.postures import Posture, RigBody, portrait_arm
from avatar_stream.people.skeleton import RigPose

WEIGHTS = Path(__file__).with_name("reader.npz")
# Letters of the same shape (H as U, J as I, P as K, Q as G) are one: the reader does not see where a hand points.
SHAPES = tuple(sorted({name for letter, name in LETTERS.items() if letter.isalpha()}))
SURE = 0.5  # probability from which a shape counts as read where nobody says which it is
_TIPS = np.array([4, 8, 12, 16, 20])
_FIRST, _SECOND = np.triu_indices(5, 1)
_FINGERS = np.array(
    [[0, 1, 2, 3, 4], [0, 5, 6, 7, 8], [0, 9, 10, 11, 12], [0, 13, 14, 15, 16], [0, 17, 18, 19, 20]]
)


def features(hand: np.ndarray, side: int) -> np.ndarray:
    """What is read of a hand, free of its place, size, turn and side.

    Args:
        hand: (21, 3) px, depth smaller is nearer.
        side: 0 the signer's left, 1 right.

    Returns:
        (98,) float64: places along, across and out of the palm and distances of the fingers' tips in palm lengths,
        bends as cosines, and how straight fingers stand in the picture.
    """
    hand = hand.astype(np.float64)
    away = (hand - hand[0]) / max(float(np.linalg.norm(hand[9] - hand[0])), 1e-6)
    own = away @ hand_axes(hand, side).T
    tips = away[_TIPS]
    bones = np.diff(away[_FINGERS], axis=1)
    bones /= np.maximum(np.linalg.norm(bones, axis=2, keepdims=True), 1e-6)
    bends = (bones[:, 1:] * bones[:, :-1]).sum(2).ravel()
    apart = np.linalg.norm(tips[_FIRST] - tips[_SECOND], axis=1)
    flat = np.linalg.norm(away[_TIPS, :2] - away[_FINGERS[:, 1], :2], axis=1)
    reach = np.linalg.norm(tips, axis=1)
    return np.concatenate([own.ravel(), bends, apart, flat, reach])


@dataclass(frozen=True)
class Reader:
    """Names handshapes.

    Attributes:
        names: of the shapes, in the order of the columns.
        middle, spread: (F,) of the features in training.
        weights: (F + 1, shapes), the last row is the offset.
    """

    names: tuple[str, ...]
    middle: np.ndarray
    spread: np.ndarray
    weights: np.ndarray

    @staticmethod
    @cache
    def load(path: Path = WEIGHTS) -> Reader:
        """Read the weights that ship, once."""
        with np.load(path) as file:
            arrays = {name: file[name] for name in ("middle", "spread", "weights")}
            return Reader(tuple(file["names"].tolist()), **arrays)

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) features -> (N, shapes), each row together 1."""
        values = np.clip((rows - self.middle) / self.spread, -4, 4) @ self.weights[:-1] + self.weights[-1]
        values = np.exp(values - values.max(axis=1, keepdims=True))
        return values / values.sum(axis=1, keepdims=True)

    def read(self, hand: np.ndarray | None, side: int) -> tuple[str | None, float]:
        """The likeliest shape of a hand (21, 3) px, and its probability; None, 0 without a hand."""
        if hand is None:
            return None, 0.0
        found = self.probabilities(features(hand, side)[None])[0]
        return self.names[int(found.argmax())], float(found.max())


def fit(rows: np.ndarray, labels: np.ndarray, names: tuple[str, ...], penalty: float = 1e-3) -> Reader:
    """Train the reader.

    Args:
        rows: (N, F) features.
        labels: (N,) int, columns of `names`.
        names: of the shapes.
        penalty: on squared weights.
    """
    from scipy.optimize import minimize

    middle, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-3)
    inputs = np.column_stack([np.clip((rows - middle) / spread, -4, 4), np.ones(len(rows))])
    wanted = np.eye(len(names))[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(inputs.shape[1], -1)
        values = inputs @ weights
        values -= values.max(axis=1, keepdims=True)
        logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        decay = penalty * weights
        decay[-1] = 0.0
        slope = inputs.T @ (np.exp(logs) - wanted) / len(rows) + 2 * decay
        return float(-(logs * wanted).sum() / len(rows) + (decay * weights).sum()), slope.ravel()

    start = np.zeros(inputs.shape[1] * len(names))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return Reader(names, middle, spread, found.reshape(inputs.shape[1], -1))


def spelled(
    bind_m: np.ndarray, random: np.random.Generator, names: Sequence[str] = SHAPES
) -> Iterator[tuple]:
    """One person spells: name of the shape, side (0 left, 1 right), `RigPose`; each shape once, in any order.

    Args:
        bind_m: (J, 3) joint positions in the bind pose, metres.
        random: where chance comes from: which hand, its turn, how exactly the shape is made.
        names: which shapes.
    """
    figure = RigBody(bind_m)
    signer = PostureSampler(figure, random)
    for name in random.permutation(names):
        side = int(random.random() < 0.7)
        yield str(name), side, _spelled_pose(figure, signer, str(name), side)


def _spelled_pose(figure: RigBody, signer: PostureSampler, name: str, side: int) -> RigPose:
    trunk = np.zeros(8)
    stand = figure.stand(trunk)
    left, right = (portrait_arm(signer.figure, stand, each) for each in (0, 1))
    spelling = signer.spelling(stand, side, signer.vary(shape(name)))
    arms = (left, spelling) if side else (spelling, right)
    return figure.resolve(Posture(trunk, arms, np.zeros(len(MORPHS)), np.zeros(2)))[0]
