"""Exact landmarks of a posed person in MediaPipe Holistic's layout."""

from __future__ import annotations

import numpy as np

from avatar_stream.landmarks import FACE_OF_HEAD, HEAD_ROWS, HIPS, MESH
from avatar_stream.people.camera import Camera, PlacedCamera
from avatar_stream.people.face_points import FacePoints
from avatar_stream.people.rig import Rig
from avatar_stream.people.skeleton import INDEX, RigPose, forward
from avatar_stream.types import BODY, CANVAS_PX, FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, Pose

_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")
_BODY_JOINTS = dict(
    enumerate(
        (
            f"{side}{name}"
            for name in "Arm ForeArm Hand HandPinky1 HandIndex1 HandThumb3 UpLeg Leg Foot".split()
            for side in ("Left", "Right")
        ),
        11,
    )
) | {31: "LeftToeEnd", 32: "RightToeEnd"}
_BODY_ROWS = np.array(list(_BODY_JOINTS))
_BODY = np.array([INDEX[name] for name in _BODY_JOINTS.values()])
_LEFT, _RIGHT = (
    np.array(
        [
            INDEX[f"{side}Hand"],
            *(INDEX[f"{side}Hand{finger}{k}"] for finger in _FINGERS for k in (1, 2, 3, 4)),
        ]
    )
    for side in ("Left", "Right")
)
_HEELS = {29: "LeftFoot", 30: "RightFoot"}
_HEEL_BACK_M = 0.045  # heels have no joint: behind the ankle, at the height of the toes


def model_points(rig: Rig, face: FacePoints, pose: RigPose) -> np.ndarray:
    """(553, 3) float32: all landmarks in model space, metres."""
    turns, places = forward(rig.bind_m, pose)
    points = np.empty((POINT_COUNT, 3), np.float32)
    points[FACE] = face.place(rig, pose)
    points[HEAD_ROWS] = points[FACE][FACE_OF_HEAD]
    points[_BODY_ROWS] = places[_BODY]
    for row, name in _HEELS.items():
        foot, toe = INDEX[name], INDEX[name.replace("Foot", "ToeBase")]
        offset = (0, rig.bind_m[toe, 1] - rig.bind_m[foot, 1], -_HEEL_BACK_M)
        points[row] = places[foot] + turns[foot] @ np.array(offset, np.float32)
    points[LEFT_HAND], points[RIGHT_HAND] = places[_LEFT], places[_RIGHT]
    return points


def landmarks(
    rig: Rig,
    face: FacePoints,
    pose: RigPose,
    camera: Camera | PlacedCamera | None = None,
    size_px: int = CANVAS_PX,
    time_s: float = 0.0,
) -> Pose:
    """Landmarks as a perfect tracker would see them.

    Args:
        rig: who.
        face: the person's face points, from `face_points.attach`.
        pose: how the person stands.
        camera: from where; the canonical signing frame by default.
        size_px: side of the square picture.
        time_s: goes into the result.

    Returns:
        Every point has confidence 1, also where it is hidden or outside the picture.
    """
    camera = camera or Camera()
    placed = camera.place(rig.bind_m) if isinstance(camera, Camera) else camera
    model = model_points(rig, face, pose)
    flat, depth_m = placed.project(model, size_px)
    deep = depth_m * (size_px / placed.side_m)
    origin = np.empty(POINT_COUNT)
    origin[BODY] = deep[HIPS].mean()
    origin[FACE] = deep[FACE][MESH].mean()
    origin[LEFT_HAND], origin[RIGHT_HAND] = deep[LEFT_HAND][0], deep[RIGHT_HAND][0]
    points = np.concatenate([flat, (deep - origin)[:, None]], 1).astype(np.float32)
    view = (model[BODY] - model[HIPS].mean(0)) @ placed.turn.T.astype(np.float32)
    world = (view * np.array([1, -1, -1], np.float32)).astype(np.float32)
    return Pose(points, np.ones(POINT_COUNT, np.float32), world, (size_px, size_px), time_s)
