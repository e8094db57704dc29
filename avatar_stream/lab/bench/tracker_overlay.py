"""A video of what several trackers make of a clip, side by side: points over the dimmed picture, hands enlarged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.images.compose import draw_pose
from avatar_stream.images.lettering import Patch, draw_lines
from avatar_stream.landmarks import ELBOWS, HANDS, SHOULDERS, WRISTS
from avatar_stream.sinks.video_file import VideoFileSink
from avatar_stream.types import Frame, Pose

_WIDTH_PX = 640  # of each tracker's picture; the two enlarged hands below it are half as wide each
_DIM = 0.55
_INK, _LOST_INK = (245, 246, 248), (255, 120, 110)
_LETTER_PX = 15
_HAND_SHOULDERS = 0.95  # side of what is enlarged, in shoulder widths
_FOREARM_PART = 0.35  # the hand's middle lies this much of the forearm beyond the wrist
_SMOOTH = 0.6  # of the place looked at before: what is enlarged should not tremble


class Overlay:
    """Writes the video while a clip is tracked."""

    def __init__(self, path: Path, names: Sequence[str]):
        """Open the video.

        Args:
            path: where it goes, `.mp4`.
            names: of the trackers, left to right.

        Raises:
            SinkError: it cannot be written.
        """
        self._names = list(names)
        self._sink = VideoFileSink(VideoFileSink.Options(path=path))
        self._sink.open()
        self._size: tuple[int, int] | None = None
        self._middles: list[np.ndarray | None] = [None, None]
        self._side_px = 0.0

    def write(self, frame: Frame, poses: dict[str, Pose | None]) -> None:
        """Add one frame.

        Args:
            frame: its image is (H, W, 3) uint8 RGB.
            poses: of each tracker, in its pixels, or None.
        """
        height_px, width_px = frame.image.shape[:2]
        if self._size is None:
            scale = _WIDTH_PX / width_px
            self._size = (_WIDTH_PX, max(2, round(height_px * scale / 2) * 2))
        self._look_at_hands(frame, poses)
        panels = [self._panel(frame, name, poses[name]) for name in self._names]
        image = np.ascontiguousarray(np.concatenate(panels, axis=1))
        self._sink.write(dataclasses.replace(frame, image=image, alpha=None))

    def close(self) -> None:
        """Finish the video. May be called twice."""
        self._sink.close()

    def _look_at_hands(self, frame: Frame, poses: dict[str, Pose | None]) -> None:
        # One place for all trackers, so that their enlarged hands can be compared.
        seen = [pose for pose in poses.values() if pose is not None]
        for side in (0, 1):
            places = [place for pose in seen if (place := _hand_middle(pose, side)) is not None]
            if places:
                place, before = np.mean(places, axis=0), self._middles[side]
                if before is not None and np.linalg.norm(place - before) < 0.5 * self._side_px:
                    place = (1 - _SMOOTH) * place + _SMOOTH * before
                self._middles[side] = place
        widths = [np.linalg.norm(np.diff(pose.points[SHOULDERS, :2], axis=0)) for pose in seen]
        widths = [width for width in widths if np.isfinite(width) and width > 1]
        if widths:
            side_px = _HAND_SHOULDERS * float(np.median(widths))
            self._side_px = side_px if not self._side_px else 0.1 * side_px + 0.9 * self._side_px

    def _panel(self, frame: Frame, name: str, pose: Pose | None) -> np.ndarray:
        whole = cv2.resize(frame.image, self._size, interpolation=cv2.INTER_AREA)
        whole = draw_pose((whole * _DIM).astype(np.uint8), pose)
        self._letter(whole, f"{name}   {frame.time_s:.2f} s   frame {frame.index}", _INK, 8, 8)
        if pose is None:
            self._letter(whole, "nobody", _LOST_INK, 8, 44)
        # A camera shows the signer's right hand at the left.
        hands = [self._hand(frame, pose, side) for side in (1, 0)]
        return np.concatenate([whole, np.concatenate(hands, axis=1)])

    def _hand(self, frame: Frame, pose: Pose | None, side: int) -> np.ndarray:
        label, edge_px = ("left", "right")[side], _WIDTH_PX // 2
        middle = self._middles[side]
        if middle is None or self._side_px < 8:
            picture = np.zeros((edge_px, edge_px, 3), np.uint8)
        else:
            picture = _enlarged(frame.image, pose, middle, self._side_px, edge_px)
        if pose is not None and (pose.confidence[HANDS[side]] > 0).any():
            sure = float(pose.confidence[HANDS[side]].max())
            self._letter(picture, f"{label} {sure:.2f}", _INK, 8, 8)
        else:
            wrist = np.full(2, np.nan) if pose is None else pose.points[WRISTS[side], :2]
            outside = pose is not None and ((wrist < 0).any() or (wrist >= pose.size).any())  # False with NaN
            why = ": outside the picture" if outside and np.isfinite(wrist).all() else ""
            self._letter(picture, f"{label} hand lost{why}", _LOST_INK, 8, 8)
        picture[:, -1] = picture[0] = 40
        return picture

    def _letter(self, image: np.ndarray, text: str, ink: tuple[int, int, int], x_px: int, y_px: int) -> None:
        Patch(draw_lines([(text, ink)], _LETTER_PX)).blend(image, x_px, y_px)


def _hand_middle(pose: Pose, side: int) -> np.ndarray | None:
    # (2,) px
    hand = pose.points[HANDS[side], :2]
    if np.isfinite(hand).all():
        return hand.mean(axis=0)
    wrist, elbow = pose.points[WRISTS[side], :2], pose.points[ELBOWS[side], :2]
    if not np.isfinite([wrist, elbow]).all():
        return None
    return wrist + _FOREARM_PART * (wrist - elbow)


def _enlarged(
    image: np.ndarray, pose: Pose | None, middle: np.ndarray, side_px: float, edge_px: int
) -> np.ndarray:
    # (edge, edge, 3) uint8 RGB: a square of the picture, dimmed a little, the pose drawn at its own fine scale
    scale = edge_px / side_px
    matrix = np.array(
        [[scale, 0, edge_px / 2 - scale * middle[0]], [0, scale, edge_px / 2 - scale * middle[1]]]
    )
    picture = cv2.warpAffine(image, matrix, (edge_px, edge_px), flags=cv2.INTER_LINEAR)
    picture = (picture * 0.8).astype(np.uint8)
    if pose is None:
        return picture
    points = pose.points.copy()
    points[:, :2] = points[:, :2] * scale + matrix[:, 2]
    confidence = pose.confidence.copy()
    shown = np.concatenate([np.r_[rows] for rows in HANDS])
    confidence[np.setdiff1d(np.arange(len(confidence)), np.concatenate([shown, ELBOWS, WRISTS]))] = 0
    return draw_pose(
        picture, dataclasses.replace(pose, points=points, confidence=confidence, size=(edge_px, edge_px))
    )
