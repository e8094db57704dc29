"""A second look for a hand that was there a moment ago: MediaPipe's own hand network on a better crop."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.types import (
    LEFT_ELBOW,
    LEFT_HAND,
    LEFT_WRIST,
    RIGHT_ELBOW,
    RIGHT_HAND,
    RIGHT_WRIST,
    Pose,
)

logger = logging.getLogger(__name__)

# Rows of each hand, its wrist and elbow, and what the network's handedness is for it (about 1 or 0).
_SIDES = ((LEFT_HAND, LEFT_WRIST, LEFT_ELBOW, 0.0), (RIGHT_HAND, RIGHT_WRIST, RIGHT_ELBOW, 1.0))
_INPUT_PX = 224
_DEPTH = 0.4  # MediaPipe's own graph divides the network's z by it
_REMEMBERED_S = 0.5
_CENTRE = 0.45  # of the hand from the wrist on, along the forearm, in hand sizes
_CROPS = (2.0, 2.8)  # sides of the crops tried, in hand sizes
_LEAST_PRESENCE = 0.6
_MOST_WRONG_SIDE = 0.7  # how much the network may think it is the other hand
_MOST_FROM_WRIST = 0.7  # of the found wrist from the body's, in hand sizes
_SMALLEST_PX = 12


class HandLook:
    """Finds lost hands where body and memory say they must be.

    Holistic lets go of a hand when it moves fast, because it looks where the hand was. The forearm of this very
    frame says better where it is.
    """

    def __init__(self) -> None:
        """Remember nothing; `open` loads."""
        self._network = None
        self._memory: dict[int, tuple[float, float]] = {}  # side: (when Holistic saw it, its size in px)

    def open(self) -> bool:
        """Load the network from MediaPipe's package; False where OpenVINO is missing, which runs it."""
        try:
            import mediapipe
            import openvino
        except ImportError as error:
            logger.debug("no second look for lost hands: %s", error)
            return False
        place = Path(mediapipe.__file__).parent / "modules" / "hand_landmark" / "hand_landmark_full.tflite"
        if not place.is_file():
            logger.debug("no second look for lost hands: %s is missing", place)
            return False
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._network = openvino.Core().compile_model(str(place), "CPU", settings)
        self._memory.clear()
        return True

    def complete(self, image: np.ndarray, pose: Pose) -> None:
        """Put hands that are found into the pose.

        Args:
            image: (H, W, 3) uint8 RGB in which the pose was found.
            pose: of a tracker that was not handed on yet; its `points` and `confidence` are filled in place.
        """
        if self._network is None:
            return
        for side, (rows, wrist, elbow, handedness) in enumerate(_SIDES):
            hand = pose.points[rows, :2]
            if pose.confidence[rows].any():
                self._memory[side] = (pose.time_s, float(np.ptp(hand, axis=0).max()))
                continue
            seen_s, size_px = self._memory.get(side, (-np.inf, 0.0))
            arm = pose.points[[wrist, elbow], :2]
            if pose.time_s - seen_s > _REMEMBERED_S or size_px < _SMALLEST_PX or not np.isfinite(arm).all():
                continue
            found = self._look(image, arm[0], arm[0] - arm[1], size_px, handedness)
            if found is not None:
                pose.points[rows], pose.confidence[rows] = found

    def _look(
        self, image: np.ndarray, wrist: np.ndarray, forearm: np.ndarray, size_px: float, handedness: float
    ) -> tuple[np.ndarray, float] | None:
        length_px = float(np.linalg.norm(forearm))
        if length_px < 1.0:
            return None
        way = forearm / length_px
        centre = wrist + way * _CENTRE * size_px
        height_px, width_px = image.shape[:2]
        if not (0 <= centre[0] < width_px and 0 <= centre[1] < height_px):
            return None  # it left the picture: what a network sees there is made up
        for crop in _CROPS:
            points, presence, right = self._run(image, centre, way, crop * size_px)
            near = np.linalg.norm(points[0, :2] - wrist) < _MOST_FROM_WRIST * size_px
            if presence > _LEAST_PRESENCE and abs(right - handedness) < _MOST_WRONG_SIDE and near:
                return points, presence
        return None

    def _run(
        self, image: np.ndarray, centre: np.ndarray, way: np.ndarray, side_px: float
    ) -> tuple[np.ndarray, float, float]:
        # (21, 3) px of the image with z from the wrist, presence 0..1, how much it is a right hand 0..1
        turn = np.stack([[-way[1], way[0]], -way], axis=1) * (side_px / _INPUT_PX)  # fingers upwards
        start = centre - turn @ np.full(2, _INPUT_PX / 2)
        matrix = np.hstack([turn, start[:, None]]).astype(np.float32)
        crop = cv2.warpAffine(
            image, matrix, (_INPUT_PX, _INPUT_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        made = self._network(crop[None].astype(np.float32) / 255)
        landmarks = np.asarray(made[0]).reshape(21, 3)
        points = np.empty((21, 3), np.float32)
        points[:, :2] = landmarks[:, :2] @ turn.T + start
        points[:, 2] = (landmarks[:, 2] - landmarks[0, 2]) * side_px / (_INPUT_PX * _DEPTH)
        return points, float(np.asarray(made[1]).item()), float(np.asarray(made[2]).item())
