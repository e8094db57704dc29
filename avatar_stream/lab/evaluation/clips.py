"""A driver's clip and an avatar's, both through the tracker, compared frame by frame at the same times."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.errors import ConfigError
from avatar_stream.lab.videos import read_frames
from avatar_stream.landmarks import ELBOWS, HANDS, SHOULDERS, WRISTS
from avatar_stream.people import face_fit
from avatar_stream.trackers.holistic import HolisticTracker
from avatar_stream.types import FACE, Pose

# Angles of the head, degrees: to the signer's left, upwards, towards the signer's left shoulder.
FACE_NUMBERS = tuple("mouth_open brow_raise lids gaze_left gaze_up head_yaw head_pitch head_roll".split())
_THUMB_SHOWN_PX = 320
_SEEN = 0.5
_HANDS_OF_BODY = slice(15, 23)  # wrists, little fingers, index fingers, thumbs
_SHORT_BONE = 0.35  # shoulder widths; a bone that points at the camera has no angle in the picture
_FINGERS = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16], [17, 18, 19, 20]])


@dataclass(frozen=True)
class TrackedFrame:
    """One frame of a clip.

    Attributes:
        time_s: from the clip's first frame.
        pose: what the tracker found, or None.
        thumbnail: (H, W, 3) uint8 RGB, small, for the report; None where pictures are not kept.
    """

    time_s: float
    pose: Pose | None
    thumbnail: np.ndarray | None


def track_clip(path: Path, keep_pictures: bool = False) -> list[TrackedFrame]:
    """Every frame of a clip through a fresh tracker.

    Args:
        path: any clip that can be read.
        keep_pictures: keep a small picture of each frame.

    Raises:
        SourceError: the clip cannot be read.
        TrackerError: the tracker is missing or fails.
    """
    with closing(HolisticTracker()) as tracker:
        tracker.open()
        return [
            TrackedFrame(frame.time_s, tracker.track(frame), _small(frame.image) if keep_pictures else None)
            for frame in read_frames(path)
        ]


def _small(image: np.ndarray) -> np.ndarray:
    scale = _THUMB_SHOWN_PX / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def pair(
    driver: Sequence[TrackedFrame], avatar: Sequence[TrackedFrame]
) -> list[tuple[TrackedFrame, TrackedFrame]]:
    """Frames that belong together: for each of the driver's, the avatar's nearest in time.

    Frames without a partner within half of the driver's usual distance are left out, so that a clip that is
    shorter, or has dropped frames, is judged where it shows something.

    Raises:
        ConfigError: none belong together.
    """
    times = np.array([each.time_s for each in avatar])
    steps = np.diff([each.time_s for each in driver])
    most_s = max(float(np.median(steps)) if len(steps) else 0.04, 0.01) / 2 + 1e-3
    pairs = []
    for frame in driver:
        nearest = int(np.abs(times - frame.time_s).argmin())
        if abs(times[nearest] - frame.time_s) <= most_s:
            pairs.append((frame, avatar[nearest]))
    if not pairs:
        raise ConfigError("the two clips have no frames at the same times: is --avatar made from --driver?")
    return pairs


def hands_seen(pose: Pose | None) -> np.ndarray:
    """(2,) bool: left, right hand found."""
    if pose is None:
        return np.zeros(2, bool)
    return np.array([(pose.confidence[rows] > 0).all() for rows in HANDS])


def face_seen(pose: Pose | None) -> bool:
    """Whether the face mesh was found."""
    return pose is not None and bool((pose.confidence[FACE] > 0).all())


def arm_angles(pose: Pose | None) -> np.ndarray:
    """Directions of the arms' bones in the picture.

    Returns:
        (2, 2) degrees, [left, right][upper arm, forearm], 0 to the right in the picture, counted towards down;
        NaN where not seen, or where the bone points so much at the camera that it has no direction.
    """
    angles = np.full((2, 2), np.nan)
    if pose is None:
        return angles
    chain = np.stack([SHOULDERS, ELBOWS, WRISTS])
    places = np.where(pose.confidence[chain][..., None] >= _SEEN, pose.points[chain][..., :2], np.nan)
    width_px = np.linalg.norm(places[0, 0] - places[0, 1])
    for bone in (0, 1):
        way = places[bone + 1] - places[bone]
        long_enough = np.linalg.norm(way, axis=1) >= _SHORT_BONE * width_px
        angles[:, bone] = np.where(long_enough, np.degrees(np.arctan2(way[:, 1], way[:, 0])), np.nan)
    return angles


def angle_between(first_deg: np.ndarray, second_deg: np.ndarray) -> np.ndarray:
    """Smallest difference of directions, 0..180 degrees."""
    return np.abs((first_deg - second_deg + 180) % 360 - 180)


def finger_bends(hand: np.ndarray) -> np.ndarray:
    """How much each finger is bent at each joint.

    Args:
        hand: (21, 3) px.

    Returns:
        (15,) degrees, 0 straight: thumb to little finger, each from the palm outwards.
    """
    chains = np.concatenate([np.zeros((5, 1), int), _FINGERS], axis=1)
    bones = np.diff(hand[chains].astype(np.float64), axis=1)
    bones /= np.maximum(np.linalg.norm(bones, axis=2, keepdims=True), 1e-6)
    cosines = (bones[:, 1:] * bones[:, :-1]).sum(2)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1))).ravel()


def hand_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance of the landmarks of two hands in the picture, wrist on wrist, in palm lengths.

    Args:
        first: (21, 3) px.
        second: (21, 3) px, of any other size.
    """
    shapes = []
    for hand in (first, second):
        palm_px = np.linalg.norm(hand[9] - hand[0])
        shapes.append((hand[:, :2] - hand[0, :2]) / max(float(palm_px), 1e-6))
    return float(np.linalg.norm(shapes[0] - shapes[1], axis=1).mean())


