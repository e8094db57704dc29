"""A head's turn, face morphs and gaze from MediaPipe's face mesh, measured against a neutral face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar_stream.landmarks import LOWER_LIP, MOUTH_CORNERS, UPPER_LIP
from avatar_stream.people.expressions import BROWS_DOWN, BROWS_UP
from avatar_stream.turns import about, frame

# Rows of the face mesh; right and left are the signer's.
_ACROSS = ((33, 263), (133, 362), (234, 454), (127, 356))
_UPWARDS = ((2, 10), (164, 151), (6, 9))
_UNDER_NOSE = 2
_EYES = ((33, 133, 159, 145, 468), (263, 362, 386, 374, 473))  # outer, inner, upper lid, lower lid, iris
_BROWS = ((70, 63, 105, 66, 107), (300, 293, 334, 296, 336))
# The line from under the nose to the forehead leans back by this on a head that looks straight ahead.
_FACE_LEANS = np.deg2rad(8.7)
# Change of a measure (see FaceMeasures) that is a morph's full weight, measured on four rigged people.
_FULL_OPEN, _FULL_PUCKER, _FULL_SMILE, _FULL_SAD = 0.21, 0.24, 0.035, 0.072
_FULL_WIDE, _FULL_WIDE_OPEN = 0.155, 0.215
_FULL_BROW_UP, _FULL_BROW_DOWN = 0.042, 0.032
# What opening the mouth does to the other measures, and what an open smile does to the opening.
_CORNER_PER_OPEN, _NARROW_PER_OPEN, _OPEN_OF_SMILE = -0.42, 0.45, 0.085
_SMILES_OPEN = 0.05  # lips further apart than this smile with the open morph
_EYE_PER_BALL = 2.15  # an eye's width in radii of the eyeball


@dataclass(frozen=True)
class FaceMeasures:
    """Lengths of one face, turned straight, in units of the distance between the outer corners of the eyes.

    Attributes:
        mouth_open: between the lips.
        mouth_width: between the mouth's corners.
        corners: (2,) right and left corner's height over the upper lip's inner edge.
        brows: (2,) right and left brow's height over the eye's corners.
        lids: (2,) right and left gap between the lids.
        iris: (2, 2) right and left iris from the middle of the eye's corners, x and y.
    """

    mouth_open: float
    mouth_width: float
    corners: np.ndarray
    brows: np.ndarray
    lids: np.ndarray
    iris: np.ndarray


def head_turn(face: np.ndarray) -> np.ndarray:
    """(3, 3) turn of a head from its mesh (478, 3), x right in the picture, y up, z towards the viewer."""
    across = sum(face[left] - face[right] for right, left in _ACROSS)
    upwards = sum(face[top] - face[bottom] for bottom, top in _UPWARDS)
    turn = frame(across.astype(np.float64), upwards.astype(np.float64))
    return turn @ about(np.array([1.0, 0.0, 0.0]), _FACE_LEANS)


def nod(turn: np.ndarray) -> float:
    """Radians that a head turned by `turn` (3, 3) looks down."""
    return float(np.arctan2(-turn[1, 2], np.hypot(turn[0, 2], turn[2, 2])))


def measure(face: np.ndarray, turn: np.ndarray) -> FaceMeasures:
    """Measure a face mesh (478, 3) whose head is turned by `turn` (3, 3)."""
    face = (face - face[_UNDER_NOSE]) @ turn
    face = face / max(float(np.linalg.norm(face[263] - face[33])), 1e-6)
    lips = face[UPPER_LIP]
    middles = [(face[outer] + face[inner]) / 2 for outer, inner, *_ in _EYES]
    return FaceMeasures(
        mouth_open=float(np.linalg.norm((lips - face[LOWER_LIP])[:2])),
        mouth_width=float(np.linalg.norm(np.subtract(*face[MOUTH_CORNERS]))),
        corners=np.array([face[row, 1] - lips[1] for row in MOUTH_CORNERS]),
        brows=np.array(
            [face[list(rows), 1].mean() - middle[1] for rows, middle in zip(_BROWS, middles, strict=True)]
        ),
        lids=np.array([abs(face[upper, 1] - face[lower, 1]) for _, _, upper, lower, _ in _EYES]),
        iris=np.array([(face[eye[4]] - middle)[:2] for eye, middle in zip(_EYES, middles, strict=True)]),
    )


def average(measures: list[FaceMeasures]) -> FaceMeasures:
    """The median of several measures: the neutral face of a stretch of signing."""
    return FaceMeasures(
        *(
            np.median([getattr(m, name) for m in measures], axis=0)
            for name in FaceMeasures.__dataclass_fields__
        )
    )


def morphs(now: FaceMeasures, neutral: FaceMeasures) -> dict[str, float]:
    """Morph weights 0..1 that make the neutral face look like this one."""
    opened = now.mouth_open - neutral.mouth_open
    weights = _mouth(now, neutral, opened)
    for side, lid, usual in zip("RL", now.lids, neutral.lids, strict=True):
        ratio = lid / max(float(usual), 1e-6)
        weights[f"{side}eyeClose_h"] = (0.9 - ratio) / 0.75
        weights[f"{side}eyeOpen_h"] = (ratio - 1.12) / 0.2
    raised = now.brows - neutral.brows
    for names, full in ((BROWS_UP, _FULL_BROW_UP), (BROWS_DOWN, -_FULL_BROW_DOWN)):
        for name in names:  # brows seem to twitch with every turn of the head: a little is nothing
            weights[name] = raised[int(name.startswith("L"))] / full - 0.15
    return {name: float(min(weight, 1.0)) for name, weight in weights.items() if weight > 0.02}


def _mouth(now: FaceMeasures, neutral: FaceMeasures, opened: float) -> dict[str, float]:
    """Weights of the mouth's morphs, not yet cut to 0..1."""
    weights = {}
    apart = max(opened, 0.0)
    narrower = 1 - now.mouth_width / max(float(neutral.mouth_width), 1e-6) - _NARROW_PER_OPEN * apart
    weights["Kiss_h"] = narrower / _FULL_PUCKER - 0.1
    smiles = opened >= _SMILES_OPEN
    wide = max(-narrower, 0.0) / (_FULL_WIDE_OPEN if smiles else _FULL_WIDE)
    corners = now.corners - neutral.corners - _CORNER_PER_OPEN * apart
    for side, corner in zip("RL", corners, strict=True):
        smile = 0.6 * wide + 0.4 * min(corner / _FULL_SMILE, 1.5) - 0.1
        weights[f"{side}smileOpen_h"] = smile if smiles else 0.0
        weights[f"{side}smileClose_h"] = 0.0 if smiles else smile
        weights[f"{side}mouthSad_h"] = -corner / _FULL_SAD - 0.15
    open_smile = np.clip([weights["RsmileOpen_h"], weights["LsmileOpen_h"]], 0, 1).mean()
    weights["MouthOpen_h"] = (opened - _OPEN_OF_SMILE * open_smile) / _FULL_OPEN
    return weights


def gaze(now: FaceMeasures, neutral: FaceMeasures) -> np.ndarray:
    """(2,) yaw, pitch of the eyes in radians, the signer's left and up positive."""
    eye_width = 0.33  # of the distance between the outer corners
    shift = (now.iris - neutral.iris).mean(0) / eye_width * _EYE_PER_BALL
    return np.clip(np.arcsin(np.clip(shift, -0.7, 0.7)), (-0.6, -0.4), (0.6, 0.4)).astype(np.float32)


def mirrored(weights: dict[str, float]) -> dict[str, float]:
    """The morphs of the mirrored face: right and left names exchanged."""
    out = {}
    for name, weight in weights.items():
        swap = {"R": "L", "L": "R"}
        doubled = name[:2] in ("RR", "LL")
        if doubled:
            name = swap[name[0]] * 2 + name[2:]
        elif name[0] in swap and name[1].islower():
            name = swap[name[0]] + name[1:]
        out[name] = weight
    return out
