"""One picture of a person, made ready for warping: which limb each place belongs to, and hands that show only hands."""

from __future__ import annotations

import cv2
import numpy as np

from avatar_stream.modeling.drawing import figure, geometry
from avatar_stream.modeling.drawing.figure import Figure
from avatar_stream.modeling.drawing.girth import Girth
from avatar_stream.types import CANVAS_PX, LEFT_SHOULDER, RIGHT_SHOULDER

_OWNER_PX = 256
_SEEN = 250  # matte (of 255) that shows the person itself
_FILL_PX = 8  # how far a hand's colour reaches beyond it
_RIM_PX = 2.5  # how far within a hand's solids what is behind it may be seen
_CLOTH_PX = 8  # how far beside them that is looked at
# Radius, at half scale, in which trunk and a neutral arm share their cloth: the arm's end and its margin.
_SHOULDER_CELLS = 17
_CLOTH_CELLS = 6  # how far round the shoulder its cloth is looked at, at half scale
_SAME_CLOTH = 72  # levels of 255 by which a sleeve, its light and print may differ from that


def premultiply(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 RGBA straight -> premultiplied, so that what is transparent has no colour to blur in."""
    alpha = image[..., 3]
    return cv2.multiply(image, cv2.merge([alpha, alpha, alpha, np.full_like(alpha, 255)]), scale=1 / 255)


def scaled(image: np.ndarray, size_px: int) -> np.ndarray:
    """(S, S, 4) uint8 straight -> (size_px, size_px, 4) premultiplied."""
    kind = cv2.INTER_AREA if image.shape[0] > size_px else cv2.INTER_CUBIC
    return cv2.resize(premultiply(image), (size_px, size_px), interpolation=kind)


def make_ready(
    image: np.ndarray, points: np.ndarray, girth: Girth, size_px: int
) -> tuple[geometry.Picture, np.ndarray]:
    """One look ready for warping, and the same (size_px, size_px, 4) uint8, premultiplied, for its texture."""
    person = figure.measure_figure(points, girth)
    groups = geometry.draw_groups(person, _OWNER_PX)
    owner = _share_shoulders(_widen_limbs(groups), points, girth)
    fine = _fill_hands(scaled(image, size_px), groups)
    image = fine if size_px == CANVAS_PX else cv2.resize(fine, (CANVAS_PX,) * 2, interpolation=cv2.INTER_AREA)
    return geometry.make_picture(image, _share_sleeves(owner, image, person)), fine


def _widen_limbs(owner: np.ndarray) -> np.ndarray:
    """Let limbs claim what is close beside them and nobody's: sleeves and fingers reach over their solids."""
    for group in (geometry.LEFT_ARM, geometry.RIGHT_ARM):
        limb = geometry.LIMB_OF_GROUP[owner] == geometry.LIMB_OF_GROUP[group]
        wide = cv2.dilate(limb.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        owner = np.where(wide & (owner == geometry.NOTHING), np.uint8(group), owner)
    return owner


def _share_shoulders(owner: np.ndarray, points: np.ndarray, girth: Girth) -> np.ndarray:
    """Round the shoulders cloth belongs to trunk and arm alike: else a bare seam opens where the arm lifts."""
    radius = round(_SHOULDER_CELLS * max(girth.upper_arm, 1.0))
    for joint in (LEFT_SHOULDER, RIGHT_SHOULDER):
        if np.isfinite(points[joint, :2]).all():
            x, y = (int(round(float(v) / 2)) for v in points[joint, :2])
            cv2.circle(owner, (x, y), radius, geometry.NOTHING, cv2.FILLED)
    return owner


def _share_sleeves(owner: np.ndarray, image: np.ndarray, person: Figure) -> np.ndarray:
    """Before the trunk, sleeves of its cloth belong to trunk and arm alike: else a lifted arm leaves a hole there.

    Args:
        owner: (256, 256) uint8 groups.
        image: (512, 512, 4) uint8, premultiplied.
        person: whose both are.
    """
    before_trunk = _trunk_mask(person)
    small = cv2.resize(image, (_OWNER_PX, _OWNER_PX), interpolation=cv2.INTER_AREA).astype(np.int16)
    owner = owner.copy()
    for row, arm in ((figure.ARMS.start, geometry.LEFT_ARM), (figure.ARMS.start + 2, geometry.RIGHT_ARM)):
        sleeve = before_trunk & (owner == arm)
        if sleeve.any():
            x, y = np.rint(person.starts[row, :2] / 2).astype(int)
            rows, columns = (slice(max(v - _CLOTH_CELLS, 0), max(v + _CLOTH_CELLS, 1)) for v in (y, x))
            cloth = np.median(small[rows, columns].reshape(-1, 4), axis=0)
            sleeve[sleeve] = np.abs(small[sleeve] - cloth).max(axis=-1) < _SAME_CLOTH
            owner[sleeve] = geometry.NOTHING
    return owner


def _trunk_mask(person: Figure) -> np.ndarray:
    """(256, 256) bool, the trunk alone as if no arm were there, with a narrow margin; empty where it is unseen."""
    mask, sides = np.zeros((_OWNER_PX, _OWNER_PX), np.uint8), person.surface[figure.TRUNK_POINTS, :2] / 2
    if np.isfinite(sides).all():
        outline = np.concatenate([sides[::2], sides[::-2]])  # down on the left, up on the right
        cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1)
    return cv2.dilate(mask, np.ones((5, 5), np.uint8)) > 0


def _fill_hands(image: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Give places of fingers that show something else the colour of the nearest that shows the hand.

    Solids end a little rounder than fingers do. There the picture shows nothing, which would be holes in the warped
    hand, or the cloth behind it, which would be a rim of its colour.

    Args:
        image: (S, S, 4) uint8, premultiplied RGBA.
        groups: (256, 256) uint8, of its solids.
    """
    filled, size = image.copy(), image.shape[:2]
    groups = cv2.resize(groups, size, interpolation=cv2.INTER_NEAREST)
    px = size[0] / CANVAS_PX
    for palm in (geometry.LEFT_PALM, geometry.RIGHT_PALM):
        hand = groups == palm
        left, top, width, height = cv2.boundingRect(hand.view(np.uint8))
        gap = round(_CLOTH_PX * px)
        box = np.s_[max(top - gap, 0) : top + height + gap, max(left - gap, 0) : left + width + gap]
        hand, seen = hand[box], image[box][..., 3] > _SEEN
        seen &= hand & ~_shows_cloth(image[box], hand, seen, px)
        if not seen.any():
            continue
        apart, nearest = cv2.distanceTransformWithLabels(
            (~seen).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        colours = np.zeros((nearest.max() + 1, 4), np.uint8)
        colours[nearest[seen]] = image[box][seen]
        bare = hand & ~seen & (apart < _FILL_PX * px)
        filled[box][bare] = colours[nearest[bare]]
    return filled


def _shows_cloth(image: np.ndarray, hand: np.ndarray, opaque: np.ndarray, px: float) -> np.ndarray:
    """(H, W) bool: rim of the hand's solids in the colour of what is beside them rather than in the hand's own."""
    near, deep = (round(2 * each * px) | 1 for each in (_CLOTH_PX, _RIM_PX))
    core = cv2.erode(hand.view(np.uint8), np.ones((deep, deep), np.uint8)) > 0
    around = (cv2.dilate(hand.view(np.uint8), np.ones((near, near), np.uint8)) > 0) & ~hand & opaque
    if not (core & opaque).any() or not around.any():
        return np.zeros_like(hand)
    skin, cloth = (np.median(image[where][:, :3], axis=0) for where in (core & opaque, around))
    if np.abs(skin - cloth).max() < _SAME_CLOTH:
        return np.zeros_like(hand)
    rim, way = hand & ~core, cloth - skin
    rim[rim] = image[rim][:, :3] @ way > way @ (cloth + skin) / 2  # beyond the middle between both
    return rim
