"""One pose measured: where its capsules end and how thick they are, its face's and trunk's points, its head.

The target's figure says where solids stand; the source's, made once for an avatar, where their look is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from avatar_stream import types
from avatar_stream.modeling.drawing.girth import (
    ELBOW_PX,
    SHOULDER_PX,
    TRUNK_JOINTS,
    TRUNK_SHARES,
    WRIST_PX,
    Girth,
    measure_girth,
    shoulder_insets,
)
from avatar_stream.modeling.drawing.rasterizer import NOWHERE
from avatar_stream.turns import cross
from avatar_stream.types import FACE, LEFT_HAND, RIGHT_HAND

# Rows of the capsules: two irises, four bones of the arms, neck and skull, the left hand, the right hand.
IRISES, ARMS, NECK, SKULL = slice(0, 2), slice(2, 6), 6, 7
ARM_OF_SIDE, HANDS = (slice(2, 4), slice(4, 6)), (slice(8, 32), slice(32, 56))
CAPSULES = 56
# The bones of one hand; the knuckles' row and the web of the thumb close the palm.
BONES = np.array(
    [(0, 1), (1, 2), (2, 3), (3, 4)]
    + [(0, 5), (5, 6), (6, 7), (7, 8)]
    + [(0, 9), (9, 10), (10, 11), (11, 12)]
    + [(0, 13), (13, 14), (14, 15), (15, 16)]
    + [(0, 17), (17, 18), (18, 19), (19, 20)]
    + [(5, 9), (9, 13), (13, 17), (1, 5)]
)
WEB = 20  # its first bone of those
# The face's rings of points round what has a depth of its own.
LIPS = [13, 82, 81, 80, 191, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312]
LEFT_EYE = [249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263]
RIGHT_EYE = [7, 33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163]
OVAL = FACE.start + np.array(
       [10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148,
        152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389, 251, 284, 332, 297, 338])  # fmt: skip
# Of the surface: first these, then the middles of mouth, left eye and right eye, then the trunk's sides, left and
# right at each height.
FACE_POINTS = 468
TRUNK_POINTS = slice(FACE_POINTS + 3, FACE_POINTS + 3 + 2 * len(TRUNK_SHARES))
SURFACE_POINTS = TRUNK_POINTS.stop

_BEFORE_TRUNK_PX = 20.0  # how far at least wrists are before the trunk
_NECK_PX = 25.0  # half the neck's thickness, canvas px
_AXIS = 0.45  # how far behind the ears a head turns, in radii of the skull; fitted to mattes of turned heads
_LIDS, _IRIS_OF_EYE = np.array([LEFT_EYE, RIGHT_EYE]), [473, 468]
_IN_LIDS = 0.6  # how far an iris may be off their middle, of half the eye's width and height
# Joint thickness of one hand's 21 landmarks, in palm lengths (wrist to knuckles).
_HAND_RADII = np.array(
    [0.19, 0.17, 0.14, 0.115, 0.09]
    + [0.125, 0.10, 0.09, 0.075] * 2
    + [0.12, 0.095, 0.085, 0.072]
    + [0.11, 0.085, 0.075, 0.062],
    np.float32,
)
_METACARPALS = [4, 8, 12, 16]
_BONE_RADII = _HAND_RADII[BONES]
_BONE_RADII[_METACARPALS] *= 1.3  # so that they touch and the palm has no holes
_KNUCKLES = [5, 9, 13, 17]
_LEFT_EAR, _RIGHT_EAR, _FOREHEAD, _CHIN, _NOSE_TIP = 454, 234, 10, 152, 1
_TRUNK = list(TRUNK_JOINTS)
_DOWN = np.array(TRUNK_SHARES, np.float32)[:, None]
_ARM_STARTS = [types.LEFT_SHOULDER, types.LEFT_ELBOW, types.RIGHT_SHOULDER, types.RIGHT_ELBOW]
_ARM_ENDS = [types.LEFT_ELBOW, types.LEFT_WRIST, types.RIGHT_ELBOW, types.RIGHT_WRIST]
_IRISES = [FACE.start + 468, FACE.start + 473]
_IRIS_RIMS = np.array(_IRISES)[:, None] + np.arange(1, 5)
# Points of the lifted pose at which capsules start and end; neck and skull are put in afterwards.
_STARTS = np.array(
    [*_IRISES, *_ARM_STARTS, 0, 0, *(LEFT_HAND.start + BONES[:, 0]), *(RIGHT_HAND.start + BONES[:, 0])]
)
_ENDS = np.array(
    [*_IRISES, *_ARM_ENDS, 0, 0, *(LEFT_HAND.start + BONES[:, 1]), *(RIGHT_HAND.start + BONES[:, 1])]
)


@dataclass(frozen=True)
class Figure:
    """A pose, measured; canvas px, NaN where not seen.

    Attributes:
        points: (553, 3) float32, lifted (see `lift`).
        girth: of the person.
        starts, ends: (56, 3) float32 of the capsules' axes. radii: (56, 2) float32 there.
        surface: (481, 3) float32, points of the face, of what is behind its holes, of the trunk.
        skull: middle between the ears (3,). skull_px: the neutral skull's radius.
        axes: (3, 3) float32, columns: to the signer's left, up, out of the face.
    """

    points: np.ndarray
    girth: Girth
    starts: np.ndarray
    ends: np.ndarray
    radii: np.ndarray
    surface: np.ndarray
    skull: np.ndarray
    skull_px: float
    axes: np.ndarray

    @cached_property
    def looks(self) -> np.ndarray:
        """(481, 4) float32 of a source's surface: two codes, -1..1 over the face and over the trunk, and x, y."""
        looks, trunk = np.empty((SURFACE_POINTS, 4), np.float32), TRUNK_POINTS.start
        looks[:, 2:] = self.surface[:, :2]
        face = looks[:FACE_POINTS, 2:]
        looks[:trunk, :2] = (looks[:trunk, 2:] - face.mean(axis=0)) / (np.ptp(face, axis=0) / 2 + 1e-3)
        looks[trunk::2, 0], looks[trunk + 1 :: 2, 0] = 1.0, -1.0
        looks[trunk:, 1] = np.repeat(2 * np.array(TRUNK_SHARES) - 1, 2)
        looks[~np.isfinite(looks[:, 2:]).all(axis=1)] = (0.0, 0.0, NOWHERE, NOWHERE)
        return np.nan_to_num(looks)

    @cached_property
    def oval(self) -> np.ndarray:
        """(4,) float32 centre and half-axes of a source's head with its hair; empty where the face is unseen."""
        oval = self.points[OVAL, :2]
        if not np.isfinite(oval).all():
            return np.array([NOWHERE, NOWHERE, 1, 1], np.float32)
        low, high = oval.min(axis=0), oval.max(axis=0)
        centre, half = (low + high) / 2, (high - low) / 2
        y = centre[1] - 0.2 * half[1]
        tall = max(1.55 * half[1], 1.15 * (y - self.skull[1] + self.girth.crown * self.skull_px))
        return np.array([centre[0], y, 1.6 * half[0], tall], np.float32)

    @cached_property
    def oval_middle(self) -> np.ndarray:
        """(2,) float32, the middle of the face."""
        oval = self.points[OVAL, :2]
        return (oval.min(axis=0) + oval.max(axis=0)) / 2

    @property
    def ball(self) -> tuple[float, float, float]:
        """Centre x, y and radius of the ball that hair and skull turn like."""
        centre = self.skull + self.skull_px * (0.4 * self.axes[:, 1] - _AXIS * self.axes[:, 2])
        return float(centre[0]), float(centre[1]), self.girth.skull * self.skull_px


