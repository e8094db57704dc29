"""What two tracked clips have in common: hands, arms, letters, contacts, faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from avatar_stream.lab.evaluation import warping
from avatar_stream.lab.evaluation.clips import (
    FACE_NUMBERS,
    TrackedFrame,
    angle_between,
    arm_angles,
    face_is_free,
    face_numbers,
    face_seen,
    finger_bends,
    hand_distance,
    hands_seen,
)
from avatar_stream.lab.evaluation.reading import SURE, Reader
from avatar_stream.lab.evaluation.scores import Target, summarize
from avatar_stream.landmarks import HANDS, MESH, SHOULDERS
from avatar_stream.retarget.hands import palm_px
from avatar_stream.types import FACE, Pose

_SIDES, _BONES = ("left", "right"), ("upper_arm", "forearm")
# How much the driver's own values must spread (2nd to 98th percentile) before it is asked whether they are followed.
# Below these the curves of real clips are the tracker's own trembling.
LEAST_SPREAD = {"mouth_open": 0.04, "brow_raise": 0.03, "lids": 0.05, "gaze_left": 0.03, "gaze_up": 0.03}
LEAST_TURN_DEG = 6.0
_FEWEST = 10  # frames
# Of the lids' gap within a second before and after: a blink of the driver (MediaPipe's lids never quite meet),
# and enough of one to be seen.
_SHUT, _HALF_SHUT, _USUAL_S = 0.75, 0.85, 1.0
_BLINK_REACH_S = 0.15
_STRETCH = 300  # frames over which hands are followed in one piece: DTW's cost grows with the square
_CONTACTS = ("contact_error", "hand_contact_error", "face_contact_error")
NEAR = 0.5  # palm lengths: nearer landmarks are a contact
_ONE_HAND = 0.5  # mean distance of "both" hands' landmarks, in palm lengths: one hand that was found twice
_MESH = slice(FACE.start, FACE.start + MESH.stop)
_SHARES = ["hands_found", "contacts_found", "letters_read_of_driver"]
_MEDIANS = (
    ["arm_angle_deg"]
    + [f"{side}_{bone}_deg" for side in _SIDES for bone in _BONES]
    + ["hand_shape_deg", "hand_shape_palms", *_CONTACTS]
)


def judge_pairs(pairs: Sequence[tuple[TrackedFrame, TrackedFrame]], seed: int) -> dict:
    """Compare what the tracker found.

    Args:
        pairs: the driver's and the avatar's frames of the same times.
        seed: of the intervals' bootstrap.

    Returns:
        Figures by key, with `intervals`, `counts` and `targets` (docs/evaluation.md).
    """
    rows = [compare_poses(driver.pose, avatar.pose) for driver, avatar in pairs]
    summary = summarize(rows, _SHARES + _MEDIANS, seed)
    means = summary.means
    # A forearm before the chest flips with a pixel: the median says how arms usually are.
    for key in _MEDIANS:
        values = np.concatenate([np.zeros(0), *(np.atleast_1d(row.get(key, ())) for row in rows)])
        values = values[np.isfinite(values)]
        means[key] = float(np.median(values)) if len(values) else None
        summary.intervals[key] = None
    seen = np.array([[hands_seen(each.pose).sum() for each in both] for both in pairs])
    figures = {
        "frames": len(pairs),
        "faces_driver": sum(face_seen(driver.pose) for driver, _ in pairs),
        "faces_both": sum(face_seen(driver.pose) and face_seen(avatar.pose) for driver, avatar in pairs),
        "faces_free": sum(
            face_is_free(driver.pose) and face_is_free(avatar.pose) for driver, avatar in pairs
        ),
        "hands_driver": int(seen[:, 0].sum()),
        "hands_avatar": int(seen[:, 1].sum()),
        **means,
        "ndtwp": hands_over_time(pairs),
        **face_figures(pairs),
    }
    targets = [
        Target("hands_found", means["hands_found"], 0.85, True),
        Target("arm_angle_deg", means["arm_angle_deg"], 12.0, False),
        Target("mouth_open_correlation", figures["mouth_open_correlation"], 0.6, True),
    ]
    return figures | {
        "intervals": summary.intervals,
        "counts": summary.counts,
        "targets": {target.name: target.as_json() for target in targets},
    }


def compare_poses(driver: Any, avatar: Any) -> dict[str, list[float]]:
    """One frame's values of two poses or None: hands found again, differences of arms and hand shapes, contacts."""
    wanted, got = hands_seen(driver), hands_seen(avatar)
    apart = angle_between(arm_angles(driver), arm_angles(avatar))
    values = {"hands_found": got[wanted].astype(float).tolist(), "arm_angle_deg": apart.ravel().tolist()}
    for side, name in enumerate(_SIDES):
        for bone, bone_name in enumerate(_BONES):
            values[f"{name}_{bone_name}_deg"] = [apart[side, bone]]
    both = [(driver.points[HANDS[side]], avatar.points[HANDS[side]]) for side in np.flatnonzero(wanted & got)]
    values["hand_shape_deg"] = [
        float(np.abs(finger_bends(first) - finger_bends(second)).mean()) for first, second in both
    ]
    values["hand_shape_palms"] = [hand_distance(first, second) for first, second in both]
    values["letters_read_of_driver"] = _letters(driver, avatar, wanted, got)
    return values | contact_values(driver, avatar)


