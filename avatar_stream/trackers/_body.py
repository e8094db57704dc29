"""Follows one person's body: MediaPipe's pose detector where nobody is followed, then its landmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from avatar_stream.trackers._detectors import Detection, Detector
from avatar_stream.trackers._filters import OneEuro
from avatar_stream.trackers._networks import Networks
from avatar_stream.trackers._regions import Region, angle_from_up, letterbox

_SIDE_PX = 256
_ROOM = 1.25  # side of the region, in sizes of the person
_LEAST_SURE = 0.5  # of the networks, to take somebody for a person, and to go on following one
_POINTS = 39  # 33 of the body, then two that say where the person is, and four that are not used
_MAP_PX = 64
_OUTPUTS = 4  # without the person's mask
_REACH = 3  # cells of a heat map to each side of a point
_SURE = 0.5  # a heat map must be, to move a point
_VISIBILITY_WEIGHT = 0.1  # of a new frame's visibility


@dataclass(frozen=True)
class BodyLandmarks:
    """A person's body in one picture.

    Attributes:
        points: (33, 3) float64 px, smoothed where that is asked for; z from between the hips, smaller is nearer.
        raw: (33, 3) float64 px of this very picture.
        visibility: (33,) float64, 0..1, smoothed like the points.
        world: (33, 3) float64, metres.
        matte: (H, W) uint8, 255 where the picture shows the person; None where the network does not say it.
    """

    points: np.ndarray
    raw: np.ndarray
    visibility: np.ndarray
    world: np.ndarray
    matte: np.ndarray | None = None


class BodyReader:
    """Finds a body anew, or where it was in the frame before.

    Args:
        networks: all networks.
        smooth: filter points as MediaPipe does.
    """

    def __init__(self, networks: Networks, smooth: bool):
        """Follow nobody yet."""
        self._network = networks.body
        self._detector = Detector(networks.people, 224, (8, 16, 32, 32, 32))
        self._smooth = smooth
        self._points_filter = OneEuro(0.05, 80.0)
        self._world_filter = OneEuro(0.1, 40.0)
        self._region_filter = OneEuro(0.01, 10.0)
        self._visibility: np.ndarray | None = None
        self._region: Region | None = None

    @property
    def following(self) -> bool:
        """Whether there is somebody to follow into the next frame."""
        return self._region is not None

    def reset(self) -> None:
        """Follow nobody."""
        self._region = self._visibility = None
        for each in (self._points_filter, self._world_filter, self._region_filter):
            each.reset()

    def find(self, image: np.ndarray) -> list[Detection]:
        """Find all people in (H, W, 3) uint8 RGB; their points are: between the hips, on a circle round them."""
        whole = letterbox(image.shape[1], image.shape[0])
        return self._detector.find(image, whole, _LEAST_SURE)

    def read(self, image: np.ndarray, time_s: float, found: Detection | None = None) -> BodyLandmarks | None:
        """Read the followed person's body, or the one that `find` found; None (and reset) where there is none."""
        region = self._region if found is None else region_of(found.points)
        if found is not None:
            self.reset()
        if region is None or not region.valid():
            self.reset()
            return None
        outputs = self._network(region.cut(image, _SIDE_PX))
        if float(outputs[1][0, 0]) < _LEAST_SURE:
            self.reset()
            return None
        values = outputs[0].reshape(_POINTS, 5).astype(np.float64)
        flat = _refined(values[:35, :2] / _SIDE_PX, outputs[2][0])
        points = np.empty((35, 3))
        points[:, :2] = region.put_back(flat * _SIDE_PX, _SIDE_PX)
        points[:, 2] = values[:35, 2] * region.side_px / _SIDE_PX
        visibility = 1 / (1 + np.exp(-values[:33, 3]))
        world = _turned(outputs[3].reshape(_POINTS, 3)[:33].astype(np.float64), region.angle)
        body = self._filtered(points, visibility, world, time_s)
        if len(outputs) == _OUTPUTS:
            return body
        logits = np.clip(outputs[_OUTPUTS][0, ..., 0], -20, 20)
        matte = region.spread(np.round(255 / (1 + np.exp(-logits))).astype(np.uint8), image.shape)
        return replace(body, matte=matte)

    def _filtered(
        self, points: np.ndarray, visibility: np.ndarray, world: np.ndarray, time_s: float
    ) -> BodyLandmarks:
        raw, marks = points[:33], points[33:, :2]
        size_px = 2 * math.dist(*marks)
        # The region is always smoothed: a network that looks from somewhere else each time answers otherwise.
        self._region = region_of(self._region_filter.filter(marks, time_s, size_px))
        if not self._smooth:
            return BodyLandmarks(raw, raw, visibility, world)
        if self._visibility is None:
            self._visibility = visibility
        self._visibility = self._visibility + _VISIBILITY_WEIGHT * (visibility - self._visibility)
        smooth = self._points_filter.filter(raw, time_s, size_px)
        return BodyLandmarks(smooth, raw, self._visibility, self._world_filter.filter(world, time_s))


def region_of(marks: np.ndarray) -> Region:
    """The region of a person: (2, 2) px between the hips and on a circle round the whole person."""
    middle, rim = (complex(*mark) for mark in marks[:2])
    return Region(middle.real, middle.imag, 2 * abs(rim - middle) * _ROOM, angle_from_up(rim - middle))


def _refined(points: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Move points (N, 2), parts of the crop, to the middle of what the heat maps (64, 64, 39) say near them."""
    refined = points.copy()
    columns, rows = np.floor(points * _MAP_PX).astype(int).T
    inside = np.flatnonzero((columns >= 0) & (columns < _MAP_PX) & (rows >= 0) & (rows < _MAP_PX))
    if not len(inside):
        return refined
    step = np.arange(-_REACH, _REACH + 1)
    x = columns[inside, None, None] + step[None, None, :]
    y = rows[inside, None, None] + step[None, :, None]
    known = (x >= 0) & (x < _MAP_PX) & (y >= 0) & (y < _MAP_PX)
    logits = maps[np.clip(y, 0, _MAP_PX - 1), np.clip(x, 0, _MAP_PX - 1), inside[:, None, None]]
    weights = np.where(known, 1 / (1 + np.exp(-logits)), 0.0)
    totals = weights.sum(axis=(1, 2))
    sure = (weights.max(axis=(1, 2)) >= _SURE) & (totals > 0)
    middle = np.stack([(weights * x).sum(axis=(1, 2)), (weights * y).sum(axis=(1, 2))], axis=1)
    refined[inside[sure]] = middle[sure] / totals[sure, None] / _MAP_PX
    return refined


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = points.copy()
    turned[:, 0] = points[:, 0] * cosine - points[:, 1] * sine
    turned[:, 1] = points[:, 0] * sine + points[:, 1] * cosine
    return turned
