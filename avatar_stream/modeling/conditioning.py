"""From poses to what the networks see: views, geometry maps and the source image warped to the target pose.

The one way from pose to network, for training and for running. A person is made in four views of the canonical
signing frame: the whole body at half scale, and three windows at full scale, round the face and either hand, because
that is where signing is read. The left hand's window is mirrored, so that the networks know one kind of hand only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from avatar_stream.modeling import geometry, pasting, rasterizer
from avatar_stream.modeling.geometry import LEFT_PALM, PARTS, RIGHT_PALM
from avatar_stream.modeling.girth import Girth
from avatar_stream.types import CANVAS_PX, FACE, LEFT_HAND, LEFT_SHOULDER, RIGHT_HAND, RIGHT_SHOULDER

BODY_PX = 256  # of the body's view, where nothing else is said; up to CANVAS_PX
_OWNER_PX = 256
WINDOW_PX = 128
FACE_WINDOW, RIGHT_WINDOW, LEFT_WINDOW = range(3)
WINDOWS = 3
PART_CELL_PX = 16  # attention's tokens at its finest level, in pixels of a view
_DEPTH_SCALE_PX = 64.0
_FEATHER_PX = 16
_SHOULDER_CELLS = 14  # radius, at half scale, in which trunk and arm share their cloth


@dataclass(frozen=True)
class Source:
    """An avatar's picture and pose, made ready once.

    Attributes:
        image: (512, 512, 4) uint8, premultiplied RGBA.
        points: (553, 3) float32, the pose in the picture, canvas px.
        girth: of the person, read from the matte.
        owner: (256, 256) uint8, which group covers each place.
        views: the picture's own four views, for SourceNet.
    """

    image: np.ndarray
    points: np.ndarray
    girth: Girth
    owner: np.ndarray
    views: Views


@dataclass(frozen=True)
class Drawn:
    """Views of one size of one pose; V is 1 (body) or 3 (face, right hand, left hand mirrored), S their side.

    Attributes:
        maps: (V, 10, S, S) float32, the pose as geometry (`geometry.Drawing.maps`).
        look: (V, S, S, 4) uint8, the source image warped to this pose, premultiplied RGBA.
        parts: (V, 6, S/16, S/16) float32, share of each part in each cell.
    """

    maps: np.ndarray
    look: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Views:
    """One pose in its four views.

    Attributes:
        corners: (3, 2) int32, canvas px of each window's top left corner.
        windows: round the face and either hand, 128 px at full scale.
        body: the whole frame, 256 px at half scale where nothing else is said; None where it was not asked for.
    """

    corners: np.ndarray
    windows: Drawn
    body: Drawn | None


def premultiply(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 RGBA straight -> premultiplied, so that what is transparent has no colour to blur in."""
    alpha = image[..., 3]
    return cv2.multiply(image, cv2.merge([alpha, alpha, alpha, np.full_like(alpha, 255)]), scale=1 / 255)


def prepare_source(
    image: np.ndarray, points: np.ndarray, window_shift: np.ndarray | None = None, body_px: int = BODY_PX
) -> Source:
    """Make an avatar's picture ready, once.

    Args:
        image: (512, 512, 4) uint8 RGBA, straight alpha, in the canonical signing frame.
        points: (553, 3) float32 landmarks in it, canvas px, NaN where not seen.
        window_shift: see `draw_views`.
        body_px: side of the body's view; all poses drawn for this source have the same.
    """
    girth = geometry.girth_of(image[..., 3], points)
    solids = geometry.build_solids(points, points, girth)
    owner = geometry.draw(solids, (0.0, 0.0), CANVAS_PX / _OWNER_PX, _OWNER_PX, 1.0, 0.0).owner
    owner = _share_shoulders(_widen_limbs(owner), points)
    image = premultiply(image)
    views = _draw(
        solids, points, window_shift, body_px, lambda flow, owner: np.zeros((*owner.shape, 4), np.uint8)
    )
    body, windows = cut_views(image, views.corners, body_px)
    views = Views(views.corners, replace(views.windows, look=windows), replace(views.body, look=body[None]))
    return Source(image, points, girth, owner, views)


