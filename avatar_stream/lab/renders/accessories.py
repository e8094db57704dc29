"""Glasses, jewellery and watches: small meshes that ride on a person's bones. `beards` paints what is skin.

All are swept tubes, but for two sheets of glass. Lanyards are part of `prints`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from avatar_stream.lab.renders.beards import bearded
from avatar_stream.lab.renders.meshes import ball, loop, swept
from avatar_stream.landmarks import EARS_OF_FACE, IRISES, MESH
from avatar_stream.people.face_points import FacePoints
from avatar_stream.people.look import Appearance
from avatar_stream.people.rig import BODY, GLASS, WORN, Rig
from avatar_stream.people.skeleton import INDEX, RigPose

_MEN_ABOVE_M = 1.58  # height of the head's joint: in the library no woman's is higher and no man's lower
_SKIN = 1  # channel of `Rig.part_masks`
_CELL_PX = 8  # side of one colour in the accessories' texture
# Colours (linear light, gamma 2) and how metallic they are, 0..1.
_METALS = (((0.80, 0.58, 0.25), 0.9), ((0.75, 0.75, 0.77), 0.9), ((0.80, 0.52, 0.40), 0.9))
_FRAMES = (
    ((0.006, 0.006, 0.007), 0.25),
    ((0.035, 0.016, 0.008), 0.25),
    ((0.012, 0.018, 0.045), 0.25),
    ((0.10, 0.012, 0.016), 0.25),
    ((0.35, 0.31, 0.28), 0.3),
)
_STRAPS = (((0.006, 0.006, 0.006), 0.05), ((0.06, 0.025, 0.012), 0.05), ((0.30, 0.29, 0.28), 0.05))
_DIALS = ((0.004, 0.004, 0.005), (0.35, 0.35, 0.34), (0.02, 0.03, 0.08))
_Bones = tuple[np.ndarray, np.ndarray]  # (4,) joints and weights of a whole piece: it is stiff
_Paint = tuple[Any, float]  # (3,) colour, and how metallic it is


@dataclass
class _Tray:
    """Pieces on their way onto a person: positions, normals, triangles, bones, colour number, kind of each."""

    pieces: list[tuple] = field(default_factory=list)
    paints: list[_Paint] = field(default_factory=list)
    arms: list[str] = field(default_factory=list)  # that bear nothing yet

    def add(self, mesh: tuple, bones: _Bones, paint: _Paint, kind: int = WORN) -> None:
        self.pieces.append((*mesh, bones, len(self.paints), kind))
        self.paints.append(paint)


def is_man(rig: Rig) -> bool:
    """Whether a person as filed has a man's bones, and so may have a beard."""
    return float(rig.bind_m[INDEX["Head"], 1]) > _MEN_ABOVE_M


def adorned(rig: Rig, face: FacePoints, look: Appearance, man: bool) -> Rig:
    """A person with beard, glasses, watch and jewellery, as `look.worn` draws them; the person itself for 0.

    Args:
        rig: the person in its final shape; stays as it is.
        face: the person's face points; they hold for the result too.
        look: its tints give a beard the hair's colour.
        man: see `is_man`; a person in another shape does not tell.
    """
    if not look.worn:
        return rig
    random = np.random.default_rng([look.worn, 3])
    if man and random.random() < 0.5:
        rig = bearded(rig, face.place(rig, RigPose()), look, random)
    chosen = [name for name, (_, *shares) in _KINDS.items() if random.random() < shares[int(man)]]
    return wearing(rig, face, chosen, random)


def wearing(rig: Rig, face: FacePoints, names: Sequence[str], random: np.random.Generator) -> Rig:
    """A person with these accessories, but for those that clothes would cover.

    Args:
        rig: the person in its final shape; stays as it is.
        face: the person's face points; they hold for the result too.
        names: of "glasses", "earrings", "necklace", "watch", "bracelets", "rings".
        random: where chance comes from.
    """
    tray = _Tray(arms=["Right", "Left"] if random.random() < 0.75 else ["Left", "Right"])
    points = face.place(rig, RigPose()).astype(np.float64)
    for name in names:
        _KINDS[name][0](tray, rig, points, random)
    return _put_on(rig, tray) if tray.pieces else rig


