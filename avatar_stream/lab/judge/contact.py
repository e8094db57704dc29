"""Where the driver's hands touch each other or the face: does the avatar touch the same place?"""

from __future__ import annotations

import numpy as np

from avatar_stream.lab.evaluation.clips import face_seen, hands_seen
from avatar_stream.landmarks import HANDS, MESH
from avatar_stream.retarget.hands import palm_px
from avatar_stream.types import FACE, Pose

KEYS = ("contact_error", "hand_contact_error", "face_contact_error")
FOUND_KEY = "contacts_found"
NEAR = 0.5  # palm lengths: nearer landmarks are a contact
_ONE_HAND = 0.5  # mean distance of "both" hands' landmarks, in palm lengths: one hand that was found twice
_MESH = slice(FACE.start, FACE.start + MESH.stop)


def contact_values(driver: Pose | None, avatar: Pose | None) -> dict[str, list[float]]:
    """One frame's contacts.

    A contact is a pair of the driver's landmarks, one of a hand and one of the other hand or of the face, that are
    nearest to each other in the picture and nearer than half a palm. Its error is how much the way between the same
    two landmarks of the avatar differs, each in its owner's palm lengths.

    Returns:
        Lists by key: errors in palm lengths (`KEYS`), and for each contact of the driver 1 where the avatar's parts
        are found too, else 0 (`FOUND_KEY`). Empty without a contact.
    """
    found, hand_errors, face_errors = [], [], []
    hands = hands_seen(driver)
    if hands.any():
        got = hands_seen(avatar)
        palms = [_palm(pose, seen) for pose, seen in ((driver, hands), (avatar, got))]
        if hands.all() and not _same_place(driver, palms[0]):
            _add(driver, avatar, HANDS, palms, bool(got.all()), found, hand_errors)
        if face_seen(driver) and not (hands.all() and _same_place(driver, palms[0])):
            for side in np.flatnonzero(hands):
                there = bool(got[side]) and face_seen(avatar)
                _add(driver, avatar, (HANDS[side], _MESH), palms, there, found, face_errors)
    values = (hand_errors + face_errors, hand_errors, face_errors)
    return dict(zip(KEYS, values, strict=True)) | {FOUND_KEY: found}


def _add(driver, avatar, parts, palms, there: bool, found: list[float], errors: list[float]) -> None:
    ways = _ways(driver, parts) / palms[0]
    distances = np.linalg.norm(ways, axis=2)
    pair = np.unravel_index(distances.argmin(), distances.shape)
    if distances[pair] >= NEAR:
        return
    found.append(float(there))
    if there:
        errors.append(float(np.linalg.norm((_ways(avatar, parts) / palms[1])[pair] - ways[pair])))


def _ways(pose: Pose, parts: tuple[slice, slice]) -> np.ndarray:
    """(A, B, 2) px from every landmark of the second part to every one of the first."""
    first, second = (pose.points[rows, :2].astype(np.float64) for rows in parts)
    return first[:, None] - second[None]


def _palm(pose: Pose | None, seen: np.ndarray) -> float:
    # The larger one: from the edge, the tracker takes a hand for a small one.
    return max((palm_px(pose.points[HANDS[side]]) for side in np.flatnonzero(seen)), default=1.0)


def _same_place(pose: Pose, palm: float) -> bool:
    left, right = (pose.points[rows, :2] for rows in HANDS)
    return bool(np.linalg.norm(left - right, axis=1).mean() < _ONE_HAND * palm)
