"""Head motion apart from expression, and both on another face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from avatar_stream.landmarks import (
    CHIN,
    EARS_OF_FACE,
    EYE_CORNERS,
    FOREHEAD,
    IRISES,
    LOWER_LIDS,
    LOWER_LIP,
    MESH,
    MOUTH_CORNERS,
    STABLE_FACE,
    UPPER_LIDS,
    UPPER_LIP,
)
from avatar_stream.retarget.proportions import RunningEstimate
from avatar_stream.turns import length

_FEWEST_STABLE = 6
_CLOSED_LIDS = 0.35  # an eye is shut when its gap is this part of its open gap: MediaPipe's lids never meet
_WIDEST_LIDS = 1.35
_LARGEST_GAZE = np.array([0.25, 0.15])  # in widths of the eye
_NEUTRAL_GAZE = 0.06
_NEUTRAL_MOUTH = 0.06  # gap of a closed mouth at most, in widths of the mouth
# How far the usual view of a head may be put down to the camera: nod (cameras stand high or low), turn, tilt.
_LARGEST_NEUTRAL_TURN = np.deg2rad([15.0, 5.0, 5.0])
_IRIS_ROWS = IRISES[:, None] + np.arange(5)
_QUARTER_TURN = np.array([-1.0, 1.0, 0.0])
_FIRST_S = 1.0
_MOST_SAMPLES = 64


@dataclass(frozen=True)
class Head:
    """Where a head is.

    Attributes:
        scale: driver's px per canvas px of the avatar's head.
        turn: (3, 3), the avatar's portrait head -> the driver's.
        centre: (3,) driver's px, middle between the ears.
    """

    scale: float
    turn: np.ndarray
    centre: np.ndarray


@dataclass(frozen=True)
class Expression:
    """What a face does, free of its owner and of the head's turn.

    Attributes:
        offsets: (478, 3) canvas px, moves of the points of the avatar's straight face.
        lids: (2,) opening of left and right eye: 0 shut, 1 as at rest.
        gaze: (2, 2) left and right iris from where it is at rest, along and across the eye, in eye widths.
    """

    offsets: np.ndarray
    lids: np.ndarray
    gaze: np.ndarray


def fit_similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation (3, 3), shift (3,) of target = scale * rotation @ source + shift (Umeyama).

    Args:
        source: (N, 3), N >= 3, not on one line.
        target: (N, 3).
    """
    source_middle, target_middle = source.sum(axis=0) / len(source), target.sum(axis=0) / len(target)
    a, b = source - source_middle, target - target_middle
    values, u, vt = cv2.SVDecomp(b.T @ a)
    flip = np.array([1.0, 1.0, math.copysign(1.0, cv2.determinant(u @ vt))])
    turn = (u * flip) @ vt
    scale = float(flip @ values[:, 0]) / max(float((a * a).sum()), 1e-9)
    return scale, turn, target_middle - scale * turn @ source_middle


