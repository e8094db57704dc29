"""From landmarks to solid shapes: a body of capsules and a face of triangles, each knowing its place in the source.

A line drawing leaves a network to invent the surface of every finger; shaded solids say where it is, which is in
front and which way the palm looks (Champ, ECCV 2024, guides by such maps of a body model). Because every solid of
the target pose has its twin in the source pose, each drawn pixel also knows where in the source image its look
comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from avatar_stream import types
from avatar_stream.modeling.drawing import figure, rasterizer, shading
from avatar_stream.modeling.drawing import rasterizer as r
from avatar_stream.modeling.drawing.figure import Figure
from avatar_stream.modeling.drawing.head import SEAM_ROWS, find_seam
from avatar_stream.modeling.drawing.looks import (
    CHOSEN_PARTS,
    FACE_PART,
    LEFT_ARM_PART,
    LEFT_PART,
    RIGHT_ARM_PART,
    RIGHT_PART,
)
from avatar_stream.turns import cross
from avatar_stream.types import CANVAS_PX, LEFT_HAND, RIGHT_HAND

# What a pixel belongs to. Limbs are told apart so that the look of one never comes from another.
NOTHING, TORSO, NECK, HEAD, SKIN, MOUTH, EYE = range(7)
LEFT_ARM, LEFT_PALM, RIGHT_ARM, RIGHT_PALM = range(7, 11)
LEFT_WRIST, RIGHT_WRIST = range(11, 13)  # an arm's end, where its look comes from the hand's picture
COLLAR = 13  # beside the neck, down to the shoulders: hair, cloth or nothing
GROUPS = 14
# The same as parts for attention: background, torso, head, face, arm, hand.
PART_OF_GROUP = np.array([0, 1, 1, 2, 3, 3, 3, 4, 5, 4, 5, 4, 4, 0], np.uint8)
PARTS = 6
PART_CELL_PX = 16  # attention's tokens at its finest level, in pixels of a view
# Which of a pose's looks shows a group: 0 the trunk's, then those of `looks.CHOSEN_PARTS`.
LOOK_OF_GROUP = np.array([0, 0, 1, 1, 1, 1, 1, 4, 2, 5, 3, 2, 3, 1], np.uint8)
# 0 trunk and head, 1 left arm with its hand, 2 right arm with its hand.
LIMB_OF_GROUP = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 1, 2, 0], np.uint8)
_ROUND_HEAD = np.array([HEAD, COLLAR, NECK], np.uint8)

_SLEEVE = 1.6  # how far beside an arm its look (a wide sleeve) may be found, in radii
_FINGER_HALO = 1.35
# A hand and its wrist look of one piece only where they come from one picture: from here on of the way to the wrist.
_WRIST_FROM = 0.75
_ACROSS = np.array([-1.0] * 4 + [-0.4] * 4 + [0.0] * 4 + [0.4] * 4 + [0.8] * 4 + [-0.2, 0.2, 0.6, -0.7])
_ALONG = np.array([(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)] * 5 + [(0.25, 0.25)] * 4)
_TRUNK = [types.LEFT_SHOULDER, types.RIGHT_SHOULDER, types.LEFT_HIP, types.RIGHT_HIP]
# Capsules whose look is a part's own; and forearms, whose ends look like the hand.
_ROWS_OF_PARTS: tuple[tuple[int, slice | int], ...] = (
    (FACE_PART, figure.IRISES), (FACE_PART, figure.NECK), (FACE_PART, figure.SKULL),
    *zip((LEFT_PART, RIGHT_PART), figure.HANDS, strict=True),
    *zip((LEFT_ARM_PART, RIGHT_ARM_PART), figure.ARM_OF_SIDE, strict=True),
)  # fmt: skip
_WRISTS = (
    (LEFT_PART, LEFT_ARM_PART, figure.ARM_OF_SIDE[0].start + 1, LEFT_WRIST),
    (RIGHT_PART, RIGHT_ARM_PART, figure.ARM_OF_SIDE[1].start + 1, RIGHT_WRIST),
)
_MOST_PULL = 0.4  # of the face on the head round it, in radii of the skull
_TRUNK_PULL = np.eye(2) * (0.05 * CANVAS_PX) ** 2


@dataclass(frozen=True)
class Solids:
    """A pose as lists for the rasteriser; see `rasterizer.cover` and `shading.shade` for the layouts."""

    capsules: np.ndarray
    vertices: np.ndarray
    triangles: np.ndarray
    paints: np.ndarray
    torso_maps: np.ndarray
    head: np.ndarray
    seam: np.ndarray


@dataclass(frozen=True)
class Picture:
    """What a look is taken from; see `make_picture`.

    Attributes:
        pixels: (L, S + 4, S + 4) uint32, premultiplied RGBA of L looks in a frame of nothing; S is 512 where they are
            warped.
        limbs: (L, 256, 256) uint8, the limb (`LIMB_OF_GROUP`) at each place at half scale, or `shading.EMPTY`.
    """

    pixels: np.ndarray
    limbs: np.ndarray


@dataclass(frozen=True)
class Drawing:
    """Some views of a pose, V of them, S pixels a side.

    Attributes:
        maps: (V, 10, S, S) float32: normal x and y, depth (1 is 64 px), palm side (1) or back (-1), two codes that
            say where on the finger or face, own hand (1) or other (-1), face, limb (arm 1, torso -1), eye (1 mouth,
            -1 eye).
        look: (V, S, S, 4) uint8, the picture warped to this pose; zeros without a picture.
        parts: (V, 6, S/16, S/16) float32, share of each part in each cell.
        owner: (V, S, S) uint8, group (NOTHING ... COLLAR).
        flow: (V, S, S, 2) float32, canvas px x, y of the source that each pixel shows; `rasterizer.NOWHERE`: none.
    """

    maps: np.ndarray
    look: np.ndarray
    parts: np.ndarray
    owner: np.ndarray
    flow: np.ndarray


def make_picture(image: np.ndarray, owner: np.ndarray) -> Picture:
    """Make an image ready for `draw`.

    Args:
        image: (512, 512, 4) uint8, premultiplied RGBA.
        owner: (256, 256) uint8, group at each of its places.
    """
    pixels = framed(image)
    # A place at half scale reads four pixels each way, one beyond its own two on either side.
    seen = pixels[1:-1, 1:-1] != 0
    seen = np.logical_or.reduce([seen[:, i : i + CANVAS_PX : 2] for i in range(4)])
    seen = np.logical_or.reduce([seen[i : i + CANVAS_PX : 2] for i in range(4)])
    return Picture(pixels[None], np.where(seen, LIMB_OF_GROUP[owner], np.uint8(shading.EMPTY))[None])


def join_pictures(pictures: Sequence[Picture]) -> Picture:
    """Put the looks of one person behind each other."""
    return Picture(
        np.concatenate([each.pixels for each in pictures]), np.concatenate([each.limbs for each in pictures])
    )


def framed(image: np.ndarray) -> np.ndarray:
    """(S, S, 4) uint8 premultiplied RGBA -> (S + 4, S + 4) uint32 in a frame of nothing."""
    return np.pad(np.ascontiguousarray(image).view(np.uint32)[..., 0], shading.FRAME_PX)


def unframed(picture: Picture) -> np.ndarray:
    """(L, S, S, 4) uint8 premultiplied RGBA of a picture's looks, without their frames."""
    inside = slice(shading.FRAME_PX, -shading.FRAME_PX)
    inner = np.ascontiguousarray(picture.pixels[:, inside, inside])
    return inner.view(np.uint8).reshape(*inner.shape, 4)


