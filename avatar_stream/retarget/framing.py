"""Tells when the camera sees the signer badly: out of the picture, too near, too far, too dark."""

from __future__ import annotations

import cv2
import numpy as np

from avatar_stream.landmarks import MESH
from avatar_stream.types import (
    FACE,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Frame,
    Pose,
)

_RISE_S, _FALL_S = 0.8, 0.8  # a notice comes and goes after its cause has, for this long
_LONGEST_STEP_S = 0.5
_SEEN = 0.3
_DARK_GREY, _DARK_WITH_SIGNER = 28.0, 42.0  # of 255, median of the picture
_NEAR, _FAR = 0.55, 0.12  # shoulder width as a part of the picture's width
_TOP = 0.02  # the head's top must stay this part of the height inside
_NOTICES = {
    "dark": "it is too dark: the tracker needs light from the front",
    "nobody": "nobody is in view",
    "head": "your head leaves the picture: lower the camera or step back",
    "left wrist": "your left hand leaves the picture: step back or to the middle",
    "right wrist": "your right hand leaves the picture: step back or to the middle",
    "near": "you are too near: step back until your elbows are in the picture",
    "far": "you are too far: come nearer, fingers need pixels",
}


class FramingGuard:
    """Looks at tracked frames and keeps what to tell the signer.

    Attributes:
        notices: one line for each thing that has been wrong for a moment; read from any thread.
    """

    def __init__(self) -> None:
        """Start with nothing to say."""
        self.notices: tuple[str, ...] = ()
        self._wrong_s = dict.fromkeys(_NOTICES, 0.0)
        self._shown: set[str] = set()
        self._time_s: float | None = None

    def look(self, frame: Frame) -> None:
        """Judge a tracked frame: image (H, W, 3) uint8 RGB, `pose` in its pixels or None for nobody."""
        step_s = 0.0 if self._time_s is None else min(max(frame.time_s - self._time_s, 0.0), _LONGEST_STEP_S)
        self._time_s = frame.time_s
        wrong = _judge(frame)
        for cause in _NOTICES:
            change_s = step_s / _RISE_S if cause in wrong else -step_s / _FALL_S
            self._wrong_s[cause] = min(max(self._wrong_s[cause] + change_s, 0.0), 1.0)
            if self._wrong_s[cause] >= 1.0:
                self._shown.add(cause)
            elif self._wrong_s[cause] <= 0.0:
                self._shown.discard(cause)
        self.notices = tuple(_NOTICES[cause] for cause in _NOTICES if cause in self._shown)


def _judge(frame: Frame) -> set[str]:
    brightness = _brightness(frame.image)
    if frame.pose is None:
        return {"dark"} if brightness < _DARK_WITH_SIGNER else {"nobody"}
    wrong = _judge_pose(frame.pose)
    return wrong | {"dark"} if brightness < _DARK_GREY else wrong


def _judge_pose(pose: Pose) -> set[str]:
    width_px, height_px = pose.size
    points, seen, wrong = pose.points[:, :2], pose.confidence >= _SEEN, set()
    face = points[FACE][MESH]
    top_px = np.nanmin(face[:, 1]) if np.isfinite(face).any() else points[NOSE, 1]
    if np.isfinite(top_px) and top_px < _TOP * height_px:
        wrong.add("head")
    shoulders = points[[LEFT_SHOULDER, RIGHT_SHOULDER]]
    if np.isfinite(shoulders).all():
        part = float(np.linalg.norm(shoulders[0] - shoulders[1])) / width_px
        # A portrait picture is narrow; what counts is what fits, so the shorter side is no measure here.
        wrong |= {"near"} if part > _NEAR else {"far"} if part < _FAR else set()
    for name, wrist, shoulder in (
        ("left wrist", LEFT_WRIST, LEFT_SHOULDER),
        ("right wrist", RIGHT_WRIST, RIGHT_SHOULDER),
    ):
        x, y = points[wrist]
        # Hands that hang below the picture rest; at the sides, or raised, they are missed.
        outside = not 0 <= x <= width_px or y < 0 or (y > height_px and y - points[shoulder, 1] < 0)
        if np.isfinite((x, y)).all() and outside and seen[shoulder]:
            wrong.add(name)
    return wrong


def _brightness(image: np.ndarray) -> float:
    # Median of the greys of a coarse grid: cheap, and a lamp in the picture does not hide a dark face.
    step = max(1, min(image.shape[:2]) // 48)
    return float(np.median(cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_RGB2GRAY)))
