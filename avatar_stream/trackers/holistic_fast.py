"""MediaPipe's networks for body, hands and face, followed by a graph of our own: half the processor time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from avatar_stream import options, stages
from avatar_stream.errors import TrackerError
from avatar_stream.trackers._body import BodyLandmarks, BodyReader
from avatar_stream.trackers._face import FaceReader
from avatar_stream.trackers._hands import HandsReader
from avatar_stream.trackers._networks import Networks
from avatar_stream.trackers._one_person import OnePerson
from avatar_stream.types import BODY, FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, Frame, Pose

# Below this no person can be recognised.
_SMALLEST_SIDE_PX = 16
_SHOULDERS = 2  # of what the detector marks on a person
_MOST_TRIED = 2  # people in one frame
_PATIENCE_S = 3.0  # a passer-by who hides the signer is gone by then


class HolisticFastTracker(stages.Tracker):
    """Finds one person's 553 points; frames must come in order, as in a video.

    The networks are MediaPipe's own, read from its package and run by OpenVINO on one thread. What looks where is
    decided here: see `_body.py`, `_face.py` and `_hands.py`.
    """

    class Options(options.Options):
        """Whom it follows, and what it gives."""

        one_person: bool = True
        """Keep the person followed when others come into view."""
        smooth: bool = True
        """Filter body points and their confidence as MediaPipe does."""
        segmentation: bool = False
        """Fill `Pose.matte`, which pixels show the person; takes 4 ms a frame more."""

    options: Options

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Store the options; `open()` loads the networks."""
        super().__init__(options, context)
        self._body: Any = None  # the three readers, from `open` to `close`
        self._face: Any = None
        self._hands: Any = None
        self._person = OnePerson(_PATIENCE_S)

    def open(self) -> None:
        """Load the networks.

        Raises:
            TrackerError: a network is missing, or OpenVINO cannot run it.
        """
        self.close()
        networks = Networks(segmentation=self.options.segmentation)
        self._body = BodyReader(networks, self.options.smooth)
        self._face, self._hands = FaceReader(networks), HandsReader(networks)
        self._person = OnePerson(_PATIENCE_S)

    def track(self, frame: Frame) -> Pose | None:
        """Find the person.

        Args:
            frame: its image is (H, W, 3) uint8 RGB.

        Returns:
            The Pose in pixels of the image, or None where nobody is found. Points of a part that is missing are NaN;
            points outside the picture keep the tracker's guess.

        Raises:
            TrackerError: the tracker is not open.
        """
        if self._body is None:
            raise TrackerError("the tracker is not open")
        image = frame.image
        if min(image.shape[:2]) < _SMALLEST_SIDE_PX:
            return None
        body = self._read_body(image, frame.time_s)
        if body is None:
            return None
        face = self._face.read(image, body)
        hands = self._hands.read(image, body, frame.time_s)
        return _as_pose(body, face, hands, (image.shape[1], image.shape[0]), frame.time_s)

    def close(self) -> None:
        """Give the networks back. May be called twice."""
        self._body = self._face = self._hands = None

    def _read_body(self, image: np.ndarray, time_s: float) -> BodyLandmarks | None:
        body = self._body.read(image, time_s) if self._body.following else None
        if body is not None and not self._is_other(image, body, time_s):
            return body
        # Nobody is followed any more, or somebody else: whoever is found where ours was may be ours.
        self._forget()
        found = self._body.find(image)
        middles = np.array([each.points[_SHOULDERS] for each in found]).reshape(-1, 2)
        sizes_px = np.array([math.dist(*each.points[:2]) for each in found])
        for number in self._person.order(middles, sizes_px, image.shape)[:_MOST_TRIED]:
            body = self._body.read(image, time_s, found[number])
            if body is not None and not self._is_other(image, body, time_s):
                return body
            self._forget()
        if not found or body is None:
            self._is_other(image, None, time_s)
        return None

    def _is_other(self, image: np.ndarray, body: BodyLandmarks | None, time_s: float) -> bool:
        if not self.options.one_person:
            return False
        pose = (
            None
            if body is None
            else _as_pose(body, None, (None, None), (image.shape[1], image.shape[0]), time_s)
        )
        return self._person.jumped(image, pose, time_s)

    def _forget(self) -> None:
        self._body.reset()
        self._face.reset()
        self._hands.reset()


def _as_pose(body: BodyLandmarks, face: Any, hands: Any, size: tuple[int, int], time_s: float) -> Pose:
    points = np.full((POINT_COUNT, 3), np.nan, np.float32)
    confidence = np.zeros(POINT_COUNT, np.float32)
    points[BODY], confidence[BODY] = body.points, body.visibility
    points[BODY][confidence[BODY] <= 0] = np.nan
    if face is not None:
        points[FACE], confidence[FACE] = face
    for rows, hand in zip((LEFT_HAND, RIGHT_HAND), hands, strict=True):
        if hand is not None:
            points[rows], confidence[rows] = hand.points, min(hand.confidence, 1.0)
    return Pose(points, confidence, body.world.astype(np.float32), size, time_s, body.matte)


STAGE = HolisticFastTracker
