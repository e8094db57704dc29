"""The session's tracked poses as a `.pose` file, for `record`, for pose-format, for study."""

from __future__ import annotations

import dataclasses
import logging
import os
from array import array
from collections.abc import Iterator
from statistics import median
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from avatar_stream import stages
from avatar_stream.errors import SinkError
from avatar_stream.options import OutputPath
from avatar_stream.sources.pose_file import pose_rows, write_pose_rows
from avatar_stream.types import POINT_COUNT, Frame, Pose

logger = logging.getLogger(__name__)

_DEFAULT_FPS = 25.0
# A pose stands in for the ones that were dropped after it only so long; then nobody is there.
_LONGEST_HOLD_S = 0.25
_ROW_POINTS = POINT_COUNT + 33  # with world landmarks
_ROW_BYTES = 4 * 4 * _ROW_POINTS  # x, y, z, confidence


class PoseFileSink(stages.Sink):
    """Keeps the tracked poses on disk and puts them together in `close()`.

    A `.pose` file has one frame rate and no times. Frames of a camera come at any time and some are dropped, so
    each frame of the file takes the pose captured nearest to its time: the file plays at the session's true pace,
    and no movement is off by more than half a frame. Gaps hold the last pose for a quarter of a second, then
    nobody is there.
    """

    class Options(stages.SinkOptions):
        """Where to."""

        path: OutputPath
        """The `.pose` file; its folder must exist."""
        fps: Annotated[float, Field(gt=0, le=1000)] | None = None
        """Frame rate of the file; null takes the pace at which most frames came."""

    options: Options

    def __init__(self, options: Options, context: stages.Context | None = None):
        """Store the options; `open()` takes the file."""
        super().__init__(options, context)
        self._spool_path = options.path.with_name(f".{options.path.name}.{os.getpid()}.rows")
        self._spool: Any = None
        self._size: Any = None  # (width, height) of the first pose's picture, px

    def open(self) -> None:
        """Take the output; SinkError where that fails."""
        path = self.options.path
        if path.suffix.lower() != ".pose":
            raise SinkError(f"cannot write {path}: the name must end with .pose")
        if not path.parent.is_dir():
            raise SinkError(f"cannot write {path}: there is no folder {path.parent}")
        if path.is_dir():
            raise SinkError(f"cannot write {path}: it is a folder")
        try:
            self._spool = self._spool_path.open("w+b")
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror or error}") from error
        # An hour of a session is 0.8 GB: rows wait on disk, only times and places in memory.
        self._times_s, self._rows, self._row_count = array("d"), array("q"), 0
        self._size = None

    def write(self, frame: Frame) -> None:
        """Keep `frame.pose`; None is kept as nobody.

        Raises:
            SinkError: the sink is not open, or the disk is full; what came before is finished first.
        """
        if self._spool is None:
            raise SinkError(f"{self.options.path} is not open")
        row = -1
        if frame.pose is not None:
            self._size = self._size or frame.pose.size
            data, confidence = pose_rows(_at_size(frame.pose, self._size), self._size)
            try:
                self._spool.seek(self._row_count * _ROW_BYTES)
                self._spool.write(np.concatenate([data.ravel(), confidence]).astype("<f4").tobytes())
                self._spool.flush()
            except OSError as error:
                self._stop_early(error)
            row, self._row_count = self._row_count, self._row_count + 1
        self._times_s.append(frame.time_s)
        self._rows.append(row)

    def close(self) -> None:
        """Write the file; without any pose nothing is left. May be called twice.

        Raises:
            SinkError: the disk is full, or the folder is gone.
        """
        if self._spool is None:
            return
        try:
            if self._row_count == 0:
                logger.warning("%s is not written: nobody was seen", self.options.path)
                return
            steps_s = [step_s for step_s in np.diff(self._times_s) if step_s > 0]
            fps = self.options.fps or (round(1 / median(steps_s), 3) if steps_s else _DEFAULT_FPS)
            slots = _slots(np.asarray(self._times_s), np.asarray(self._rows), fps)
            write_pose_rows(self.options.path, self._size, fps, len(slots), lambda: self._read(slots))
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave no file: what a caller does after a failure. May be called twice."""
        spool, self._spool = self._spool, None
        if spool is not None:
            try:
                spool.close()
            except OSError:
                logger.debug("the rows of %s could not be flushed; they are not needed", self.options.path)
        self._spool_path.unlink(missing_ok=True)

    def _stop_early(self, error: OSError) -> None:
        path, end_s = self.options.path, (self._times_s[-1] - self._times_s[0]) if self._times_s else 0.0
        try:
            self.close()
        except SinkError as closing:
            raise SinkError(
                f"cannot write {path} ({error.strerror or error}): nothing could be kept"
            ) from closing
        raise SinkError(
            f"cannot write more to {path} ({error.strerror or error}): it ends after {end_s:.1f} s; make room"
        ) from error

    def _read(self, slots: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        empty = pose_rows(None, self._size)
        for row in slots:
            if row < 0:
                yield empty
                continue
            self._spool.seek(int(row) * _ROW_BYTES)
            values = np.frombuffer(self._spool.read(_ROW_BYTES), "<f4")
            yield values[: 3 * _ROW_POINTS].reshape(-1, 3), values[3 * _ROW_POINTS :]


def _slots(times_s: np.ndarray, rows: np.ndarray, fps: float) -> np.ndarray:
    # For every frame of the file, the row of the pose nearest in time, or -1: nobody.
    slot_times_s = times_s[0] + np.arange(round((times_s[-1] - times_s[0]) * fps) + 1) / fps
    after = np.clip(np.searchsorted(times_s, slot_times_s), 1, max(1, len(times_s) - 1))
    before = after - 1
    after = np.minimum(after, len(times_s) - 1)
    since_s, until_s = slot_times_s - times_s[before], times_s[after] - slot_times_s
    take_after = (until_s < since_s) & (until_s <= 0.5 / fps)
    nearest = np.where(take_after, rows[after], rows[before])
    return np.where(~take_after & (since_s > _LONGEST_HOLD_S), -1, nearest)


def _at_size(pose: Pose, size: tuple[int, int]) -> Pose:
    # A camera that changes its resolution goes on in the first one's pixels: the file has one size.
    if pose.size == size:
        return pose
    scale = np.array([size[0] / pose.size[0], size[1] / pose.size[1], size[0] / pose.size[0]], np.float32)
    return dataclasses.replace(pose, points=pose.points * scale, size=size)


STAGE = PoseFileSink
