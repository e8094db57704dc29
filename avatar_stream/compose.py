"""The person over a background, and driver, pose and avatar beside each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageOps

from avatar_stream import stages
from avatar_stream.errors import ConfigError
from avatar_stream.types import BODY, CANVAS_PX, FACE, LEFT_HAND, RIGHT_HAND, Frame, Pose

TRANSPARENT = "transparent"
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Composer:
    """Puts the synthesized person over the background."""

    class Options(stages.Options):
        """What is behind the person.

        Attributes:
            background: a colour (`white`, `#dde4ec`), a picture file, or `transparent`.
        """

        background: str = "#dfe6ee"

    def __init__(self, options: Composer.Options | None = None):
        """Load the background.

        Raises:
            ConfigError: neither a colour nor a picture that can be read.
        """
        self.options = options or Composer.Options()
        self.transparent = self.options.background == TRANSPARENT
        self._background = _load_background("black" if self.transparent else self.options.background)
        self._front = np.empty((CANVAS_PX, CANVAS_PX, 3), np.uint16)
        self._behind = np.empty_like(self._front)
        self._inverse = np.empty((CANVAS_PX, CANVAS_PX, 1), np.uint16)

    def compose(self, frame: Frame, person: np.ndarray) -> Frame:
        """Return the frame with the avatar's picture.

        Args:
            frame: whose time, index and pose are kept.
            person: (512, 512, 4) uint8 RGBA, straight alpha.

        Returns:
            A Frame with image (512, 512, 3) uint8 RGB and alpha (512, 512) uint8; with a transparent
            background the image is the person's own colour everywhere.
        """
        alpha = person[..., 3:]
        if self.transparent:
            image = np.ascontiguousarray(person[..., :3])
        else:
            image = self._blend(person[..., :3], alpha)
        return dataclasses.replace(frame, image=image, alpha=np.ascontiguousarray(alpha[..., 0]))

    def _blend(self, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        # Exact rounding of (a * colour + (255 - a) * background) / 255 in 16 bits, in buffers made once.
        np.multiply(colour, alpha, out=self._front, dtype=np.uint16)
        np.subtract(255, alpha, out=self._inverse, dtype=np.uint16)
        np.multiply(self._background, self._inverse, out=self._behind, dtype=np.uint16)
        self._front += self._behind
        self._front += 128
        np.right_shift(self._front, 8, out=self._behind)
        self._front += self._behind
        np.right_shift(self._front, 8, out=self._front)
        return self._front.astype(np.uint8)


def side_by_side(driver: Frame, pose: Pose, shown: Frame, draw_driver: bool = False) -> Frame:
    """Return one picture of driver, pose and avatar, for eyes.

    Args:
        driver: the input frame, any size.
        pose: the pose the avatar takes, in pixels of the 512 canvas.
        shown: the composed frame, (512, 512, 3) uint8 RGB.
        draw_driver: draw the driver's own pose into its picture; for sources without a picture.

    Returns:
        A Frame with image (512, 1536, 3) uint8 RGB, `shown`'s time and index.
    """
    board = np.zeros((CANVAS_PX, CANVAS_PX, 3), np.uint8)
    left = _fit(draw_pose(driver.image, driver.pose) if draw_driver else driver.image)
    image = np.concatenate([left, draw_pose(board, pose), shown.image], axis=1)
    return dataclasses.replace(shown, image=image, alpha=None)


def draw_pose(image: np.ndarray, pose: Pose | None) -> np.ndarray:
    """Draw a pose as lines: arms, each finger in its colour, the face's contours.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        pose: in pixels of `pose.size`, which is scaled to the image; None draws nothing.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.
    """
    canvas = np.ascontiguousarray(image).copy()
    if pose is None:
        return canvas
    scale = np.array([canvas.shape[1] / pose.size[0], canvas.shape[0] / pose.size[1]])
    points = pose.points[:, :2] * scale
    points[pose.confidence <= 0] = np.nan
    thin = max(1, round(min(canvas.shape[:2]) / 400))
    for chain, colour in _FACE_CHAINS:
        _draw_chain(canvas, points[FACE][list(chain)], colour, thin)
    body = points[BODY].copy()
    body[pose.confidence[BODY] < 0.3] = np.nan  # the tracker guesses legs and hips that nobody sees
    for chain, colour in _BODY_CHAINS:
        _draw_chain(canvas, body[list(chain)], colour, 2 * thin + 1)
    for hand in (LEFT_HAND, RIGHT_HAND):
        for finger, colour in enumerate(_FINGER_COLOURS):
            chain = [0, *range(1 + 4 * finger, 5 + 4 * finger)]
            _draw_chain(canvas, points[hand][chain], colour, 2 * thin)
    return canvas


def _draw_chain(canvas: np.ndarray, points: np.ndarray, colour: tuple[int, int, int], width_px: int) -> None:
    # Far points would overflow cv2's fixed-point numbers; nothing of such a line is worth seeing.
    usable = np.isfinite(points).all(axis=1) & (np.abs(points) < 16 * max(canvas.shape)).all(axis=1)
    fixed = np.round(np.where(usable[:, None], points, 0) * 16).astype(np.int32)
    for k in range(len(points) - 1):
        if usable[k] and usable[k + 1]:
            start, end = (int(v) for v in fixed[k]), (int(v) for v in fixed[k + 1])
            cv2.line(canvas, tuple(start), tuple(end), colour, width_px, cv2.LINE_AA, shift=4)


def _fit(image: np.ndarray) -> np.ndarray:
    # The whole picture in a square of the canvas' side, on black.
    height_px, width_px = image.shape[:2]
    scale = CANVAS_PX / max(height_px, width_px)
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((CANVAS_PX, CANVAS_PX, 3), np.uint8)
    top, left = (CANVAS_PX - size[1]) // 2, (CANVAS_PX - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    return square


def _load_background(background: str) -> np.ndarray:
    # (512, 512, 3) uint8 RGB
    path = Path(background)
    if path.suffix.lower() in _PICTURES:
        try:
            with Image.open(path) as picture:
                upright = ImageOps.exif_transpose(picture).convert("RGB")
                return np.array(ImageOps.fit(upright, (CANVAS_PX, CANVAS_PX), Image.Resampling.LANCZOS))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ConfigError(f"cannot read the background {path}: is it a picture?") from error
    try:
        colour = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise ConfigError(
            f"unknown background {background!r}: a colour (white, #dde4ec), a picture file or {TRANSPARENT}"
        ) from error
    return np.full((CANVAS_PX, CANVAS_PX, 3), colour, np.uint8)


_LIGHT, _LIP, _EYE = (170, 175, 185), (240, 130, 140), (140, 220, 240)
_FINGER_COLOURS = ((255, 170, 60), (250, 240, 90), (120, 225, 110), (90, 170, 255), (220, 130, 255))
_BODY_CHAINS = (
    ((12, 11), (235, 235, 235)),
    ((11, 13, 15), (90, 200, 255)),
    ((12, 14, 16), (255, 120, 120)),
    ((11, 23, 24, 12), (130, 135, 145)),
)
# MediaPipe's face mesh: oval, lips outside and inside, eyes, brows.
_FACE_CHAINS = (
    (
        (
            10,
            338,
            297,
            332,
            284,
            251,
            389,
            356,
            454,
            323,
            361,
            288,
            397,
            365,
            379,
            378,
            400,
            377,
            152,
            148,
            176,
            149,
        )
        + (150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10),
        _LIGHT,
    ),
    ((61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 61), _LIP),
    ((78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78), _LIP),
    ((362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398, 362), _EYE),
    ((33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 33), _EYE),
    ((336, 296, 334, 293, 300), _LIGHT),
    ((70, 63, 105, 66, 107), _LIGHT),
    ((6, 195, 4), _LIGHT),
    ((469, 470, 471, 472, 469), _EYE),
    ((474, 475, 476, 477, 474), _EYE),
)
