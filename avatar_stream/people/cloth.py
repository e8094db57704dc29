"""How cloth is made: threads and folds of one square metre, drawn by chance (how it is wrapped: `prints`)."""

from __future__ import annotations

import cv2
import numpy as np

SIDE_PX = 1024  # for one metre


def weave(seed: int) -> np.ndarray:
    """Draw how a cloth is made.

    Args:
        seed: of everything in it.

    Returns:
        (SIDE_PX, SIDE_PX, 3) float16: light and dark of threads (1 = as dyed); height of folds, millimetres; smooth
        noise of unit spread, for the grain of skin.
    """
    random = np.random.default_rng([seed, 2])
    threads = _KINDS_OF_CLOTH[random.choice(len(_KINDS_OF_CLOTH), p=_CLOTH_SHARES)](random)
    heather = cv2.GaussianBlur(random.standard_normal((SIDE_PX, SIDE_PX)).astype(np.float32), (0, 0), 0.9)
    light = 1 + threads * random.uniform(0.4, 1.0) + heather * random.uniform(0.02, 0.14)
    pores = heather / max(float(heather.std()), 1e-6)
    return np.dstack([np.maximum(light, 0.2), _folds(random), pores]).astype(np.float16)


def grid() -> tuple[np.ndarray, np.ndarray]:
    """(SIDE_PX, SIDE_PX) float32 each: x and y of the square metre's texels, millimetres."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    return x, y


def _woven(random: np.random.Generator) -> np.ndarray:
    x, y = grid()
    step = random.uniform(1.6, 3.0)
    return 0.10 * np.sin(6.2832 * x / step) * np.sin(6.2832 * y / step)


def _twill(random: np.random.Generator) -> np.ndarray:
    x, y = grid()
    return 0.12 * np.sin(6.2832 * (x + y * random.choice([-0.6, 0.6, 1.0])) / random.uniform(3.0, 6.0))


def _knitted(random: np.random.Generator) -> np.ndarray:
    """Columns of stitches, each a small V."""
    x, y = grid()
    wide = random.uniform(4.0, 11.0)
    lean = np.abs((x / wide) % 1.0 - 0.5) * wide
    stitch = np.sin(6.2832 * (y - 1.2 * lean) / (0.8 * wide))
    return 0.10 * stitch - 0.16 * (np.abs((x / wide) % 1.0 - 0.5) > 0.42)


def _ribbed(random: np.random.Generator) -> np.ndarray:
    x, _ = grid()
    return 0.16 * np.sin(6.2832 * x / random.uniform(4.0, 14.0))


def _smooth(random: np.random.Generator) -> np.ndarray:
    return np.zeros((SIDE_PX, SIDE_PX), np.float32)


_KINDS_OF_CLOTH = (_woven, _twill, _knitted, _ribbed, _smooth)
_CLOTH_SHARES = (0.2, 0.2, 0.25, 0.1, 0.25)


def _folds(random: np.random.Generator) -> np.ndarray:
    """(SIDE_PX, SIDE_PX) millimetres: noise drawn out along a few directions, sharpened to ridges."""
    height = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    for _ in range(3):
        small = random.standard_normal((96, 96)).astype(np.float32)
        long, short = random.uniform(4.0, 9.0), random.uniform(0.9, 1.6)
        kernel = _streak(long, short, random.uniform(0, np.pi))
        small = cv2.filter2D(small, -1, kernel, borderType=cv2.BORDER_REFLECT)
        ridge = 1 - np.minimum(np.abs(small) / (small.std() * 1.2), 1)
        height += random.uniform(0.3, 1.0) * cv2.resize(
            ridge, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC
        )
    height = cv2.GaussianBlur(height, (0, 0), random.uniform(3.0, 7.0))
    where = cv2.resize(
        random.random((5, 5)).astype(np.float32), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC
    )
    return height * np.clip(where, 0.1, 1) * random.uniform(1.0, 6.0)


def _streak(long: float, short: float, angle: float) -> np.ndarray:
    y, x = np.mgrid[-12:13, -12:13].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2))
    return kernel / kernel.sum()
