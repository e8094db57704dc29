"""Follows the face with MediaPipe's refined mesh: 468 points, lips and eyes looked at twice, irises."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from avatar_stream.landmarks import LIPS
from avatar_stream.trackers._body import BodyLandmarks
from avatar_stream.trackers._detectors import Detector
from avatar_stream.trackers._networks import Networks
from avatar_stream.trackers._regions import Region
from avatar_stream.types import NOSE

_SIDE_PX = 192
_ROOM = 1.5  # side of the region, in larger sides of the face
_ROOM_FOUND, _RAISED_FOUND = 2.0, 0.1  # the same for a detected face, and how far it is moved up
_ROOM_BODY = 3.0  # where the detector looks, in sizes of what the body's points say of the face
_PRESENT = 0.5
_MOST_AWAY = 0.5  # of the followed face from the body's nose, in face sizes
_STILL = 0.1  # movement in one frame, in face sizes, below which a region hardly moves
_HEAD = slice(0, 11)
_EYE_CORNERS = (33, 263)
_BODY_EYES = (5, 2)

# Which points of the mesh the second look improves, in MediaPipe's order (the same lists stand in the network's file).
_EYE_33 = (
    *(33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    *(130, 25, 110, 24, 23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190),
    *(226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189, 35, 124, 46, 53, 52, 65),
    *(143, 111, 117, 118, 119, 120, 121, 128, 245, 156, 70, 63, 105, 66, 107, 55, 193),
)
_EYE_263 = (
    *(263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
    *(359, 255, 339, 254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414),
    *(446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445),
    *(444, 443, 442, 441, 413, 265, 353, 276, 283, 282, 295),
    *(372, 340, 346, 347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336, 285, 417),
)
_RIM = 16  # so many of an eye's points are its rim
# The looks: points, the two between which the look lies level.
_LOOKS = ((LIPS, (61, 291)), (_EYE_33, (33, 133)), (_EYE_263, (362, 263)))
_LOOK_ROWS = tuple(np.array(rows) for rows, _ in _LOOKS)
_LOOK_CELLS, _LOOK_PX = 16, 64  # a look's features, and what its answers count in
_LOOK_SCALE = np.array([_LOOK_CELLS / _LOOK_PX, _LOOK_CELLS / _LOOK_PX, 1.0])
_LOOK_ROOM = 1.5
_FEATURE_CELLS = 48


class FaceReader:
    """Finds the face where it was in the frame before, or where the body says."""

    def __init__(self, networks: Networks):
        """Know no face yet."""
        self._networks = networks
        self._detector = Detector(networks.faces, 128, (8, 16, 16, 16))
        self.reset()

    def reset(self) -> None:
        """Forget the face."""
        self._points: np.ndarray | None = None
        self._nose: complex | None = None

    def read(self, image: np.ndarray, body: BodyLandmarks) -> tuple[np.ndarray, float] | None:
        """Read the face of a person.

        Args:
            image: (H, W, 3) uint8 RGB.
            body: the person's.

        Returns:
            (478, 3) float64 px (z from about the middle of the head), and the network's confidence, 0..1; or None.
        """
        nose = complex(*body.raw[NOSE, :2])
        before, self._nose = self._nose, nose
        followed = self._follow(body, nose - before if before is not None else 0j)
        result = self._read_region(image, followed) if followed is not None else None
        if result is None:
            region = self._find(image, body)
            result = self._read_region(image, region) if region is not None else None
        self._points = None if result is None else result[0]
        return result

    def _follow(self, body: BodyLandmarks, moved: complex) -> Region | None:
        if self._points is None:
            return None
        region = _region_of(self._points[:468, :2], self._points[_EYE_CORNERS, :2], _ROOM)
        # The body trembles by itself: a face that is nearly still is where it was.
        moved *= min(1.0, abs(moved) / (_STILL * region.side_px)) ** 2
        region = region.moved(moved.real, moved.imag)
        away_px = math.dist(body.raw[_HEAD, :2].mean(axis=0), (region.x, region.y))
        return region if away_px < _MOST_AWAY * region.side_px else None

    def _find(self, image: np.ndarray, body: BodyLandmarks) -> Region | None:
        place = _region_of(body.raw[_HEAD, :2], body.raw[_BODY_EYES, :2], _ROOM_BODY)
        if not place.valid():
            return None
        found = self._detector.find(image, place)
        if not found:
            return None
        region = _region_of(found[0].points, found[0].points[:2], 1.0)
        return region.raised(_RAISED_FOUND).scaled(_ROOM_FOUND)

    def _read_region(self, image: np.ndarray, region: Region) -> tuple[np.ndarray, float] | None:
        if not region.valid():
            return None
        mesh, features, flag = self._networks.face(region.cut(image, _SIDE_PX))
        presence = 1 / (1 + math.exp(-min(max(flag.item(), -50.0), 50.0)))
        if presence < _PRESENT:
            return None
        points = np.empty((478, 3))
        points[:468] = mesh.reshape(468, 3)
        self._look_closer(points, features[0])
        points[:, :2] = region.put_back(points, _SIDE_PX)
        points[:, 2] *= region.side_px / _SIDE_PX
        return points, presence

    def _look_closer(self, points: np.ndarray, features: np.ndarray) -> None:
        """Improve lips and eyes and add the irises, in place.

        The network's own operations between its two parts: see MediaPipe's `landmarks_to_transform_matrix`,
        `transform_tensor_bilinear` and `transform_landmarks`.

        Args:
            points: (478, 3) px of the crop, the first 468 filled.
            features: (48, 48, 32) float32 of the whole crop.
        """
        cell = _SIDE_PX / _FEATURE_CELLS
        flat = points[:468, :2] / cell
        matrices = [_look(flat, rows, level) for rows, (_, level) in zip(_LOOK_ROWS, _LOOKS, strict=True)]
        lips, *eyes = self._networks.face_details(*(_sample(features, matrix) for matrix in matrices))
        # From what the answers count in to pixels of the crop.
        lips_back, *eyes_back = (matrix * cell * _LOOK_SCALE for matrix in matrices)
        points[_LOOK_ROWS[0], :2] = _placed(lips, lips_back)
        for side, back in enumerate(eyes_back):
            rows, iris = _LOOK_ROWS[1 + side], slice(468 + 5 * side, 473 + 5 * side)
            points[rows, :2] = _placed(eyes[side], back)
            points[iris, :2] = _placed(eyes[2 + side], back)
            points[iris, 2] = points[rows[:_RIM], 2].mean()


def _placed(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]


def _look(points: np.ndarray, rows: np.ndarray, level: tuple[int, int]) -> np.ndarray:
    # (2, 3) from cells of a look to cells of the features
    way = points[level[1]] - points[level[0]]
    angle = math.atan2(way[1], way[0])
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    own = points[rows] @ turn
    low, high = own.min(axis=0), own.max(axis=0)
    matrix = np.empty((2, 3))
    matrix[:, :2] = turn * ((high - low) * _LOOK_ROOM / _LOOK_CELLS)
    matrix[:, 2] = turn @ ((low + high) / 2) - matrix[:, :2].sum(axis=1) * (_LOOK_CELLS / 2)
    return matrix


@njit(cache=True, nogil=True)
def _sample(features: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(16, 16, 32) float32, between the cells of (48, 48, 32); compiled, for numpy takes ten times as long."""
    sampled = np.empty((_LOOK_CELLS, _LOOK_CELLS, features.shape[2]), np.float32)
    last = _FEATURE_CELLS - 1
    for i in range(_LOOK_CELLS):
        for j in range(_LOOK_CELLS):
            x = matrix[0, 0] * (j + 0.5) + matrix[0, 1] * (i + 0.5) + matrix[0, 2] - 0.5
            y = matrix[1, 0] * (j + 0.5) + matrix[1, 1] * (i + 0.5) + matrix[1, 2] - 0.5
            column, row = int(np.floor(x)), int(np.floor(y))
            right, down = np.float32(x - column), np.float32(y - row)
            left_column, right_column = min(max(column, 0), last), min(max(column + 1, 0), last)
            upper_row, lower_row = min(max(row, 0), last), min(max(row + 1, 0), last)
            for k in range(features.shape[2]):
                upper = (
                    features[upper_row, left_column, k] * (1 - right)
                    + features[upper_row, right_column, k] * right
                )
                lower = (
                    features[lower_row, left_column, k] * (1 - right)
                    + features[lower_row, right_column, k] * right
                )
                sampled[i, j, k] = upper * (1 - down) + lower * down
    return sampled


def _region_of(points: np.ndarray, eyes: np.ndarray, room: float) -> Region:
    """Round points (N, 2) px, level with the line between two eyes (2, 2) px (the left one in the picture first)."""
    low, high = points.min(axis=0), points.max(axis=0)
    way = eyes[1] - eyes[0]
    angle = math.atan2(way[1], way[0])
    x, y = (low + high) / 2
    return Region(float(x), float(y), float((high - low).max()) * room, angle)