def _letters(driver: Any, avatar: Any, wanted: np.ndarray, got: np.ndarray) -> list[float]:
    """For each of the driver's hands that the reader can name: 1 if it names the avatar's the same."""
    reader, same = Reader.load(), []
    for side in np.flatnonzero(wanted):
        name, probability = reader.read(driver.points[HANDS[side]], side)
        if probability >= SURE:
            again = reader.read(avatar.points[HANDS[side]], side)[0] if got[side] else None
            same.append(float(again == name))
    return same


def contact_values(driver: Pose | None, avatar: Pose | None) -> dict[str, list[float]]:
    """One frame's contacts.

    A contact is a pair of the driver's landmarks, one of a hand and one of the other hand or of the face, that are
    nearest to each other in the picture and nearer than half a palm. Its error is how much the way between the same
    two landmarks of the avatar differs, each in its owner's palm lengths.

    Returns:
        Lists by key: errors in palm lengths of all contacts, of those between hands and of those with the face; and for
        each contact of the driver 1 where the avatar's parts are found too, else 0. Empty without a contact.
    """
    found: list[float] = []
    hand_errors: list[float] = []
    face_errors: list[float] = []
    hands = hands_seen(driver)
    if driver is not None and hands.any():
        got = hands_seen(avatar)
        palms = [_palm(pose, seen) for pose, seen in ((driver, hands), (avatar, got))]
        if hands.all() and not _same_place(driver, palms[0]):
            _add(driver, avatar, HANDS, palms, bool(got.all()), found, hand_errors)
        if face_seen(driver) and not (hands.all() and _same_place(driver, palms[0])):
            for side in np.flatnonzero(hands):
                there = bool(got[side]) and face_seen(avatar)
                _add(driver, avatar, (HANDS[side], _MESH), palms, there, found, face_errors)
    values = (hand_errors + face_errors, hand_errors, face_errors)
    return dict(zip(_CONTACTS, values, strict=True)) | {"contacts_found": found}


def _add(
    driver: Pose,
    avatar: Any,
    parts: Any,
    palms: list[float],
    there: bool,
    found: list[float],
    errors: list[float],
) -> None:
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


def _palm(pose: Any, seen: np.ndarray) -> float:
    # The larger one: from the edge, the tracker takes a hand for a small one.
    return max((float(palm_px(pose.points[HANDS[side]])) for side in np.flatnonzero(seen)), default=1.0)


def _same_place(pose: Pose, palm: float) -> bool:
    left, right = (pose.points[rows, :2] for rows in HANDS)
    return bool(np.linalg.norm(left - right, axis=1).mean() < _ONE_HAND * palm)


