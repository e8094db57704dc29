"""Keeps one person when several are in view."""

from __future__ import annotations

import math

import cv2
import numpy as np

from avatar_stream.types import LEFT_SHOULDER, RIGHT_SHOULDER, Pose

_REMEMBERED_S = 0.5
_MOST_SHIFT, _SHIFT_PER_S = 0.7, 1.5  # of the shoulders' middle, in shoulder widths
_MOST_SCALE = 1.8
_PATIENCE_S = 1.0  # so long the same person is waited for
_CUT_GREY = 18.0  # mean change of a small grey picture, of 255: another shot, nobody to keep
_SETTLING_S = 0.5  # a tracker needs some frames to leave the old shot
_SMALL = (32, 24)
_ROOM = (2.2, 2.2, 3.2)  # in shoulder widths: to the sides, above, below the shoulders' middle


class OnePerson:
    """Tells when a tracker jumped to somebody else, and hides the others until the person is found again."""

    def __init__(self, patience_s: float = _PATIENCE_S) -> None:
        """Follow nobody yet; `patience_s` is how long the same person is waited for while others are in view."""
        self._patience_s = patience_s
        self._shape: tuple[int, ...] = ()
        self._middle: np.ndarray | None = None
        self._width_px = 0.0
        self._time_s = -np.inf
        self._lost_s: float | None = None
        self._small: np.ndarray | None = None
        self._cut_s = -np.inf

    @property
    def searching(self) -> bool:
        """Whether the person is being waited for: show the tracker only `mask`'s picture."""
        return self._lost_s is not None

    def jumped(self, image: np.ndarray, pose: Pose | None, time_s: float) -> bool:
        """Judge what the tracker found.

        Args:
            image: (H, W, 3) uint8 RGB, the whole picture.
            pose: in its pixels, or None.
            time_s: of the frame.

        Returns:
            True where it is somebody else. Else the pose is taken as the person's.
        """
        self._resize(image.shape[:2])
        before, self._small = self._small, _small_grey(image)
        if before is not None and float(cv2.absdiff(self._small, before).mean()) > _CUT_GREY:
            self._cut_s = time_s
        cut = time_s - self._cut_s < _SETTLING_S
        waited = self._lost_s is not None and time_s - self._lost_s > self._patience_s
        shoulders = None if pose is None else pose.points[[LEFT_SHOULDER, RIGHT_SHOULDER], :2]
        if shoulders is None or not np.isfinite(shoulders).all():
            if cut or waited:
                self._forget()
            return False
        middle = shoulders.mean(axis=0)
        width_px = max(math.dist(*shoulders), 1.0)
        if not (cut or waited) and self._is_other(middle, width_px, time_s):
            self._lost_s = time_s if self._lost_s is None else self._lost_s
            return True
        self._middle, self._time_s, self._lost_s = middle, time_s, None
        # A person who turns has narrow shoulders for a while; the room kept must not shrink with them.
        self._width_px = max(width_px, 0.98 * self._width_px) if not (cut or waited) else width_px
        return False

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Return a copy of (H, W, 3) uint8 RGB that is grey but for the place where the person was last."""
        if self._middle is None:
            return image
        (x, y), unit = self._middle, self._width_px
        left, right = max(0, int(x - _ROOM[0] * unit)), max(0, int(x + _ROOM[0] * unit))
        top, bottom = max(0, int(y - _ROOM[1] * unit)), max(0, int(y + _ROOM[2] * unit))
        masked = np.full_like(image, 128)
        masked[top:bottom, left:right] = image[top:bottom, left:right]
        return masked

    def order(self, middles: np.ndarray, sizes_px: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Say whom to try first, when several people are found.

        Args:
            middles: (N, 2) px, between each one's shoulders.
            sizes_px: (N,) how large each is.
            shape: of the picture, height first.

        Returns:
            (N,) numbers: the nearest to the person followed first; for a start, large ones in the picture's middle.
        """
        if self._middle is not None and self._shape == shape[:2]:
            return np.argsort(np.linalg.norm(middles - self._middle, axis=1), kind="stable")
        half = np.array([shape[1], shape[0]]) / 2
        away = np.abs(middles[:, 0] - half[0]) / half[0]
        return np.argsort(-sizes_px * (1 - 0.5 * np.clip(away, 0, 1)), kind="stable")

    def _resize(self, shape: tuple[int, ...]) -> None:
        """Keep the person when the picture comes in another size."""
        before, self._shape = self._shape, shape
        if self._middle is None or not before or before == shape:
            return
        scale = np.array([shape[1] / before[1], shape[0] / before[0]])
        self._middle, self._width_px = self._middle * scale, self._width_px * float(scale[0])

    def _is_other(self, middle: np.ndarray, width_px: float, time_s: float) -> bool:
        since_s = time_s - self._time_s
        if self._middle is None or (self._lost_s is None and since_s > _REMEMBERED_S):
            return False
        shift = math.dist(middle, self._middle) / self._width_px
        scale = width_px / self._width_px
        return shift > _MOST_SHIFT + _SHIFT_PER_S * min(since_s, _REMEMBERED_S) or scale > _MOST_SCALE

    def _forget(self) -> None:
        self._middle, self._lost_s = None, None
        self._time_s = -np.inf


def _small_grey(image: np.ndarray) -> np.ndarray:
    # Sixteen pixels of each place tell shots apart; reading all would take most of a millisecond.
    step = max(1, min(image.shape[0] // (4 * _SMALL[1]), image.shape[1] // (4 * _SMALL[0])))
    size = -(-image.shape[1] // step), -(-image.shape[0] // step)
    few = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    return cv2.resize(cv2.cvtColor(few, cv2.COLOR_RGB2GRAY), _SMALL, interpolation=cv2.INTER_AREA)
