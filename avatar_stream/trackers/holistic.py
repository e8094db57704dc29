"""MediaPipe Holistic: body, both hands and the refined face of one person."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from avatar_stream import options, stages
from avatar_stream.errors import TrackerError
from avatar_stream.trackers._one_person import OnePerson
from avatar_stream.types import BODY, FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, Frame, Pose

# Below this no person can be recognised, and MediaPipe's crops become empty.
_SMALLEST_SIDE_PX = 16


class HolisticTracker(stages.Tracker):
    """Finds one person's 553 points; frames must come in order, as in a video.

    What it finds depends on the frames before: a fresh tracker for each clip gives the same poses each time.
    """

    class Options(options.Options):
        """Whom it follows, and what it gives."""

        one_person: bool = True
        """Keep the person followed when others come into view."""
        segmentation: bool = False
        """Fill `Pose.matte`, which pixels show the person."""

    options: Options

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Store the options; `open()` loads the networks."""
        super().__init__(options, context)
        self._holistic: Any = None
        self._first = True
        self._person = OnePerson()

    def open(self) -> None:
        """Load MediaPipe and its networks.

        Raises:
            TrackerError: mediapipe does not start.
        """
        os.environ.setdefault("GLOG_minloglevel", "2")
        self._person = OnePerson()
        with quiet_stderr():
            from mediapipe.python.solutions.holistic import Holistic

            try:
                self._holistic = Holistic(
                    refine_face_landmarks=True, enable_segmentation=self.options.segmentation
                )
                # Its threads talk to stderr until a picture has gone through, and the first frame may be far. One with
                # nobody in it leaves no trace: the poses are the same bits with it and without.
                self._holistic.process(np.zeros((64, 64, 3), np.uint8))
            except (OSError, RuntimeError, ValueError) as error:
                raise TrackerError(f"mediapipe does not start: {error}") from error
        self._first = True

    def track(self, frame: Frame) -> Pose | None:
        """Find the person.

        Args:
            frame: its image is (H, W, 3) uint8 RGB.

        Returns:
            The Pose in pixels of the image, or None where neither body, face nor a hand is found. Points of a
            part that is missing are NaN; points outside the picture keep the tracker's guess.

        Raises:
            TrackerError: the tracker is not open, or mediapipe failed on this picture.
        """
        if self._holistic is None:
            raise TrackerError("the tracker is not open")
        height_px, width_px = frame.image.shape[:2]
        if min(height_px, width_px) < _SMALLEST_SIDE_PX:
            return None
        image, person = frame.image, self._person
        pose = self._process(person.mask(image) if person.searching else image, frame.time_s)
        if self.options.one_person:
            searched = person.searching
            if person.jumped(image, pose, frame.time_s):
                pose = None if searched else self._search(image, frame.time_s)
        return pose

    def _process(self, image: np.ndarray, time_s: float) -> Pose | None:
        # Its C++ side talks to stderr once, while the first picture goes through.
        with quiet_stderr() if self._first else contextlib.nullcontext():
            try:
                result = self._holistic.process(image)
            except (RuntimeError, ValueError) as error:
                raise TrackerError(f"mediapipe failed at {time_s:.2f} s: {error}") from error
        self._first = False
        return _as_pose(result, (image.shape[1], image.shape[0]), time_s)

    def _search(self, image: np.ndarray, time_s: float) -> Pose | None:
        # Holistic follows the other one now: it must begin anew, and see only where ours was.
        self._holistic.reset()
        self._first = True
        pose = self._process(self._person.mask(image), time_s)
        return None if self._person.jumped(image, pose, time_s) else pose

    def close(self) -> None:
        """Give the networks back. May be called twice."""
        if self._holistic is not None:
            self._holistic.close()
            self._holistic = None


def _as_pose(result: Any, size: tuple[int, int], time_s: float) -> Pose | None:
    points = np.full((POINT_COUNT, 3), np.nan, np.float32)
    confidence = np.zeros(POINT_COUNT, np.float32)
    world = np.full((33, 3), np.nan, np.float32)
    parts = [
        (BODY, result.pose_landmarks),
        (FACE, result.face_landmarks),
        (LEFT_HAND, result.left_hand_landmarks),
        (RIGHT_HAND, result.right_hand_landmarks),
    ]
    # MediaPipe gives x and y as parts of the picture's width and height, z in the scale of x.
    scale = np.array([size[0], size[1], size[0]], np.float32)
    for rows, landmarks in parts:
        if landmarks is not None:
            points[rows] = _coordinates(landmarks) * scale
            confidence[rows] = 1.0
    if result.pose_landmarks is not None:
        confidence[BODY] = np.clip([point.visibility for point in result.pose_landmarks.landmark], 0, 1)
        points[BODY][confidence[BODY] <= 0] = np.nan
    if result.pose_world_landmarks is not None:
        world[:] = _coordinates(result.pose_world_landmarks)
    if not (confidence > 0).any():
        return None
    mask = result.segmentation_mask
    matte = None if mask is None else np.round(255 * np.clip(mask, 0, 1)).astype(np.uint8)
    return Pose(points=points, confidence=confidence, world=world, size=size, time_s=time_s, matte=matte)


def _coordinates(landmarks: Any) -> np.ndarray:
    return np.array([(point.x, point.y, point.z) for point in landmarks.landmark], np.float32)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep what C++ libraries write to the process's standard error from the user."""
    # The C++ libraries write to file descriptor 2 themselves; Python's sys.stderr cannot catch that.
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


STAGE = HolisticTracker
