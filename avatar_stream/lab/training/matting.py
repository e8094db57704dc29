"""From a video's picture to what rendered data give exactly: a matte, clean edge colours and a part map."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np

from avatar_stream.errors import TrackerError
from avatar_stream.landmarks import CHIN
from avatar_stream.modeling.drawing import geometry
from avatar_stream.modeling.drawing.figure import measure_figure
from avatar_stream.modeling.drawing.girth import Girth
from avatar_stream.people.parts import FACE as FACE_PART
from avatar_stream.people.parts import (
    HAIR,
    LEFT_HAND,
    LOWER_CLOTHES,
    NECK_AND_ARMS,
    RIGHT_HAND,
    UPPER_CLOTHES,
)
from avatar_stream.trackers.holistic import quiet_stderr
from avatar_stream.types import CANVAS_PX, FACE, LEFT_HIP, RIGHT_HIP

PARTS_PX = 256
_PART_OF_GROUP = np.zeros(geometry.GROUPS, np.uint8)
_PART_OF_GROUP[[geometry.TORSO, geometry.NECK, geometry.HEAD]] = UPPER_CLOTHES, NECK_AND_ARMS, HAIR
_PART_OF_GROUP[[geometry.SKIN, geometry.MOUTH, geometry.EYE]] = FACE_PART
_PART_OF_GROUP[[geometry.LEFT_ARM, geometry.LEFT_PALM]] = NECK_AND_ARMS, LEFT_HAND
_PART_OF_GROUP[[geometry.RIGHT_ARM, geometry.RIGHT_PALM]] = NECK_AND_ARMS, RIGHT_HAND
_HAND_PARTS = (LEFT_HAND, RIGHT_HAND)
_HAND_SPREAD_PX = 2.5
_LAB_WEIGHTS = np.array(
    [0.25, 1.0, 1.0], np.float32
)  # light and folds change how bright clothes are, not their hue
_HANDS = (geometry.LEFT_PALM, geometry.RIGHT_PALM)

_EDGE_PX = 6  # radius in which the matte follows the picture's edges
_EDGE_CONTRAST = (0.04 * 255) ** 2
_SOLID = (0.25, 0.75)  # the segmenter's doubt below and above which a pixel is background or person
_HAND_TRUST = 0.85  # of a pixel in the middle of a tracked hand, which the segmenter often loses
_REACH_PX = 85  # hair and clothes reach no further from the drawn body; what does is somebody else
_COLOUR_BLURS_PX = (45, 6)


class Segmenter:
    """MediaPipe's selfie segmentation, on pictures in the canonical signing frame."""

    def __init__(self) -> None:
        """Nothing is loaded before `open()`."""
        self._network: Any = None

    def open(self) -> None:
        """Load the network.

        Raises:
            TrackerError: mediapipe does not start.
        """
        os.environ.setdefault("GLOG_minloglevel", "2")
        # Its C++ side talks to stderr until the first picture has gone through.
        with quiet_stderr():
            try:
                from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

                self._network = SelfieSegmentation(model_selection=0)
                self._network.process(np.zeros((CANVAS_PX, CANVAS_PX, 3), np.uint8))
            except (ImportError, OSError, RuntimeError, ValueError) as error:
                raise TrackerError(f"the segmenter does not start ({error}): run `make setup`") from error

    def segment(self, image: np.ndarray) -> np.ndarray:
        """(512, 512, 3) uint8 RGB -> (512, 512) float32, 0..1: how surely a pixel is a person.

        Raises:
            TrackerError: the segmenter is not open, or mediapipe failed.
        """
        if self._network is None:
            raise TrackerError("the segmenter is not open")
        try:
            return self._network.process(image).segmentation_mask
        except (RuntimeError, ValueError) as error:
            raise TrackerError(f"mediapipe's segmentation failed: {error}") from error

    def close(self) -> None:
        """Give the network back. May be called twice."""
        if self._network is not None:
            self._network.close()
            self._network = None


def draw_groups(points: np.ndarray) -> np.ndarray:
    """(553, 3) landmarks, canvas px -> (256, 256) uint8 groups of `modeling/geometry.py`."""
    return geometry.draw_groups(measure_figure(points, Girth()), PARTS_PX)