def measure_figure(points: np.ndarray, girth: Girth) -> Figure:
    """Measure a pose; points: (553, 3) float32 as in `Pose.points`, canvas px, NaN where not seen."""
    points = lift(points)
    skull, up, skull_px = _skull(points)
    axes = _head_axes(points, up)
    starts, ends = points[_STARTS], points[_ENDS]
    radii = np.empty((CAPSULES, 2), np.float32)
    if girth.inset > 0:
        inset = girth.inset * SHOULDER_PX * shoulder_insets(points)
        starts[ARMS][::2] += np.where(np.isfinite(inset), inset, 0.0)
    _add_head(points, girth, skull, skull_px, axes, starts, ends, radii)
    rims = points[_IRIS_RIMS] - points[_IRISES][:, None]
    radii[IRISES] = np.sqrt((rims * rims).sum(axis=2)).mean(axis=1)[:, None]
    elbow_px = ELBOW_PX * girth.elbow
    upper, lower = (SHOULDER_PX * girth.upper_arm, elbow_px), (elbow_px, WRIST_PX * girth.wrist)
    radii[ARMS] = upper, lower, upper, lower
    for rows, hand in zip(HANDS, (LEFT_HAND, RIGHT_HAND), strict=True):
        radii[rows] = _BONE_RADII * palm_length(points[hand])
    return Figure(points, girth, starts, ends, radii, _surface(points, girth), skull, skull_px, axes)


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
    trunk = points[_TRUNK, 2].mean()
    wrists = points[types.LEFT_WRIST, 2], points[types.RIGHT_WRIST, 2]
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


