"""MediaPipe run again on single pictures, made and true alike: what a tracker still finds, and how far off.

Hands are looked for by MediaPipe Hands in an enlarged square round each hand of truth, the face by Face Mesh in one
round the face, the body by Pose in the whole picture; all in static mode, so that no picture helps the next one.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from avatar_stream.errors import TrackerError
from avatar_stream.lab.evaluation.pictures import GREY
from avatar_stream.landmarks import CHIN, FOREHEAD
from avatar_stream.people import parts as part_codes
from avatar_stream.trackers.holistic import quiet_stderr
from avatar_stream.types import FACE, LEFT_HAND, LEFT_SHOULDER, RIGHT_HAND, RIGHT_SHOULDER

HAND, FACE_PART, BODY_PART = "hand", "face", "body"
PARTS = (HAND, FACE_PART, BODY_PART)
HAND_CROP = 3.0  # sides of the crop in sides of truth's hand: the palm detector wants some arm round it
FACE_CROP = 2.0
CROP_PX = 256
_LEAST_HAND_PX = 88.0  # of a crop's side: a fist seen from its end has no more room about it otherwise
_LEAST_AREA = {HAND: 0.35, FACE_PART: 0.20}  # visible, in squares of the palm or the face's height
_LEAST_INSIDE = 0.8  # of a hand's landmarks that must be in the picture
_OTHER_PALM = 1.0  # a hand that lies further off than this, in palm lengths, is another one
_ARMS = np.arange(11, 17)  # shoulders, elbows, wrists
_CONFIDENCE = 0.5


@dataclass(frozen=True)
class ExpectedPart:
    """A part that is to be seen in truth.

    Attributes:
        kind: HAND, FACE_PART or BODY_PART.
        places: (N, 2) float32, its exact landmarks, canvas px.
        unit_px: palm length, face height or shoulder width.
        crop: left, top and side of the square looked at, canvas px; None: the whole picture.
        side: of a hand: 0 the signer's left, 1 right; -1 of other parts.
    """

    kind: str
    places: np.ndarray
    unit_px: float
    crop: Any
    side: int = -1


@dataclass(frozen=True)
class PartDetection:
    """What MediaPipe saw of it.

    Attributes:
        places: (N, 2) float32 canvas px; None: nothing.
        error: mean distance to the exact landmarks in `ExpectedPart.unit_px`; NaN where nothing was found.
        points: a hand's (21, 3) float32, canvas px, with the depth that MediaPipe guesses; None otherwise.
    """

    places: np.ndarray | None
    error: float
    points: np.ndarray | None = None


def wanted_parts(points: np.ndarray, parts: np.ndarray) -> list[ExpectedPart]:
    """Which parts truth really shows.

    Args:
        points: (553, 3) float32 exact landmarks, canvas px.
        parts: (256, 256) uint8, truth's part map.

    Returns:
        The hands and the face whose visible area is large enough, and the body.
    """
    found = []
    codes = ((LEFT_HAND, part_codes.LEFT_HAND), (RIGHT_HAND, part_codes.RIGHT_HAND))
    for side, (rows, code) in enumerate(codes):
        hand = points[rows]
        palm_px = float(np.linalg.norm(hand[9] - hand[0]))
        inside = ((hand[:, :2] >= 0) & (hand[:, :2] < 2 * parts.shape[0])).all(1).mean() >= _LEAST_INSIDE
        if inside and _area_px(parts, code) >= _LEAST_AREA[HAND] * palm_px**2:
            square = _square(hand, HAND_CROP, _LEAST_HAND_PX)
            found.append(ExpectedPart(HAND, hand[:, :2], palm_px, square, side))
    face = points[FACE]
    height_px = float(np.linalg.norm(face[CHIN] - face[FOREHEAD]))
    if _area_px(parts, part_codes.FACE) >= _LEAST_AREA[FACE_PART] * height_px**2:
        found.append(ExpectedPart(FACE_PART, face[:468, :2], height_px, _square(face, FACE_CROP, 0.0)))
    shoulders_px = float(np.linalg.norm(points[LEFT_SHOULDER, :2] - points[RIGHT_SHOULDER, :2]))
    found.append(ExpectedPart(BODY_PART, points[_ARMS, :2], shoulders_px, None))
    return found


def _area_px(parts: np.ndarray, code: int) -> float:
    return 4.0 * float((parts == code).sum())  # part maps have half the canvas' side


def _square(points: np.ndarray, enlarge: float, least_px: float) -> tuple[float, float, float]:
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    side = max(float((high - low).max()) * enlarge, least_px)
    left, top = (low + high) / 2 - side / 2
    return float(left), float(top), side


def cut_out(image: np.ndarray, crop: tuple[float, float, float], size_px: int = CROP_PX) -> np.ndarray:
    """Cut a square and enlarge it.

    Args:
        image: (H, W, 3) uint8 RGB.
        crop: left, top, side, px; may reach over the edge, where it is light grey.
        size_px: side of the result.

    Returns:
        (size_px, size_px, 3) uint8 RGB.
    """
    left, top, side = crop
    scale = size_px / side
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]], np.float32)
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (GREY, GREY, GREY)}
    return cv2.warpAffine(image, matrix, (size_px, size_px), flags=cv2.INTER_CUBIC, **border)


class PartDetector(contextlib.AbstractContextManager):
    """MediaPipe's hand, face and body networks for single pictures; a context manager."""

    def __init__(self) -> None:
        """Load the networks.

        Raises:
            TrackerError: mediapipe does not start.
        """
        os.environ.setdefault("GLOG_minloglevel", "2")
        with quiet_stderr():
            from mediapipe.python.solutions.face_mesh import FaceMesh
            from mediapipe.python.solutions.hands import Hands
            from mediapipe.python.solutions.pose import Pose

            try:
                self._hands = Hands(
                    static_image_mode=True, max_num_hands=2, min_detection_confidence=_CONFIDENCE
                )
                self._face = FaceMesh(static_image_mode=True, min_detection_confidence=_CONFIDENCE)
                # It also looks closely at lips, lids and irises, and moves the mesh by that.
                self._expression = FaceMesh(
                    static_image_mode=True, refine_landmarks=True, min_detection_confidence=_CONFIDENCE
                )
                self._body = Pose(static_image_mode=True, min_detection_confidence=_CONFIDENCE)
                # Their C++ side talks to stderr while it starts, and again where it first finds something.
                for network in self._networks:
                    network.process(np.zeros((64, 64, 3), np.uint8))
            except (OSError, RuntimeError, ValueError) as error:
                raise TrackerError(f"mediapipe does not start: {error}") from error
        self._used: set[str] = set()

    @property
    def _networks(self) -> tuple:
        return self._hands, self._face, self._expression, self._body

    def _quiet(self, use: str) -> contextlib.AbstractContextManager:
        """Keep from stderr what a network's first use writes there."""
        first = use not in self._used
        self._used.add(use)
        return quiet_stderr() if first else contextlib.nullcontext()

    def find(self, image: np.ndarray, wanted: ExpectedPart) -> PartDetection:
        """Look for one part.

        Args:
            image: (512, 512, 3) uint8 RGB, the person over light grey.
            wanted: what, and where it is in truth.
        """
        with self._quiet(wanted.kind):
            if wanted.kind == HAND:
                places = self._find_hand(image, wanted)
            elif wanted.kind == FACE_PART:
                faces = self._face.process(cut_out(image, wanted.crop)).multi_face_landmarks
                places = _places(faces[0].landmark, wanted.crop)[:468] if faces else None
            else:
                body = self._body.process(image).pose_landmarks
                whole = (0.0, 0.0, float(image.shape[1]))
                places = _places(body.landmark, whole)[_ARMS] if body else None
        if places is None:
            return PartDetection(None, np.nan)
        flat = places[:, :2]
        error = float(np.linalg.norm(flat - wanted.places, axis=1).mean() / wanted.unit_px)
        return PartDetection(flat, error, places if wanted.kind == HAND else None)

    def find_expression(self, image: np.ndarray, wanted: ExpectedPart) -> np.ndarray | None:
        """The face mesh with irises, lips and lids looked at closely.

        Args:
            image: (512, 512, 3) uint8 RGB, the person over light grey.
            wanted: the face, and where it is in truth.

        Returns:
            (478, 3) float32, canvas px; None where no face is found.
        """
        with self._quiet("expression"):
            faces = self._expression.process(cut_out(image, wanted.crop)).multi_face_landmarks
        return _places(faces[0].landmark, wanted.crop) if faces else None

    def _find_hand(self, image: np.ndarray, wanted: ExpectedPart) -> np.ndarray | None:
        hands = self._hands.process(cut_out(image, wanted.crop)).multi_hand_landmarks or []
        found = [_places(hand.landmark, wanted.crop) for hand in hands]
        # The other hand may be in the crop too. Which is left or right says nothing here: MediaPipe guesses it.
        apart = [
            np.linalg.norm(each[:, :2].mean(0) - wanted.places.mean(0)) / wanted.unit_px for each in found
        ]
        if not found or min(apart) > _OTHER_PALM:
            return None
        return min(found, key=lambda each: np.linalg.norm(each[:, :2] - wanted.places, axis=1).mean())

    def close(self) -> None:
        """Give the networks back."""
        for network in self._networks:
            network.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _places(landmarks: Any, crop: tuple[float, float, float]) -> np.ndarray:
    """(N, 3) float32 canvas px."""
    left, top, side = crop
    return np.array(
        [(point.x * side + left, point.y * side + top, point.z * side) for point in landmarks], np.float32
    )
