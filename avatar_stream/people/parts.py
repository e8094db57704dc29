"""Which part of a person each texel of the skin-and-clothes texture is.

Skin, painted hair and clothes share one mesh and one texture, and no two files share a topology. What is
shared is the skeleton: it says where skin, crown, chest and thighs must be. Their colours are learned there,
and every other texel goes to the nearest of them that its place allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from avatar_stream.people.skeleton import INDEX, JOINTS

# The part map's numbers (docs/method.md).
BACKGROUND, HAIR, FACE, NECK_AND_ARMS, LEFT_HAND, RIGHT_HAND, UPPER_CLOTHES, LOWER_CLOTHES = range(8)
MASK_PX = 512
_HAIR, _SKIN, _UPPER, _LOWER = range(4)  # channels of the masks
_SMOOTH_TEXELS = 5  # odd; speckles below this size are not parts
_HEM_M = 0.07  # hems are not level: this near to the waist colour decides
_CLUSTERS = 6
_SAMPLES = 3000
_HAND_ROWS = {
    side: np.array([i for i, name in enumerate(JOINTS) if name.startswith((f"{side}Hand", f"{side}Finger"))])
    for side in ("Left", "Right")
}
_LEG_ROWS = np.array(
    [i for i, name in enumerate(JOINTS) if name.endswith(("Leg", "Foot", "ToeBase", "ToeEnd"))]
)
_ARM_ROWS = np.array([INDEX[f"{side}{name}"] for side in ("Left", "Right") for name in ("Arm", "ForeArm")])
_HEAD_ROWS = np.array([INDEX[name] for name in ("Head", "HeadEnd", "LeftEye", "RightEye")])


def region_weights(joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How much each vertex belongs to head, left hand, right hand.

    Args:
        joints: (V, 4) integer indices into JOINTS.
        weights: (V, 4) float32.

    Returns:
        (V, 3) float32, 0..1.
    """
    groups = (_HEAD_ROWS, _HAND_ROWS["Left"], _HAND_ROWS["Right"])
    return np.stack([_share(joints, weights, rows) for rows in groups], 1)