def hands_over_time(pairs: Sequence[tuple[TrackedFrame, TrackedFrame]]) -> float | None:
    """Mean over hands and stretches of the clip of `warping.hands_distance`, shoulder widths; None without hands."""
    found = []
    for first in range(0, len(pairs), _STRETCH):
        stretch = pairs[first : first + _STRETCH]
        times = np.array([driver.time_s for driver, _ in stretch])
        found += warping.hands_distance(_hands(stretch, 0), _hands(stretch, 1), times)
    return float(np.mean(found)) if found else None


def _hands(pairs: Sequence[tuple[TrackedFrame, TrackedFrame]], who: int) -> np.ndarray:
    """(F, 2, 21, 2) of the driver (0) or the avatar (1), shoulder widths; NaN where not found."""
    hands = np.full((len(pairs), 2, 21, 2), np.nan)
    for row, pair_of_frames in enumerate(pairs):
        pose: Any = pair_of_frames[who].pose
        for side in np.flatnonzero(hands_seen(pose)):
            hands[row, side] = warping.from_shoulders([pose.points[HANDS[side]]], pose.points[SHOULDERS])[0]
    return hands


def face_figures(pairs: Sequence[tuple[TrackedFrame, TrackedFrame]]) -> dict[str, float | int | None]:
    """Does the avatar's face follow: correlations where the driver moves, blinks, differences of the head's turn.

    Differences are of the way from each clip's own median: faces differ, and cameras stand at different heights.
    """
    driver, avatar = face_curves(pairs)
    figures: dict[str, float | int | None] = {}
    for place, name in enumerate(FACE_NUMBERS):
        a, b = driver[:, place], avatar[:, place]
        both = np.isfinite(a) & np.isfinite(b)
        a, b = a[both], b[both]
        enough = len(a) >= _FEWEST
        spread = float(np.subtract(*np.percentile(a, [98, 2]))) if enough else 0.0
        figures[f"{name}_spread_driver"] = spread if enough else None
        moved = enough and spread >= LEAST_SPREAD.get(name, LEAST_TURN_DEG)
        figures[f"{name}_correlation"] = _correlation(a, b) if moved else None
        end = "_apart_deg" if name.startswith("head") else "_apart"
        apart = np.abs((a - np.median(a)) - (b - np.median(b))) if enough else np.array([np.nan])
        figures[name + end] = float(np.median(apart)) if enough else None
    return figures | _blinks(pairs, driver[:, 2], avatar[:, 2])


def face_curves(pairs: Sequence[tuple[TrackedFrame, TrackedFrame]]) -> tuple[np.ndarray, ...]:
    """(F, 8) each: the driver's and the avatar's `face_numbers`."""
    return tuple(np.stack([face_numbers(both[side].pose) for both in pairs]) for side in (0, 1))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 0 where the second does not move at all."""
    if b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _blinks(
    pairs: Sequence[tuple[TrackedFrame, TrackedFrame]], driver: np.ndarray, avatar: np.ndarray
) -> dict:
    """How many blinks the driver makes, and how many of them the avatar makes at about the same time."""
    if np.isfinite(driver).sum() < _FEWEST or np.isfinite(avatar).sum() < _FEWEST:
        return {"blinks_driver": None, "blinks_followed": None}
    times = np.array([frame.time_s for frame, _ in pairs])
    shut, half_shut = _fallen(driver, times, _SHUT), _fallen(avatar, times, _HALF_SHUT)
    starts = np.flatnonzero(shut & ~np.concatenate([[False], shut[:-1]]))
    followed = 0
    for start in starts:
        end = start
        while end + 1 < len(shut) and shut[end + 1]:
            end += 1
        near = (times >= times[start] - _BLINK_REACH_S) & (times <= times[end] + _BLINK_REACH_S)
        followed += bool(half_shut[near].any())
    return {"blinks_driver": len(starts), "blinks_followed": followed}


def _fallen(lids: np.ndarray, times: np.ndarray, part: float) -> np.ndarray:
    """(F,) bool: where the gap is less than a part of what it is about that time."""
    all_along = np.nanmedian(lids)
    near = [lids[np.abs(times - time_s) <= _USUAL_S] for time_s in times]
    usual = [np.nanmedian(np.append(gaps, all_along)) for gaps in near]
    return lids < part * np.array(usual)
