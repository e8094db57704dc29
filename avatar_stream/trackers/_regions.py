"""Square regions of a picture that may be turned: cut out for a network, and its points put back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

_READ = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_MOST_ROOM_PX = 4096  # OpenCV reads no picture wider than 32,767


@dataclass(frozen=True)
class Region:
    """A square part of a picture.

    Attributes:
        x: of the centre, px.
        y: of the centre, px, down.
        side_px: its side.
        angle: how far it is turned, radians, clockwise as seen.
    """

    x: float
    y: float
    side_px: float
    angle: float = 0.0

    def moved(self, dx_px: float, dy_px: float) -> Region:
        """Move it along the picture's axes."""
        return Region(self.x + dx_px, self.y + dy_px, self.side_px, self.angle)

    def raised(self, part: float) -> Region:
        """Move it upwards in its own turned frame, by a part of its side."""
        return self.moved(
            math.sin(self.angle) * part * self.side_px, -math.cos(self.angle) * part * self.side_px
        )

    def scaled(self, factor: float) -> Region:
        """Make it larger round its centre."""
        return Region(self.x, self.y, self.side_px * factor, self.angle)

    def valid(self) -> bool:
        """Whether something can be cut out."""
        return all(map(math.isfinite, (self.x, self.y, self.angle))) and 2.0 <= self.side_px < 1e5

    def matrix(self, size_px: int) -> np.ndarray:
        """(2, 3) float64 from pixels of a crop with `size_px` to those of the picture."""
        step = self.side_px / size_px
        cosine, sine = math.cos(self.angle) * step, math.sin(self.angle) * step
        half = size_px / 2
        return np.array(
            [
                [cosine, -sine, self.x - (cosine - sine) * half],
                [sine, cosine, self.y - (sine + cosine) * half],
            ]
        )

    def cut(self, image: np.ndarray, size_px: int, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
        """Cut it out of (H, W, 3) uint8 as (size_px, size_px, 3) uint8; `border` says what is outside."""
        matrix = self.matrix(size_px)
        rows = _rows_above(matrix, image.shape[0], size_px) if border == cv2.BORDER_REPLICATE else size_px
        crop = np.empty((size_px, size_px, 3), np.uint8)
        cv2.warpAffine(image, matrix, (size_px, rows), crop[:rows], _READ, border)
        if rows < size_px:
            # Half of a webcam's body lies below the picture; outside of it OpenCV takes three times as long.
            room_px = min(math.ceil(self.side_px), _MOST_ROOM_PX)
            edge = cv2.copyMakeBorder(image[-1:], 0, 1, room_px, room_px, border)
            along = np.array([matrix[0] + (0, 0, matrix[0, 1] * rows + room_px), np.zeros(3)])
            cv2.warpAffine(edge, along, (size_px, size_px - rows), crop[rows:], _READ, border)
        return crop

    def spread(self, crop: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Put a crop (side, side) uint8 back into a picture of `shape` (height first), 0 outside of it."""
        size = (shape[1], shape[0])
        return cv2.warpAffine(crop, self.matrix(crop.shape[0]), size, flags=cv2.INTER_LINEAR)

    def put_back(self, points: np.ndarray, size_px: int) -> np.ndarray:
        """Turn points (N, 2 or more) in pixels of the crop into (N, 2) float64 px of the picture."""
        matrix = self.matrix(size_px)
        return points[:, :2] @ matrix[:, :2].T + matrix[:, 2]


def _rows_above(matrix: np.ndarray, height_px: int, size_px: int) -> int:
    """How many rows of an upright crop do not lie wholly below a picture; at least one."""
    if matrix[1, 1] <= 0:
        return size_px
    highest_px = matrix[1, 2] + min(0.0, matrix[1, 0] * size_px)
    return min(max(math.ceil((height_px - 1 - highest_px) / matrix[1, 1]), 1), size_px)


def angle_from_up(way: complex) -> float:
    """Angle of a region in which a way, x + 1j * y px, points upwards."""
    return math.pi / 2 - math.atan2(-way.imag, way.real)


def round_points(points: np.ndarray, angle: float) -> Region:
    """The smallest region turned by `angle` that holds all points (N, 2) px."""
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    own = points @ turn
    low, high = own.min(axis=0), own.max(axis=0)
    x, y = turn @ ((low + high) / 2)
    return Region(float(x), float(y), float((high - low).max()), angle)


def letterbox(width_px: int, height_px: int) -> Region:
    """The square that holds a whole picture."""
    return Region(width_px / 2, height_px / 2, float(max(width_px, height_px)))
