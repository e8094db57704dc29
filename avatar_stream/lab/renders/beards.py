"""Beards, stubble and moustaches, painted into the skin: short strokes where they grow on a face."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from scipy import ndimage

from avatar_stream.landmarks import CHIN, EARS_OF_FACE, MOUTH_CORNERS, NOSE_BRIDGE
from avatar_stream.people.look import TINTED_PX, Appearance
from avatar_stream.people.parts import region_weights, texel_owners
from avatar_stream.people.rig import BODY, Rig

_SKIN = 1  # channel of `Rig.part_masks`
_GRID_PX = 256  # the face rolled flat: half a turn around the head wide
# Points of MediaPipe's mesh from one ear over cheek and lip to the nose, the other side's, the jaws' and the lips'.
_CHEEK = (356, 454, 366, 401, 435, 434, 436, 426, 327)
_CHEEK_RIGHT = (127, 234, 137, 177, 215, 214, 216, 206, 98)
_JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_BELOW_JAW_M = 0.014


def bearded(rig: Rig, points: np.ndarray, look: Appearance, random: np.random.Generator) -> Rig:
    """A person with stubble, moustache, goatee or full beard.

    Args:
        rig: the person; stays as it is.
        points: (478, 3) its face points in the bind pose, metres.
        look: the beard gets the hair's colour, whatever tint comes over the skin later.
        random: where chance comes from.
    """
    side = min(TINTED_PX, *rig.textures[0].shape[:2])
    texture = cv2.resize(rig.textures[0], (side, side), interpolation=cv2.INTER_AREA)
    inside, places = _unrolled(rig, side)
    axis = np.array([0.0, points[EARS_OF_FACE, 2].mean()])
    grown = np.zeros((side, side), np.float32)
    grown[inside] = _density(_flat(places, axis, points), _flat(points, axis, points), random)
    grown *= _strokes(side, random) * random.uniform(0.5, 1.0)
    mask = cv2.resize(rig.part_masks, (side, side), interpolation=cv2.INTER_LINEAR)[..., _SKIN] / 255
    colour = look.tints[0] @ rig.part_colours[0] * random.uniform(0.6, 1.0)
    filed = np.clip(np.linalg.solve(look.tints[1].astype(np.float64), colour), 0.0, 1.0)
    alpha = np.clip(grown * mask, 0, 0.95)[..., None]
    linear = (texture[..., :3].astype(np.float32) / 255) ** 2 * (1 - alpha) + alpha * filed
    painted = np.dstack([(np.sqrt(linear) * 255 + 0.5).astype(np.uint8), texture[..., 3]])
    return replace(rig, textures=(painted, *rig.textures[1:]))


def _unrolled(rig: Rig, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(side, side) bool: texels of the face's and throat's front, and (N, 3) their places, metres."""
    front = rig.positions_m[:, 2] > np.median(rig.positions_m[rig.kinds == BODY, 2])
    chosen = (region_weights(rig.joints, rig.weights)[:, 0] > 0.15) & (rig.kinds == BODY) & front
    triangles = rig.triangles[chosen[rig.triangles].all(1)]
    owner, corners = texel_owners(rig.texcoords, triangles, side)
    rows, columns = np.nonzero(owner)
    used = owner[rows, columns] - 1
    a, b, c = np.moveaxis(corners[used].astype(np.float64), 1, 0)
    system = np.stack([b - a, c - a], -1) + 1e-9 * np.eye(2)
    shares = np.linalg.solve(system, (np.stack([columns, rows], 1) - a)[..., None])[..., 0]
    shares = np.clip(np.stack([1 - shares.sum(1), *shares.T], 1), 0, 1)
    shares /= shares.sum(1, keepdims=True)
    return owner > 0, np.einsum("nk,nka->na", shares, rig.positions_m[triangles[used]])


def _flat(places: np.ndarray, axis: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 2) px on the grid: the angle around the head, and the height from below the chin to the nose."""
    around = np.arctan2(places[:, 0] - axis[0], places[:, 2] - axis[1]) / np.pi + 0.5
    high = points[NOSE_BRIDGE, 1] - points[CHIN, 1]
    return _GRID_PX * np.stack([around, (points[NOSE_BRIDGE, 1] - places[:, 1]) / (1.5 * high)], 1)


def _density(at: np.ndarray, points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(N,) 0..1 how thick the beard is at places of the grid."""
    below = _BELOW_JAW_M * (points[CHIN, 1] - points[NOSE_BRIDGE, 1]) / 0.115
    jaw = points[list(_JAW)] + [0, below]
    outline = [*points[list(_CHEEK_RIGHT)], points[2], *points[list(_CHEEK[::-1])], *jaw[::-1]]
    grid = np.zeros((_GRID_PX, _GRID_PX), np.float32)
    cv2.fillPoly(grid, [np.round(outline).astype(np.int32)], 1.0)
    y, x = np.mgrid[:_GRID_PX, :_GRID_PX]
    mouth, wide = points[MOUTH_CORNERS].mean(0), np.ptp(points[MOUTH_CORNERS, 0]) / 2
    aside, above = np.abs(x - mouth[0]) / wide, y < mouth[1] + 3
    style = random.choice(4, p=(0.5, 0.15, 0.2, 0.15))  # everywhere, moustache, goatee, no moustache
    if style == 1:
        grid *= above & (aside < 1.15)
    elif style == 2:
        grid *= (aside < random.uniform(1.0, 1.25)) & (y < points[CHIN, 1])
    elif style == 3:
        grid *= ~(above & (aside < 1.25))
    cv2.fillPoly(grid, [np.round(points[list(_LIPS)]).astype(np.int32)], 0.0)
    grid = cv2.GaussianBlur(grid, (0, 0), random.uniform(1.5, 3.0))
    thick = random.uniform(0.15, 0.45) if random.random() < 0.45 else random.uniform(0.7, 1.1)
    return thick * ndimage.map_coordinates(grid, at.T[::-1], order=1)


def _strokes(side: int, random: np.random.Generator) -> np.ndarray:
    """(side, side) float32 around 1: short hairs that grow down, thick and thin patches."""
    fine = cv2.GaussianBlur(random.standard_normal((side, side)).astype(np.float32), (0, 0), 0.5, sigmaY=1.6)
    patches = cv2.GaussianBlur(random.standard_normal((side, side)).astype(np.float32), (0, 0), 9)
    return np.clip(1 + 0.35 * fine / fine.std() + 0.12 * patches / patches.std(), 0.1, 1.6)