def draw_views(
    source: Source, points: np.ndarray, window_shift: np.ndarray | None = None, with_body: bool = True
) -> Views:
    """Draw a target pose in its four views, with the source image warped to it.

    Args:
        source: from `prepare_source`.
        points: (553, 3) float32 target landmarks, canvas px, all finite.
        window_shift: (3, 2) px added to the windows' places (training moves them about), or None.
        with_body: False leaves the body's view out (training does not need it of every pose).
    """
    solids = geometry.build_solids(points, source.points, source.girth)
    body_px = source.views.body.look.shape[1] if with_body else None
    return _draw(
        solids, points, window_shift, body_px, lambda flow, owner: _guarded_look(source, flow, owner)
    )


def window_corners(points: np.ndarray, shift: np.ndarray | None = None) -> np.ndarray:
    """(3, 2) int32 canvas px of the windows' top left corners; unseen parts stand in the middle of the frame."""
    centres = np.full((WINDOWS, 2), CANVAS_PX / 2, np.float32)
    for window, part in ((FACE_WINDOW, FACE), (RIGHT_WINDOW, RIGHT_HAND), (LEFT_WINDOW, LEFT_HAND)):
        places = points[part, :2]
        if np.isfinite(places).all():
            low, high = places.min(axis=0), places.max(axis=0)
            centres[window] = (low + high) / 2
            if window == FACE_WINDOW:
                centres[window, 1] -= 0.12 * (high[1] - low[1])  # room for the hair
    if shift is not None:
        centres += shift
    return np.round(centres - WINDOW_PX / 2).astype(np.int32)