def face_is_free(pose: Pose | None) -> bool:
    """Whether the face is found and no hand before it: there the tracker guesses mouth, brows and turn."""
    if pose is None or not face_seen(pose):
        return False
    face = pose.points[FACE, :2]
    low, high = face.min(axis=0), face.max(axis=0)
    over = ((pose.points[:, :2] >= low) & (pose.points[:, :2] <= high)).all(axis=1)
    # The body's own points of the hands stand in where the hand itself is lost, as it often is before a face.
    return not any((over & (pose.confidence >= _SEEN))[rows].any() for rows in (*HANDS, _HANDS_OF_BODY))


def face_numbers(pose: Pose | None) -> np.ndarray:
    """What a face does, in numbers that do not depend on its size and place.

    Returns:
        (8,) as FACE_NUMBERS: lengths in distances of the eyes' outer corners, angles in degrees; NaN where it is not
        free (`face_is_free`).
    """
    if pose is None or not face_is_free(pose):
        return np.full(len(FACE_NUMBERS), np.nan)
    return mesh_numbers(pose.points[FACE])


def mesh_numbers(mesh: np.ndarray) -> np.ndarray:
    """(478, 3) px, a face mesh with irises -> (8,) as `face_numbers`."""
    face = mesh.astype(np.float64) * (1, -1, -1)
    turn = face_fit.head_turn(face)
    shape = face_fit.measure(face, turn)
    forward, across = turn[:, 2], turn[:, 0]
    yaw = np.degrees(np.arctan2(forward[0], forward[2]))
    pitch = np.degrees(np.arcsin(np.clip(forward[1], -1, 1)))
    roll = np.degrees(np.arctan2(-across[1], across[0]))
    lengths = (shape.mouth_open, shape.brows.mean(), shape.lids.mean(), *shape.iris.mean(axis=0))
    return np.array([*lengths, yaw, pitch, roll])
