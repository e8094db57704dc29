"""From landmarks to solid shapes: a body of capsules and a face of triangles, each knowing its place in the source.

A line drawing leaves a network to invent the surface of every finger; shaded solids say where it is, which is in
front and which way the palm looks (Champ, ECCV 2024, guides by such maps of a body model). Because every solid of
the target pose has its twin in the source pose, each drawn pixel also knows where in the source image its look
comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from avatar_stream import types
from avatar_stream.modeling import rasterizer as r
from avatar_stream.modeling.girth import ELBOW_PX, SHOULDER_PX, WRIST_PX, Girth, measure_girth
from avatar_stream.types import CANVAS_PX, FACE, LEFT_HAND, RIGHT_HAND

# What a pixel belongs to. Limbs are told apart so that the look of one never comes from another.
NOTHING, TORSO, NECK, HEAD, SKIN, MOUTH, EYE = range(7)
LEFT_ARM, LEFT_PALM, RIGHT_ARM, RIGHT_PALM = range(7, 11)
GROUPS = 11
# The same as parts for attention: background, torso, head, face, arm, hand.
PART_OF_GROUP = np.array([0, 1, 1, 2, 3, 3, 3, 4, 5, 4, 5], np.uint8)
PARTS = 6

_BEFORE_TRUNK_PX = 20.0  # how far at least wrists are before the trunk
_NECK_PX = 25.0  # half the neck's thickness, canvas px
_SLEEVE = 1.6  # how far beside an arm its look (a wide sleeve) may be found, in radii
_FINGER_HALO = 1.35
_AXIS = 0.45  # how far behind the ears a head turns, in radii of the skull; fitted to mattes of turned heads
# Joint thickness of one hand's 21 landmarks, in palm lengths (wrist to knuckles).
_HAND_RADII = np.array(
    [0.19, 0.17, 0.14, 0.115, 0.09]
    + [0.125, 0.10, 0.09, 0.075] * 2
    + [0.12, 0.095, 0.085, 0.072]
    + [0.11, 0.085, 0.075, 0.062],
    np.float32,
)
_BONES = np.array(
    [(0, 1), (1, 2), (2, 3), (3, 4)]
    + [(0, 5), (5, 6), (6, 7), (7, 8)]
    + [(0, 9), (9, 10), (10, 11), (11, 12)]
    + [(0, 13), (13, 14), (14, 15), (15, 16)]
    + [(0, 17), (17, 18), (18, 19), (19, 20)]
    + [(5, 9), (9, 13), (13, 17), (1, 5)]  # the knuckles' row and the web of the thumb close the palm
)
_METACARPALS = [4, 8, 12, 16]
_ACROSS = np.array([-1.0] * 4 + [-0.4] * 4 + [0.0] * 4 + [0.4] * 4 + [0.8] * 4 + [-0.2, 0.2, 0.6, -0.7])
_ALONG = np.array([(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)] * 5 + [(0.25, 0.25)] * 4)

_LIPS = [13, 82, 81, 80, 191, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312]
_LEFT_EYE = [249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263]
_RIGHT_EYE = [7, 33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163]
_OVAL = [10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148,
         152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389, 251, 284, 332, 297, 338]  # fmt: skip
_LEFT_EAR, _RIGHT_EAR, _FOREHEAD, _CHIN, _NOSE_TIP = 454, 234, 10, 152, 1


@dataclass(frozen=True)
class Solids:
    """A pose as lists for the rasteriser; see `rasterizer.rasterize` for the layouts."""

    capsules: np.ndarray
    vertices: np.ndarray
    triangles: np.ndarray
    paints: np.ndarray
    torso_map: np.ndarray
    head_ball: np.ndarray
    head_oval: np.ndarray


@dataclass(frozen=True)
class Drawing:
    """One view of a pose.

    Attributes:
        maps: (10, H, W) float32: normal x and y, depth, palm side (1) or back (-1), two codes that say where on the
            finger or face, own hand (1) or other (-1), face, limb (arm 1, torso -1), eye (1 mouth, -1 eye).
        flow: (H, W, 2) float32, canvas px of the source image from which each pixel's look comes.
        owner: (H, W) uint8, group (NOTHING ... RIGHT_PALM).
    """

    maps: np.ndarray
    flow: np.ndarray
    owner: np.ndarray


def lift(points: np.ndarray) -> np.ndarray:
    """Put all parts at one depth scale: hands hang on their wrists, the face on the nose.

    Hands come before the trunk: one camera tells so little of depth that trackers put a hand that signs behind the
    chest now and then, and signers do not sign behind their backs.

    Args:
        points: (553, 3) float32 as in `Pose.points`.

    Returns:
        (553, 3) float32 with z counted from between the hips for every part.
    """
    lifted = points.copy()
    trunk = points[[types.LEFT_SHOULDER, types.RIGHT_SHOULDER, types.LEFT_HIP, types.RIGHT_HIP], 2].mean()
    wrists = points[[types.LEFT_WRIST, types.RIGHT_WRIST], 2]
    # Both hands move by as much, so that the one in front stays in front.
    nearer = np.fmax(np.fmax(*wrists) - (trunk - _BEFORE_TRUNK_PX), 0.0)
    for hand, wrist in ((LEFT_HAND, types.LEFT_WRIST), (RIGHT_HAND, types.RIGHT_WRIST)):
        lifted[wrist, 2] -= nearer
        lifted[hand, 2] += lifted[wrist, 2]
    lifted[FACE, 2] += points[types.NOSE, 2] - points[FACE.start + _NOSE_TIP, 2]
    return lifted


def girth_of(alpha: np.ndarray, points: np.ndarray) -> Girth:
    """Read a person's girth from their matte, (512, 512) uint8, and the (553, 3) landmarks in it."""
    middle, up, radius = _skull(points)
    return measure_girth(alpha, points, (middle[:2], up[:2] / (np.linalg.norm(up[:2]) + 1e-6), radius))


