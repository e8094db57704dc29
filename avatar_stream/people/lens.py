"""What a camera does to a picture: softness, sharpening, noise, white balance, JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_FILL_PX = 9  # the person's colours are carried this far over the border, so that nothing dark bleeds in


@dataclass(frozen=True)
class Lens:
    """One camera with its settings: the same for all pictures of one variant.

    Attributes:
        detail: 0..1, the camera's own pixels for one of the picture's: below 1 it is enlarged.
        blur_px: standard deviation of its softness.
        sharpening: how much it overdraws edges afterwards.
        noise: standard deviation, 0..255.
        balance: (3,) factors of red, green, blue.
        contrast: 1 = as it is.
        saturation: 1 = as it is.
        jpeg: quality 1..100; 0: no compression.
    """

    detail: float = 1.0
    blur_px: float = 0.0
    sharpening: float = 0.0
    noise: float = 0.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    saturation: float = 1.0
    jpeg: int = 0


def random_lens(random: np.random.Generator) -> Lens:
    """Draw a camera: half of them good ones, the others webcams and telephones in poor light."""
    poor = random.random() < 0.5
    return Lens(
        detail=float(random.uniform(0.55, 1.0)) if poor and random.random() < 0.6 else 1.0,
        blur_px=float(random.uniform(0.3, 0.9) if poor else random.uniform(0.0, 0.5)),
        sharpening=float(random.uniform(0.0, 1.2)) if random.random() < 0.5 else 0.0,
        noise=float(random.uniform(1.5, 7.0) if poor else random.uniform(0.3, 2.0)),
        balance=tuple(np.exp(random.normal(0, 0.035, 3)).tolist()),
        contrast=float(np.exp(random.normal(0.03, 0.1))),
        saturation=float(np.exp(random.normal(-0.03, 0.13))),
        jpeg=int(random.integers(55, 90) if poor else random.integers(88, 98))
        if random.random() < 0.8
        else 0,
    )


def photograph(image: np.ndarray, lens: Lens, random: np.random.Generator) -> np.ndarray:
    """Take a picture of what was drawn.

    Args:
        image: (H, W, 4) uint8 RGBA, straight alpha; stays as it is.
        lens: the camera.
        random: of the noise, which is new in every frame.

    Returns:
        (H, W, 4) uint8 RGBA: the same alpha; 0 where nobody is.
    """
    result = image.copy()
    rows, columns = np.flatnonzero(image[..., 3].any(1)), np.flatnonzero(image[..., 3].any(0))
    if not len(rows):
        return result
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    person = image[box]
    seen = _graded(_softened(_filled(person), lens), lens)
    seen += _grain(seen.shape[:2], lens, random)
    colours = np.clip(seen + 0.5, 0, 255).astype(np.uint8)
    if lens.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, lens.jpeg]
        encoded = cv2.imencode(".jpg", colours[..., ::-1], quality)[1]
        colours = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
    result[box][..., :3] = np.where(person[..., 3:] > 0, colours, 0)
    return result


def photograph_scene(scene: np.ndarray, lens: Lens, random: np.random.Generator) -> np.ndarray:
    """Take a picture of a person with all that is behind.

    Args:
        scene: (H, W, 3) uint8 RGB; stays as it is.
        lens: the camera.
        random: of the noise, which is new in every frame.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    opaque = np.dstack([scene, np.full(scene.shape[:2], 255, np.uint8)])
    return np.ascontiguousarray(photograph(opaque, lens, random)[..., :3])


def _filled(person: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 colours, carried on over the border, the mean far away from it."""
    alpha = person[..., 3:].astype(np.float32) / 255
    colours = person[..., :3].astype(np.float32)
    size = (2 * _FILL_PX + 1, 2 * _FILL_PX + 1)
    share = cv2.blur(alpha[..., 0], size)[..., None] + 1e-3
    mean = (colours * alpha).sum((0, 1)) / max(float(alpha.sum()), 1.0)
    near = (cv2.blur(colours * alpha, size) + 1e-3 * mean) / share
    return colours * alpha + near * (1 - alpha)


def _softened(colours: np.ndarray, lens: Lens) -> np.ndarray:
    high, wide = colours.shape[:2]
    if lens.detail < 1:
        size = max(1, round(wide * lens.detail)), max(1, round(high * lens.detail))
        colours = cv2.resize(
            cv2.resize(colours, size, interpolation=cv2.INTER_AREA),
            (wide, high),
            interpolation=cv2.INTER_CUBIC,
        )
    if lens.blur_px > 0.15:
        colours = cv2.GaussianBlur(colours, (0, 0), lens.blur_px)
    if lens.sharpening > 0:
        colours = colours + lens.sharpening * (colours - cv2.GaussianBlur(colours, (0, 0), 1.2))
    return colours


def _graded(colours: np.ndarray, lens: Lens) -> np.ndarray:
    colours = colours * np.array(lens.balance, np.float32)
    grey = colours @ np.array([0.3, 0.59, 0.11], np.float32)
    colours = grey[..., None] + lens.saturation * (colours - grey[..., None])
    return 118 + lens.contrast * (colours - 118)


def _grain(size: tuple[int, ...], lens: Lens, random: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32: mostly light and dark, a little colour, as soft as the camera's pixels are large."""
    grain = random.standard_normal((*size, 3), np.float32)
    grain = 0.45 * grain + 0.85 * random.standard_normal((*size, 1), np.float32)
    soft = 0.5 / lens.detail
    return lens.noise * 1.6 * cv2.GaussianBlur(grain, (0, 0), soft)
