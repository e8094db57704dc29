"""From what the networks made to the finished picture: mended, with the source's texture, in one piece, at any size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from avatar_stream.modeling.drawing import geometry, pasting, texture
from avatar_stream.modeling.drawing.conditioning import (
    FACE_WINDOW,
    LEFT_WINDOW,
    RIGHT_WINDOW,
    WINDOW_PX,
    SourceImages,
    Views,
)
from avatar_stream.modeling.drawing.geometry import LEFT_PALM, LIMB_OF_GROUP, RIGHT_PALM, Drawing
from avatar_stream.types import CANVAS_PX

_FEATHER_PX = 16
_PATCH_PX = 8  # of the autoencoders, ours and stock ones
_BODY_RIM_PX, _HEAD_RIM_PX, _HAND_RIM_PX = 2.0, 1.2, 0.65  # how smooth outlines are drawn, px of their views
_HOLE, _HOLE_PX = (
    0.9,
    15,
)  # matte below which a place is part of a hole, and the side of the largest that is filled


_ORDER = (FACE_WINDOW, LEFT_WINDOW, RIGHT_WINDOW)  # in which windows are added
_YIELD_PX = 2.0  # how softly a window gives way to another one
# What each window is for: 1 for its groups.
_GROUPS_OF_WINDOW = {
    window: np.isin(np.arange(geometry.GROUPS), groups).astype(np.float32)
    for window, groups in (
        (FACE_WINDOW, (geometry.HEAD, geometry.SKIN, geometry.MOUTH, geometry.EYE)),
        (LEFT_WINDOW, (geometry.LEFT_PALM,)),
        (RIGHT_WINDOW, (geometry.RIGHT_PALM,)),
    )
}


@dataclass(frozen=True)
class ViewImages:
    """What the networks made of the views of one size of one pose, V of them.

    Attributes:
        pictures: (V, S, S, 4) float32 premultiplied RGBA, about 0..1.
        moves: (V, S/4, S/4, 5) float32 and share: (V, S, S) float32, see `texture.lay_texture`; None: no texture.
    """

    pictures: np.ndarray
    moves: np.ndarray | None = None
    share: np.ndarray | None = None


def paste_views(
    body: ViewImages, windows: ViewImages | None, views: Views, source: SourceImages, size_px: int = CANVAS_PX
) -> np.ndarray:
    """Put the made views together: the windows, if there are any, over the enlarged and mended body, with soft edges.

    The source's texture is laid over each at the picture's own resolution: only this step grows with it.

    Args:
        body: one view; smaller where `views` are trimmed. Its pictures and share are used up, as the
            windows' pictures are.
        windows: three views; None: only the body.
        views: the pose, as the networks saw it.
        source: whose texture is laid over the views, where they say how.
        size_px: side of the picture, a multiple of half the canvas'.

    Returns:
        (size_px, size_px, 4) uint8 RGBA, straight alpha.
    """
    picture = np.ascontiguousarray(body.pictures[0], np.float32)
    pasting.smooth_patches(picture, _PATCH_PX)
    mended = pasting.mend_rim(picture, pasting.rim_kernel(_BODY_RIM_PX))
    if windows is None:
        _leave_hands(mended, picture, views)
    canvas = _enlarged(mended, views, size_px)
    px = size_px / views.body_px
    place = (round(views.body_place[0] * px), round(views.body_place[1] * px))
    if windows is not None and body.share is not None:
        _leave_windows(body.share[0], views)
    _lay_texture(canvas, body, 0, views, views.body, CANVAS_PX / views.body_px, source, px, place)
    if windows is not None:
        for window in _ORDER:
            _add_window(canvas, windows, window, views, source, size_px / CANVAS_PX)
    _fill_holes(canvas, views)
    straight = np.empty(canvas.shape, np.uint8)
    pasting.straighten(canvas, straight)
    return straight


def _add_window(
    canvas: np.ndarray, made: ViewImages, window: int, views: Views, source: SourceImages, px: float
) -> None:
    """Mend a window, lay the texture over it and blend it into the canvas, `px` of the canvas a pixel."""
    picture = np.ascontiguousarray(made.pictures[window], np.float32)
    pasting.smooth_patches(picture, _PATCH_PX)
    rim_px = _HEAD_RIM_PX if window == FACE_WINDOW else _HAND_RIM_PX
    picture = pasting.mend_rim(picture, pasting.rim_kernel(rim_px))
    side = round(px * WINDOW_PX)
    if side != WINDOW_PX:
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    _lay_texture(picture, made, window, views, views.windows, 1.0, source, px, (0, 0))
    left, top = (round(px * int(place)) for place in views.corners[window])
    pasting.add_window(canvas, picture, _weight(views, window, side), left, top, window == LEFT_WINDOW)


def _weight(views: Views, window: int, side_px: int) -> np.ndarray:
    """(side_px, side_px) float32, 0..1: how much a window counts over those that were added before it.

    A hand's window shows what lies round the hand too. Where that is the face or the other hand, and their own window
    reaches so far, theirs is the better picture.
    """
    weight = _feather(side_px)
    for other in _ORDER[: _ORDER.index(window)]:
        shift = views.corners[other] - views.corners[window]
        if np.abs(shift).max() >= WINDOW_PX:
            continue
        theirs = _GROUPS_OF_WINDOW[other][views.windows.owner[window]]
        if not theirs.any():
            continue
        theirs = np.ascontiguousarray(theirs[:, ::-1]) if window == LEFT_WINDOW else theirs
        move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        cover = cv2.warpAffine(_feather(WINDOW_PX), move, (WINDOW_PX, WINDOW_PX))
        cover *= cv2.GaussianBlur(theirs, (0, 0), _YIELD_PX)
        weight = weight * (1.0 - cv2.resize(cover, (side_px, side_px)))
    return weight


def _lay_texture(
    picture: np.ndarray,
    made: ViewImages,
    view: int,
    views: Views,
    drawn: Drawing | None,
    step: float,
    source: SourceImages,
    px: float,
    place: tuple[int, int],
) -> None:
    if made.share is None or made.moves is None:
        return
    texture.lay_texture(
        picture, made.moves[view], made.share[view], drawn.flow[view], drawn.owner[view], step,
        source.texture.pixels, source.texture.limbs, views.look_of_group, views.trust_of_group,
        LIMB_OF_GROUP, px, *place,
    )  # fmt: skip


def _leave_windows(share: np.ndarray, views: Views) -> None:
    """Lay no texture, in place, where a window covers the body wholly: that would be done twice."""
    scale = views.body_px / CANVAS_PX
    for corner in views.corners:
        # A pixel more than the feather, for the share is read between its pixels.
        first = np.ceil((corner + _FEATHER_PX) * scale).astype(int) + 1 - views.body_place
        last = np.floor((corner + WINDOW_PX - _FEATHER_PX) * scale).astype(int) - 1 - views.body_place
        (left, top), (right, bottom) = np.maximum(first, 0), np.maximum(last, 0)
        share[top:bottom, left:right] = 0.0


def _leave_hands(mended: np.ndarray, body: np.ndarray, views: Views) -> None:
    """Where no windows come over them, the body's own fingers are seen, too thin to be mended: leave them, in place."""
    scale = views.body_px / CANVAS_PX
    side = round(WINDOW_PX * scale)
    share = cv2.resize(_feather(WINDOW_PX), (side, side), interpolation=cv2.INTER_AREA)[..., None]
    for window in (RIGHT_WINDOW, LEFT_WINDOW):
        x, y = np.round(views.corners[window] * scale).astype(int) - views.body_place
        left, top = max(x, 0), max(y, 0)
        right, bottom = max(min(x + side, body.shape[1]), left), max(min(y + side, body.shape[0]), top)
        box = np.s_[top:bottom, left:right]
        part = share[top - y : bottom - y, left - x : right - x]
        mended[box] += part * (body[box] - mended[box])


