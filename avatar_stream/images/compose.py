"""The person over a background, and driver, pose and avatar beside each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageOps
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from avatar_stream.errors import ConfigError
from avatar_stream.images.fitting import fit
from avatar_stream.images.lettering import draw_label
from avatar_stream.options import FROM_FILE, Options
from avatar_stream.types import BODY, CANVAS_PX, FACE, LEFT_HAND, PICTURE_SIDES_PX, RIGHT_HAND, Frame, Pose

TRANSPARENT = "transparent"
LABEL = "AI-generated picture, driven live by a human signer"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Light, blue, green, dark: each far from some skin and clothes, none of them loud.
_PLAIN_COLOURS = ("#dfe6ee", "#335c85", "#3f6f57", "#33383f")


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("an even number is needed: video codecs halve the sides")
    return value


def _both_sides(sides: object) -> object:
    if isinstance(sides, int):
        return sides, sides
    if not isinstance(sides, list | tuple):
        raise ValueError("one number for a square, or width and height: 768 or [1280, 720]")
    return sides


Side = Annotated[int, Field(ge=64, le=4096), AfterValidator(_even)]
Size = Annotated[
    tuple[Side, Side], BeforeValidator(_both_sides, json_schema_input_type=tuple[Side, Side] | Side)
]
Part = Annotated[float, Field(ge=0, le=1)]
LabelPlace = Literal["bottom", "bottom-left", "bottom-right", "top", "top-left", "top-right"]


class Composer:
    """Puts the synthesized person over the background."""

    class Options(Options):
        """What is behind the person, where the person stands, and what is written beside."""

        background: str = "#dfe6ee"
        """A colour (`white`, `#dde4ec`), a picture file, or `transparent`."""
        size: Size = (CANVAS_PX, CANVAS_PX)
        """Width and height of the picture in px, even numbers; one number for a square. The avatar's own
        picture is made as large as this asks for."""
        scale: Annotated[float, Field(ge=0.1, le=4)] = 1.0
        """Side of the person's square as a part of the picture's shorter side."""
        place: tuple[Part, Part] = (0.5, 1.0)
        """How the room left is shared out, left to right and top to bottom: (0.5, 1) is the middle of the
        lower edge. With a scale above 1 it says which part is cut off."""
        label: Annotated[str, Field(min_length=1, max_length=200)] | None = None
        """A small text in the picture; null for none. Live pipelines that do not say anything have "AI-generated
        picture, driven live by a human signer"."""
        label_place: LabelPlace = "top-left"
        """A corner or an edge, `bottom`, `top-left`, ...; above the head it covers no hands."""
        label_on_transparent: bool = False
        """Write it on a transparent background too."""

        @field_validator("background")
        @classmethod
        def _is_there(cls, background: str, info: ValidationInfo) -> str:
            picture = Path(background)
            if info.context == FROM_FILE and picture.suffix.lower() in PICTURES and not picture.exists():
                raise ValueError("a picture that exists, a colour, or transparent")
            return background

        @property
        def is_picture(self) -> bool:
            """Whether the background is a picture file."""
            return Path(self.background).suffix.lower() in PICTURES

        @property
        def person_px(self) -> int:
            """Side of the person's square, px; with a scale above 1 more than what is seen of it."""
            return max(1, round(self.scale * min(self.size)))

    def __init__(self, options: Composer.Options | None = None):
        """Load the background and draw the label.

        Raises:
            ConfigError: neither a colour nor a picture that can be read.
        """
        self.options = options or Composer.Options()
        width_px, height_px = self.options.size
        self._side_px = self.options.person_px
        left = round((width_px - self._side_px) * self.options.place[0])
        top = round((height_px - self._side_px) * self.options.place[1])
        # The person's square may be larger than the picture: what is seen of it, in both.
        rows = slice(max(0, top), min(height_px, top + self._side_px))
        columns = slice(max(0, left), min(width_px, left + self._side_px))
        self._target = (rows, columns)
        self._seen = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        self._label, self._label_place = self._draw_label()
        self.set_background(self.options.background)

    def set_background(self, background: str) -> None:
        """Change what is behind the person, from the next frame on.

        Args:
            background: a colour, a picture file, or `transparent`.

        Raises:
            ConfigError: neither a colour nor a picture that can be read; the old one stays.
        """
        transparent = background == TRANSPARENT
        self._background = _load_background("black" if transparent else background, self.options.size)
        self.transparent = transparent
        self._chosen = background

    def set_picture(self, image: np.ndarray) -> None:
        """Put a picture behind the person, from the next frame on; it is not changed.

        Args:
            image: (H, W, 3) uint8 RGB, H and W those of the options.
        """
        self._background, self.transparent = image, False

    def next_background(self) -> str:
        """Take the next of a few plain colours before which hands are well seen, and return its name."""
        colours = list(dict.fromkeys([self.options.background, *_PLAIN_COLOURS]))
        now = colours.index(self._chosen) if self._chosen in colours else -1
        self.set_background(colours[(now + 1) % len(colours)])
        return self._chosen

    def compose(self, frame: Frame, person: np.ndarray) -> Frame:
        """Return the frame with the avatar's picture.

        Args:
            frame: whose time, index and pose are kept.
            person: (S, S, 4) uint8 RGBA, straight alpha; S may differ from frame to frame.

        Returns:
            A Frame with image (H, W, 3) uint8 RGB and alpha (H, W) uint8, H and W those of the options; with a
            transparent background the image is the person's own colour everywhere.
        """
        # OpenCV takes channels apart ten times as fast as numpy's slices do.
        colour, alpha = cv2.cvtColor(person, cv2.COLOR_RGBA2RGB), cv2.extractChannel(person, 3)
        scaled = self._side_px != person.shape[0]
        if scaled:
            colour, alpha = _resize(colour, alpha, self._side_px, self.transparent)
        colour, alpha = colour[self._seen], alpha[self._seen]
        part = colour if self.transparent else self._blend(colour, alpha, multiplied=scaled)
        image, matte = self._on_canvas(part, alpha)
        self._write_label(image, matte)
        return dataclasses.replace(frame, image=image, alpha=matte)

    def _on_canvas(self, part: np.ndarray, matte: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Fresh (H, W, 3) and (H, W): outputs keep them while the next frame is made.
        if part.shape[:2] == self._background.shape[:2]:
            image = np.ascontiguousarray(part) if part.base is None else part.copy()
            return image, np.ascontiguousarray(matte)
        image = self._background.copy()
        image[self._target] = part
        alpha = np.zeros(image.shape[:2], np.uint8)
        alpha[self._target] = matte
        return image, alpha

    def _blend(self, colour: np.ndarray, alpha: np.ndarray, multiplied: bool) -> np.ndarray:
        # Most pixels are the person's or the background's alone: copied. The edge gets the exact rounding of
        # (a * colour + (255 - a) * background) / 255, in whole numbers.
        alpha = np.ascontiguousarray(alpha)
        image = np.ascontiguousarray(self._background[self._target])
        image = image.copy() if np.may_share_memory(image, self._background) else image
        cv2.copyTo(np.ascontiguousarray(colour), alpha, image)
        edge = np.flatnonzero(alpha.ravel() - np.uint8(1) < 254)  # neither 0, which turns into 255, nor 255
        share = alpha.ravel()[edge, None].astype(np.uint32)
        flat = image.reshape(-1, 3)  # by now the person's colour
        front = flat[edge] * (np.array([255], np.uint32) if multiplied else share)
        behind = self._background[self._target].reshape(-1, 3)[edge] * (255 - share)
        total = front + behind + 128
        flat[edge] = (total + (total >> 8)) >> 8
        return image

    def _draw_label(self) -> tuple[np.ndarray | None, tuple[slice, slice]]:
        # The label's RGBA and where it goes.
        width_px, height_px = self.options.size
        if self.options.label is None:
            return None, (slice(0), slice(0))
        gap_px = max(4, round(min(self.options.size) / 50))
        label = draw_label(self.options.label, width_px - 2 * gap_px, min(self.options.size))
        high, wide = label.shape[:2]
        edge, _, side = self.options.label_place.partition("-")
        top = gap_px if edge == "top" else height_px - gap_px - high
        left = {"left": gap_px, "right": width_px - gap_px - wide}.get(side, (width_px - wide) // 2)
        top, left = max(0, top), max(0, left)
        label = label[: height_px - top, : width_px - left]
        return label, (slice(top, top + label.shape[0]), slice(left, left + label.shape[1]))

    def _write_label(self, image: np.ndarray, matte: np.ndarray) -> None:
        if self._label is None or (self.transparent and not self.options.label_on_transparent):
            return
        alpha: np.ndarray = self._label[..., 3:].astype(np.uint16)
        colour = self._label[..., :3]
        behind, target = 255 - alpha, image[self._label_place]
        if self.transparent:
            # What is under the panel is not seen through it where nobody stands: the panel's own colour is there.
            behind = behind * (matte[self._label_place][..., None] > 0)
            alpha = 255 - behind
        target[:] = (colour * alpha + target * behind + 127) // 255
        if self.transparent:
            part = matte[self._label_place]
            np.maximum(part, self._label[..., 3], out=part)


def side_by_side(driver: Frame, pose: Pose, shown: Frame, draw_driver: bool = False) -> Frame:
    """Return one picture of driver, pose and avatar, for eyes.

    Args:
        driver: the input frame, any size.
        pose: the pose the avatar takes, in pixels of the 512 canvas.
        shown: the composed frame, uint8 RGB of any size.
        draw_driver: draw the driver's own pose into its picture; for sources without a picture.

    Returns:
        A Frame with image (S, 3 S, 3) uint8 RGB, `shown`'s time and index; S is its shorter side, 512 to 1024.
    """
    side_px = int(np.clip(min(shown.image.shape[:2]), PICTURE_SIDES_PX[0], PICTURE_SIDES_PX[-1]))
    square = (side_px, side_px)
    board = np.zeros((*square, 3), np.uint8)
    left = fit(draw_pose(driver.image, driver.pose) if draw_driver else driver.image, square)
    right = fit(shown.image, square)
    image = np.concatenate([left, draw_pose(board, pose), right], axis=1)
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
            joints = [0, *range(1 + 4 * finger, 5 + 4 * finger)]
            _draw_chain(canvas, points[hand][joints], colour, 2 * thin)
    return canvas


def _draw_chain(canvas: np.ndarray, points: np.ndarray, colour: tuple[int, int, int], width_px: int) -> None:
    # Far points would overflow cv2's fixed-point numbers; nothing of such a line is worth seeing.
    usable = np.isfinite(points).all(axis=1) & (np.abs(points) < 16 * max(canvas.shape)).all(axis=1)
    fixed = np.round(np.where(usable[:, None], points, 0) * 16).astype(np.int32)
    for k in range(len(points) - 1):
        if usable[k] and usable[k + 1]:
            cv2.line(canvas, fixed[k].tolist(), fixed[k + 1].tolist(), colour, width_px, cv2.LINE_AA, shift=4)


def _resize(
    colour: np.ndarray, alpha: np.ndarray, side_px: int, straight: bool
) -> tuple[np.ndarray, np.ndarray]:
    # (side, side, 3) and (side, side). Colours are multiplied by alpha first unless kept straight: what lies
    # under transparent pixels must not bleed into the edge.
    kind = cv2.INTER_AREA if side_px < colour.shape[0] else cv2.INTER_LINEAR
    if not straight:
        colour = cv2.multiply(colour, cv2.merge([alpha] * 3), scale=1 / 255)
    alpha = cv2.resize(alpha, (side_px, side_px), interpolation=kind)
    colour = cv2.resize(colour, (side_px, side_px), interpolation=kind)
    return colour if straight else cv2.min(colour, cv2.merge([alpha] * 3)), alpha


def _load_background(background: str, size: tuple[int, int] = (CANVAS_PX, CANVAS_PX)) -> np.ndarray:
    # (height, width, 3) uint8 RGB
    path = Path(background)
    if path.suffix.lower() in PICTURES:
        try:
            with Image.open(path) as picture:
                upright = ImageOps.exif_transpose(picture).convert("RGB")
                return np.array(ImageOps.fit(upright, size, Image.Resampling.LANCZOS))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ConfigError(f"cannot read the background {path}: is it a picture?") from error
    try:
        colour = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise ConfigError(
            f"unknown background {background!r}: a colour (white, #dde4ec), a picture file or {TRANSPARENT}"
        ) from error
    return np.full((size[1], size[0], 3), colour, np.uint8)


_LIGHT, _LIP, _EYE = (170, 175, 185), (240, 130, 140), (140, 220, 240)
_FINGER_COLOURS = ((255, 170, 60), (250, 240, 90), (120, 225, 110), (90, 170, 255), (220, 130, 255))
_Chains = tuple[tuple[tuple[int, ...], tuple[int, int, int]], ...]  # points, colour
_BODY_CHAINS: _Chains = (
    ((12, 11), (235, 235, 235)),
    ((11, 13, 15), (90, 200, 255)),
    ((12, 14, 16), (255, 120, 120)),
    ((11, 23, 24, 12), (130, 135, 145)),
)
# MediaPipe's face mesh: oval, lips outside and inside, eyes, brows.
# fmt: off
_FACE_CHAINS: _Chains = (
    ((10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
      150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10), _LIGHT),
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
# fmt: on