def build_solids(target: np.ndarray, source: np.ndarray, girth: Girth) -> Solids:
    """Make the solids of a target pose, each tied to its place in the source image.

    Args:
        target: (553, 3) float32 landmarks in canvas px, as in `Pose.points`; NaN where not seen.
        source: the same of the source image.
        girth: of the person in the source image.
    """
    target, source = lift(target), lift(source)
    capsules = [
        _irises(target, source),
        _arms(target, source, girth),
        _neck_and_head(target, source, girth),
    ]
    for hand, arm_group, sign in ((LEFT_HAND, LEFT_PALM, -1.0), (RIGHT_HAND, RIGHT_PALM, 1.0)):
        capsules.append(_hand(target[hand], source[hand], arm_group, sign))
    vertices, triangles, paints = _surfaces(target, source)
    return Solids(
        _finite(np.concatenate(capsules)), vertices, triangles, paints,
        _torso_map(target, source), _head_ball(target, source, girth), _head_oval(source, girth),
    )  # fmt: skip


def draw(
    solids: Solids, corner: tuple[float, float], step: float, size_px: int, hand_sign: float, z0: float
) -> Drawing:
    """Draw one square view of the solids.

    Args:
        solids: from `build_solids`.
        corner: canvas px of the view's top left corner.
        step: canvas px per pixel of the view.
        size_px: side of the view.
        hand_sign: 1, or -1 for a view whose own hand is the left one.
        z0: depth, canvas px, that the depth map takes as zero.
    """
    maps = np.zeros((r.CHANNELS, size_px, size_px), np.float32)
    flow = np.zeros((size_px, size_px, 2), np.float32)
    owner = np.zeros((size_px, size_px), np.uint8)
    r.rasterize(
        solids.capsules, solids.vertices, solids.triangles, solids.paints, solids.torso_map, solids.head_ball,
        solids.head_oval, HEAD, corner[0], corner[1], step, hand_sign, z0, maps, flow, owner,
    )  # fmt: skip
    return Drawing(maps, flow, owner)


def palm_length(hand: np.ndarray) -> float:
    """Length of a palm in px (3-D, so that an edge-on hand keeps its size); hand: (21, 3)."""
    return float(np.median(np.linalg.norm(hand[[5, 9, 13, 17]] - hand[0], axis=1)))


def _capsules(count: int) -> np.ndarray:
    table = np.zeros((count, r.CAPSULE_COLUMNS), np.float32)
    table[:, r.HALO] = 1.0
    return table


def _place(
    table: np.ndarray, a: np.ndarray, b: np.ndarray, source_a: np.ndarray, source_b: np.ndarray
) -> None:
    table[:, r.A : r.A + 3], table[:, r.B : r.B + 3] = a, b
    table[:, r.SOURCE_A : r.SOURCE_A + 2] = source_a[:, :2]
    table[:, r.SOURCE_B : r.SOURCE_B + 2] = source_b[:, :2]