def build_solids(target: Figure, source: Figure, looks: Sequence[Figure] = ()) -> Solids:
    """Make the solids of a target pose, each tied to its place in the source image that shows it.

    Args:
        target: the pose.
        source: the trunk's.
        looks: those of `looks.CHOSEN_PARTS`; none: the trunk's.
    """
    looks = looks or [source] * len(CHOSEN_PARTS)
    face = looks[FACE_PART]
    vertices, triangles, paints = _surfaces(target, source, face)
    trunk = _torso_map(target.points, source.points)
    torso_maps = np.stack([trunk, trunk if face is source else _torso_map(target.points, face.points)])
    head = _head(target, source, face)
    return Solids(
        _capsules(target, source, looks),
        vertices,
        triangles,
        paints,
        torso_maps,
        head,
        _seam(target, face, head),
    )


def view(
    corner: tuple[float, float], step: float, size_px: int, mirrored: bool = False, z0: float = 0.0
) -> list[float]:
    """Make a view for `draw`.

    Args:
        corner: canvas px of its top left corner.
        step: canvas px per pixel of the view.
        size_px: side of the view.
        mirrored: left and right exchanged, hands too: the left one is "own".
        z0: depth, canvas px, that the depth map takes as zero.
    """
    x, y = corner
    return [x + size_px * step, y, -step, step, z0] if mirrored else [x, y, step, step, z0]


