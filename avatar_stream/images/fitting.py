"""Pictures in and over others: a whole one in the middle of another size, a person over a background.

Nothing is cut off of a picture that is fitted, for a hand may be at its edge.
"""

from __future__ import annotations

import cv2
import numpy as np


def fitted_size(inner: tuple[int, int], outer: tuple[int, int]) -> tuple[int, int]:
    """Width and height, px, that a picture of size `inner` has where it fills `outer` as far as its shape allows."""
    scale = min(outer[0] / inner[0], outer[1] / inner[1])
    width_px, height_px = (
        min(most, max(1, round(side * scale))) for side, most in zip(inner, outer, strict=True)
    )
    return width_px, height_px


def fit(image: np.ndarray, size: tuple[int, int], ground: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """Show a whole picture in the middle of another size.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: width and height, px.
        ground: RGB, 0..255, of what is left over.

    Returns:
        (height, width, 3) uint8 RGB, C-contiguous.
    """
    before = (image.shape[1], image.shape[0])
    if before == size:
        return np.ascontiguousarray(image)
    width_px, height_px = fitted_size(before, size)
    if (width_px, height_px) != before:
        kind = cv2.INTER_AREA if width_px < before[0] else cv2.INTER_LINEAR
        image = cv2.resize(image, (width_px, height_px), interpolation=kind)
    fitted = np.full((size[1], size[0], 3), ground, np.uint8)
    left, top = (size[0] - width_px) // 2, (size[1] - height_px) // 2
    fitted[top : top + height_px, left : left + width_px] = image
    return fitted


def over(image: np.ndarray, background: float | tuple[int, int, int] | np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 straight-alpha RGBA over grey, a colour or (H, W, 3), 0..255 -> (H, W, 3) float32 RGB, 0..255."""
    alpha = image[..., 3:].astype(np.float32) / 255
    return image[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