def refine_matte(image: np.ndarray, doubt: np.ndarray, groups: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Make a segmenter's guess the matte of the tracked person.

    Args:
        image: (512, 512, 3) uint8 RGB.
        doubt: (512, 512) float32, 0..1, from `Segmenter.segment`.
        groups: (256, 256) uint8 from `draw_groups`.
        inside: (512, 512) bool, where the video's picture is.

    Returns:
        (512, 512) uint8: 0 outside the picture and on other people, soft at the edges.
    """
    size = (CANVAS_PX, CANVAS_PX)
    hands = np.isin(groups, _HANDS).astype(np.uint8)
    # The drawn fingers are a little thick and a little off: only their middles are sure.
    depth = cv2.distanceTransform(hands, cv2.DIST_L2, 3)
    middles = cv2.resize(np.clip(depth / 3.0, 0.0, 1.0) * _HAND_TRUST, size, interpolation=cv2.INTER_LINEAR)
    guess = np.maximum(doubt, middles)
    soft = cv2.ximgproc.guidedFilter(image, guess.astype(np.float32), _EDGE_PX, _EDGE_CONTRAST)
    soft = np.clip((soft - _SOLID[0]) / (_SOLID[1] - _SOLID[0]), 0.0, 1.0)
    soft *= _near_person(groups) & inside
    return (_connected(soft, groups) * 255.0 + 0.5).astype(np.uint8)


def _near_person(groups: np.ndarray) -> np.ndarray:
    body = (groups > 0).astype(np.uint8)
    # Hips are the last that is drawn; skirts and legs hang below.
    bottom = np.flatnonzero((groups == geometry.TORSO).any(axis=1))
    if len(bottom):
        body[bottom[-1] :] |= body[bottom[-1]]
    distance = cv2.distanceTransform(1 - body, cv2.DIST_L2, 3) * (CANVAS_PX / PARTS_PX)
    return cv2.resize(distance, (CANVAS_PX, CANVAS_PX)) < _REACH_PX


def _connected(soft: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Leave out every island of the matte that the drawn body does not touch."""
    _, labels = cv2.connectedComponents((soft > 0.1).astype(np.uint8))
    drawn = cv2.resize(groups, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_NEAREST) > 0
    return soft * np.isin(labels, np.unique(labels[drawn & (soft > 0.5)]))


def coverage(matte: np.ndarray, groups: np.ndarray, inside: np.ndarray) -> float:
    """Which part (0..1) of the drawn trunk, face and hands the matte covers, where the picture shows them."""
    drawn = np.isin(groups, (geometry.TORSO, geometry.SKIN, *_HANDS)).astype(np.uint8)
    middles = cv2.erode(drawn, np.ones((3, 3), np.uint8))
    drawn = cv2.resize(middles, matte.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    drawn &= inside
    return float((matte[drawn] > 127).mean()) if drawn.any() else 0.0


def clean_colours(image: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """Take the old background out of half-transparent pixels (blur fusion, Forte 2021).

    Args:
        image: (512, 512, 3) uint8 RGB.
        matte: (512, 512) uint8.

    Returns:
        (512, 512, 4) uint8 RGBA, straight alpha; black where nothing is seen.
    """
    alpha = matte[..., None].astype(np.float32) / 255.0
    picture = image.astype(np.float32)
    person, behind = picture, picture
    for radius_px in _COLOUR_BLURS_PX:
        box = (2 * radius_px + 1, 2 * radius_px + 1)
        weight = cv2.blur(alpha, box)[..., None]
        blurred = cv2.blur(person * alpha, box) / (weight + 1e-5)
        behind = cv2.blur(behind * (1.0 - alpha), box) / (1.0 - weight + 1e-5)
        person = np.clip(blurred + alpha * (picture - alpha * blurred - (1.0 - alpha) * behind), 0.0, 255.0)
    person[matte == 0] = 0.0
    return np.dstack([np.round(person).astype(np.uint8), matte])


def part_map(picture: np.ndarray, points: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Say of every pixel of the person which part it is.

    The drawn body gives the parts; what it does not cover (hair, wide clothes) goes to what is nearest, and an
    arm that looks like the clothes rather than like the face is a sleeve.

    Args:
        picture: (512, 512, 4) uint8 RGBA, straight alpha.
        points: (553, 3) float32 landmarks, canvas px.
        groups: (256, 256) uint8 from `draw_groups`.

    Returns:
        (256, 256) uint8, numbers as in docs/method.md.
    """
    small = cv2.resize(picture, (PARTS_PX, PARTS_PX), interpolation=cv2.INTER_AREA)
    parts = _PART_OF_GROUP[groups]
    free = (groups == 0).astype(np.uint8)
    if free.all():
        return np.zeros_like(parts)
    spread, gap_px = _nearest(parts, groups > 0)
    # Hands are drawn as wide as they are; hips beside a hanging hand are not its fingers.
    without_hands = _nearest(parts, (groups > 0) & ~np.isin(groups, _HANDS))[0]
    spread = np.where((gap_px > _HAND_SPREAD_PX) & np.isin(spread, _HAND_PARTS), without_hands, spread)
    rows = (np.arange(PARTS_PX, dtype=np.float32)[:, None] + 0.5) * (CANVAS_PX / PARTS_PX)
    # Above the chin what surrounds the face is hair; below it, neck.
    chin_y = points[FACE.start + CHIN, 1]
    spread = np.where(
        (spread == FACE_PART) | (spread == HAIR), np.where(rows < chin_y, HAIR, NECK_AND_ARMS), spread
    )
    parts = np.where(free > 0, spread, parts)
    parts = np.where(_sleeves(small, parts), UPPER_CLOTHES, parts)
    hips_y = points[[LEFT_HIP, RIGHT_HIP], 1].mean()
    parts = np.where((parts == UPPER_CLOTHES) & (rows > hips_y), LOWER_CLOTHES, parts)
    return np.where(small[..., 3] > 127, parts, 0).astype(np.uint8)


def _nearest(parts: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel's nearest known part, and how far it is, px; all 0 where nothing is known."""
    if not known.any():
        return np.zeros_like(parts), np.zeros(parts.shape, np.float32)
    gap_px, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(labels.max() + 1, np.uint8)
    nearest[labels[known]] = parts[known]
    return nearest[labels], gap_px


def _sleeves(small: np.ndarray, parts: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(small[..., :3], cv2.COLOR_RGB2LAB).astype(np.float32) * _LAB_WEIGHTS
    solid = small[..., 3] > 200
    face, clothes = solid & (parts == FACE_PART), solid & (parts == UPPER_CLOTHES)
    if not face.any() or not clothes.any():
        return np.zeros(parts.shape, bool)
    distances = [np.linalg.norm(lab - np.median(lab[where], axis=0), axis=2) for where in (face, clothes)]
    return (parts == NECK_AND_ARMS) & (cv2.blur(distances[1] - distances[0], (5, 5)) < 0)
