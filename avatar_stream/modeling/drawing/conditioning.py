"""From poses to what the networks see: views, geometry maps and the source image warped to the target pose.

The one way from pose to network, for training and for running. A person is made in four views of the canonical
signing frame: the whole body at half scale, and three windows at full scale, round the face and either hand, because
that is where signing is read. The left hand's window is mirrored, so that the networks know one kind of hand only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from avatar_stream.modeling.drawing import figure, geometry, source_image
from avatar_stream.modeling.drawing.figure import Figure
from avatar_stream.modeling.drawing.geometry import Drawing
from avatar_stream.modeling.drawing.looks import CHOSEN_PARTS, LookChooser, Shown, describe, trust
from avatar_stream.types import CANVAS_PX, FACE, LEFT_HAND, RIGHT_HAND

BODY_PX = 256  # of the body's view, where nothing else is said; up to CANVAS_PX
WINDOW_PX = 128
FACE_WINDOW, RIGHT_WINDOW, LEFT_WINDOW = range(3)
WINDOWS = 3
_STAY_PX = 4  # a window stays where it is until what it shows has moved by more


@dataclass(frozen=True)
class SourceImages:
    """An avatar's picture and pose, made ready once.

    Attributes:
        picture: the avatar's, at the canvas' size, ready for warping; the portrait and further looks.
        texture: the same for the last step, as fine as the portrait and the pictures that are to be made.
        figures: the poses in them, measured, with the person's girth, read from the portrait's matte.
        views: the portrait's own four views, for SourceNet.
        shown: of each look, what it shows, for `looks.LookChooser`.
    """

    picture: geometry.Picture
    texture: geometry.Picture
    figures: tuple[Figure, ...]
    views: Views
    shown: list[Shown]


@dataclass(frozen=True)
class Views:
    """One pose in its four views.

    Attributes:
        corners: (3, 2) int32, canvas px of each window's top left corner.
        windows: round the face, the right and the left hand (mirrored), 128 px at full scale.
        body: the whole frame, 256 px at half scale where nothing else is said; None where it was not asked for.
            After `trim_bodies` perhaps only a part of it.
        body_place: left and top of that part, px of the body's view.
        body_px: side of the whole body's view.
        look_of_group: (14,) uint8, which of the source's looks shows a group.
        trust_of_group: (14,) float32, 0..1, how far its texture may be believed (`looks.trust`).
    """

    corners: np.ndarray
    windows: Drawing
    body: Drawing | None
    body_place: tuple[int, int] = (0, 0)
    body_px: int = BODY_PX
    look_of_group: np.ndarray = field(default_factory=lambda: np.zeros(geometry.GROUPS, np.uint8))
    trust_of_group: np.ndarray = field(default_factory=lambda: np.ones(geometry.GROUPS, np.float32))


def prepare_source(
    image: np.ndarray,
    points: np.ndarray,
    window_shift: np.ndarray | None = None,
    body_px: int = BODY_PX,
    looks: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    size_px: int = CANVAS_PX,
) -> SourceImages:
    """Make an avatar's pictures ready, once.

    Args:
        image: (S, S, 4) uint8 RGBA, straight alpha, in the canonical signing frame, S of 512 or more.
        points: (553, 3) float32 landmarks in it, canvas px, NaN where not seen.
        window_shift: see `draw_views`.
        body_px: side of the body's view; all poses drawn for this source have the same.
        looks: further pictures of the same person with their landmarks, of any size.
        size_px: side of the pictures that are to be made. A finer texture would only flicker in them.
    """
    girth = figure.girth_of(source_image.scaled(image, CANVAS_PX)[..., 3], points)
    person = figure.measure_figure(points, girth)
    views = _draw([person], person, window_corners(points, window_shift), body_px, None, None)
    texture_px = min(image.shape[0], max(size_px, CANVAS_PX))
    pictures = [source_image.make_ready(*each, girth, texture_px) for each in ((image, points), *looks)]
    picture = geometry.join_pictures([each for each, _ in pictures])
    fine = picture
    if texture_px != CANVAS_PX:
        fine = replace(picture, pixels=np.stack([geometry.framed(each) for _, each in pictures]))
    body, windows = cut_views(geometry.unframed(pictures[0][0])[0], views.corners, body_px)
    views.windows.look[:], views.body.look[:] = windows, body
    figures = (person, *(figure.measure_figure(each, girth) for _, each in looks))
    shown = [describe(each) for _, each in ((image, points), *looks)]
    return SourceImages(picture, fine, figures, views, shown)


def draw_views(
    source: SourceImages,
    points: np.ndarray,
    window_shift: np.ndarray | None = None,
    with_body: bool = True,
    chosen: Sequence[int] = (0,) * len(CHOSEN_PARTS),
    corners: np.ndarray | None = None,
) -> Views:
    """Draw a target pose in its four views, with the source image warped to it.

    Args:
        source: from `prepare_source`.
        points: (553, 3) float32 target landmarks, canvas px, all finite.
        window_shift: (3, 2) px added to the windows' places (training moves them about), or None.
        with_body: False leaves the body's view out (training does not need it of every pose).
        chosen: the looks of `looks.CHOSEN_PARTS`, by `looks.LookChooser`; 0 is the portrait.
        corners: (3, 2) int32 canvas px of the windows; None: round what they show.
    """
    target = figure.measure_figure(points, source.figures[0].girth)
    body_px = source.views.body.look.shape[1] if with_body else None
    figures = [source.figures[each] for each in (0, *chosen)]
    look_of_group = np.array((0, *chosen), np.uint8)[geometry.LOOK_OF_GROUP]
    corners = window_corners(points, window_shift) if corners is None else corners
    views = _draw(figures, target, corners, body_px, source.picture, look_of_group)
    shown = tuple(source.shown[look][part] for part, look in enumerate(chosen))
    believed = np.array([1.0, *trust(shown, points)], np.float32)
    return replace(views, trust_of_group=believed[geometry.LOOK_OF_GROUP])


class Stream:
    """Draws the poses of one stream, one after another; what need not change from frame to frame stays.

    Networks of patches make something a little different of a hand that lies elsewhere in its window. A hand that
    trembles must not take its window along.

    Args:
        source: from `prepare_source`.
    """

    def __init__(self, source: SourceImages):
        self._source, self._chooser = source, LookChooser(source.shown)
        self._corners: np.ndarray | None = None

    def draw(self, points: np.ndarray) -> Views:
        """Draw a pose as `draw_views` does, in the looks that suit it; points: (553, 3) float32, all finite."""
        corners = window_corners(points)
        if self._corners is not None:
            near = np.abs(corners - self._corners).max(axis=1, keepdims=True) <= _STAY_PX
            corners = np.where(near, self._corners, corners)
        self._corners = corners
        return draw_views(self._source, points, chosen=self._chooser.choose(points), corners=corners)


def trim_bodies(views: Sequence[Views]) -> list[Views]:
    """Leave out the margins of the bodies' views where they show nothing: a third of their networks' work.

    All of them or none, for they make one batch; only one smaller size is known, for each is a graph of its own.

    Args:
        views: from `draw_views`, with bodies.

    Returns:
        The views, their bodies three quarters as wide and seven eighths as high where that is enough.
    """
    places = [_trimmed_place(each.body) for each in views]
    fitting = [place for place in places if place is not None]
    if len(fitting) < len(places):
        return list(views)
    return [_cut_body(each, *place) for each, place in zip(views, fitting, strict=True)]


def both_sizes(views: Views) -> tuple[Views, Views]:
    """Views whose bodies have the two sizes that come out of `trim_bodies`, whatever is cut off: for warming up."""
    return views, _cut_body(views, 0, 0)


def _cut_body(views: Views, left: int, top: int) -> Views:
    side = views.body_px
    rows, columns = slice(top, top + side * 7 // 8), slice(left, left + side * 3 // 4)
    cell_rows, cell_columns = (slice(each.start // 16, each.stop // 16) for each in (rows, columns))
    whole = views.body
    body = Drawing(
        np.ascontiguousarray(whole.maps[..., rows, columns]),
        np.ascontiguousarray(whole.look[:, rows, columns]),
        np.ascontiguousarray(whole.parts[..., cell_rows, cell_columns]),
        np.ascontiguousarray(whole.owner[:, rows, columns]),
        np.ascontiguousarray(whole.flow[:, rows, columns]),
    )
    return replace(views, body=body, body_place=(left, top))


def _trimmed_place(body: Drawing | None) -> tuple[int, int] | None:
    """Where the smaller part begins, px; None where it would cut something off."""
    side = body.look.shape[1]
    step, width, gap = side // 8, side * 3 // 4, side // 32
    x, y, wide, _ = cv2.boundingRect(cv2.extractChannel(body.look[0], 3))
    # Steps of the coarsest place of the networks; the middle is kept as long as it serves, for stillness.
    for left in (step, 0, 2 * step):
        solids = body.parts[0, 1:].copy()  # the first is nothing
        solids[:, step // 16 :, left // 16 : (left + width) // 16] = 0
        inside = left + gap <= x and x + wide + gap <= left + width and step + gap // 2 <= y
        if inside and not solids.any():
            return left, step
    return None


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
    # Even, so that windows lie on whole pixels of larger pictures too.
    return 2 * np.round((centres - WINDOW_PX / 2) / 2).astype(np.int32)


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
    margin = [(WINDOW_PX, WINDOW_PX)] * 2 + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, margin)
    windows = []
    for x, y in np.clip(corners, -WINDOW_PX, CANVAS_PX) + WINDOW_PX:
        windows.append(padded[y : y + WINDOW_PX, x : x + WINDOW_PX])
    windows[LEFT_WINDOW] = windows[LEFT_WINDOW][:, ::-1]
    return body, np.stack(windows)


def _draw(
    figures: Sequence[Figure],
    target: Figure,
    corners: np.ndarray,
    body_px: int | None,
    picture: geometry.Picture | None,
    look_of_group: np.ndarray | None,
) -> Views:
    """Draw the views, the body's where it has a size; figures: of the trunk's look, or of all parts'."""
    solids = geometry.build_solids(target, figures[0], figures[1:])
    windows = []
    for window, part in ((FACE_WINDOW, FACE), (RIGHT_WINDOW, RIGHT_HAND), (LEFT_WINDOW, LEFT_HAND)):
        z0 = float(np.nan_to_num(target.points[part, 2].mean()))
        windows.append(geometry.view(tuple(corners[window]), 1.0, WINDOW_PX, window == LEFT_WINDOW, z0))
    drawn, body = geometry.draw(solids, windows, WINDOW_PX, picture, look_of_group), None
    if body_px is not None:
        whole = geometry.view((0.0, 0.0), CANVAS_PX / body_px, body_px)
        body = geometry.draw(solids, [whole], body_px, picture, look_of_group)
    views = Views(corners, drawn, body, body_px=body_px or BODY_PX)
    return views if look_of_group is None else replace(views, look_of_group=look_of_group)
