"""How near a made picture is to truth: PSNR, SSIM, LPIPS, detail, matte, likeness, flicker.

PSNR and SSIM prefer a smear to a sharp print that lies 3 px off; the eye does not. Tolerant SSIM forgives such shifts
and punishes blur.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.images.fitting import over
from avatar_stream.people import parts as part_codes
from avatar_stream.types import CANVAS_PX

GREY = 225.0  # what people are put on, light as a studio's wall
_MOST_DB = 100.0  # of identical pictures, for which PSNR has no number
_FEWEST_PIXELS = 60  # of the canvas; below that a region says nothing
_SSIM_SIGMA_PX = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
REACH_PX, _STEP_PX, _BLOCK_PX = 6, 2, 16  # shifts that are forgiven, of pieces that may shift by themselves
_EDGE_PX = 3  # an outline is no detail of what lies inside it
_LAB_BINS = 16
_SAME_COLOUR = 1.0  # blur of the colour histograms, in bins: half a bin more light is the same colour
_CROP_PX = 64
_LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"

HANDS = (part_codes.LEFT_HAND, part_codes.RIGHT_HAND)
_FACE, HEAD, CLOTHES = (part_codes.FACE,), (part_codes.HAIR, part_codes.FACE), (part_codes.UPPER_CLOTHES,)
_PERSON = tuple(range(1, part_codes.LOWER_CLOTHES + 1))
REGIONS = {
    "person": _PERSON,
    "face": _FACE,
    "hand": HANDS,
    "left_hand": HANDS[:1],
    "right_hand": HANDS[1:],
    "clothes": (part_codes.UPPER_CLOTHES, part_codes.LOWER_CLOTHES),
}
REGION_MEASURES = ("psnr_db", "ssim", "tolerant_ssim", "sharpness")
_ROUND_PERSON_PX = 16  # beyond the person nothing counts, but for what the measures' windows reach


def on_grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 RGBA, straight alpha -> (H, W, 3) float32 RGB over light grey."""
    return over(image, GREY)


