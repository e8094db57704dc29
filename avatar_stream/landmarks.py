"""MediaPipe Holistic's landmarks by name: bones, points of the face, and what mirrors what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avatar_stream.types import BODY, FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, Pose

# Pairs are always (left, right), the signer's own.
SHOULDERS = np.array([11, 12])
ELBOWS = np.array([13, 14])
WRISTS = np.array([15, 16])
HIPS = np.array([23, 24])
# Where the four bones of the arms begin and end: both upper arms, both forearms.
BONE_STARTS, BONE_ENDS = slice(11, 15), slice(13, 17)
HANDS = (LEFT_HAND, RIGHT_HAND)
HEAD_ROWS = slice(0, 11)  # body points of the head
# The face point that stands where each body point of the head does, and where each body point of a hand does.
FACE_OF_HEAD = np.array([1, 362, 473, 263, 133, 468, 33, 454, 234, 291, 61])
HAND_OF_BODY = {17: 17, 19: 5, 21: 3}  # body row of the left hand (right: + 1) -> hand row

HAND_PARENTS = np.array([0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19])
PALM = np.array([0, 5, 9, 13, 17])
PALM_ENDS = np.array([5, 17])  # knuckles of the forefinger and the little finger
# Bone lengths of a hand in lengths of its palm (wrist to middle knuckle), each at its outer landmark.
HAND_RATIOS = np.array(
    [0.0, 0.40, 0.45, 0.37, 0.30]
    + [0.98, 0.46, 0.28, 0.24]
    + [1.00, 0.50, 0.32, 0.26]
    + [0.95, 0.46, 0.31, 0.26]
    + [0.92, 0.36, 0.22, 0.21]
)
PALMS_IN_BONES = float(HAND_RATIOS.sum())

# Face points that expressions hardly move: forehead, temples, nose bridge, corners of the eyes.
STABLE_FACE = np.array(
    [10, 67, 109, 297, 338, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 234, 454]
    + [151, 9, 8, 168, 6, 197, 195, 33, 133, 263, 362]
)
EARS_OF_FACE = np.array([234, 454])
FOREHEAD, CHIN = 10, 152
NOSE_TIP, NOSE_BRIDGE = 1, 168
UPPER_LIP, LOWER_LIP, MOUTH_CORNERS = 13, 14, np.array([61, 291])
# Mouth: rings of lips, from outside to inside, each its lower half first.
LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
    *(76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408),
    *(62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407),
)
# Per eye (left, right): corners outer and inner, then lids from outer to inner, upper and lower in pairs.
EYE_CORNERS = np.array([[263, 362], [33, 133]])
UPPER_LIDS = np.array([[466, 388, 387, 386, 385, 384, 398], [246, 161, 160, 159, 158, 157, 173]])
LOWER_LIDS = np.array([[249, 390, 373, 374, 380, 381, 382], [7, 163, 144, 145, 153, 154, 155]])
IRISES = np.array([473, 468])
MESH = slice(0, 468)  # of the face's points: without the irises

# Points of the mesh on the face's middle line; all others up to 247 have a twin among 248 to 467, in the same order.
_FACE_MIDDLE = np.array([0, 1, 2, 4, 5, 6, *range(8, 20), 94, 151, 152, 164, 168, 175, 195, 197, 199, 200])


def _chain() -> np.ndarray:
    # (21, 21): points of a hand from its bones as one product.
    chain = np.zeros((21, 21))
    for row in range(1, 21):
        chain[row] = chain[HAND_PARENTS[row]]
        chain[row, row] = 1.0
    return chain


def _mirror_rows() -> np.ndarray:
    rows = np.arange(POINT_COUNT)
    for left in [7, *range(9, 33, 2)]:
        rows[[left, left + 1]] = left + 1, left
    rows[[1, 2, 3, 4, 5, 6]] = 4, 5, 6, 1, 2, 3
    right, left = FACE.start + np.setdiff1d(np.arange(248), _FACE_MIDDLE), FACE.start + np.arange(248, 468)
    rows[right], rows[left] = left, right
    iris = FACE.start + 468 + np.arange(10)
    rows[iris] = FACE.start + np.array([473, 476, 475, 474, 477, 468, 471, 470, 469, 472])
    rows[LEFT_HAND], rows[RIGHT_HAND] = np.arange(532, 553), np.arange(511, 532)
    return rows


HAND_CHAIN = _chain()
MIRROR_ROWS = _mirror_rows()


def both_hands(points: np.ndarray) -> np.ndarray:
    """(553, ...) of a whole pose -> (2, 21, ...) of its left and right hand, a view."""
    return points[LEFT_HAND.start : RIGHT_HAND.stop].reshape(2, 21, *points.shape[1:])


def hand_bones(hands: np.ndarray) -> np.ndarray:
    """(..., 21, 3) hand points -> (..., 21, 3) bones, each at its outer landmark; the wrist's is zero."""
    return hands - hands.take(HAND_PARENTS, axis=-2)


def mirror_pose(pose: Pose) -> Pose:
    """Return the pose as a mirror shows it: x flipped within the picture, left and right points exchanged."""
    points = pose.points[MIRROR_ROWS].copy()
    points[:, 0] = pose.size[0] - points[:, 0]
    world = pose.world[MIRROR_ROWS[BODY]] * np.array([-1, 1, 1], np.float32)
    return replace(pose, points=points, confidence=pose.confidence[MIRROR_ROWS], world=world)