def paint(
    texture: np.ndarray, body: np.ndarray, vertices: dict[str, np.ndarray], bind_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Paint the part masks of one person.

    Args:
        texture: (H, W, 4) uint8 RGBA of skin and clothes.
        body: (T, 3) triangles of the body mesh.
        vertices: `positions_m`, `texcoords`, `joints` and `weights` as `Rig` has them.
        bind_m: (69, 3) joint positions, metres.

    Returns:
        (MASK_PX, MASK_PX, 4) uint8 masks of hair, skin, upper clothes, lower clothes, soft at their borders,
        and (4, 3) float32 mean colours of them in linear light (gamma 2).
    """
    surface = _unwrap(texture, body, vertices)
    labels = _classify(surface, bind_m)
    # Labels are carried over the borders of the islands, so that filtering there does not mix in the void.
    rows, columns = ndimage.distance_transform_edt(
        ~surface.inside, return_distances=False, return_indices=True
    )
    labels = cv2.medianBlur(np.ascontiguousarray(labels[rows, columns]), _SMOOTH_TEXELS)
    masks = np.stack([(labels == channel).astype(np.float32) for channel in range(4)], -1)
    masks = (cv2.GaussianBlur(masks, (0, 0), 0.8) * 255 + 0.5).astype(np.uint8)
    linear = (surface.rgb.astype(np.float32) / 255) ** 2
    chosen = [surface.inside & (labels == channel) for channel in range(4)]
    usual = np.full(3, 0.2)
    colours = [linear[texels].mean(0) if texels.sum() > 50 else usual for texels in chosen]
    return masks, np.array(colours, np.float32)


@dataclass(frozen=True)
class _Surface:
    """The body unwrapped onto an (S, S) grid of texels; only those `inside` an island mean something."""

    inside: np.ndarray
    places_m: np.ndarray
    shares: np.ndarray  # (S, S, 5): head, hands, legs, arms, neck
    rgb: np.ndarray
    lab: np.ndarray


def _share(joints: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return (weights * np.isin(joints, rows)).sum(1).astype(np.float32)


def texel_owners(texcoords: np.ndarray, triangles: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Which triangle each texel of a texture belongs to.

    Returns:
        (side, side) int32 rows of `triangles`, counted from 1; 0 where none is; and their corners (T, 3, 2), px.
    """
    corners = (texcoords[triangles] % 1.0) * side - 0.5
    owner = np.zeros((side, side), np.int32)
    for number, corner in enumerate(np.round(corners * 16).astype(np.int32), 1):
        cv2.fillConvexPoly(owner, corner, number, shift=4)
    return owner, corners


def _unwrap(texture: np.ndarray, triangles: np.ndarray, vertices: dict[str, np.ndarray]) -> _Surface:
    owner, corners = texel_owners(vertices["texcoords"], triangles, MASK_PX)
    inside = owner > 0
    rows, columns = np.nonzero(inside)
    used = owner[inside] - 1
    a, b, c = np.moveaxis(corners[used], 1, 0)
    here = np.stack([columns, rows], 1) - a
    whole = _area(b - a, c - a)
    second, third = _area(here, c - a) / whole, _area(b - a, here) / whole
    within = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
    within /= within.sum(1, keepdims=True)
    hands = np.concatenate([_HAND_ROWS["Left"], _HAND_ROWS["Right"]])
    groups = (_HEAD_ROWS, hands, _LEG_ROWS, _ARM_ROWS, np.array([INDEX["Neck"]]))
    shares = np.stack([_share(vertices["joints"], vertices["weights"], rows_of) for rows_of in groups], 1)
    spread = np.zeros((MASK_PX, MASK_PX, 8), np.float32)
    spread[inside] = np.einsum(
        "nk,nka->na", within, np.concatenate([vertices["positions_m"], shares], 1)[triangles[used]]
    )
    rgb = cv2.resize(texture[..., :3], (MASK_PX, MASK_PX), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(rgb, (0, 0), 0.8).astype(np.float32) / 255
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
    return _Surface(inside, spread[..., :3], spread[..., 3:], rgb, lab)


def _area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Twice the signed area between (N, 2) edges, never quite zero."""
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    return np.where(np.abs(area) < 1e-9, 1e-9, area)


def _clusters(lab: np.ndarray) -> np.ndarray:
    """(K, 3) typical colours of (N, 3) Lab samples."""
    if len(lab) == 0:
        return np.full((1, 3), 1e3, np.float32)
    step = max(1, len(lab) // _SAMPLES)
    samples = np.ascontiguousarray(lab[::step], np.float32)
    count = min(_CLUSTERS, len(samples))
    cv2.setRNGSeed(1)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 12, 0.5)
    _, labels, centres = cv2.kmeans(samples, count, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    sizes = np.bincount(labels[:, 0], minlength=count)
    return centres[sizes >= 0.04 * len(samples)]


def _distance(lab: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(S, S) distance of each texel to the nearest typical colour."""
    return np.min([np.linalg.norm(lab - centre, axis=-1) for centre in centres], axis=0)


def _classify(surface: _Surface, bind_m: np.ndarray) -> np.ndarray:
    """(S, S) uint8 channel numbers."""
    head, hands, legs, arms, neck = np.moveaxis(surface.shares, -1, 0)
    x, y, z = np.moveaxis(surface.places_m, -1, 0)
    eyes = (bind_m[INDEX["LeftEye"]] + bind_m[INDEX["RightEye"]]) / 2
    on_head = surface.inside & (head > 0.5)
    torso = surface.inside & (head + hands + arms + neck < 0.3)
    cheeks = on_head & (abs(x) < 0.055) & (z > eyes[2] - 0.02) & (y < eyes[1] - 0.015) & (y > eyes[1] - 0.05)
    skin = _clusters(np.concatenate([surface.lab[cheeks], surface.lab[surface.inside & (hands > 0.95)]]))
    hips, chest = bind_m[INDEX["Hips"], 1], bind_m[INDEX["LeftArm"], 1]
    front = torso & (y > hips + 0.1) & (y < chest - 0.1)
    cloth = _clusters(surface.lab[front])
    to_skin, to_cloth = _distance(surface.lab, skin), _distance(surface.lab, cloth)

    labels = np.where((to_skin < to_cloth) & (to_skin < 22), _SKIN, _UPPER).astype(np.uint8)
    # From the chest to the middle of the thighs everybody is dressed, whatever the colour of the cloth.
    knees = bind_m[INDEX["LeftLeg"], 1]
    labels[torso & (y < chest - 0.12) & (y > (hips + knees) / 2 - 0.1)] = _UPPER
    labels[(hands > 0.7) | on_head] = _SKIN
    below = _below_waist(surface, torso, bind_m)
    labels[(labels == _UPPER) & (hands + arms < 0.3) & below] = _LOWER
    labels[_painted_hair(surface, bind_m, to_skin)] = _HAIR
    return labels


def _painted_hair(surface: _Surface, bind_m: np.ndarray, to_skin: np.ndarray) -> np.ndarray:
    """(S, S) bool: hair, cap or scarf painted on the head itself."""
    head = surface.shares[..., 0]
    x, y, z = np.moveaxis(surface.places_m, -1, 0)
    eyes = (bind_m[INDEX["LeftEye"]] + bind_m[INDEX["RightEye"]]) / 2
    on_head = surface.inside & (head > 0.5)
    top = y[on_head].max() if on_head.any() else eyes[1]
    crown = on_head & (y > top - 0.05)
    hair = _clusters(surface.lab[crown])
    to_hair = _distance(surface.lab, hair)
    bald = np.median(to_skin[crown]) < 12 if crown.any() else True
    face = (abs(x) < 0.06) & (z > eyes[2] - 0.045) & (y < eyes[1] + 0.035)
    if bald:
        return np.zeros_like(on_head)
    return on_head & ~face & (to_hair < to_skin) & (y > eyes[1] - 0.16)


def _below_waist(surface: _Surface, torso: np.ndarray, bind_m: np.ndarray) -> np.ndarray:
    """(S, S) bool: below the height where chest colours best part from thigh colours, near it by colour."""
    y = surface.places_m[..., 1]
    hips, knees = bind_m[INDEX["Hips"], 1], bind_m[INDEX["LeftLeg"], 1]
    chest = _clusters(surface.lab[torso & (y > hips + 0.15) & (y < hips + 0.3)])
    thigh = _clusters(surface.lab[torso & (y < hips - 0.2) & (y > (hips + knees) / 2 - 0.1)])
    band = torso & (y > hips - 0.2) & (y < hips + 0.15)
    votes = _distance(surface.lab, thigh) - _distance(surface.lab, chest)  # > 0: looks like the chest
    above, below = torso & (y > hips + 0.15) & (y < hips + 0.3), torso & (y < hips - 0.2) & (y > hips - 0.4)
    if (
        min(above.sum(), below.sum(), band.sum()) < 60
        or min(np.median(votes[above]), -np.median(votes[below])) < 6
    ):
        return y < hips + 0.02  # one garment from top to bottom
    order = np.argsort(y[band])
    gain = np.cumsum(-np.sign(votes[band][order]))
    waist = float(y[band][order][int(np.argmax(gain))])
    return np.where(abs(y - waist) < _HEM_M, votes < 0, y < waist)
