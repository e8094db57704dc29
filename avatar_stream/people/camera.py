"""The camera that puts a rigged person into the canonical signing frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar_stream.people.skeleton import INDEX
from avatar_stream.turns import about
from avatar_stream.types import SHOULDER_CENTRE, SIDE_PER_SHOULDERS_AND_TORSO

_X, _Y, _ = np.eye(3)


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at the middle of the shoulders of the bind pose.

    Attributes:
        distance_m: from the middle of the shoulders, 1.6-3 is natural.
        yaw_rad: positive: the camera stands at the signer's left.
        pitch_rad: positive: the camera stands higher and looks down.
        scale: 1 = the canonical signing frame; larger shows the person larger.
        shift: move of the picture in parts of its side, right and down positive.
    """

    distance_m: float = 2.2
    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def place(self, bind_m: np.ndarray) -> PlacedCamera:
        """Stand before one person.

        Args:
            bind_m: (69, 3) joint positions of the bind pose, metres.
        """
        left, right = bind_m[INDEX["LeftArm"]], bind_m[INDEX["RightArm"]]
        hips = (bind_m[INDEX["LeftUpLeg"]] + bind_m[INDEX["RightUpLeg"]]) / 2
        focus = (left + right) / 2
        shoulders_m, torso_m = float(np.linalg.norm(left - right)), float(focus[1] - hips[1])
        side_m = SIDE_PER_SHOULDERS_AND_TORSO * (shoulders_m + torso_m) / self.scale
        turn = about(_X, self.pitch_rad) @ about(_Y, -self.yaw_rad)
        centre = (SHOULDER_CENTRE[0] + self.shift[0], SHOULDER_CENTRE[1] + self.shift[1])
        return PlacedCamera(turn, focus.astype(np.float64), self.distance_m, side_m, centre)

    def aimed(self, bind_m: np.ndarray, focus_m: np.ndarray, side_m: float) -> PlacedCamera:
        """The same view direction, but with `focus_m` (3,) in the middle of a square `side_m` metres wide."""
        placed = self.place(bind_m)
        return PlacedCamera(placed.turn, np.asarray(focus_m, np.float64), self.distance_m, side_m, (0.5, 0.5))


@dataclass(frozen=True)
class PlacedCamera:
    """A camera before one person.

    Attributes:
        turn: (3, 3) rotation from model space to view space (x right in the picture, y up, z to the camera).
        focus_m: (3,) the model point looked at.
        distance_m: from the focus.
        side_m: width and height of the picture at the focus, metres.
        centre: where the focus stands in the picture, parts of the side from the top left.
    """

    turn: np.ndarray
    focus_m: np.ndarray
    distance_m: float
    side_m: float
    centre: tuple[float, float]

    def project(self, points_m: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray]:
        """Project model points.

        Args:
            points_m: (..., 3) metres.
            size_px: side of the picture.

        Returns:
            (..., 2) px, origin top left, y down; and (...) depth from the camera in metres.
        """
        view = (points_m - self.focus_m) @ self.turn.T
        depth_m = self.distance_m - view[..., 2]
        across = view[..., :2] * (self.distance_m / self.side_m / depth_m[..., None])
        return (across * (1, -1) + self.centre) * size_px, depth_m

    def matrix(self) -> np.ndarray:
        """(4, 4) float32 OpenGL clip matrix of column vectors, upside down: the buffer's row 0 is the top."""
        focal = 2 * self.distance_m / self.side_m
        near, far = 0.3, self.distance_m + 3.0
        view = np.eye(4)
        view[:3, :3], view[:3, 3] = self.turn, -self.turn @ self.focus_m
        view[2, 3] -= self.distance_m
        clip = np.array(
            [
                [focal, 0, -(2 * self.centre[0] - 1), 0],
                [0, -focal, -(2 * self.centre[1] - 1), 0],
                [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
                [0, 0, -1, 0],
            ]
        )
        return (clip @ view).astype(np.float32)

    def eye_m(self) -> np.ndarray:
        """(3,) where the camera stands, in model space."""
        return self.focus_m + self.turn.T @ np.array([0, 0, self.distance_m])
