"""Other bodies and faces from one rigged person: bones scaled with what they carry, faces bent smoothly.

The result is a `Rig` like any other: joints, vertices and morphs move together, so landmarks stay exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from avatar_stream.people.face_points import FacePoints
from avatar_stream.people.parts import region_weights
from avatar_stream.people.rig import EYE, Rig
from avatar_stream.people.skeleton import INDEX, JOINTS, PARENTS, RigPose

# Where a face is bent: points of MediaPipe's mesh, the signer's left and right one or one in the middle; the way
# (x outwards, or to the signer's left in the middle), reach and standard deviation of the move, metres.
_FACE_BENDS = (
    ((397, 172), (1.0, 0.0, 0.0), 0.035, 0.0045),  # jaw's corners
    ((280, 50), (0.7, 0.0, 0.7), 0.030, 0.0035),  # cheeks
    ((284, 54), (1.0, 0.0, 0.0), 0.040, 0.0030),  # temples
    ((152,), (0.0, 1.0, 0.0), 0.030, 0.0045),  # chin, longer or shorter
    ((152,), (0.0, 0.0, 1.0), 0.028, 0.0035),
    ((1,), (0.0, 0.0, 1.0), 0.018, 0.0035),  # tip of the nose
    ((1,), (0.0, 1.0, 0.0), 0.018, 0.0022),
    ((168,), (0.0, 0.0, 1.0), 0.016, 0.0020),  # bridge
    ((358, 129), (1.0, 0.0, 0.0), 0.014, 0.0022),  # wings
    ((334, 105), (0.0, 0.3, 1.0), 0.020, 0.0022),  # brows
    ((10,), (0.0, 0.0, 1.0), 0.040, 0.0040),  # forehead
    ((291, 61), (1.0, 0.0, 0.0), 0.018, 0.0022),  # corners of the mouth
    ((0,), (0.0, 0.0, 1.0), 0.015, 0.0015),  # lips
    ((17,), (0.0, 0.0, 1.0), 0.015, 0.0018),
    ((473, 468), (1.0, 0.0, 0.0), 0.030, 0.0015),  # distance of the eyes
)
_TAIL = 2.2  # standard deviations at most


@dataclass(frozen=True)
class Shape:
    """How a body differs from its file.

    Attributes:
        scales: (J, 3) factors along x (across; along an arm of the T-pose), y (up), z (forwards) of what each joint
            of skeleton.JOINTS carries.
        girths: (J, 3) further factors of the flesh alone: bones stay where they are.
        bends_m: (15,) moves of the places in `_FACE_BENDS`, metres.
    """

    scales: np.ndarray
    girths: np.ndarray
    bends_m: np.ndarray


def random_shape(random: np.random.Generator) -> Shape:
    """Draw a body and a face, the same on both sides."""

    def factor(spread: float, lean: float = 0.0) -> float:
        return float(np.exp(lean + spread * _normal(random)))

    heavy = 0.07 * _normal(random)  # one body is wider everywhere, another slimmer
    width, depth, height = factor(0.03, heavy), factor(0.04, 1.3 * heavy), factor(0.04)
    shoulders, arm, girth = factor(0.05), factor(0.05), factor(0.05, heavy)
    hand, fingers, neck = factor(0.05), factor(0.05), factor(0.05, 0.5 * heavy)
    head = factor(0.04) * np.array([factor(0.03, 0.4 * heavy), factor(0.03), factor(0.03)])
    scales = np.ones((len(JOINTS), 3))
    for row, name in enumerate(JOINTS):
        bare = name.removeprefix("Left").removeprefix("Right")
        if name in ("Hips", "Spine", "Spine1", "Spine2"):
            scales[row] = (width, height, depth)
        elif name in ("Neck", "Head", "HeadEnd") or bare == "Eye":
            scales[row] = (neck, neck**0.5, neck) if name == "Neck" else head
        elif bare == "Shoulder":
            scales[row] = (width * shoulders, height, depth)
        elif bare in ("Arm", "ForeArm"):
            scales[row] = (arm, girth, girth)
        elif bare.startswith(("Hand", "FingerBase")):
            scales[row] = (hand * fingers if bare[-1].isdigit() else hand, hand, hand)
        else:  # legs
            scales[row] = (girth, 1.0, girth)
    bends_m = np.array([spread * _normal(random) for _, _, _, spread in _FACE_BENDS])
    return Shape(scales, _random_girths(random), bends_m)


def _random_girths(random: np.random.Generator) -> np.ndarray:
    """(J, 3) how stout a body is beside its bones: every third person is broad, some are slim."""
    stout = random.uniform(0.05, 0.30) if random.random() < 0.35 else 0.05 * _normal(random)
    belly, thick = stout * random.uniform(0.7, 1.2), stout * random.uniform(0.5, 1.1)
    girths = np.ones((len(JOINTS), 3))
    for names, share in ((("Hips", "Spine", "Spine1"), 1.0), (("Spine2",), 0.75)):
        for name in names:
            girths[INDEX[name]] = np.exp([share * 0.85 * belly, 0, share * belly])
    girths[INDEX["Neck"]] = np.exp([0.5 * stout, 0, 0.5 * stout])
    for side in ("Left", "Right"):
        girths[INDEX[f"{side}Shoulder"]] = np.exp([0, 0.3 * thick, 0.5 * thick])
        girths[INDEX[f"{side}Arm"]] = np.exp([0, thick, thick])
        girths[INDEX[f"{side}ForeArm"]] = np.exp([0, 0.6 * thick, 0.6 * thick])
        girths[INDEX[f"{side}UpLeg"]] = np.exp([0.6 * belly, 0, 0.6 * belly])
    return girths


def _normal(random: np.random.Generator) -> float:
    return float(np.clip(random.standard_normal(), -_TAIL, _TAIL))


def reshaped(rig: Rig, face: FacePoints, shape: Shape) -> Rig:
    """A person in another shape.

    Args:
        rig: the person; stays as it is.
        face: the person's face points; they hold for the result too.
        shape: what to change.
    """
    bend_at = _bends(rig, face, shape)
    on_head = region_weights(rig.joints, rig.weights)[:, :1]
    moves = bend_at(rig.positions_m) * on_head
    eyes = [INDEX["LeftEye"], INDEX["RightEye"]]
    eye_moves = bend_at(rig.bind_m[eyes])
    balls = rig.kinds == EYE
    # Eyeballs stay balls, for they turn.
    left = (rig.positions_m[:, 0] > 0)[:, None]
    moves = np.where(balls[:, None], np.where(left, eye_moves[0], eye_moves[1]), moves)
    bind = rig.bind_m.astype(np.float64)
    bind[eyes] += eye_moves
    new_bind = _scaled_joints(bind, shape.scales)
    used = np.unique(rig.joints)
    positions = np.zeros_like(rig.positions_m, np.float64)
    stretch = np.zeros_like(positions)
    for joint in used:
        weight = (rig.weights * (rig.joints == joint)).sum(1, keepdims=True)
        grown = shape.scales[joint] * shape.girths[joint]
        positions += weight * ((rig.positions_m + moves - bind[joint]) * grown + new_bind[joint])
        stretch += weight * grown
    normals = rig.normals / np.maximum(stretch, 0.1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    count = rig.morph_deltas_m.shape[1]
    return replace(
        rig,
        bind_m=new_bind.astype(np.float32),
        positions_m=positions.astype(np.float32),
        normals=normals.astype(np.float32),
        morph_deltas_m=(rig.morph_deltas_m * stretch[:count]).astype(np.float32),
    )


def _scaled_joints(bind_m: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(J, 3) joint places when each bone takes the scale of the joint it starts from."""
    places = bind_m.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            places[joint] = places[parent] + scales[parent] * (bind_m[joint] - bind_m[parent])
    return places


def _bends(rig: Rig, face: FacePoints, shape: Shape) -> Callable[[np.ndarray], np.ndarray]:
    """A function (N, 3) places of the bind pose -> (N, 3) moves, metres."""
    points = face.place(rig, RigPose())

    def bend_at(places: np.ndarray) -> np.ndarray:
        moves = np.zeros((len(places), 3))
        for (rows, way, reach, _), size in zip(_FACE_BENDS, shape.bends_m, strict=True):
            for number, row in enumerate(rows):
                mirror = np.array([-1.0 if number else 1.0, 1.0, 1.0])
                apart = ((places - points[row]) ** 2).sum(1)
                moves += size * np.exp(-0.5 * apart / reach**2)[:, None] * (np.array(way) * mirror)
        return moves

    return bend_at