class FaceTransfer:
    """Learns the driver's neutral face and moves its expression onto the avatar's."""

    def __init__(self, rest: np.ndarray):
        """`rest`: (478, 3) float64, the avatar's face in its portrait, canvas px."""
        self.centre = rest[EARS_OF_FACE].mean(axis=0)
        self.rest = rest = rest - self.centre
        self.height = float(np.linalg.norm(rest[FOREHEAD] - rest[CHIN]))
        self._mouth = float(np.linalg.norm(rest[MOUTH_CORNERS[0]] - rest[MOUTH_CORNERS[1]]))
        self._lids = rest[LOWER_LIDS], rest[UPPER_LIDS] - rest[LOWER_LIDS]  # (2, 7, 3) lower lids, open gaps
        self._corners, self._irises = rest[EYE_CORNERS], rest[_IRIS_ROWS]
        self._eye_axes = _eye_axes(rest)
        self._fillers: dict[bytes, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the driver."""
        self._neutral: Any = None  # (478, 3), once it is known
        self._neutral_unrest = 0.0
        self._samples: list[tuple[float, np.ndarray]] = []
        self._seen_s = 0.0
        self._open_lids = RunningEstimate(70.0, up_s=2.0, down_s=20.0)
        self._gaze_rest = RunningEstimate(50.0, up_s=10.0, down_s=10.0)
        self._turn_rest = RunningEstimate(50.0, up_s=15.0, down_s=15.0)
        self._gaze = np.zeros((2, 2))

    def locate(self, face: np.ndarray) -> Head | None:
        """Find the head of a face (478, 3), driver's px, NaN where unseen; None if too little is seen."""
        rows = STABLE_FACE[np.isfinite(face[STABLE_FACE]).all(axis=1)]
        if len(rows) < _FEWEST_STABLE:
            return None
        template = self.rest if self._neutral is None else self._neutral
        scale, turn, centre = fit_similarity(template[rows], face[rows])
        return Head(scale, turn, centre) if scale > 1e-6 else None

    def read(self, face: np.ndarray, head: Head, step_s: float) -> Expression:
        """Learn from one face and tell its expression.

        Args:
            face: (478, 3) driver's px, NaN where unseen.
            head: from `locate`.
            step_s: seconds since the last face.
        """
        straight = (face - head.centre) @ head.turn / head.scale
        straight = self._fill(straight)
        self._learn(straight, head.turn, step_s)
        self._turn_rest.update(cv2.Rodrigues(head.turn)[0][:, 0], step_s)
        lids = self._read_lids(straight, step_s)
        return Expression(self._offsets(straight), lids, self._read_gaze(face, straight, lids, step_s))

    def relative_turn(self, head: Head) -> np.ndarray:
        """(3, 3) turn of the head against how it usually is in this camera."""
        if self._turn_rest.value is None:
            return np.eye(3)
        usual = np.clip(self._turn_rest.value, -_LARGEST_NEUTRAL_TURN, _LARGEST_NEUTRAL_TURN)
        return head.turn @ cv2.Rodrigues(usual)[0].T

    def make(self, expression: Expression | None, weight: float) -> np.ndarray:
        """(478, 3) the avatar's straight face about the middle of its head, canvas px; weight 0: portrait."""
        if expression is None or weight <= 0:
            return self.rest.copy()
        face = self.rest + weight * expression.offsets
        crossed = face[UPPER_LIP, 1] - face[LOWER_LIP, 1]
        if crossed > 0:  # lips may press, not cross
            face[MESH] += _jaw_weights(face)[:, None] * np.array([0.0, crossed, 0.0])
        self._set_eyes(face, 1.0 + weight * (expression.lids - 1.0), weight * expression.gaze)
        return face

    def _learn(self, straight: np.ndarray, turn: np.ndarray, step_s: float) -> None:
        self._seen_s += min(step_s, 0.2)
        # Neutral is a shut mouth in a face seen from the front; from aside, a mesh is half a guess.
        aside = abs(math.atan2(turn[0, 2], turn[2, 2]))
        unrest = _mouth_gap(straight) + 0.3 * max(0.0, aside - 0.15)
        if self._neutral is None or (self._seen_s <= _FIRST_S and len(self._samples) < _MOST_SAMPLES):
            self._samples.append((unrest, straight))
            # The clip may start in the middle of a word: only the calmer half counts.
            self._samples.sort(key=lambda sample: sample[0])
            calm = self._samples[: (len(self._samples) + 1) // 2]
            self._neutral = np.mean([face for _, face in calm], axis=0)
            self._neutral_unrest = float(np.mean([value for value, _ in calm]))
            return
        self._samples.clear()
        if unrest > self._neutral_unrest + 0.03:
            return
        time_s = 0.5 if unrest < self._neutral_unrest - 0.03 else 20.0
        part = 1.0 - math.exp(-step_s / time_s)
        self._neutral += part * (straight - self._neutral)
        self._neutral_unrest += part * (unrest - self._neutral_unrest)

    def _offsets(self, straight: np.ndarray) -> np.ndarray:
        neutral = _close_mouth(self._neutral)
        offsets = straight - neutral
        # Around the mouth, moves count in mouths: a wide mouth opens wider.
        ratio = min(max(self._mouth / max(_mouth_width(neutral), 1e-3), 0.7), 1.4)
        offsets *= np.where(neutral[:, 1] > neutral[1, 1], ratio, 1.0)[:, None]
        offsets[MESH.stop :] = 0.0  # irises go by gaze
        return offsets

    def _read_lids(self, straight: np.ndarray, step_s: float) -> np.ndarray:
        lids = length(straight[UPPER_LIDS[:, 1:6]] - straight[LOWER_LIDS[:, 1:6]]).sum(axis=1) / 5
        widths = length(straight[EYE_CORNERS[:, 0]] - straight[EYE_CORNERS[:, 1]])
        gaps = lids / np.maximum(widths, 1e-6)
        usual = self._open_lids.update(gaps, step_s)
        shut = _CLOSED_LIDS * usual
        return np.clip((gaps - shut) / np.maximum(usual - shut, 1e-3), 0.0, _WIDEST_LIDS)

    def _read_gaze(
        self, face: np.ndarray, straight: np.ndarray, lids: np.ndarray, step_s: float
    ) -> np.ndarray:
        if np.isfinite(face[IRISES]).all() and lids.min() > 0.4:
            gaze = _iris_places(straight)
            usual = np.clip(self._gaze_rest.update(gaze, step_s), -_NEUTRAL_GAZE, _NEUTRAL_GAZE)
            self._gaze = np.clip(gaze - usual, -_LARGEST_GAZE, _LARGEST_GAZE)
        return self._gaze

    def _fill(self, straight: np.ndarray) -> np.ndarray:
        """Give unseen points (reduced layouts) the moves of the seen ones near them."""
        if np.isfinite(straight).all():
            return straight
        seen = np.isfinite(straight).all(axis=1)
        key = np.packbits(seen).tobytes()
        if key not in self._fillers:
            between = np.linalg.norm(self.rest[~seen][:, None] - self.rest[seen][None], axis=2)
            nearest = between.min(axis=1, keepdims=True)
            weight = np.exp(-(between**2 - nearest**2) / (0.06 * self.height) ** 2)
            self._fillers = {key: weight / weight.sum(axis=1, keepdims=True)}
        filled = straight.copy()
        filled[~seen] = self.rest[~seen] + self._fillers[key] @ (straight[seen] - self.rest[seen])
        return filled

    def _set_eyes(self, face: np.ndarray, openings: np.ndarray, gaze: np.ndarray) -> None:
        lower, gap = self._lids
        openings = openings[:, None, None]
        lower = lower + 0.15 * (1.0 - np.minimum(openings, 1.0)) * gap
        face[LOWER_LIDS], face[UPPER_LIDS] = lower, lower + np.maximum(openings, 0.0) * gap
        face[EYE_CORNERS] = self._corners
        face[_IRIS_ROWS] = self._irises + gaze[:, None] @ self._eye_axes


def _mouth_width(face: np.ndarray) -> float:
    return math.dist(face[MOUTH_CORNERS[0]], face[MOUTH_CORNERS[1]])


def _mouth_gap(face: np.ndarray) -> float:
    return float(face[LOWER_LIP, 1] - face[UPPER_LIP, 1]) / max(_mouth_width(face), 1e-6)


def _jaw_weights(face: np.ndarray) -> np.ndarray:
    """(468,) how much each point goes with the lower jaw: 1 under the mouth, 0 above and aside."""
    right, left = face[MOUTH_CORNERS]
    middle_x, half = 0.5 * (right[0] + left[0]), max(0.5 * _mouth_width(face), 1e-6)
    line = 0.5 * (face[UPPER_LIP, 1] + face[LOWER_LIP, 1])
    aside = np.maximum(1.0 - ((face[MESH, 0] - middle_x) / (1.3 * half)) ** 2, 0.0)
    return aside * (face[MESH, 1] >= line)


def _close_mouth(neutral: np.ndarray) -> np.ndarray:
    """The neutral face, its mouth shut where nothing but an open one was seen yet."""
    excess = (_mouth_gap(neutral) - _NEUTRAL_MOUTH) * _mouth_width(neutral)
    if excess <= 0:
        return neutral
    closed = neutral.copy()
    closed[MESH, 1] -= excess * _jaw_weights(neutral)
    return closed


def _eye_axes(face: np.ndarray) -> np.ndarray:
    # (2, 2, 3) of each eye: towards the picture's right with the eye's width as length; as long, downwards.
    along = face[EYE_CORNERS[:, 0]] - face[EYE_CORNERS[:, 1]]
    along[along[:, 0] < 0] *= -1.0
    across = along[:, [1, 0, 2]] * _QUARTER_TURN
    return np.array([along, across]).swapaxes(0, 1)


def _iris_places(face: np.ndarray) -> np.ndarray:
    # (2, 2) of each eye: along and across it from its middle, in its widths, as the picture shows them.
    corners, axes = face[EYE_CORNERS], _eye_axes(face)[..., :2]
    offsets = face[IRISES] - 0.5 * (corners[:, 0] + corners[:, 1])
    places = (axes @ offsets[:, :2, None])[..., 0]
    return places / np.maximum((axes[:, 0] ** 2).sum(axis=1), 1e-9)[:, None]
