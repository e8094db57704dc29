"""Poses from `.pose` files (pose-format), and poses into them.

A file's z and world landmarks are what MediaPipe gave, x and y (world's too) times the picture's size; here z
comes out in pixels (times the width) and world in metres.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avatar_stream import options, stages
from avatar_stream.errors import EndOfStream, SinkError, SourceError
from avatar_stream.options import InputPath
from avatar_stream.types import (
    BODY,
    FACE,
    LEFT_HAND,
    LEFT_HIP,
    POINT_COUNT,
    RIGHT_HAND,
    RIGHT_HIP,
    Frame,
    Pose,
)

_BODY_COUNT, _FACE_COUNT, _HAND_COUNT = 33, 478, 21
# MediaPipe's names of the body points in its order; reduced files carry some of them, found by name.
_BODY_NAMES = (
    "NOSE LEFT_EYE_INNER LEFT_EYE LEFT_EYE_OUTER RIGHT_EYE_INNER RIGHT_EYE RIGHT_EYE_OUTER "
    "LEFT_EAR RIGHT_EAR MOUTH_LEFT MOUTH_RIGHT LEFT_SHOULDER RIGHT_SHOULDER LEFT_ELBOW RIGHT_ELBOW "
    "LEFT_WRIST RIGHT_WRIST LEFT_PINKY RIGHT_PINKY LEFT_INDEX RIGHT_INDEX LEFT_THUMB RIGHT_THUMB "
    "LEFT_HIP RIGHT_HIP LEFT_KNEE RIGHT_KNEE LEFT_ANKLE RIGHT_ANKLE LEFT_HEEL RIGHT_HEEL "
    "LEFT_FOOT_INDEX RIGHT_FOOT_INDEX"
).split()
_STARTS = {
    "POSE_LANDMARKS": BODY.start,
    "FACE_LANDMARKS": FACE.start,
    "LEFT_HAND_LANDMARKS": LEFT_HAND.start,
    "RIGHT_HAND_LANDMARKS": RIGHT_HAND.start,
}
_WORLD = "POSE_WORLD_LANDMARKS"
# Depth in a file is about -2..1 of the picture's width; a median of an origin beyond this was moved there.
_MOVED_DEPTH = 5.0
_FACE_DEPTH_PER_WIDTH = 0.73
_DARK_RGB = (28, 30, 36)
# A header may claim any size; the plain picture that stands for the missing clip needs no more than this.
_MAX_PICTURE_SIDE_PX = 1280


class PoseFileSource(stages.Source):
    """Reads a `.pose` file as frames with a plain dark picture and the pose already in them."""

    class Options(options.Options):
        """Which file."""

        path: InputPath
        """The `.pose` file."""

    options: Options

    def __init__(self, options: Options, context: stages.Context | None = None):
        """Store the options; `open()` reads."""
        super().__init__(options, context)
        self.frame_count: int | None = None
        self._poses: list[Pose] | None = None
        self._picture: Any = None  # (H, W, 3) uint8 RGB
        self._index = 0

    def open(self) -> None:
        """Read the whole file; SourceError where that fails (see `read_pose_file`)."""
        self._poses = read_pose_file(self.options.path)
        self.frame_count = len(self._poses)
        self._index = 0
        width_px, height_px = self._poses[0].size
        scale = min(1.0, _MAX_PICTURE_SIDE_PX / max(width_px, height_px))
        shape = (max(1, round(height_px * scale)), max(1, round(width_px * scale)), 3)
        self._picture = np.full(shape, _DARK_RGB, np.uint8)
        self._picture.setflags(write=False)

    def read(self) -> Frame:
        """Return the next frame: a dark picture and the pose, None where nothing is seen; or EndOfStream."""
        if self._poses is None:
            raise SourceError(f"{self.options.path} is not open")
        if self._index >= len(self._poses):
            raise EndOfStream
        pose = self._poses[self._index]
        seen = bool((pose.confidence > 0).any())
        frame = Frame(image=self._picture, time_s=pose.time_s, index=self._index, pose=pose if seen else None)
        self._index += 1
        return frame

    def close(self) -> None:
        """Forget the poses. May be called twice."""
        self._poses = self._picture = None


def read_pose_file(path: Path | str) -> list[Pose]:
    """Read the first person of a `.pose` file in MediaPipe Holistic's layout, full or reduced.

    Args:
        path: the file.

    Returns:
        One Pose a frame (at least one), `time_s` from 0. Points with confidence 0, NaN or infinite
        coordinates, and points the layout does not carry are NaN with confidence 0; without world landmarks
        `world` is NaN.

    Raises:
        SourceError: missing, damaged, no frames, no frame rate, no size, or a foreign layout.
    """
    path = Path(path)
    file = _parse(path)
    size, fps = _checked_size_and_rate(path, file)
    data = np.asarray(
        file.body.data.data if isinstance(file.body.data, np.ma.MaskedArray) else file.body.data, np.float32
    )
    points, confidence, world = _arrange(
        path, file.header.components, data[:, 0], file.body.confidence[:, 0], size
    )
    return [
        Pose(points=points[k], confidence=confidence[k], world=world[k], size=size, time_s=k / fps)
        for k in range(len(points))
    ]


def write_pose_file(path: Path | str, poses: Sequence[Pose | None], fps: float) -> None:
    """Write poses as a `.pose` file in the full layout: 586 points, version 0.2, as pose-format reads.

    Args:
        path: the file; its folder must exist. It appears complete or not at all.
        poses: one a frame, all of one `size`; None where nobody was there. At least one is not None.
        fps: frames a second; the file keeps no other times.

    Raises:
        SinkError: nothing to write, mixed sizes, or the file cannot be written.
    """
    path = Path(path)
    sizes = {pose.size for pose in poses if pose is not None}
    if len(sizes) != 1 or not fps > 0:
        raise SinkError(f"cannot write {path}: poses of one picture size and a frame rate above 0 are needed")
    size = sizes.pop()
    rows = [pose_rows(pose, size) for pose in poses]
    write_pose_rows(path, size, fps, len(rows), lambda: rows)


def write_pose_rows(
    path: Path,
    size: tuple[int, int],
    fps: float,
    count: int,
    rows: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]],
) -> None:
    """Write a `.pose` file out of rows that need not be in memory together.

    Args:
        path: the file; its folder must exist. It appears complete or not at all.
        size: width and height of the tracked picture, px.
        fps: frames a second.
        count: how many rows there are.
        rows: called twice (a file has all points before all confidences); gives what `pose_rows` returns.

    Raises:
        SinkError: the file cannot be written.
    """
    from pose_format.pose_header import PoseHeader, PoseHeaderDimensions
    from pose_format.utils.holistic import holistic_components

    components = holistic_components("XYZC", _FACE_COUNT - 468)
    header = PoseHeader(version=0.2, dimensions=PoseHeaderDimensions(*size, 0), components=components)
    part_path = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part_path.open("wb") as file:
            header.write(file)
            file.write(struct.pack("<fIH", fps, count, 1))  # one person
            for data, _ in rows():
                file.write(np.ascontiguousarray(data, "<f4").data)
            for _, confidence in rows():
                file.write(np.ascontiguousarray(confidence, "<f4").data)
        part_path.replace(path)
    except OSError as error:
        part_path.unlink(missing_ok=True)
        raise SinkError(f"cannot write {path}: {error.strerror or error}") from error


def _parse(path: Path) -> Any:
    from pose_format import Pose as PoseFile

    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return PoseFile.read(content)
    # What pose-format raises on damaged bytes: it unpacks whatever is there.
    except (struct.error, TypeError, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise SourceError(
            f"{path} is not a complete .pose file: check that it was copied or written to its end"
        ) from error


def _checked_size_and_rate(path: Path, file: Any) -> tuple[tuple[int, int], float]:
    dimensions, fps = file.header.dimensions, float(file.body.fps)
    if not any(component.name in _STARTS for component in file.header.components):
        layout = ", ".join(component.name for component in file.header.components) or "nothing"
        raise SourceError(
            f"{path} has another layout ({layout}): only MediaPipe Holistic's points can be used"
        )
    if not (math.isfinite(fps) and fps > 0):
        raise SourceError(
            f"{path} has no frame rate (it says {fps:g}): write it again with the fps of its clip"
        )
    if dimensions.width < 1 or dimensions.height < 1:
        raise SourceError(f"{path} has no picture size (it says {dimensions.width}x{dimensions.height})")
    if file.body.data.shape[0] == 0 or file.body.data.shape[1] == 0:
        raise SourceError(f"{path} has no frames: nothing to play")
    return (int(dimensions.width), int(dimensions.height)), fps


def _arrange(
    path: Path, components: Any, data: np.ndarray, confidence: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # (F, P, 3) in the file's order -> (F, 553, 3) px, (F, 553), (F, 33, 3) metres.
    if data.shape[2] != 3:
        raise SourceError(f"{path} has no depth, only {data.shape[2]} coordinates a point: 3 are needed")
    unseen = (confidence <= 0) | ~np.isfinite(confidence) | ~np.isfinite(data).all(axis=2)
    data = np.where(unseen[..., None], np.nan, data).astype(np.float32)
    confidence = np.where(unseen, 0, np.clip(confidence, 0, 1)).astype(np.float32)
    points = np.full((len(data), POINT_COUNT, 3), np.nan, np.float32)
    seen = np.zeros((len(data), POINT_COUNT), np.float32)
    world = np.full((len(data), _BODY_COUNT, 3), np.nan, np.float32)
    start = 0
    for component in components:
        columns = slice(start, start + len(component.points))
        start = columns.stop
        rows, kept = _rows_of(component)
        if component.name == _WORLD:
            world[:, rows] = data[:, columns][:, kept] / np.array([*size, 1], np.float32)
        elif component.name in _STARTS:
            rows = rows + _STARTS[component.name]
            points[:, rows] = data[:, columns][:, kept]
            seen[:, rows] = confidence[:, columns][:, kept]
    if _was_moved(points):
        _settle_depth(points)
        world[:] = np.nan
    else:
        points[..., 2] *= size[0]
    return points, seen, world


def _was_moved(points: np.ndarray) -> bool:
    # Some published files were scaled and moved as a whole, depth too: far from its parts' origins.
    origins = np.concatenate([points[:, LEFT_HIP, 2], points[:, RIGHT_HIP, 2], points[:, FACE, 2].ravel()])
    origins = origins[np.isfinite(origins)]
    return origins.size > 0 and abs(float(np.median(origins))) > _MOVED_DEPTH


def _settle_depth(points: np.ndarray) -> None:
    # Puts a moved file's depth back: each part on its own origin, the scale from the depth of the face, which
    # is the same part of its width in all of MediaPipe's faces. Changes (F, 553, 3) in place.
    with warnings.catch_warnings():
        # A frame without hips or face gives NaN, as it should.
        warnings.simplefilter("ignore", RuntimeWarning)
        face = points[:, FACE]
        width = float(np.nanmedian(np.nanmax(face[..., 0], 1) - np.nanmin(face[..., 0], 1)))
        depth = float(np.nanmedian(np.nanmax(face[..., 2], 1) - np.nanmin(face[..., 2], 1)))
        points[:, BODY, 2] -= np.nanmean(points[:, [LEFT_HIP, RIGHT_HIP], 2], 1, keepdims=True)
        points[:, FACE, 2] -= np.nanmedian(face[..., 2], 1, keepdims=True)
        for hand in (LEFT_HAND, RIGHT_HAND):
            points[:, hand, 2] -= points[:, hand.start, None, 2]
    usable = math.isfinite(width) and math.isfinite(depth) and depth > 0
    points[..., 2] *= _FACE_DEPTH_PER_WIDTH * width / depth if usable else 0.0


def _rows_of(component: Any) -> tuple[np.ndarray, np.ndarray]:
    # Which of our rows a component's points are, and which of its points have one.
    names = [str(name) for name in component.points]
    if component.name == "FACE_LANDMARKS":
        rows = [int(name) if name.isdigit() and int(name) < _FACE_COUNT else -1 for name in names]
    elif component.name in ("POSE_LANDMARKS", _WORLD):
        rows = [_BODY_NAMES.index(name) if name in _BODY_NAMES else -1 for name in names]
    else:
        rows = [k if k < _HAND_COUNT else -1 for k in range(len(names))]
    our_rows = np.array(rows, int)
    return our_rows[our_rows >= 0], np.flatnonzero(our_rows >= 0)


def pose_rows(pose: Pose | None, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a pose as a `.pose` file has it.

    Args:
        pose: the pose, in pixels of `size`; None where nobody was there.
        size: width and height of the tracked picture, px.

    Returns:
        (586, 3) and (586,) float32 in the file's units; unseen points are 0 with confidence 0.
    """
    data = np.zeros((POINT_COUNT + _BODY_COUNT, 3), np.float32)
    confidence = np.zeros(POINT_COUNT + _BODY_COUNT, np.float32)
    if pose is None:
        return data, confidence
    data[:POINT_COUNT] = pose.points / np.array([1, 1, size[0]], np.float32)
    data[POINT_COUNT:] = pose.world * np.array([*size, 1], np.float32)
    confidence[:POINT_COUNT] = pose.confidence
    # A world landmark has the confidence of its body point, but at least a little: it is there.
    confidence[POINT_COUNT:] = np.maximum(pose.confidence[BODY], 1e-3)
    bad = ~np.isfinite(data).all(axis=1)
    data[bad], confidence[bad] = 0, 0
    return data, confidence


STAGE = PoseFileSource
