"""Finds people, palms and faces anywhere in a region: anchors, decoding and merging of MediaPipe's detectors."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar_stream.trackers._networks import Network
from avatar_stream.trackers._regions import Region

_SAME_BOX = 0.3  # overlap from which two boxes are one


@dataclass(frozen=True)
class Detection:
    """One thing found.

    Attributes:
        score: 0..1.
        box: (4,) float64: left, top, right, bottom in pixels of the crop, in its own turned frame.
        points: (K, 2) float64 px of the picture, what the detector marks on it.
        size_px: larger side of the box, in pixels of the picture.
    """

    score: float
    box: np.ndarray
    points: np.ndarray
    size_px: float


class Detector:
    """One of MediaPipe's single shot detectors.

    Args:
        network: `Networks.people`, `palms` or `faces`.
        size_px: side of its input.
        strides: of its layers; equal ones next to each other lie in one grid.
    """

    def __init__(self, network: Network, size_px: int, strides: tuple[int, ...]):
        """Lay out the anchors."""
        self._network, self._size_px = network, size_px
        self._anchors = _anchors(size_px, strides)

    def find(self, image: np.ndarray, region: Region, least_score: float = 0.5) -> list[Detection]:
        """Find everything in a region.

        Args:
            image: (H, W, 3) uint8 RGB.
            region: where to look; what is outside of the picture is black.
            least_score: 0..1.

        Returns:
            The best first.
        """
        crop = region.cut(image, self._size_px, cv2.BORDER_CONSTANT)
        raw, logits = (output[0] for output in self._network(crop))
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -50, 50)))
        good = np.flatnonzero(scores >= least_score)
        if not len(good):
            return []
        good = good[np.argsort(-scores[good], kind="stable")]
        places, scores = raw[good].astype(np.float64), scores[good].astype(np.float64)
        # Box: centre and size; then points. All centres and points count from the anchor.
        points = places[:, 4:].reshape(len(good), -1, 2) + self._anchors[good, None]
        middle, half = places[:, :2] + self._anchors[good], places[:, 2:4] / 2
        boxes = np.hstack([middle - half, middle + half])
        scale = region.side_px / self._size_px
        found = []
        left = np.ones(len(good), bool)
        for first in range(len(good)):
            if not left[first]:
                continue
            same = left & (_overlap(boxes[first], boxes) > _SAME_BOX)
            same[first] = True
            left &= ~same
            weights = scores[same] / scores[same].sum()
            box = weights @ boxes[same]
            marks = np.einsum("n,nkd->kd", weights, points[same])
            size_px = float(max(box[2] - box[0], box[3] - box[1])) * scale
            found.append(Detection(float(scores[first]), box, region.put_back(marks, self._size_px), size_px))
        return found


def _anchors(size_px: int, strides: tuple[int, ...]) -> np.ndarray:
    # Two anchors for each layer in every cell: one of the layer's scale, one between it and the next. All have the
    # same (fixed) size, so that only their places matter.
    layers = []
    for stride in dict.fromkeys(strides):
        cells = -(-size_px // stride)
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * (size_px / cells)
        layers.append(np.repeat(centres, 2 * strides.count(stride), axis=0))
    return np.concatenate(layers)


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    own = np.prod(np.maximum(box[2:] - box[:2], 0))
    return shared / np.maximum(areas + own - shared, 1e-9)
