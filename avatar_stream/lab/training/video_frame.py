"""What a video's frames must show to train on, where cuts are, and the way into the canonical signing frame."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import cv2
import numpy as np

from avatar_stream import types
from avatar_stream.landmarks import EARS_OF_FACE, LOWER_LIP, MOUTH_CORNERS, NOSE_TIP, UPPER_LIP
from avatar_stream.types import BODY, CANVAS_PX, FACE, LEFT_HAND, RIGHT_HAND, Pose

_NEEDED_BODY = [0, *range(11, 17), types.LEFT_HIP, types.RIGHT_HIP]
_HANDS = ((LEFT_HAND, types.LEFT_WRIST), (RIGHT_HAND, types.RIGHT_WRIST))
_WRIST_GAP = 0.4  # in shoulder widths; further from the arm's end a hand is somebody else's or the other one
_HIPS_SEEN = 0.5  # visibility
_JUMP = 0.5  # in shoulder widths, from one tracked frame to the next
_THUMBNAIL_PX = (64, 48)
_CUT_COLOURS = 0.25  # Bhattacharyya distance of two frames' colours
_CUT_CHANGE = 9.0  # mean absolute change of a thumbnail, grey levels ...
_CUT_RATIO = 2.5  # ... and in medians of the changes before


@dataclass(frozen=True)
class SigningFrame:
    """The canonical signing frame in a shot: one square of the video's picture.

    Attributes:
        left_px, top_px: its corner, px of the video; it may lie outside the picture.
        side_px: its side, px of the video.
    """

    left_px: float
    top_px: float
    side_px: float

    @classmethod
    def of(cls, poses: list[Pose]) -> SigningFrame:
        """The frame that fits the median person of some poses, all with shoulders and hips (seen or guessed)."""
        points = np.stack([pose.points[BODY, :2] for pose in poses])
        shoulders = points[:, [types.LEFT_SHOULDER, types.RIGHT_SHOULDER]]
        hips = points[:, [types.LEFT_HIP, types.RIGHT_HIP]].mean(axis=1)
        middle = shoulders.mean(axis=1)
        width = float(np.median(np.linalg.norm(shoulders[:, 0] - shoulders[:, 1], axis=1)))
        visible = np.median([pose.confidence[[types.LEFT_HIP, types.RIGHT_HIP]].min() for pose in poses])
        side = types.SIDE_PER_SHOULDERS * width
        if visible > _HIPS_SEEN and np.median(hips[:, 1]) < poses[0].size[1]:
            torso = float(np.median(np.linalg.norm(hips - middle, axis=1)))
            side = types.SIDE_PER_SHOULDERS_AND_TORSO * (width + torso)
        corner = np.median(middle, axis=0) - side * np.array(types.SHOULDER_CENTRE)
        return cls(float(corner[0]), float(corner[1]), side)

    def place(self, points: np.ndarray) -> np.ndarray:
        """(553, 3) float32 landmarks, px of the video -> canvas px, depth in the same scale."""
        corner = np.array([self.left_px, self.top_px, 0], np.float32)
        return np.asarray((points - corner) * self._scale, np.float32)

    def cut(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut the frame out of a picture.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (512, 512, 3) uint8 RGB, the picture's edge repeated where it ends, and (512, 512) bool, where it is.
        """
        scale = np.array([self._scale, self._scale])
        whole = np.array(image.shape[1::-1])
        if self._scale < 1:  # first smaller, so that no pixel is left out, then to its place
            size = np.maximum(np.round(whole * self._scale).astype(int), 1)
            image = cv2.resize(image, tuple(size.tolist()), interpolation=cv2.INTER_AREA)
            scale = scale * whole / size
        # Landmarks count from the corner of a pixel, warpAffine from its middle.
        shift = -np.array([self.left_px, self.top_px]) * self._scale + 0.5 * scale - 0.5
        warp = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
        size = (CANVAS_PX, CANVAS_PX)
        cut = cv2.warpAffine(image, warp, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        inside = cv2.warpAffine(np.ones(image.shape[:2], np.uint8), warp, size, flags=cv2.INTER_NEAREST)
        return cut, inside > 0

    @property
    def _scale(self) -> float:
        return CANVAS_PX / self.side_px


def usable_pose(pose: Pose) -> Pose | None:
    """Judge whether a frame can be trained on, and take guesses out of its pose.

    Trunk, arms and the whole face must be there, and both hands: a hand that was not found is excused only
    where its wrist is outside the picture, for then the picture shows none either. Its points become NaN. At
    least one hand must be found.

    Returns:
        The pose without implausible hands, or None.
    """
    points = pose.points
    if not np.isfinite(points[_NEEDED_BODY]).all() or not np.isfinite(points[FACE]).all():
        return None
    width = float(np.linalg.norm(points[types.LEFT_SHOULDER, :2] - points[types.RIGHT_SHOULDER, :2]))
    ears = np.linalg.norm(points[types.LEFT_EAR, :2] - points[types.RIGHT_EAR, :2])
    nose_gap = np.linalg.norm(points[FACE.start + NOSE_TIP, :2] - points[types.NOSE, :2])
    if width < 1 or not nose_gap < max(0.3 * width, ears):
        return None  # the face is another person's
    points, confidence, found = points.copy(), pose.confidence.copy(), 0
    for hand, wrist in _HANDS:
        gap = np.linalg.norm(points[hand.start, :2] - points[wrist, :2])
        if gap < _WRIST_GAP * width:
            found += 1
        elif ((points[wrist, :2] > 0) & (points[wrist, :2] < pose.size)).all():
            return None
        else:
            points[hand], confidence[hand] = np.nan, 0.0
    return replace(pose, points=points, confidence=confidence) if found else None


def neutrality(points: np.ndarray) -> float:
    """How much a pose is like a neutral portrait: hands low and in view, mouth closed, head straight.

    Args:
        points: (553, 3) float32, canvas px.

    Returns:
        More is more neutral.
    """
    face = points[FACE, :2]
    mouth = np.linalg.norm(np.subtract(*face[MOUTH_CORNERS])) + 1e-3
    opening = np.linalg.norm(face[UPPER_LIP] - face[LOWER_LIP]) / mouth
    ears = [np.linalg.norm(face[NOSE_TIP] - face[ear]) for ear in EARS_OF_FACE]
    turn = abs(ears[0] - ears[1]) / (sum(ears) + 1e-3)
    hands = np.stack([points[hand, 1] for hand, _ in _HANDS]).mean(axis=1) / CANVAS_PX
    return float(np.where(np.isfinite(hands), np.minimum(hands, 1.0), 0.5).sum() - 0.5 * opening - turn)


class CutFinder:
    """Finds hard cuts in a row of frames."""

    def __init__(self) -> None:
        """Before the first frame."""
        self._thumbnail: np.ndarray | None = None
        self._colours: np.ndarray | None = None
        self._changes: deque[float] = deque(maxlen=15)
        self._shoulders: np.ndarray | None = None

    def is_picture_cut(self, image: np.ndarray) -> bool:
        """Whether the picture (H, W, 3) uint8 RGB is another shot than the one before."""
        thumbnail = cv2.resize(image, _THUMBNAIL_PX, interpolation=cv2.INTER_AREA)
        colours = cv2.calcHist([thumbnail], [0, 1, 2], None, [8] * 3, [0, 256] * 3)
        before, colours_before = self._thumbnail, self._colours
        self._thumbnail, self._colours = thumbnail, colours / colours.sum()
        if before is None:
            return False
        change = float(cv2.absdiff(before, thumbnail).mean())
        usual = float(np.median(self._changes)) if self._changes else change
        far = cv2.compareHist(colours_before, self._colours, cv2.HISTCMP_BHATTACHARYYA)
        if far < _CUT_COLOURS and not (change > _CUT_CHANGE and change > _CUT_RATIO * usual):
            self._changes.append(change)
            return False
        self._changes.clear()
        self._shoulders = None
        return True

    def is_jump(self, pose: Pose) -> bool:
        """Whether the shoulders are elsewhere, or of another size, than in the frame before."""
        shoulders = pose.points[[types.LEFT_SHOULDER, types.RIGHT_SHOULDER], :2]
        if not np.isfinite(shoulders).all():
            return False
        before, self._shoulders = self._shoulders, shoulders
        if before is None:
            return False
        width = max(float(np.linalg.norm(before[0] - before[1])), 1.0)
        return bool(np.linalg.norm(shoulders - before, axis=1).max() > _JUMP * width)