def _fill_holes(canvas: np.ndarray, views: Views) -> None:
    """Close small holes in the person near hands, in place, in the colours round them; between fingers they stay.

    Body and windows are each in doubt whether air is seen between an arm and what is behind it. Half a doubt, or a
    doubt in one of them that ends at a window's edge, is a bright notch beside a hand.
    """
    step, scale = canvas.shape[0] // views.body_px, views.body_px / CANVAS_PX
    fingers = None
    for corner in views.corners[[RIGHT_WINDOW, LEFT_WINDOW]]:
        # Cells of the body's view; the rim is for holes that reach out of the window.
        first = np.floor((corner - _HOLE_PX) * scale).astype(int)
        last = np.ceil((corner + WINDOW_PX + _HOLE_PX) * scale).astype(int)
        (left, top), (right, bottom) = np.maximum(first, 0), np.maximum(last, 0)
        part = canvas[step * top : step * bottom, step * left : step * right]
        if not part.size:  # the hand is out of the picture
            continue
        holes, labels = _small_holes(part[step // 2 :: step, step // 2 :: step, 3], (_HOLE_PX * scale) ** 2)
        for hole, box, much in holes:
            fingers = _fingers(views) if fingers is None else fingers
            mine = labels[box] == hole
            if fingers[top:bottom, left:right][box][mine].mean() < 0.5:
                place = tuple(slice(step * each.start, step * each.stop) for each in box)
                _fill_hole(part[place], mine, much)


def _small_holes(
    matte: np.ndarray, most: float
) -> tuple[list[tuple[int, tuple[slice, slice], float]], np.ndarray]:
    """Holes of less than `most` cells: label, box with a rim, how much of it is closed; and all labels (H, W).

    A hole that grows opens slowly.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((matte < _HOLE).view(np.uint8), connectivity=8)
    holes = []
    for label, (x, y, wide, tall, area) in enumerate(stats.tolist()):
        inside = x > 0 and y > 0 and x + wide < matte.shape[1] and y + tall < matte.shape[0]
        if label > 0 and inside and area < most:
            box = (slice(y - 1, y + tall + 1), slice(x - 1, x + wide + 1))
            holes.append((label, box, min(2.0 - 2.0 * area / most, 1.0)))
    return holes, labels


def _fill_hole(part: np.ndarray, mine: np.ndarray, much: float) -> None:
    """One hole, in place: `part` of the canvas with a rim round it, `mine` (h, w) its coarser cells."""
    height, width = part.shape[:2]
    cells = cv2.dilate(mine.view(np.uint8), np.ones((3, 3), np.uint8))
    share = much * cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
    near = cv2.blur(part, (2 * (width // 2) + 1, 2 * (height // 2) + 1), borderType=cv2.BORDER_REPLICATE)
    near /= np.maximum(near[..., 3:], 0.05)
    part += share * np.maximum(1.0 - part[..., 3:], 0.0) * near


def _fingers(views: Views) -> np.ndarray:
    """(body_px, body_px) uint8: 1 where fingers may enclose air, of one hand or of two that are together."""
    owner, place = views.body.owner[0], views.body_place
    hands = [cv2.findNonZero((owner == palm).view(np.uint8)) for palm in (LEFT_PALM, RIGHT_PALM)]
    hands = [each + np.array(place, np.int32) for each in hands if each is not None]
    if len(hands) == 2 and _meet(*(cv2.boundingRect(each) for each in hands)):
        hands = [np.concatenate(hands)]
    inside = np.zeros((views.body_px, views.body_px), np.uint8)
    for hand in hands:
        cv2.fillConvexPoly(inside, cv2.convexHull(hand), 1)
    return inside


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return all(a[i] <= b[i] + b[i + 2] and b[i] <= a[i] + a[i + 2] for i in (0, 1))


def _enlarged(body: np.ndarray, views: Views, size_px: int) -> np.ndarray:
    """The body's view on the whole canvas; where it was trimmed there is nothing."""
    left, top, height, width = (
        each * size_px // views.body_px for each in (*views.body_place, *body.shape[:2])
    )
    large = cv2.resize(body, (width, height), interpolation=cv2.INTER_CUBIC)
    if width == size_px:
        return large
    canvas = np.zeros((size_px, size_px, 4), np.float32)
    canvas[top : top + height, left : left + width] = large
    return canvas


@cache
def _feather(side_px: int) -> np.ndarray:
    """(side_px, side_px) float32: 1 inside, falling to 0 at the window's edge. Not to be changed."""
    places = np.arange(side_px) + 0.5
    ramp = np.minimum(places, side_px - places) * (WINDOW_PX / side_px / _FEATHER_PX)
    ramp = np.clip(ramp, 0.0, 1.0).astype(np.float32)
    return ramp[:, None] * ramp[None, :]