def at_canvas(image: np.ndarray) -> np.ndarray:
    """(S, S, 4) uint8 RGBA, straight alpha -> (512, 512, 4): larger pictures are judged at the canvas' own size."""
    if image.shape[0] == CANVAS_PX:
        return image
    alpha = image[..., 3:].astype(np.float32) / 255
    small = cv2.resize(
        np.dstack([image[..., :3] * alpha, alpha]), (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_AREA
    )
    small[..., :3] /= np.maximum(small[..., 3:], 1e-3)
    small[..., 3] *= 255
    return np.round(np.clip(small, 0, 255)).astype(np.uint8)


def cut_to(image: np.ndarray, inside: tuple[int, ...]) -> np.ndarray:
    """Take away of a (H, W, 4) uint8 RGBA picture what lies beyond a box: left, top, right, bottom, px."""
    left, top, right, bottom = inside
    if (left, top) <= (0, 0) and (right, bottom) >= image.shape[1::-1]:
        return image
    cut = np.zeros_like(image)
    cut[top:bottom, left:right] = image[top:bottom, left:right]
    return cut


def enlarged_parts(parts: np.ndarray) -> np.ndarray:
    """(256, 256) uint8 part map -> (512, 512)."""
    return cv2.resize(parts, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_NEAREST)


def psnr_db(made: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal to noise.

    Args:
        made: (H, W, 3) float32 RGB, 0..255.
        truth: the same.
        mask: (H, W) bool, or None for the whole picture.

    Returns:
        dB, at most 100; NaN where the mask holds too little.
    """
    squares = (made - truth) ** 2
    if mask is not None:
        if mask.sum() < _FEWEST_PIXELS:
            return np.nan
        squares = squares[mask]
    return float(min(_MOST_DB, 10 * np.log10(255.0**2 / max(float(squares.mean()), 1e-9))))


def ssim(made: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang and others 2004: Gaussian window of 1.5 px), mean over pixels and colours.

    Args:
        made: (H, W, 3) float32 RGB, 0..255.
        truth: the same.

    Returns:
        -1..1, 1 is the same picture.
    """
    return float(ssim_map(made, truth).mean())


def ssim_map(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """As `ssim`, (H, W, 3) float64: the value about each pixel, for each colour."""

    def blur(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (11, 11), _SSIM_SIGMA_PX, borderType=cv2.BORDER_REFLECT)

    made, truth = made.astype(np.float64), truth.astype(np.float64)
    mean_a, mean_b = blur(made), blur(truth)
    var_a, var_b = blur(made**2) - mean_a**2, blur(truth**2) - mean_b**2
    both = blur(made * truth) - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    return top / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))


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


def detail(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 RGB, 0..255 -> (H, W) float32, absolute Laplacian of the brightness."""
    return np.abs(cv2.Laplacian(_brightness(image), cv2.CV_32F))


def sharpness_of(made: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Fine detail in parts of truth's: mean of two pictures' `detail` (H, W) inside a mask, its edge left out.

    Returns:
        1 is as sharp as truth, less is blurred, more is noise or a print that is not there; NaN where the mask holds
        too little, or truth is flat.
    """
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
    return cv2.GaussianBlur(image, (0, 0), _SSIM_SIGMA_PX)


def alpha_iou(made: np.ndarray, truth: np.ndarray) -> float:
    """Overlap of the mattes of two (H, W, 4) uint8 pictures, cut at half: 0..1."""
    a, b = made[..., 3] > 127, truth[..., 3] > 127
    return float((a & b).sum() / max((a | b).sum(), 1))


def compare(made: np.ndarray, truth: np.ndarray, parts: np.ndarray) -> dict[str, float]:
    """All picture measures that need no tracker.

    Args:
        made: (512, 512, 4) uint8 RGBA, straight alpha.
        truth: the same.
        parts: (256, 256) uint8, truth's part map.

    Returns:
        psnr_db and ssim of the whole picture, REGION_MEASURES for each of REGIONS (`person_psnr_db`), tolerant_ssim
        and sharpness (the person's), alpha_iou, identity (and its _face and _clothes).
    """
    a, b, regions = on_grey(made), on_grey(truth), enlarged_parts(parts)
    alike = ssim_map(a, b)
    values = {"psnr_db": psnr_db(a, b), "ssim": float(alike.mean())}
    values |= region_psnr_db(a, b, regions) | _region_likeness(a, b, alike.mean(2), regions)
    values |= {key: values[f"person_{key}"] for key in ("tolerant_ssim", "sharpness")}
    values["alpha_iou"] = alpha_iou(made, truth)
    face, clothes = (likeness(a, b, np.isin(regions, codes)) for codes in (HEAD, CLOTHES))
    known = [value for value in (face, clothes) if np.isfinite(value)]
    identity = float(np.mean(known)) if known else np.nan
    return values | {"identity": identity, "identity_face": face, "identity_clothes": clothes}


def region_psnr_db(made: np.ndarray, truth: np.ndarray, regions: np.ndarray) -> dict[str, float]:
    """PSNR over each of REGIONS: (512, 512, 3) float32 RGB, and (512, 512) uint8 parts."""
    return {
        f"{name}_psnr_db": psnr_db(made, truth, np.isin(regions, codes)) for name, codes in REGIONS.items()
    }


def _region_likeness(
    made: np.ndarray, truth: np.ndarray, alike: np.ndarray, regions: np.ndarray
) -> dict[str, float]:
    """SSIM, tolerant SSIM and sharpness over each of REGIONS; `alike` (512, 512) is SSIM's map."""
    rows, columns = np.nonzero(regions)
    if not len(rows):
        return dict.fromkeys((f"{name}_{key}" for name in REGIONS for key in REGION_MEASURES[1:]), np.nan)
    crop = tuple(
        slice(max(int(at.min()) - _ROUND_PERSON_PX, 0), int(at.max()) + _ROUND_PERSON_PX + 1)
        for at in (rows, columns)
    )
    made, truth, alike, regions = (each[crop] for each in (made, truth, alike, regions))
    tolerant, own, wanted = tolerant_ssim_map(made, truth), detail(made), detail(truth)
    values = {}
    for name, codes in REGIONS.items():
        mask = np.isin(regions, codes)
        values[f"{name}_ssim"] = masked_mean(alike, mask)
        values[f"{name}_tolerant_ssim"] = masked_mean(tolerant, mask)
        values[f"{name}_sharpness"] = sharpness_of(own, wanted, mask)
    return values


def likeness(
    made: np.ndarray, truth: np.ndarray, mask: np.ndarray, made_mask: np.ndarray | None = None
) -> float:
    """Is it the same face, the same clothes?

    The mean of two: how much of the Lab colour histograms inside the mask is common, and SSIM of the crop round it,
    64 px high, where shifts by a pixel matter little.

    Args:
        made: (H, W, 3) float32 RGB, 0..255.
        truth: the same.
        mask: (H, W) bool, where the region is in truth.
        made_mask: where it is in the made picture; None: at the same place.

    Returns:
        0..1, 1 is the same; NaN where a mask holds too little.
    """
    masks = (mask if made_mask is None else made_mask, mask)
    if min(each.sum() for each in masks) < _FEWEST_PIXELS:
        return np.nan
    small = []
    for image, own in zip((made, truth), masks, strict=True):
        rows, columns = np.nonzero(own)
        crop = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        small.append(cv2.resize(crop, (_CROP_PX, _CROP_PX), interpolation=cv2.INTER_AREA))
    common = np.minimum(_histogram(made, masks[0]), _histogram(truth, mask)).sum()
    return float((common + max(ssim(*small), 0.0)) / 2)


def _histogram(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(3, bins) of L, a and b together 1, smoothed so that a value at a bin's edge does not count as another colour."""
    lab = cv2.cvtColor(image / np.float32(255), cv2.COLOR_RGB2LAB)[mask]
    found = []
    for channel, (low, high) in enumerate(((0, 100), (-64, 64), (-64, 64))):
        counts = np.histogram(np.clip(lab[:, channel], low, high - 1e-3), _LAB_BINS, (low, high))[0]
        smooth = cv2.GaussianBlur(counts.astype(np.float64)[None], (0, 0), _SAME_COLOUR)[0]
        found.append(smooth / smooth.sum() / 3)
    return np.stack(found)


def joint_colours(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 RGB, 0..255, inside a (H, W) bool mask -> Lab histogram (10, 32, 32), together 1."""
    lab = cv2.cvtColor(image / np.float32(255), cv2.COLOR_RGB2LAB)[mask]
    edges = ((0, 100), (-64, 64), (-64, 64))
    inside = np.clip(lab, *(np.array(edges).T + ((0,), (-1e-3,))))
    counts = np.histogramdd(inside, (10, 32, 32), edges)[0]
    return counts / max(counts.sum(), 1)


def mean_change(pictures: list[np.ndarray]) -> float:
    """Mean change from frame to frame inside the person, RGB levels of 255.

    Args:
        pictures: (H, W, 4) uint8 RGBA each, in order, at least two.
    """
    person = np.any([each[..., 3] > 127 for each in pictures], axis=0)
    if not person.any():
        return np.nan
    shown = [on_grey(each)[person] for each in pictures]
    return float(np.mean([np.abs(b - a).mean() for a, b in zip(shown[:-1], shown[1:], strict=True)]))


def motion_error(made: tuple[np.ndarray, np.ndarray], truth: tuple[np.ndarray, np.ndarray]) -> float:
    """How far the change from one frame to the next differs from truth's, inside the person, RGB levels of 255.

    Args:
        made: two (H, W, 4) uint8 RGBA pictures.
        truth: the same.
    """
    person = (truth[0][..., 3] > 127) | (truth[1][..., 3] > 127)
    a, b = (on_grey(pair[1])[person] - on_grey(pair[0])[person] for pair in (made, truth))
    return float(np.abs(a - b).mean()) if person.any() else np.nan


class Lpips:
    """Learned perceptual distance (the `lpips` package), where it and its weights are on this machine."""

    def __init__(self) -> None:
        """Load it, or stay without: nothing is downloaded."""
        self._network = None
        if importlib.util.find_spec("lpips") is None:
            return
        import torch

        if (Path(torch.hub.get_dir()) / "checkpoints" / _LPIPS_BACKBONE).exists():
            import lpips

            self._network = lpips.LPIPS(net="alex", verbose=False).eval()

    def distance(self, made: np.ndarray, truth: np.ndarray) -> float:
        """Distance of two (H, W, 3) float32 RGB pictures, 0..255; NaN without the network."""
        if self._network is None:
            return np.nan
        import torch

        tensors = [
            torch.from_numpy(each / 127.5 - 1).permute(2, 0, 1)[None].float() for each in (made, truth)
        ]
        with torch.inference_mode():
            return float(self._network(*tensors))