def _finite(table: np.ndarray) -> np.ndarray:
    """Leave out solids that have no place; those without a source look show nothing."""
    table = table[np.isfinite(table[:, : r.SOURCE_A]).all(axis=1)]
    lost = ~np.isfinite(table).all(axis=1)
    table[lost, r.SOURCE_A : r.SOURCE_RADIUS_B + 1] = 0.0
    table[lost, r.SOURCE_A : r.SOURCE_RADIUS_A] = r.NOWHERE
    return np.ascontiguousarray(table)


def _hand(target: np.ndarray, source: np.ndarray, group: int, sign: float) -> np.ndarray:
    table = _capsules(len(_BONES))
    start, end = _BONES[:, 0], _BONES[:, 1]
    _place(table, target[start], target[end], source[start], source[end])
    radii = np.stack([_HAND_RADII[start], _HAND_RADII[end]], axis=1)
    radii[_METACARPALS] *= 1.3  # so that they touch and the palm has no holes
    table[:, [r.RADIUS_A, r.RADIUS_B]] = radii * palm_length(target)
    table[:, [r.SOURCE_RADIUS_A, r.SOURCE_RADIUS_B]] = radii * palm_length(source)
    table[:, r.ACROSS] = _ACROSS
    table[:, [r.ALONG_A, r.ALONG_B]] = _ALONG
    table[:, r.HAND], table[:, r.GROUP], table[:, r.HALO] = sign, group, _FINGER_HALO
    across = target[17] - target[5]  # from the index knuckle to the little one
    bones = target[end] - target[start]
    bones[20:] = target[9] - target[0]
    palmar = np.cross(across, bones) * sign
    table[:, r.PALMAR : r.PALMAR + 3] = palmar / (np.linalg.norm(palmar, axis=1, keepdims=True) + 1e-6)
    return table


def _arms(target: np.ndarray, source: np.ndarray, girth: Girth) -> np.ndarray:
    joints = [
        (types.LEFT_SHOULDER, types.LEFT_ELBOW), (types.LEFT_ELBOW, types.LEFT_WRIST),
        (types.RIGHT_SHOULDER, types.RIGHT_ELBOW), (types.RIGHT_ELBOW, types.RIGHT_WRIST),
    ]  # fmt: skip
    start, end = np.array(joints).T
    table = _capsules(4)
    _place(table, target[start], target[end], source[start], source[end])
    shoulder_px, wrist_px = SHOULDER_PX * girth.upper_arm, WRIST_PX * girth.wrist
    elbow_px = ELBOW_PX * girth.elbow
    table[:, r.RADIUS_A] = table[:, r.SOURCE_RADIUS_A] = [shoulder_px, elbow_px] * 2
    table[:, r.RADIUS_B] = table[:, r.SOURCE_RADIUS_B] = [elbow_px, wrist_px] * 2
    table[:, r.ACROSS] = [-0.5, -0.5, 0.5, 0.5]
    table[:, r.ALONG_A], table[:, r.ALONG_B] = [0.0, 0.5] * 2, [0.5, 1.0] * 2
    table[:, r.LIMB] = 1.0
    table[:, r.GROUP] = [LEFT_ARM, LEFT_ARM, RIGHT_ARM, RIGHT_ARM]
    table[:, r.HALO] = _SLEEVE
    return table


def _neck_and_head(target: np.ndarray, source: np.ndarray, girth: Girth) -> np.ndarray:
    ends = [_head_ends(points, girth) for points in (target, source)]
    table = _capsules(2)
    (neck, chin, crown, radius), (s_neck, s_chin, s_crown, s_radius) = ends
    _place(
        table,
        np.stack([neck, chin]),
        np.stack([chin, crown]),
        np.stack([s_neck, s_chin]),
        np.stack([s_chin, s_crown]),
    )
    table[0, [r.RADIUS_A, r.RADIUS_B, r.SOURCE_RADIUS_A, r.SOURCE_RADIUS_B]] = _NECK_PX
    table[1, [r.RADIUS_A, r.RADIUS_B]] = radius
    table[1, [r.SOURCE_RADIUS_A, r.SOURCE_RADIUS_B]] = s_radius
    # Neck and skull stand behind the face's surface: its front reaches no further than the ears.
    table[:, r.A + 2] += [_NECK_PX, (1 - _AXIS) * radius]
    table[:, r.B + 2] += (1 - _AXIS) * radius
    table[:, r.ALONG_B] = 1.0
    table[:, r.LIMB], table[:, r.GROUP] = -0.5, [NECK, HEAD]
    return table


