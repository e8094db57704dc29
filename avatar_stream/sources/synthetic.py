"""Frames made by rule: a moving picture with an upright person's pose in it, for tests and a first look."""

from __future__ import annotations

import math
import time
from typing import Annotated

import numpy as np
from pydantic import Field

from avatar_stream import options, stages
from avatar_stream.errors import EndOfStream, SourceError
from avatar_stream.types import BODY, FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, Frame, Pose

# x, y of the body's named points in units of the shoulders' half width; the signer's left is at the right.
_PLACES = {
    0: (0.0, -1.4), 7: (0.45, -1.4), 8: (-0.45, -1.4), 11: (1.0, 0.0), 12: (-1.0, 0.0), 13: (1.3, 1.4),
    14: (-1.3, 1.4), 15: (1.1, 2.7), 16: (-1.1, 2.7), 23: (0.7, 3.0), 24: (-0.7, 3.0),
}  # fmt: skip


class SyntheticSource(stages.Source):
    """Gives `frames` frames (or endless ones) with a stripe that moves and a right hand that goes up and down.

    Attributes:
        live: at its own pace, with times of `time.monotonic()`; else as fast as asked, times from 0.
    """

    class Options(options.Options):
        """What it looks like."""

        width: Annotated[int, Field(ge=1, le=8192)] = 640
        """Width of the picture, px."""
        height: Annotated[int, Field(ge=1, le=8192)] = 480
        """Height of the picture, px."""
        fps: Annotated[float, Field(gt=0, le=1000)] = 25.0
        """Frames a second."""
        frames: Annotated[int, Field(ge=0)] | None = None
        """How many; null: without end."""
        live: bool = True
        """Newest frame wins, at its own pace; else every frame as fast as asked."""
        poses: bool = True
        """Give a pose with each frame, so that no tracker is needed."""

    options: Options

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Store the options."""
        super().__init__(options, context)
        self.live = self.options.live
        self.frame_count = self.options.frames
        self._start_s: float | None = None
        self._index = 0

    def open(self) -> None:
        """Begin at frame 0."""
        self._start_s, self._index = time.monotonic(), 0

    def read(self) -> Frame:
        """Return the next frame: (height, width, 3) uint8 RGB; EndOfStream after the last."""
        if self._start_s is None:
            raise SourceError("the synthetic source is not open")
        if self.options.frames is not None and self._index >= self.options.frames:
            raise EndOfStream
        media_s = self._index / self.options.fps
        time_s = media_s
        if self.live:
            time_s = self._start_s + media_s
            time.sleep(max(0.0, time_s - time.monotonic()))
        index, self._index = self._index, self._index + 1
        size = (self.options.width, self.options.height)
        pose = _make_pose(size, media_s, time_s) if self.options.poses else None
        return Frame(image=_draw(size, index), time_s=time_s, index=index, pose=pose)

    def close(self) -> None:
        """Stop. May be called twice."""
        self._start_s = None


def _draw(size: tuple[int, int], index: int) -> np.ndarray:
    image = np.full((size[1], size[0], 3), (52, 60, 72), np.uint8)
    width_px = max(1, size[0] // 16)
    left = index * max(1, size[0] // 40) % size[0]
    image[:, left : left + width_px] = (225, 180, 90)
    return image


def _make_pose(size: tuple[int, int], media_s: float, time_s: float) -> Pose:
    unit = 0.12 * size[1]
    lift = 0.5 - 0.5 * math.cos(2 * math.pi * media_s / 2.0)
    places = _PLACES | {16: (-1.1 + 0.4 * lift, 2.7 - 2.2 * lift), 14: (-1.3 - 0.3 * lift, 1.4)}
    points = np.zeros((POINT_COUNT, 3), np.float32)
    for row in range(BODY.stop):
        x, y = places.get(row, (0.3 * (row % 3 - 1), -1.4 if row < 11 else 4.0))
        points[row, :2] = x, y
    angles = np.linspace(0, 2 * np.pi, FACE.stop - FACE.start, endpoint=False)
    points[FACE, 0], points[FACE, 1] = 0.4 * np.sin(angles), -1.4 - 0.55 * np.cos(angles)
    for hand, wrist in ((LEFT_HAND, 15), (RIGHT_HAND, 16)):
        for k in range(21):
            finger, joint = divmod(k - 1, 4)
            offset = (0.0, 0.0) if k == 0 else (0.09 * (finger - 2), -0.14 * (joint + 1))
            points[hand.start + k, :2] = points[wrist, :2] + offset
    points[:, :2] = points[:, :2] * unit + (size[0] / 2, 0.42 * size[1])
    world = np.full((33, 3), np.nan, np.float32)
    return Pose(points, np.ones(POINT_COUNT, np.float32), world, size, time_s)


STAGE = SyntheticSource
