"""A rigged person from a glTF file: one set of vertices, morphs and textures, ready to be posed and drawn.

Model space: metres, y up, facing +z, the signer's left at +x, bind pose a T-pose with palms down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar_stream.errors import RenderError
from avatar_stream.people import parts
from avatar_stream.people.gltf import GltfFile
from avatar_stream.people.skeleton import INDEX, JOINTS, RigPose, forward
from avatar_stream.turns import about

# What a vertex belongs to: `Rig.kinds`; files have the first four.
BODY, EYE, TEETH, HAIR, WORN, GLASS = range(6)
UNKNOWN = 65535  # of a pixel that shows nobody, in both numbers of its place on the `chart`
_ATLAS = 0.75  # the texture of body, eyes and teeth takes this part of the chart, from its origin
_HAIR_ORIGIN, _HAIR_SIDE = np.array([0.79, 0.0], np.float32), 0.2
# Face morphs that the teeth file under another name than the mouth's.
_TEETH_NAMES = {"MPB_h": "MPB_Down_h"}
_BROKEN = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Rig:
    """One person, unposed. Vertices that a morph moves come first.

    Attributes:
        path: the file.
        bind_m: (69, 3) float32 joint positions of the bind pose, in the order of skeleton.JOINTS, metres.
        positions_m: (V, 3) float32 vertices in the bind pose, metres.
        normals: (V, 3) float32 unit vectors.
        texcoords: (V, 2) float32, 0..1, origin at the texture's first row, its own transform applied.
        joints: (V, 4) uint8 indices into JOINTS.
        weights: (V, 4) float32, each row sums to 1.
        kinds: (V,) uint8: BODY, EYE, TEETH, HAIR; WORN and GLASS (`accessories`) where it wears something.
        triangles: (T, 3) uint32.
        batches: (texture number, first triangle, triangle count) in drawing order.
        textures: (H, W, 4) uint8 RGBA each.
        morph_names: names without the file's prefix.
        morph_deltas_m: (M, A, 3) float32 moves of the first A vertices, metres.
        part_masks: (S, S, 4) uint8 over texture 0: how much hair, skin, upper, lower clothes a texel is.
        part_colours: (4, 3) float32, mean colour of those four in linear light (gamma 2), 0..1.
    """

    path: Path
    bind_m: np.ndarray
    positions_m: np.ndarray
    normals: np.ndarray
    texcoords: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    kinds: np.ndarray
    triangles: np.ndarray
    batches: tuple[tuple[int, int, int], ...]
    textures: tuple[np.ndarray, ...]
    morph_names: tuple[str, ...]
    morph_deltas_m: np.ndarray
    part_masks: np.ndarray
    part_colours: np.ndarray

    @classmethod
    def load(cls, path: Path | str) -> Rig:
        """Read a rigged person.

        Args:
            path: a glTF 2.0 binary file with the skeleton of skeleton.JOINTS.

        Raises:
            RenderError: the file cannot be read, is broken, or is no such person; one line says which.
        """
        path = Path(path)
        file = GltfFile(path)
        try:
            return _build(file)
        except _BROKEN as error:
            raise RenderError(f"{path} is broken as glTF: {type(error).__name__} {error}") from error

    def morphed(self, morphs: dict[str, float]) -> np.ndarray:
        """(A, 3) float32 metres: the first A bind vertices with face morphs on; unknown names are ignored."""
        known = [
            (self.morph_names.index(name), weight)
            for name, weight in morphs.items()
            if weight and name in self.morph_names
        ]
        count = self.morph_deltas_m.shape[1]
        if not known:
            return self.positions_m[:count]
        rows, weights = [row for row, _ in known], np.array([weight for _, weight in known], np.float32)
        return self.positions_m[:count] + np.tensordot(weights, self.morph_deltas_m[rows], 1)

    def matrices(self, pose: RigPose) -> np.ndarray:
        """(69, 3, 4) float32 skinning matrices: a vertex goes to `sum_j w_j (M_j[:, :3] v + M_j[:, 3])`."""
        turns, places = forward(self.bind_m, with_gaze(pose))
        shifts = places - np.einsum("jab,jb->ja", turns, self.bind_m)
        return np.concatenate([turns, shifts[..., None]], -1).astype(np.float32)

    def skinned(self, pose: RigPose, rows: np.ndarray, morphed: np.ndarray | None = None) -> np.ndarray:
        """Pose some vertices.

        Args:
            pose: the pose to take.
            rows: (N,) vertex numbers.
            morphed: what `morphed(pose.morphs)` gave, if the caller has it already.

        Returns:
            (N, 3) float32 metres.
        """
        head = self.morphed(pose.morphs) if morphed is None else morphed
        bind = np.where(
            (rows < len(head))[:, None], head[np.minimum(rows, len(head) - 1)], self.positions_m[rows]
        )
        blended = np.einsum("nk,nkab->nab", self.weights[rows], self.matrices(pose)[self.joints[rows]])
        return np.einsum("nab,nb->na", blended[..., :3], bind) + blended[..., 3]


def with_gaze(pose: RigPose) -> RigPose:
    """The same pose with `gaze` turned into rotations of the eye joints."""
    yaw, pitch = (float(angle) for angle in pose.gaze)
    x, y, _ = np.eye(3)
    rotations = np.array(pose.rotations, np.float32)
    for eye in ("LeftEye", "RightEye"):
        rotations[INDEX[eye]] = rotations[INDEX[eye]] @ (about(y, yaw) @ about(x, -pitch))
    return RigPose(rotations, pose.root_m, pose.morphs, pose.gaze)


def chart(rig: Rig) -> np.ndarray:
    """(V, 2) float32 in 0..1: every vertex's place in one chart of the whole surface.

    Body, eyes and teeth share one texture, in which left and right have places of their own (but for shoes), so
    its coordinates are the chart; one unit is 1 to 3 m. Sheets of hair share strips of their texture; they are told
    apart by their direction from the middle of the head.
    """
    places = rig.texcoords % 1.0 * _ATLAS
    hair = rig.kinds == HAIR
    middle = (rig.bind_m[INDEX["Head"]] + rig.bind_m[INDEX["HeadEnd"]]) / 2
    x, y, z = (rig.positions_m[hair] - middle).T
    around = np.arctan2(x, z) / (2 * np.pi) + 0.5  # the seam is at the back
    above = np.arctan2(y, np.hypot(x, z)) / np.pi + 0.5
    places[hair] = _HAIR_ORIGIN + _HAIR_SIDE * np.stack([around, above], 1)
    return places.astype(np.float32)


@dataclass
class _Mesh:
    """One primitive on its way into a Rig."""

    kind: int
    texture: int
    positions: np.ndarray
    normals: np.ndarray
    texcoords: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    triangles: np.ndarray
    morphs: dict[str, np.ndarray]


def _build(file: GltfFile) -> Rig:
    places = file.node_matrices()
    nodes = _joint_nodes(file)
    bind = places[[nodes[name] for name in JOINTS], :3, 3].astype(np.float32)
    fold = _fold(file)
    meshes = [
        mesh
        for node in file.tree["nodes"]
        if "mesh" in node and "skin" in node
        for mesh in _read_meshes(file, node, places, fold)
    ]
    if not meshes:
        raise RenderError(f"{file.path} has no mesh with a skin, so nobody to draw")
    meshes.sort(key=lambda mesh: mesh.texture)
    used = sorted({mesh.texture for mesh in meshes})
    for mesh in meshes:
        mesh.texture = used.index(mesh.texture)
    textures = tuple(
        file.picture(number) if number >= 0 else np.full((4, 4, 4), 255, np.uint8) for number in used
    )
    arrays = _join(meshes)
    body = np.repeat(
        [mesh.kind == BODY and mesh.texture == 0 for mesh in meshes], [len(mesh.triangles) for mesh in meshes]
    )
    masks, colours = parts.paint(textures[0], arrays["triangles"][body], arrays, bind)
    if np.any(arrays["kinds"] == HAIR):
        number = next(mesh.texture for mesh in meshes if mesh.kind == HAIR)
        colours[0] = ((textures[number][::8, ::8, :3].astype(np.float32) / 255) ** 2).mean((0, 1))
    return Rig(
        path=file.path, bind_m=bind, textures=textures, part_masks=masks, part_colours=colours, **arrays
    )


def _joint_nodes(file: GltfFile) -> dict[str, int]:
    nodes = {node.get("name"): number for number, node in enumerate(file.tree.get("nodes", ()))}
    missing = [name for name in JOINTS if name not in nodes]
    if missing:
        raise RenderError(
            f"{file.path} is no person that can be posed here: {len(missing)} joints are missing, "
            f"for instance {missing[0]}"
        )
    return nodes


def _fold(file: GltfFile) -> np.ndarray:
    """(nodes,) int: each node's number in JOINTS, or that of its nearest listed ancestor, else the hips."""
    parents = file.parents()
    fold = np.zeros(len(parents), np.int64)
    for number in range(len(parents)):
        node = number
        while node >= 0 and file.tree["nodes"][node].get("name") not in INDEX:
            node = parents[node]
        fold[number] = INDEX[file.tree["nodes"][node]["name"]] if node >= 0 else 0
    return fold


