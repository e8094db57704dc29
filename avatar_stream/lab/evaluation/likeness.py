"""Is the detail there? Likeness that forgives a shift of a few pixels and punishes blur, and sharpness beside truth.

PSNR and SSIM prefer a smear to a sharp print that lies 3 px off; the eye does not.
"""

from __future__ import annotations

import cv2
import numpy as np

REACH_PX, _STEP_PX = 6, 2  # shifts that are forgiven, on the 512 canvas
_BLOCK_PX = 16  # of one piece that may shift by itself
_SIGMA_PX = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_EDGE_PX = 3  # an outline is no detail of what lies inside it
_FEWEST_PIXELS = 60


def tolerant_ssim_map(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """SSIM (Wang and others 2004) of the brightness where every block may first shift to where it fits best.

    Args:
        made: (H, W, 3) float32 RGB, 0..255.
        truth: the same.

    Returns:
        (H, W) float32, -1..1: about each pixel, the mean over a block of 16 px of SSIM with the best of the shifts
        within 6 px, every second one.
    """
    # Beyond the edge goes on what lies there, so that no border's blur is held against another's.
    a, b = _padded(_brightness(made), 2 * REACH_PX), _padded(_brightness(truth), REACH_PX)
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    height_px, width_px = b.shape
    best = np.full(b.shape, -1, np.float32)
    for top in range(0, 2 * REACH_PX + 1, _STEP_PX):
        for left in range(0, 2 * REACH_PX + 1, _STEP_PX):
            place = np.s_[top : top + height_px, left : left + width_px]
            means = mean_a[place] * mean_b
            both = _blur(a[place] * b) - means
            likeness = (2 * means + _C1) * (2 * both + _C2)
            likeness /= (mean_a[place] ** 2 + mean_b**2 + _C1) * (var_a[place] + var_b + _C2)
            np.maximum(best, cv2.blur(likeness, (_BLOCK_PX, _BLOCK_PX)), out=best)
    return best[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]


def tolerant_ssim(made: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean of `tolerant_ssim_map` inside a mask (H, W) bool; NaN where the mask holds too little."""
    return masked_mean(tolerant_ssim_map(made, truth), mask)


def sharpness(made: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Fine detail in parts of truth's: mean absolute Laplacian of the brightness inside a mask.

    Args:
        made: (H, W, 3) float32 RGB, 0..255.
        truth: the same.
        mask: (H, W) bool; its edge is left out.

    Returns:
        1 is as sharp as truth, less is blurred, more is noise or a print that is not there; NaN where the mask holds
        too little, or truth is flat.
    """
    return sharpness_of(detail(made), detail(truth), mask)


def detail(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 RGB, 0..255 -> (H, W) float32, absolute Laplacian of the brightness."""
    return np.abs(cv2.Laplacian(_brightness(image), cv2.CV_32F))


def sharpness_of(made: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """As `sharpness`, of two pictures' `detail`."""
    side = 2 * _EDGE_PX + 1
    inner = cv2.erode(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    own, wanted = masked_mean(made, inner), masked_mean(truth, inner)
    return own / wanted if wanted > 1e-6 else np.nan


def masked_mean(values: np.ndarray, mask: np.ndarray) -> float:
    """Mean of (H, W) values where the (H, W) bool mask holds; NaN where it holds too little."""
    return float(values[mask].mean()) if mask.sum() >= _FEWEST_PIXELS else np.nan


def _brightness(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.clip(image, 0, 255).astype(np.float32), cv2.COLOR_RGB2GRAY)


def _padded(image: np.ndarray, margin_px: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, *(margin_px,) * 4, cv2.BORDER_REPLICATE)


def _blur(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), _SIGMA_PX)