def draw(
    solids: Solids,
    views: list[list[float]],
    size_px: int,
    picture: Picture | None = None,
    look_of_group: np.ndarray | None = None,
) -> Drawing:
    """Draw square views of the solids.

    Args:
        solids: the pose.
        views: from `view`, all of one size.
        size_px: a multiple of 16.
        picture: what the look is taken from; None: there is none.
        look_of_group: (14,) uint8, which of the picture's looks shows a group; None: the first shows all.
    """
    table, shape = np.array(views, np.float64), (len(views), size_px, size_px)
    cells = size_px // PART_CELL_PX
    which, owner = np.empty(shape, np.int32), np.empty(shape, np.uint8)
    maps = np.empty((len(views), shading.CHANNELS, size_px, size_px), np.float32)
    parts = np.empty((len(views), PARTS, cells, cells), np.float32)
    flow = np.empty((*shape, 2), np.float32)
    chosen = _FIRST_LOOK if look_of_group is None else look_of_group
    if picture is None:
        image, limbs, look = _NO_IMAGE, _NO_LIMBS, np.zeros(shape, np.uint32)
    else:
        image, limbs, look = picture.pixels, picture.limbs, np.empty(shape, np.uint32)
    rasterizer.cover(solids.capsules, solids.vertices, solids.triangles, solids.paints, table, which)
    shading.shade(
        solids.capsules, solids.vertices, solids.triangles, solids.paints, solids.torso_maps, solids.head,
        solids.seam, _ROUND_HEAD, table, which, image, limbs, chosen, LIMB_OF_GROUP, PART_OF_GROUP, maps, look,
        owner, parts, flow,
    )  # fmt: skip
    return Drawing(maps, look.view(np.uint8).reshape(*shape, 4), parts, owner, flow)


def draw_groups(person: Figure, size_px: int) -> np.ndarray:
    """(size_px, size_px) uint8 groups of one pose, the whole canonical frame."""
    whole = view((0.0, 0.0), CANVAS_PX / size_px, size_px)
    return draw(build_solids(person, person), [whole], size_px).owner[0]


@cache
def _painted_capsules() -> np.ndarray:
    """(56, CAPSULE_COLUMNS) float32: all that is the same for every pose. Not to be changed."""
    table = np.zeros((figure.CAPSULES, r.CAPSULE_COLUMNS), np.float32)
    table[:, r.HALO] = 1.0
    irises, arms, head = figure.IRISES, figure.ARMS, slice(figure.NECK, figure.SKULL + 1)
    table[irises, r.GROUP], table[irises, r.EYE], table[irises, r.ONLY_INSIDE] = EYE, -1.0, 1.0
    table[arms, r.ACROSS] = [-0.5, -0.5, 0.5, 0.5]
    table[arms, r.ALONG_A], table[arms, r.ALONG_B] = [0.0, 0.5] * 2, [0.5, 1.0] * 2
    table[arms, r.LIMB], table[arms, r.HALO] = 1.0, _SLEEVE
    table[arms, r.GROUP] = [LEFT_ARM, LEFT_ARM, RIGHT_ARM, RIGHT_ARM]
    table[head, r.ALONG_B], table[head, r.LIMB], table[head, r.GROUP] = 1.0, -0.5, [NECK, HEAD]
    for rows, group, sign in zip(figure.HANDS, (LEFT_PALM, RIGHT_PALM), (-1.0, 1.0), strict=True):
        table[rows, r.ACROSS], table[rows, r.ALONG_A : r.ALONG_B + 1] = _ACROSS, _ALONG
        table[rows, r.HAND], table[rows, r.GROUP], table[rows, r.HALO] = sign, group, _FINGER_HALO
    return table