def _read_meshes(file: GltfFile, node: dict, places: np.ndarray, fold: np.ndarray) -> list[_Mesh]:
    mesh, skin = file.tree["meshes"][node["mesh"]], file.tree["skins"][node["skin"]]
    count = len(skin["joints"])
    inverse_binds = np.tile(np.eye(4), (count, 1, 1))
    if "inverseBindMatrices" in skin:
        inverse_binds = file.accessor(skin["inverseBindMatrices"]).reshape(count, 4, 4).transpose(0, 2, 1)
    to_model = places[skin["joints"]] @ inverse_binds.astype(np.float64)
    names = mesh.get("extras", {}).get("targetNames", [])
    kind = _kind(f"{mesh.get('name', '')} {node.get('name', '')}")
    return [
        _read_primitive(file, primitive, kind, names, to_model, fold[skin["joints"]])
        for primitive in mesh["primitives"]
        if primitive.get("mode", 4) == 4
    ]


def _kind(name: str) -> int:
    name = name.lower()
    if "eye" in name:
        return EYE
    if "teeth" in name:
        return TEETH
    return HAIR if "wig" in name or "hair" in name else BODY


def _read_primitive(
    file: GltfFile, primitive: dict, kind: int, names: list[str], to_model: np.ndarray, fold: np.ndarray
) -> _Mesh:
    attributes = primitive["attributes"]
    points = file.accessor(attributes["POSITION"]).astype(np.float32)
    weights = file.accessor(attributes["WEIGHTS_0"]).astype(np.float32)
    if file.tree["accessors"][attributes["WEIGHTS_0"]]["componentType"] != 5126 and weights.max() > 1:
        weights /= 255.0  # a writer that forgot to mark them as normalised
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-6)
    bones = file.accessor(attributes["JOINTS_0"]).astype(np.int64)
    blended = np.einsum("nk,nkab->nab", weights, to_model[bones]).astype(np.float32)
    positions = np.einsum("nab,nb->na", blended[:, :3, :3], points) + blended[:, :3, 3]
    if "indices" in primitive:
        triangles = file.accessor(primitive["indices"])[:, 0].astype(np.uint32).reshape(-1, 3)
    else:
        triangles = np.arange(len(points), dtype=np.uint32).reshape(-1, 3)
    if "NORMAL" in attributes:
        normals = np.einsum(
            "nab,nb->na", blended[:, :3, :3], file.accessor(attributes["NORMAL"]).astype(np.float32)
        )
    else:
        normals = _vertex_normals(positions, triangles)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    morphs: dict[str, np.ndarray] = {}
    for number, target in enumerate(primitive.get("targets", ())):
        name = names[number].rpartition(".")[2] if number < len(names) else f"morph{number}"
        if "POSITION" in target:
            delta = file.accessor(target["POSITION"]).astype(np.float32)
            delta = np.einsum("nab,nb->na", blended[:, :3, :3], delta)
            if kind == TEETH:  # they follow the mouth
                name = name.removeprefix("t_")
                name = _TEETH_NAMES.get(name, name)
            morphs[name] = delta
    texture, texcoords = _texture(file, primitive, attributes)
    joints = fold[bones].astype(np.uint8)
    return _Mesh(kind, texture, positions, normals, texcoords, joints, weights, triangles, morphs)


