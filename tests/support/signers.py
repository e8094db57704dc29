"""People of given proportions whose arms point where a test says."""

from dataclasses import replace

import numpy as np

from avatar_stream.landmarks import HAND_CHAIN, HAND_RATIOS
from avatar_stream.people.skeleton import INDEX
from avatar_stream.retarget import Retargeter, RetargetOptions
from avatar_stream.sources.pose_file import read_pose_file
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND, Pose
from support.places import ROOT

PORTRAITS = sorted(ROOT.glob("assets/avatars/*/portrait.pose"))

FPS = 30
STILL = RetargetOptions(smoothing=0)
DOWN = np.array([0.0, 1.0, 0.0])


def face_template() -> np.ndarray:
    """(478, 3) a face, forehead to chin 1, origin between the ears: from a bundled portrait."""
    face = read_pose_file(PORTRAITS[0])[0].points[FACE].astype(float)
    face -= face[[234, 454]].mean(axis=0)
    return face / np.linalg.norm(face[10] - face[152])


def unit(*xyz: float) -> np.ndarray:
    return np.array(xyz) / np.linalg.norm(xyz)


def hand_shape(palm: float, curl: float = 0.3, side: int = 1) -> np.ndarray:
    """(21, 3) a hand pointing up, palm to the camera; side 1 = left, -1 = right."""
    spread = np.array([0.6, 0.22, 0.0, -0.2, -0.4])
    made = np.zeros((21, 3))
    for finger in range(5):
        for k in range(4):
            bend = curl * k
            flat = np.cos(bend) * np.array([side * -np.sin(spread[finger]), -np.cos(spread[finger])])
            way = np.array([*flat, -np.sin(bend)])
            made[1 + 4 * finger + k] = way / np.linalg.norm(way) * HAND_RATIOS[1 + 4 * finger + k] * palm
    return HAND_CHAIN @ made


def make_person(
    arms: list, width: float = 100.0, upper: float = 0.8, fore: float = 0.72, palm: float = 0.27,
    head: float = 0.52, centre: tuple[float, float] = (320.0, 240.0), size: tuple[int, int] = (640, 480),
    time_s: float = 0.0, face: np.ndarray | None = None, curl: float = 0.3, depth: float = 2.0,
) -> Pose:  # fmt: skip
    """A person of given proportions (in shoulder widths), arms as [side][upper, forearm] directions.

    `depth` exaggerates the body's z as MediaPipe does.
    """
    points = np.zeros((553, 3))
    middle = np.array([*centre, 0.0])
    points[FACE] = (face_template() if face is None else face) * head * width + middle + [0, -0.62 * width, 0]
    points[0] = points[FACE.start + 1]
    points[1:11] = points[FACE][[362, 473, 263, 133, 468, 33, 454, 234, 291, 61]]
    points[23:33] = middle + [0, 1.43 * width, 0]
    for side, sign in ((0, 1.0), (1, -1.0)):
        points[11 + side] = middle + [sign * width / 2, 0, 0]
        points[13 + side] = points[11 + side] + np.asarray(arms[side][0]) * upper * width
        points[15 + side] = points[13 + side] + np.asarray(arms[side][1]) * fore * width
        rows = (LEFT_HAND, RIGHT_HAND)[side]
        points[rows] = hand_shape(palm * width, curl, int(sign))
        points[rows, :2] += points[15 + side, :2]
        for body, row in ((17, 17), (19, 5), (21, 3)):
            points[body + side] = points[rows][row] + [0, 0, points[15 + side, 2]]
        points[23 + side, 0] += sign * 0.3 * width
    points[:33, 2] *= depth
    confidence = np.ones(553, np.float32)
    return Pose(points.astype(np.float32), confidence, np.full((33, 3), np.nan, np.float32), size, time_s)


def avatar_pose(**build) -> Pose:
    """A portrait: arms down, exact depth, in the canonical signing frame."""
    build = {"width": 150.0, "centre": (256.0, 235.5), "size": (512, 512), "depth": 1.0, "curl": 0.2} | build
    return make_person([[DOWN, DOWN], [DOWN, DOWN]], **build)


def settle(retargeter: Retargeter, pose: Pose, seconds: float = 1.5, start_s: float = 0.0) -> Pose:
    for k in range(round(seconds * FPS)):
        out = retargeter.retarget(replace(pose, time_s=start_s + k / FPS), start_s + k / FPS)
    return out


def reach_for(pose: Pose, side: int, tip: int, goal: np.ndarray) -> Pose:
    """Move a hand so that its landmark `tip` is at `goal` (2,), the elbow half-way below."""
    points = pose.points.copy()
    rows = (LEFT_HAND, RIGHT_HAND)[side]
    points[rows, :2] += goal - points[rows.start + tip, :2]
    points[15 + side, :2] = points[rows.start, :2]
    sign = 1 - 2 * side
    width = points[11, 0] - points[12, 0]
    points[13 + side, :2] = points[11 + side, :2] + [sign * 0.25 * width, 0.7 * width]
    points[13 + side, 2], points[15 + side, 2] = -0.4 * width, -1.5 * width
    return replace(pose, points=points)


def without(pose: Pose, rows: slice | list[int]) -> Pose:
    points, confidence = pose.points.copy(), pose.confidence.copy()
    points[rows], confidence[rows] = np.nan, 0
    return replace(pose, points=points, confidence=confidence)


def hand_rows(side: str) -> list[int]:
    """A rig's wrist and its twenty finger joints, in MediaPipe's order."""
    first = INDEX[f"{side}HandThumb1"]
    return [INDEX[f"{side}Hand"], *range(first, first + 20)]