def _capsules(target: Figure, source: Figure, looks: Sequence[Figure]) -> np.ndarray:
    table = _painted_capsules().copy()
    table[:, r.A : r.A + 3], table[:, r.B : r.B + 3] = target.starts, target.ends
    table[:, r.RADIUS_A], table[:, r.RADIUS_B] = target.radii[:, 0], target.radii[:, 1]
    _place_look(table, slice(None), source, r.SOURCE_A)
    for part, rows in _ROWS_OF_PARTS:
        if looks[part] is not source:
            _place_look(table, rows, looks[part], r.SOURCE_A)
    for hand, arm, row, group in _WRISTS:
        look = looks[hand]
        if look is not looks[arm] and np.isfinite([*look.starts[row], *look.ends[row]]).all():
            table[row, r.END_FROM], table[row, r.END_GROUP] = _WRIST_FROM, group
            _place_look(table, row, look, r.END_SOURCE_A)
    table[figure.HANDS[0].start :, r.PALMAR : r.PALMAR + 3] = _palmar(target.points)
    finite = np.isfinite(table)
    return table if finite.all() else _seen(table, finite)


def _place_look(table: np.ndarray, rows: slice | int, look: Figure, column: int) -> None:
    """Write where the looks of some capsules lie, in place: both ends, x and y, and the radii there."""
    table[rows, column : column + 2] = look.starts[rows, :2]
    table[rows, column + 2 : column + 4] = look.ends[rows, :2]
    table[rows, column + 4 : column + 6] = look.radii[rows]