def _put_on(rig: Rig, tray: _Tray) -> Rig:
    """The rig with the tray's vertices after its own, so that face points and morphs keep their numbers."""
    pieces = sorted(tray.pieces, key=lambda piece: piece[-1])  # glass is drawn over what is behind it
    counts = [len(piece[0]) for piece in pieces]
    starts = len(rig.positions_m) + np.cumsum([0, *counts])
    triangles = [piece[2] + start for piece, start in zip(pieces, starts, strict=False)]
    first, batches = len(rig.triangles), list(rig.batches)
    for kind in (WORN, GLASS):
        count = sum(len(part) for part, piece in zip(triangles, pieces, strict=True) if piece[-1] == kind)
        batches += [(len(rig.textures), first, count)] if count else []
        first += count
    numbers = np.repeat([piece[4] for piece in pieces], counts)
    texcoords = np.stack([(numbers + 0.5) / len(tray.paints), np.full(len(numbers), 0.5)], 1)
    joints, weights = (np.repeat([piece[3][part] for piece in pieces], counts, 0) for part in (0, 1))
    return replace(
        rig,
        positions_m=np.concatenate([rig.positions_m, *(piece[0] for piece in pieces)]).astype(np.float32),
        normals=np.concatenate([rig.normals, *(piece[1] for piece in pieces)]).astype(np.float32),
        texcoords=np.concatenate([rig.texcoords, texcoords]).astype(np.float32),
        joints=np.concatenate([rig.joints, joints]).astype(np.uint8),
        weights=np.concatenate([rig.weights, weights]).astype(np.float32),
        kinds=np.concatenate([rig.kinds, np.repeat([piece[-1] for piece in pieces], counts)]).astype(
            np.uint8
        ),
        triangles=np.concatenate([rig.triangles, *triangles]).astype(np.uint32),
        batches=tuple(batches),
        textures=(*rig.textures, _palette(tray.paints)),
    )


def _palette(paints: list[_Paint]) -> np.ndarray:
    """(_CELL_PX, _CELL_PX * N, 4) uint8: colours, and in alpha from the middle up how metallic they are."""
    cells = [[*np.sqrt(np.clip(colour, 0, 1)), 0.5 + 0.5 * metal] for colour, metal in paints]
    row = np.ceil(np.array(cells) * 255).astype(np.uint8)
    return np.tile(np.repeat(row, _CELL_PX, 0)[None], (_CELL_PX, 1, 1))


# Meshes -----------------------------------------------------------------------------------------------------------


