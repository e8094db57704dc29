"""The one skeleton that every rigged person shares, and poses of it that are free of a file's local bone axes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")


def _arm(side: str) -> list[tuple[str, str]]:
    bones = [(f"{side}Shoulder", "Spine2"), (f"{side}Arm", f"{side}Shoulder")]
    bones += [(f"{side}ForeArm", f"{side}Arm"), (f"{side}Hand", f"{side}ForeArm")]
    bones += [(f"{side}FingerBase", f"{side}Hand")]
    for finger in _FINGERS:
        chain = [f"{side}FingerBase"] + [f"{side}Hand{finger}{k}" for k in (1, 2, 3, 4)]
        bones += list(zip(chain[1:], chain[:-1], strict=True))
    return bones


def _leg(side: str) -> list[tuple[str, str]]:
    chain = ["Hips"] + [f"{side}{name}" for name in ("UpLeg", "Leg", "Foot", "ToeBase", "ToeEnd")]
    return list(zip(chain[1:], chain[:-1], strict=True))


_TRUNK = [("Hips", ""), ("Spine", "Hips"), ("Spine1", "Spine"), ("Spine2", "Spine1"), ("Neck", "Spine2")]
_HEAD = [("Head", "Neck"), ("HeadEnd", "Head"), ("LeftEye", "Head"), ("RightEye", "Head")]
_BONES = _TRUNK + _HEAD + _arm("Left") + _arm("Right") + _leg("Left") + _leg("Right")

# Joint names, parents before children. A file's own `*_end` leaves are not moved and not listed.
JOINTS: tuple[str, ...] = tuple(name for name, _ in _BONES)
INDEX: dict[str, int] = {name: i for i, name in enumerate(JOINTS)}
PARENTS: tuple[int, ...] = tuple(INDEX.get(parent, -1) for _, parent in _BONES)


def rest_rotations() -> np.ndarray:
    """(J, 3, 3) float32 identities: the bind pose (T-pose, palms down, facing +z, left at +x, y up)."""
    return np.tile(np.eye(3, dtype=np.float32), (len(JOINTS), 1, 1))


@dataclass(frozen=True)
class RigPose:
    """How one rigged person stands, in the model's axes at bind time (see `forward`).

    Attributes:
        rotations: (J, 3, 3) float32 in the order of JOINTS, each relative to its parent; identity = bind pose.
        root_m: (3,) float32, translation of the hips, metres.
        morphs: face morph weights, 0..1, by name without the file's prefix, e.g. "MouthOpen_h".
        gaze: (2,) float32, yaw and pitch of both eyes, radians, the signer's left and up positive.
    """

    rotations: np.ndarray = field(default_factory=rest_rotations)
    root_m: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))
    morphs: dict[str, float] = field(default_factory=dict)
    gaze: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))


def forward(bind_m: np.ndarray, pose: RigPose) -> tuple[np.ndarray, np.ndarray]:
    """Forward kinematics.

    Args:
        bind_m: (J, 3) joint positions in the bind pose, metres.
        pose: the pose to take.

    Returns:
        (J, 3, 3) accumulated rotations `A_j = A_parent @ R_j` and (J, 3) joint positions in metres. A skinned
        vertex is `sum_j w_j (A_j (v - bind_j) + p_j)`.
    """
    turns = np.empty((len(JOINTS), 3, 3), np.float32)
    places = np.empty((len(JOINTS), 3), np.float32)
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            turns[joint] = pose.rotations[joint]
            places[joint] = bind_m[joint] + pose.root_m
            continue
        turns[joint] = turns[parent] @ pose.rotations[joint]
        places[joint] = places[parent] + turns[parent] @ (bind_m[joint] - bind_m[parent])
    return turns, places