def _texture(file: GltfFile, primitive: dict, attributes: dict) -> tuple[int, np.ndarray]:
    """The primitive's texture number (-1: none) and (V, 2) float32 coordinates in it."""
    count = file.tree["accessors"][attributes["POSITION"]]["count"]
    material = file.tree["materials"][primitive["material"]] if "material" in primitive else {}
    info = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
    if info is None:
        return -1, np.zeros((count, 2), np.float32)
    transform = info.get("extensions", {}).get("KHR_texture_transform", {})
    channel = transform.get("texCoord", info.get("texCoord", 0))
    texcoords = file.accessor(attributes[f"TEXCOORD_{channel}"]).astype(np.float32)
    if transform:
        cosine, sine = np.cos(transform.get("rotation", 0.0)), np.sin(transform.get("rotation", 0.0))
        turn = np.array([[cosine, sine], [-sine, cosine]], np.float32)
        scaled = texcoords * np.asarray(transform.get("scale", (1, 1)), np.float32)
        texcoords = scaled @ turn.T + np.asarray(transform.get("offset", (0, 0)), np.float32)
    return info["index"], texcoords


def _vertex_normals(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (positions[triangles[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros_like(positions)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], across)
    return normals


def _join(meshes: list[_Mesh]) -> dict:
    """All meshes in one set of arrays, vertices that a morph moves first."""
    counts = [len(mesh.positions) for mesh in meshes]
    starts = np.concatenate([[0], np.cumsum(counts)])
    names = sorted({name for mesh in meshes for name in mesh.morphs})
    deltas = np.zeros((len(names), int(starts[-1]), 3), np.float32)
    for start, count, mesh in zip(starts, counts, meshes, strict=False):
        for name, delta in mesh.morphs.items():
            deltas[names.index(name), start : start + count] = delta
    moved = np.any(deltas != 0, axis=(0, 2))
    order = np.concatenate([np.flatnonzero(moved), np.flatnonzero(~moved)])
    new_number = np.empty(len(order), np.uint32)
    new_number[order] = np.arange(len(order), dtype=np.uint32)

    def gather(attribute: str) -> np.ndarray:
        return np.concatenate([getattr(mesh, attribute) for mesh in meshes])[order]

    triangles = [mesh.triangles + np.uint32(start) for mesh, start in zip(meshes, starts, strict=False)]
    firsts = np.concatenate([[0], np.cumsum([len(mesh.triangles) for mesh in meshes])])
    batches = []
    for texture in sorted({mesh.texture for mesh in meshes}):
        rows = [row for row, mesh in enumerate(meshes) if mesh.texture == texture]
        first = int(firsts[rows[0]])
        batches.append((texture, first, int(firsts[rows[-1] + 1]) - first))
    return {
        "positions_m": gather("positions").astype(np.float32),
        "normals": gather("normals").astype(np.float32),
        "texcoords": gather("texcoords"),
        "joints": gather("joints"),
        "weights": gather("weights"),
        "kinds": np.repeat([mesh.kind for mesh in meshes], counts).astype(np.uint8)[order],
        "triangles": new_number[np.concatenate(triangles)],
        "batches": tuple(batches),
        "morph_names": tuple(names),
        "morph_deltas_m": np.ascontiguousarray(deltas[:, order[: int(moved.sum())]]),
    }