def _skull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Middle between the ears (3,), unit vector up (3,) and the neutral skull's radius, px.

    MediaPipe's ears are the rim of the face; the axis about which a head turns is behind them.
    """
    face = points[FACE]
    across, up = face[_LEFT_EAR] - face[_RIGHT_EAR], face[_FOREHEAD] - face[_CHIN]
    middle = (face[_LEFT_EAR] + face[_RIGHT_EAR]) / 2
    return middle, up / (np.linalg.norm(up) + 1e-6), float(np.linalg.norm(across) * 0.52)


def _head_ends(points: np.ndarray, girth: Girth) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Neck's foot, skull's lower and upper middle (3,), and the skull's radius with its hair, px."""
    middle, up, radius = _skull(points)
    middle = middle - _AXIS * radius * _head_axes(points, up)[:, 2]
    neck = (points[types.LEFT_SHOULDER] + points[types.RIGHT_SHOULDER]) / 2
    crown = max(girth.crown - girth.skull, 0.2) * radius
    return neck, middle - 0.1 * radius * up, middle + crown * up, girth.skull * radius


def _head_axes(points: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(3, 3), columns: to the signer's left, up, out of the face."""
    across = points[FACE][_LEFT_EAR] - points[FACE][_RIGHT_EAR]
    across = across - (across @ up) * up
    across /= np.linalg.norm(across) + 1e-6
    return np.stack([across, up, np.cross(across, up)], axis=1)


def _head_ball(target: np.ndarray, source: np.ndarray, girth: Girth) -> np.ndarray:
    """Hair and skull turn like a ball: (15,) float32 for `rasterizer.rasterize`."""
    ball = np.zeros(15, np.float32)
    frames = []
    for column, points in ((0, target), (3, source)):
        middle, up, radius = _skull(points)
        axes = _head_axes(points, up)
        centre = middle + 0.4 * radius * up - _AXIS * radius * axes[:, 2]
        ball[column : column + 3] = *centre[:2], girth.skull * radius
        frames.append(axes)
    ball[6:] = (frames[1] @ frames[0].T).ravel()
    if not np.isfinite(ball).all():
        ball[:] = [0, 0, 1, r.NOWHERE, r.NOWHERE, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    return ball


def _irises(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    table = _capsules(2)
    centres = np.array([FACE.start + 468, FACE.start + 473])
    _place(table, target[centres], target[centres], source[centres], source[centres])
    rims = (centres + 1)[:, None] + np.arange(4)
    radius = np.linalg.norm(target[rims] - target[centres][:, None], axis=2).mean(axis=1)
    s_radius = np.linalg.norm(source[rims] - source[centres][:, None], axis=2).mean(axis=1)
    table[:, r.RADIUS_A] = table[:, r.RADIUS_B] = radius
    table[:, r.SOURCE_RADIUS_A] = table[:, r.SOURCE_RADIUS_B] = s_radius
    table[:, r.GROUP], table[:, r.EYE], table[:, r.ONLY_INSIDE] = EYE, -1.0, 1.0
    return table


@cache
def _topology() -> tuple[np.ndarray, np.ndarray]:
    """(T, 3) int32 triangles over 468 face points + 3 hole centres + 4 torso corners; (T, 4) float32 paints."""
    skin = np.load(Path(__file__).parent / "face_triangles.npy").astype(np.int32)
    triangles, paints = [skin], [np.tile([1.0, 0.0, 0.0, SKIN], (len(skin), 1))]
    for centre, ring, eye, group in (
        (468, _LIPS, 1.0, MOUTH),
        (469, _LEFT_EYE, -1.0, EYE),
        (470, _RIGHT_EYE, -1.0, EYE),
    ):
        fan = [(centre, a, b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
        triangles.append(np.array(fan, np.int32))
        paints.append(np.tile([-1.0, eye, 0.0, group], (len(fan), 1)))
    triangles.append(np.array([(471, 472, 473), (472, 474, 473)], np.int32))
    paints.append(np.tile([0.0, 0.0, -1.0, TORSO], (2, 1)))
    return np.concatenate(triangles), np.concatenate(paints).astype(np.float32)


def _surfaces(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    triangles, paints = _topology()
    places, looks = _surface_points(target), _surface_points(source)
    vertices = np.zeros((len(places), r.VERTEX_COLUMNS), np.float32)
    vertices[:, :3], vertices[:, 8:10] = places, looks[:, :2]
    vertices[:, 3:6] = _normals(places, triangles)
    centre, half = looks[:468].mean(axis=0), np.ptp(looks[:468], axis=0) / 2 + 1e-3
    vertices[:471, 6:8] = ((looks[:471] - centre) / half)[:, :2]
    vertices[471:, 6:8] = [(1, -1), (-1, -1), (1, 1), (-1, 1)]
    lost = ~np.isfinite(vertices[:, 8:10]).all(axis=1)
    vertices[lost, 6:10] = (0.0, 0.0, r.NOWHERE, r.NOWHERE)
    seen = np.isfinite(vertices[:, :6]).all(axis=1)[triangles].all(axis=1)
    return np.nan_to_num(vertices), np.ascontiguousarray(triangles[seen]), np.ascontiguousarray(paints[seen])


def _surface_points(points: np.ndarray) -> np.ndarray:
    """(475, 3): 468 face points, mouth and eye centres a little behind, four corners of the torso."""
    face = points[FACE]
    holes = np.stack([face[ring].mean(axis=0) for ring in (_LIPS, _LEFT_EYE, _RIGHT_EYE)])
    holes[:, 2] += 0.02 * np.abs(face[_FOREHEAD, 1] - face[_CHIN, 1])
    left, right = points[types.LEFT_SHOULDER], points[types.RIGHT_SHOULDER]
    left_hip, right_hip = points[types.LEFT_HIP], points[types.RIGHT_HIP]
    wide, hips_wide = 0.08 * (left - right), 0.3 * (left_hip - right_hip)
    corners = np.stack([left + wide, right - wide, left_hip + hips_wide, right_hip - hips_wide])
    return np.concatenate([face[:468], holes, corners])


def _normals(places: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = places[triangles[:, 0]], places[triangles[:, 1]], places[triangles[:, 2]]
    # Clockwise on the screen means towards the viewer, which is -z.
    flat = -np.cross(b - a, c - a)
    normals = np.zeros_like(places)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], flat)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-6)


def _torso_map(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    torso = [types.LEFT_SHOULDER, types.RIGHT_SHOULDER, types.LEFT_HIP, types.RIGHT_HIP]
    return _fit_affine(target[torso], source[torso])


def _fit_affine(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """(2, 3) float32 least-squares map of target x, y onto source x, y; to nowhere if a point is unseen."""
    if not (np.isfinite(target).all() and np.isfinite(source).all()):
        return np.array([[0, 0, r.NOWHERE], [0, 0, r.NOWHERE]], np.float32)
    middle, source_middle = target[:, :2].mean(axis=0), source[:, :2].mean(axis=0)
    x, y = target[:, :2] - middle, source[:, :2] - source_middle
    # A pull towards "no change of shape" keeps an edge-on torso from collapsing the map.
    pull = np.eye(2, dtype=np.float32) * (0.05 * CANVAS_PX) ** 2
    turn = np.linalg.solve(x.T @ x + pull, x.T @ y + pull).T
    return np.concatenate([turn, (source_middle - turn @ middle)[:, None]], axis=1).astype(np.float32)


def _head_oval(source: np.ndarray, girth: Girth) -> np.ndarray:
    """Centre and half-axes (4,) of the head with its hair, source px; empty where the face is unseen."""
    oval = source[[FACE.start + i for i in _OVAL], :2]
    if not np.isfinite(oval).all():
        return np.array([r.NOWHERE, r.NOWHERE, 1, 1], np.float32)
    low, high = oval.min(axis=0), oval.max(axis=0)
    centre, half = (low + high) / 2, (high - low) / 2
    middle, _, radius = _skull(source)
    y = centre[1] - 0.2 * half[1]
    tall = max(1.55 * half[1], 1.15 * (y - middle[1] + girth.crown * radius))
    return np.array([centre[0], y, 1.6 * half[0], tall], np.float32)