def cut_views(
    image: np.ndarray, corners: np.ndarray, body_px: int = BODY_PX
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a true picture into its views, as `paste_views` puts them together.

    Args:
        image: (512, 512, C) uint8 or (512, 512) uint8, canonical frame.
        corners: (3, 2) int32 from `Views.corners`.
        body_px: side of the body's view.

    Returns:
        (body_px, body_px, C) body and (3, 128, 128, C) windows, uint8; the left hand's mirrored.
    """
    body = cv2.resize(image, (body_px, body_px), interpolation=cv2.INTER_AREA)
    padded = cv2.copyMakeBorder(image, *[WINDOW_PX] * 4, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    windows = []
    for x, y in np.clip(corners, -WINDOW_PX, CANVAS_PX) + WINDOW_PX:
        windows.append(padded[y : y + WINDOW_PX, x : x + WINDOW_PX])
    windows[LEFT_WINDOW] = windows[LEFT_WINDOW][:, ::-1]
    return body, np.stack(windows)


def paste_views(body: np.ndarray, windows: np.ndarray | None, views: Views) -> np.ndarray:
    """Put the made views together: the windows, if there are any, over the enlarged body, with soft edges.

    Args:
        body: (S, S, 4) float32 premultiplied RGBA, 0..1, S up to 512.
        windows: (3, 128, 128, 4) float32, the same; None: only the body.
        views: whose corners say where the windows belong.

    Returns:
        (512, 512, 4) uint8 RGBA, straight alpha.
    """
    canvas = cv2.resize(body, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_CUBIC)
    for window in () if windows is None else (FACE_WINDOW, LEFT_WINDOW, RIGHT_WINDOW):
        left, top = (int(place) for place in views.corners[window])
        picture = np.ascontiguousarray(windows[window])
        pasting.blend_window(canvas, picture, _feather(), left, top, window == LEFT_WINDOW)
    straight = np.empty(canvas.shape, np.uint8)
    pasting.straighten(canvas, straight)
    return straight


def _feather() -> np.ndarray:
    """(128, 128) float32: 1 inside, falling to 0 at the window's edge."""
    ramp = np.minimum(np.arange(WINDOW_PX) + 0.5, WINDOW_PX - np.arange(WINDOW_PX) - 0.5) / _FEATHER_PX
    ramp = np.clip(ramp, 0.0, 1.0).astype(np.float32)
    return ramp[:, None] * ramp[None, :]


def _draw(
    solids: geometry.Solids,
    points: np.ndarray,
    window_shift: np.ndarray | None,
    body_px: int | None,
    look_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Views:
    """Draw the views, the body's where it has a size; `look_of(flow, owner)` gives each one's warped source."""
    corners = window_corners(points, window_shift)
    lifted = geometry.lift(points)
    drawn = []
    for window, part in ((FACE_WINDOW, FACE), (RIGHT_WINDOW, RIGHT_HAND), (LEFT_WINDOW, LEFT_HAND)):
        z0 = float(np.nan_to_num(lifted[part, 2].mean()))
        sign = -1.0 if window == LEFT_WINDOW else 1.0
        drawing = geometry.draw(solids, tuple(corners[window].astype(float)), 1.0, WINDOW_PX, sign, z0)
        look = look_of(drawing.flow, drawing.owner)
        drawn.append((_mirror(drawing), look[:, ::-1]) if sign < 0 else (drawing, look))
    windows, body = _gather(drawn), None
    if body_px is not None:
        drawing = geometry.draw(solids, (0.0, 0.0), CANVAS_PX / body_px, body_px, 1.0, 0.0)
        body = _gather([(drawing, look_of(drawing.flow, drawing.owner))])
    return Views(corners, windows, body)


def _gather(drawn: list[tuple[geometry.Drawing, np.ndarray]]) -> Drawn:
    return Drawn(
        np.stack([_scale_depth(drawing.maps) for drawing, _ in drawn]),
        np.stack([look for _, look in drawn]),
        np.stack([_part_shares(drawing.owner) for drawing, _ in drawn]),
    )


def _mirror(drawing: geometry.Drawing) -> geometry.Drawing:
    maps = drawing.maps[:, :, ::-1].copy()
    maps[rasterizer.NORMAL_X] *= -1.0
    return geometry.Drawing(maps, drawing.flow[:, ::-1], drawing.owner[:, ::-1])


def _scale_depth(maps: np.ndarray) -> np.ndarray:
    np.clip(maps[rasterizer.DEPTH] / _DEPTH_SCALE_PX, -3.0, 3.0, out=maps[rasterizer.DEPTH])
    return maps


def _part_shares(owner: np.ndarray) -> np.ndarray:
    """(H, W) uint8 groups -> (6, H/16, W/16) float32 shares of the parts."""
    cells = owner.shape[0] // PART_CELL_PX
    shares = np.zeros((PARTS, cells, cells), np.float32)
    rasterizer.share_parts(np.ascontiguousarray(owner), geometry.PART_OF_GROUP, PART_CELL_PX, shares)
    return shares


def _widen_limbs(owner: np.ndarray) -> np.ndarray:
    """Let limbs claim what is close beside them and nobody's: sleeves and fingers reach over their solids."""
    for group in (geometry.LEFT_ARM, geometry.RIGHT_ARM):
        limb = _LIMB_OF_GROUP[owner] == _LIMB_OF_GROUP[group]
        wide = cv2.dilate(limb.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        owner = np.where(wide & (owner == geometry.NOTHING), np.uint8(group), owner)
    return owner


def _share_shoulders(owner: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Round the shoulders cloth belongs to trunk and arm alike: else a bare seam opens where the arm lifts."""
    for joint in (LEFT_SHOULDER, RIGHT_SHOULDER):
        if np.isfinite(points[joint, :2]).all():
            x, y = (int(round(float(v) / 2)) for v in points[joint, :2])
            cv2.circle(owner, (x, y), _SHOULDER_CELLS, geometry.NOTHING, cv2.FILLED)
    return owner


def _look(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    # Places are pixel centres: canvas x = 0.5 is the middle of the first pixel.
    x, y = flow[..., 0] - 0.5, flow[..., 1] - 0.5
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0, 0))


def _guarded_look(source: Source, flow: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Warp the source image; no limb takes the look of another part."""
    rasterizer.forget_foreign_looks(flow, owner, source.owner, _LIMB_OF_GROUP)
    return _look(source.image, flow)


# 0 trunk and head, 1 left arm with its hand, 2 right arm with its hand.
_LIMB_OF_GROUP = np.zeros(geometry.GROUPS, np.uint8)
_LIMB_OF_GROUP[[geometry.LEFT_ARM, LEFT_PALM]] = 1
_LIMB_OF_GROUP[[geometry.RIGHT_ARM, RIGHT_PALM]] = 2