def palm_length(hand: np.ndarray) -> float:
    """Length of a palm in px (3-D, so that an edge-on hand keeps its size); hand: (21, 3)."""
    metacarpals = hand[_KNUCKLES] - hand[0]
    lengths = sorted(np.sqrt((metacarpals * metacarpals).sum(axis=1)).tolist())
    return (lengths[1] + lengths[2]) / 2  # the median of four


def _skull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Middle between the ears (3,), unit vector up (3,) and the neutral skull's radius, px.

    MediaPipe's ears are the rim of the face; the axis about which a head turns is behind them.
    """
    face = points[FACE]
    left, right = face[_LEFT_EAR], face[_RIGHT_EAR]
    up, across = face[_FOREHEAD] - face[_CHIN], left - right
    return (left + right) / 2, up / (_length(up) + 1e-6), _length(across) * 0.52


def _head_axes(points: np.ndarray, up: np.ndarray) -> np.ndarray:
    face = points[FACE]
    across = face[_LEFT_EAR] - face[_RIGHT_EAR]
    across = across - (across @ up) * up
    across = across / (_length(across) + 1e-6)
    return np.stack([across, up, cross(across, up)], axis=1)


def _add_head(
    points: np.ndarray,
    girth: Girth,
    skull: np.ndarray,
    skull_px: float,
    axes: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    radii: np.ndarray,
) -> None:
    """Put neck (from between the shoulders) and skull in."""
    up, middle = axes[:, 1], skull - _AXIS * skull_px * axes[:, 2]
    radius = girth.skull * skull_px
    starts[NECK] = (points[types.LEFT_SHOULDER] + points[types.RIGHT_SHOULDER]) / 2
    starts[SKULL] = ends[NECK] = middle - 0.1 * skull_px * up
    ends[SKULL] = middle + max(girth.crown - girth.skull, 0.2) * skull_px * up
    # Neck and skull stand behind the face's surface: its front reaches no further than the ears.
    behind = (1 - _AXIS) * radius
    starts[NECK, 2] += _NECK_PX
    starts[SKULL, 2] += behind
    ends[[NECK, SKULL], 2] += behind
    radii[NECK], radii[SKULL] = _NECK_PX, radius


def _surface(points: np.ndarray, girth: Girth) -> np.ndarray:
    face = points[FACE]
    surface = np.empty((SURFACE_POINTS, 3), np.float32)
    surface[:FACE_POINTS] = face[:FACE_POINTS]
    surface[FACE_POINTS] = face[LIPS].mean(axis=0)
    surface[FACE_POINTS + 1 : FACE_POINTS + 3] = _eye_middles(face)
    # Mouth and eyes are a little behind.
    surface[FACE_POINTS : FACE_POINTS + 3, 2] += 0.02 * abs(face[_FOREHEAD, 1] - face[_CHIN, 1])
    left, right, left_hip, right_hip = points[_TRUNK]
    left, right = left + _DOWN * (left_hip - left), right + _DOWN * (right_hip - right)
    middle, half = (left + right) / 2, (left - right) / 2 * np.array(girth.trunk, np.float32)[:, None]
    surface[TRUNK_POINTS] = np.stack([middle + half, middle - half], axis=1).reshape(-1, 3)
    return surface


def _eye_middles(face: np.ndarray) -> np.ndarray:
    """(2, 3) middles of both eyes, where their irises are: what is white moves with the gaze, within the lids."""
    lids = face[_LIDS]
    middles = lids.mean(axis=1)
    most = _IN_LIDS * np.ptp(lids[..., :2], axis=1) / 2
    gaze = np.nan_to_num(face[_IRIS_OF_EYE, :2] - middles[:, :2])
    middles[:, :2] += np.minimum(np.maximum(gaze, -most), most)
    return middles


def _length(vector: np.ndarray) -> float:
    return float(np.sqrt(vector @ vector))