def _around(
    rig: Rig,
    centre: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    bones: tuple[str, ...],
    reach_m: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays from inside a limb last meet its skin.

    Args:
        rig: the person in its bind pose.
        centre: (3,) or (N, 3) where rays begin, metres.
        first: (3,) unit vector, the first ray's direction.
        second: (3,) unit vector across it, which the rays turn to.
        bones: the limb's joints; what others carry is not there.
        reach_m: no ray is longer.

    Returns:
        (N, 3) places, NaN where a ray meets nothing, and (N, 3) directions; N is 32.
    """
    share = (rig.weights * np.isin(rig.joints, [INDEX[name] for name in bones])).sum(1)
    on = (share[rig.triangles] > 0.3).all(1) & (rig.kinds[rig.triangles[:, 0]] == BODY)
    a, b, c = np.moveaxis(rig.positions_m[rig.triangles[on]].astype(np.float64), 1, 0)
    ways = loop(np.zeros(3), first, second, 32)
    starts = np.broadcast_to(centre, ways.shape)
    h = np.cross(ways[:, None], c - a)  # Moller and Trumbore, 1997
    size = (h * (b - a)).sum(-1)
    size = np.where(np.abs(size) < 1e-12, np.inf, size)
    from_a = starts[:, None] - a
    u = (from_a * h).sum(-1) / size
    q = np.cross(from_a, b - a)
    v, far = (ways[:, None] * q).sum(-1) / size, ((c - a) * q).sum(-1) / size
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (far > 0) & (far < reach_m)
    longest = np.where(hit, far, -np.inf).max(1, initial=-np.inf)
    return starts + np.where(longest > 0, longest, np.nan)[:, None] * ways, ways


def _near(rig: Rig, place: np.ndarray) -> int:
    """Number of the body's vertex next to a place."""
    return int((((rig.positions_m - place) ** 2).sum(1) + (rig.kinds != BODY)).argmin())


def _bare(rig: Rig, places: np.ndarray) -> np.ndarray:
    """(N,) bool: no cloth covers the skin at these places."""
    side = rig.part_masks.shape[0]
    at = rig.texcoords[[_near(rig, place) for place in places]] % 1.0 * side
    return rig.part_masks[at[:, 1].astype(int), at[:, 0].astype(int)].argmax(-1) == _SKIN


def _stiff(name: str) -> _Bones:
    return np.full(4, INDEX[name]), np.array([1.0, 0, 0, 0])


def _any(choices: tuple, random: np.random.Generator) -> Any:
    return choices[random.integers(len(choices))]


# Glasses ----------------------------------------------------------------------------------------------------------


def _glasses(tray: _Tray, rig: Rig, points: np.ndarray, random: np.random.Generator) -> None:
    """Two rims, a bridge, two temples that go behind the ears, and glass that mirrors a little."""
    metal = random.random() < 0.4
    paint = _any(_METALS, random) if metal and random.random() < 0.7 else _any(_FRAMES, random)
    thick_m = random.uniform(0.0005, 0.0008) if metal else random.uniform(0.0011, 0.0022)
    bones, high_m = _stiff("Head"), random.uniform(0.032, 0.046)
    gap_m, corners = random.uniform(0.008, 0.010), random.uniform(2.0, 4.0)
    half_rim = random.random() < 0.15
    # Most glass is clear, some has a tint, few are sunglasses.
    tint = (random.uniform(0.05, 0.4, 3) ** 2, random.choice([0.02, 0.06, 0.45], p=[0.7, 0.25, 0.05]))
    front_z = points[[*IRISES, 105, 334], 2].max() + random.uniform(0.008, 0.011)
    sights = []
    for side, iris in zip((1, -1), IRISES, strict=True):
        half_x = abs(points[iris, 0]) + 0.001 - gap_m
        middle = np.array([side * (gap_m + half_x), points[iris, 1] - 0.003, front_z])
        sights.append((side, middle, _rim(middle, side, half_x, high_m / 2, corners)))
    forward = np.array([0, 0, max(_sunk_m(rim, points) for *_, rim in sights) + thick_m])
    for (side, middle, rim), ear in zip(sights, EARS_OF_FACE[::-1], strict=True):
        rim, middle = rim + forward, middle + forward
        held = rim[np.arange(-2, 27)] if half_rim else rim
        tray.add(swept(held, held - middle, np.array([1.2, 1.0]) * thick_m, not half_rim), bones, paint)
        tray.add(_pane(rim, middle), bones, tint, GLASS)
        temple = _temple(rim[(side * rim[:, 0] + 0.8 * rim[:, 1]).argmax()], points[ear], side)
        halves = np.array([0.8, 1.0 if metal else 1.6]) * thick_m
        tray.add(swept(temple, np.array([side, 0, 0.2]), halves), bones, paint)
    front_z += forward[2]
    bow = np.linspace(-1, 1, 7)
    height = points[IRISES[0], 1] + 0.10 * high_m - 0.003
    bridge = np.stack(
        [(gap_m + 0.001) * bow, height + 0.003 * (1 - bow**2), front_z + 0.002 * (1 - bow**2)], 1
    )
    tray.add(swept(bridge, np.array([0, 0, 1.0]), thick_m), bones, paint)


def _sunk_m(rim: np.ndarray, points: np.ndarray) -> float:
    """How far a rim must come forward to lie on the nose and the cheeks instead of in them; 8 mm at most."""
    away = np.linalg.norm(points[MESH, None, :2] - rim[None, :, :2], axis=-1)
    sunk = np.where(away < 0.004, points[MESH, None, 2] - rim[None, :, 2], -np.inf)
    return float(np.clip(sunk.max(), 0.0, 0.008))


def _temple(hinge: np.ndarray, ear: np.ndarray, side: int) -> np.ndarray:
    """(13, 3) path from the rim round the temple over the ear's root and down behind it."""
    root, behind = ear + [side * 0.004, 0.021, -0.022], ear + [0, -0.006, -0.048]
    arm = np.linspace(hinge, root, 9)
    arm[:, 0] += side * 0.005 * np.sin(np.linspace(0, np.pi, 9))
    return np.concatenate([arm, np.linspace(root, behind, 5)[1:]])


def _rim(middle: np.ndarray, side: int, half_x: float, half_y: float, corners: float) -> np.ndarray:
    """(48, 3) outline of a lens: from an ellipse (2) to a rectangle (4), narrower below, bent round the face."""
    angles = 2 * np.pi * np.arange(48) / 48
    x, y = (np.sign(wave) * np.abs(wave) ** (2 / corners) for wave in (np.cos(angles), np.sin(angles)))
    x = x * (1 - 0.08 * (1 - y) / 2)
    out = np.maximum(half_x * (1 + x), 0)
    z = 0.10 * half_y * y - 0.09 * out - 1.2 * out**2
    return middle + np.stack([side * half_x * x, half_y * y, z], 1)


def _pane(rim: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A lens: a fan whose normals are those of a ball of 12 cm, as lenses are bent."""
    positions = np.concatenate([rim, [rim.mean(0)]])
    normals = (positions - middle) * [1, 1, 0] / 0.12 + [0, 0, 1]
    normals[:, :2] += np.sign(middle[0]) * np.array([0.10, -0.08 * np.sign(middle[0])])
    around = np.arange(len(rim))
    fan = np.stack([np.full(len(rim), len(rim)), around, (around + 1) % len(rim)], 1)
    return positions, normals / np.linalg.norm(normals, axis=1, keepdims=True), fan


# Jewellery --------------------------------------------------------------------------------------------------------


def _earrings(tray: _Tray, rig: Rig, points: np.ndarray, random: np.random.Generator) -> None:
    """Studs or hoops in both lobes."""
    paint, hoop = _any(_METALS, random), random.random() < 0.5
    size_m = random.uniform(0.006, 0.022) if hoop else random.uniform(0.002, 0.004)
    for ear, side in zip(EARS_OF_FACE[::-1], (1, -1), strict=True):
        lobe = points[ear] + [side * 0.006, -0.026, -0.026]
        lobe = rig.positions_m[_near(rig, lobe)].astype(np.float64)
        if hoop:
            turned = size_m * np.array([side * 0.5, 0, 0.85])
            ring = loop(lobe - [0, size_m, 0], np.array([0, size_m, 0]), turned)
            mesh = swept(ring, ring - (lobe - [0, size_m, 0]), random.uniform(0.0006, 0.0013), closed=True)
        else:
            mesh = ball(lobe + [side * 0.002, 0.002, 0.003], size_m)
        tray.add(mesh, _stiff("Head"), paint)


def _necklace(tray: _Tray, rig: Rig, points: np.ndarray, random: np.random.Generator) -> None:
    """A chain around the neck, where no collar covers it, half of them with a pendant."""
    left, up, ahead = np.eye(3)
    nape = rig.bind_m[INDEX["Neck"]] + 0.045 * up
    front = 0.5 + 0.5 * loop(np.zeros(3), ahead, left, 32)[:, 2:]
    names = ("Neck", "Spine2", "LeftShoulder", "RightShoulder", "Head", "Spine1")
    for drop_m in random.uniform(0.02, 0.09, 4):
        places, ways = _around(rig, nape - front**2 * drop_m * up, ahead, left, names, 0.2)
        if np.isnan(places).any():
            return
        bare = _bare(rig, places)
        if bare[[0, 1, -1]].all():  # else a collar closes over it
            break
    else:
        return
    paint, thin_m = _any(_METALS, random), random.uniform(0.0006, 0.0016)
    chain = places + ways * np.where(bare, thin_m, -0.006)[:, None]
    bones = (np.array([INDEX["Neck"], INDEX["Spine2"], 0, 0]), np.array([0.4, 0.6, 0, 0]))
    tray.add(swept(chain, ways, thin_m, closed=True), bones, paint)
    if random.random() < 0.5:
        tray.add(ball(chain[0] - [0, 0.005, -0.002], random.uniform(0.003, 0.006)), bones, paint)


def _wrist(rig: Rig, side: str, back_m: float) -> tuple[np.ndarray, np.ndarray, _Bones] | None:
    """Ring round a bare forearm `back_m` before the wrist: (32, 3) places, directions, bones; None: a sleeve."""
    hand, elbow = (rig.bind_m[INDEX[f"{side}{name}"]].astype(np.float64) for name in ("Hand", "ForeArm"))
    way = (elbow - hand) / np.linalg.norm(elbow - hand)
    names = (f"{side}ForeArm", f"{side}Hand")
    up = np.array([0, 1.0, 0])
    places, ways = _around(rig, hand + back_m * way, up, np.cross(up, way), names, 0.07)
    if np.isnan(places).any() or _bare(rig, places).mean() < 0.8:
        return None
    share = np.mean([_share_of(rig, _near(rig, place), names) for place in places[::4]], 0)
    return places, ways, (np.array([INDEX[name] for name in names] + [0, 0]), np.array([*share, 0, 0]))


def _share_of(rig: Rig, vertex: int, names: tuple[str, str]) -> np.ndarray:
    """(2,) how much two joints carry a vertex; 1 together."""
    both = np.array([(rig.weights[vertex] * (rig.joints[vertex] == INDEX[name])).sum() for name in names])
    return both / max(both.sum(), 1e-6)


def _watch(tray: _Tray, rig: Rig, points: np.ndarray, random: np.random.Generator) -> None:
    """A strap with a round or square case on the back of the wrist."""
    ring = _wrist(rig, tray.arms.pop(), random.uniform(0.026, 0.036))
    if ring is None:
        return
    places, ways, bones = ring
    metal = _any(_METALS, random)
    half_m, thick_m = random.uniform(0.013, 0.021), random.uniform(0.0035, 0.0055)
    strap = places + ways * 0.0008
    paint = metal if random.random() < 0.3 else _any(_STRAPS, random)
    tray.add(swept(strap, ways, np.array([0.0016, 0.55 * half_m]), closed=True, sides=10), bones, paint)
    up, base = ways[0], places[0]
    sides = 4 if random.random() < 0.4 else 20
    case = base + up * thick_m * np.array([-0.6, 0.5, 1.0])[:, None]
    diagonal = np.array([1.0, 0, 1.0])  # so that four sides lie along the arm
    bevelled = half_m * np.array([[1, 1], [1, 1], [0.93, 0.93]])
    tray.add(swept(case, diagonal, bevelled, sides=sides), bones, metal)
    dial = base + up * (thick_m + np.array([-0.001, 0.0003]))[:, None]
    tray.add(swept(dial, diagonal, 0.84 * half_m, sides=sides), bones, (_any(_DIALS, random), 0.15))


def _bracelets(tray: _Tray, rig: Rig, points: np.ndarray, random: np.random.Generator) -> None:
    """One to three thin bracelets beside each other."""
    side, paint = tray.arms.pop(), _any((*_METALS, *_FRAMES), random)
    start_m, thick_m = random.uniform(0.012, 0.03), random.uniform(0.0008, 0.0028)
    for number in range(random.integers(1, 4)):
        ring = _wrist(rig, side, start_m + number * 2.3 * thick_m)
        if ring is None:
            return
        places, ways, bones = ring
        tray.add(swept(places + ways * thick_m, ways, thick_m, closed=True), bones, paint)


def _finger_rings(tray: _Tray, rig: Rig, points: np.ndarray, random: np.random.Generator) -> None:
    """One or two rings, near a finger's root."""
    paint, thick_m = _any(_METALS, random), random.uniform(0.0007, 0.0013)
    for _ in range(random.integers(1, 3)):
        finger = f"{_any(('Left', 'Right'), random)}Hand{_any(('Ring', 'Ring', 'Index', 'Middle', 'Pinky'), random)}"
        root, knuckle = (rig.bind_m[INDEX[f"{finger}{k}"]].astype(np.float64) for k in (1, 2))
        way = (knuckle - root) / np.linalg.norm(knuckle - root)
        up = np.cross(way, np.cross([0, 1.0, 0], way))
        up /= np.linalg.norm(up)
        middle = (root + knuckle) / 2
        places, ways = _around(rig, middle, up, np.cross(up, way), (f"{finger}1",), 0.013)
        if np.isnan(places).any():
            continue
        halves = np.array([thick_m, random.uniform(1.2, 3.0) * thick_m])
        mesh = swept(places + ways * 0.3 * thick_m, ways, halves, closed=True)
        tray.add(mesh, _stiff(f"{finger}1"), paint)


# What there is, and the shares of women and men who wear it.
_KINDS = {
    "glasses": (_glasses, 0.3, 0.3),
    "earrings": (_earrings, 0.5, 0.08),
    "necklace": (_necklace, 0.4, 0.15),
    "watch": (_watch, 0.3, 0.35),
    "bracelets": (_bracelets, 0.3, 0.15),
    "rings": (_finger_rings, 0.35, 0.25),
}