def _seen(table: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Leave out solids that have no place; those without a source look show nothing, irises what is within the lids."""
    placed = finite[:, : r.SOURCE_A].all(axis=1)
    placed[figure.IRISES] &= finite[figure.IRISES].all(axis=1)
    table, lost = table[placed], ~finite[placed].all(axis=1)
    table[lost, r.SOURCE_A : r.SOURCE_RADIUS_B + 1] = 0.0
    table[lost, r.SOURCE_A : r.SOURCE_RADIUS_A] = r.NOWHERE
    return table


def _palmar(points: np.ndarray) -> np.ndarray:
    """(48, 3) unit vectors towards the palm side of both hands' bones."""
    hands = np.stack([points[LEFT_HAND], points[RIGHT_HAND]])
    bones = hands[:, figure.BONES[:, 1]] - hands[:, figure.BONES[:, 0]]
    bones[:, figure.WEB :] = (hands[:, 9] - hands[:, 0])[:, None]
    across = (hands[:, 17] - hands[:, 5])[:, None]  # from the index knuckle to the little one
    palmar = cross(across, bones) * np.array([[[-1.0]], [[1.0]]], np.float32)
    return (palmar / (np.sqrt((palmar * palmar).sum(axis=-1, keepdims=True)) + 1e-6)).reshape(-1, 3)


@cache
def _topology() -> tuple[np.ndarray, np.ndarray]:
    """(T, 3) int32 triangles over 468 face points + 3 hole centres + 10 on the trunk's sides; (T, 4) float32 paints."""
    skin = np.load(Path(__file__).parent / "face_triangles.npy").astype(np.int32)
    triangles, paints = [skin], [np.tile([1.0, 0.0, 0.0, SKIN], (len(skin), 1))]
    for centre, ring, eye, group in (
        (468, figure.LIPS, 1.0, MOUTH),
        (469, figure.LEFT_EYE, -1.0, EYE),
        (470, figure.RIGHT_EYE, -1.0, EYE),
    ):
        fan = [(centre, a, b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
        triangles.append(np.array(fan, np.int32))
        paints.append(np.tile([-1.0, eye, 0.0, group], (len(fan), 1)))
    # Left and right of each height with those of the next one.
    left = np.arange(figure.TRUNK_POINTS.start, figure.SURFACE_POINTS - 2, 2)
    trunk = np.stack([left, left + 1, left + 2, left + 1, left + 3, left + 2], axis=1).reshape(-1, 3)
    triangles.append(trunk.astype(np.int32))
    paints.append(np.tile([0.0, 0.0, -1.0, TORSO], (len(trunk), 1)))
    return np.concatenate(triangles), np.concatenate(paints).astype(np.float32)


def _surfaces(target: Figure, source: Figure, face: Figure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    triangles, paints = _topology()
    vertices = np.empty((figure.SURFACE_POINTS, r.VERTEX_COLUMNS), np.float32)
    vertices[:, :3], vertices[:, 6:] = target.surface, face.looks
    vertices[figure.TRUNK_POINTS, 6:] = source.looks[figure.TRUNK_POINTS]
    vertices[:, 3:6] = rasterizer.vertex_normals(target.surface, triangles)
    seen = np.isfinite(vertices).all(axis=1)
    if seen.all():
        return vertices, triangles, paints
    seen = seen[triangles].all(axis=1)
    return np.nan_to_num(vertices), triangles[seen], paints[seen]


def _torso_map(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """(2, 3) float32 least-squares map of target x, y onto source x, y; to nowhere if a point is unseen."""
    target, source = target[_TRUNK, :2].astype(np.float64), source[_TRUNK, :2].astype(np.float64)
    middle, source_middle = target.sum(axis=0) / 4, source.sum(axis=0) / 4
    x, y = target - middle, source - source_middle
    # A pull towards "no change of shape" keeps an edge-on torso from collapsing the map.
    (a, b), (c, d) = x.T @ x + _TRUNK_PULL  # NumPy's own solution takes longer than all else here
    turn = (np.array([[d, -b], [-c, a]]) @ (x.T @ y + _TRUNK_PULL)).T / (a * d - b * c)
    place = source_middle - turn @ middle
    if not np.isfinite(place).all():
        return np.array([[0, 0, r.NOWHERE], [0, 0, r.NOWHERE]], np.float32)
    return np.array([[*turn[0], place[0]], [*turn[1], place[1]]], np.float32)


def _head(target: Figure, source: Figure, face: Figure) -> np.ndarray:
    """(HEAD_NUMBERS,) float32 for `head.turn_ball`: hair and skull turn like a ball, on a neck."""
    turn = face.axes @ target.axes.T
    ball = np.array([*target.ball, *face.ball, *turn.ravel()], np.float32)
    if not np.isfinite(ball).all():
        ball[:] = [0, 0, 1, r.NOWHERE, r.NOWHERE, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    start = target.starts[figure.NECK, :2]
    way = ball[:2] - start
    neck = np.array([*start, *(way / max(float(way @ way), 1.0))], np.float32)
    if not np.isfinite(neck).all():
        neck[:] = [0, 0, 0, 0]  # all of it belongs to the trunk, which is nowhere then
    return np.concatenate([ball, neck, target.oval_middle, face.oval, source.oval])


def _seam(target: Figure, face: Figure, head: np.ndarray) -> np.ndarray:
    """(SEAM_ROWS, 3) float32, see `head.find_seam`: how far the face reaches, and what its rim's places need."""
    rim, there = target.points[figure.OVAL, :2], face.points[figure.OVAL, :2]
    if not np.isfinite(rim + there).all():
        return np.zeros((SEAM_ROWS, 3), np.float32)
    return find_seam(rim, there, head, np.float32(_MOST_PULL * face.skull_px))


_NO_IMAGE, _NO_LIMBS = np.zeros((0, 0, 0), np.uint32), np.zeros((0, 0, 0), np.uint8)
_FIRST_LOOK = np.zeros(GROUPS, np.uint8)
