"""Reading glTF 2.0 binary files: accessors (sparse, normalised, interleaved), pictures, places of nodes."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from avatar_stream.errors import RenderError

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_COMPONENTS = {
    5120: np.int8,
    5121: np.uint8,
    5122: np.int16,
    5123: np.uint16,
    5125: np.uint32,
    5126: np.float32,
}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_KNOWN_EXTENSIONS = set(
    "EXT_texture_webp KHR_mesh_quantization KHR_texture_transform KHR_materials_unlit".split()
)


class GltfFile:
    """One opened `.glb` file.

    Attributes:
        path: where it lies, for messages.
        tree: the JSON part.
    """

    def __init__(self, path: Path):
        """Read the whole file.

        Raises:
            RenderError: the file cannot be read, is no glTF 2.0 binary or needs an extension not known here.
        """
        self.path = Path(path)
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise RenderError(f"could not read the rigged person {path}: {error.strerror}") from error
        self.tree, self._binary = _split_chunks(data, self.path)
        unknown = sorted(set(self.tree.get("extensionsRequired", ())) - _KNOWN_EXTENSIONS)
        if unknown:
            raise RenderError(f"{path} needs glTF extensions that are not read here: {', '.join(unknown)}")

    def _view(self, index: int) -> tuple[memoryview, int]:
        view = self.tree["bufferViews"][index]
        start = view.get("byteOffset", 0)
        data = memoryview(self._binary)[start : start + view["byteLength"]]
        if len(data) < view["byteLength"]:
            raise RenderError(f"{self.path} is cut off: part {index} of its data is missing")
        return data, view.get("byteStride", 0)

    def accessor(self, index: int) -> np.ndarray:
        """Read one accessor.

        Args:
            index: its number in the file.

        Returns:
            (count, width) array; normalised integers become float32 in -1..1 or 0..1, others keep their type.

        Raises:
            RenderError: the data is cut off.
        """
        accessor = self.tree["accessors"][index]
        dtype, width = np.dtype(_COMPONENTS[accessor["componentType"]]), _WIDTHS[accessor["type"]]
        if "bufferView" in accessor:
            place = accessor["bufferView"], accessor.get("byteOffset", 0)
            values = self._strided(*place, dtype, accessor["count"], width)
        else:
            values = np.zeros((accessor["count"], width), dtype)
        if "sparse" in accessor:
            values = self._with_sparse(values.copy(), accessor["sparse"])
        return normalised(values) if accessor.get("normalized") else values

    def _strided(self, view: int, offset: int, dtype: np.dtype, count: int, width: int) -> np.ndarray:
        data, stride = self._view(view)
        step = (stride or dtype.itemsize * width, dtype.itemsize)
        needed = offset + step[0] * (count - 1) + dtype.itemsize * width
        if count and needed > len(data):
            raise RenderError(f"{self.path} is cut off: an array of {count} elements does not fit its data")
        return np.ndarray((count, width), dtype, data, offset, step)

    def _with_sparse(self, values: np.ndarray, sparse: dict[str, Any]) -> np.ndarray:
        where, new = sparse["indices"], sparse["values"]
        dtype = np.dtype(_COMPONENTS[where["componentType"]])
        rows = self._strided(where["bufferView"], where.get("byteOffset", 0), dtype, sparse["count"], 1)[:, 0]
        values[rows] = self._strided(
            new["bufferView"], new.get("byteOffset", 0), values.dtype, sparse["count"], values.shape[1]
        )
        return values

    def picture(self, texture: int) -> np.ndarray:
        """Decode one texture's picture.

        Args:
            texture: number of the texture.

        Returns:
            (H, W, 4) uint8 RGBA, straight alpha.

        Raises:
            RenderError: Pillow cannot read it.
        """
        entry = self.tree["textures"][texture]
        source = entry.get("extensions", {}).get("EXT_texture_webp", entry)["source"]
        data, _ = self._view(self.tree["images"][source]["bufferView"])
        try:
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
        except (UnidentifiedImageError, OSError) as error:
            raise RenderError(f"{self.path}: picture {source} cannot be decoded") from error

    def node_matrices(self) -> np.ndarray:
        """(nodes, 4, 4) float64: each node's place in the scene, as the file stands."""
        nodes = self.tree["nodes"]
        parents = self.parents()
        own = [_local_matrix(node) for node in nodes]
        placed: dict[int, np.ndarray] = {}

        def place(number: int) -> np.ndarray:
            if number not in placed:
                parent = int(parents[number])
                placed[number] = own[number] if parent < 0 else place(parent) @ own[number]
            return placed[number]

        return np.stack([place(number) for number in range(len(nodes))])

    def parents(self) -> np.ndarray:
        """(nodes,) int: each node's parent, -1 for roots."""
        parents = np.full(len(self.tree["nodes"]), -1)
        for number, node in enumerate(self.tree["nodes"]):
            parents[list(node.get("children", []))] = number
        return parents


def normalised(values: np.ndarray) -> np.ndarray:
    """Integers of a normalised accessor -> float32 (signed: -1..1, unsigned: 0..1); floats stay."""
    if values.dtype.kind == "f":
        return values
    return np.maximum(values.astype(np.float32) / np.iinfo(values.dtype).max, -1.0)


def _split_chunks(data: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    if len(data) < 20 or struct.unpack_from("<I", data)[0] != _MAGIC:
        raise RenderError(f"{path} is not a glTF binary file (.glb)")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise RenderError(f"{path} is glTF version {version}; version 2 is needed")
    if length > len(data):
        raise RenderError(f"{path} is cut off: {len(data)} of {length} bytes are there")
    chunks: dict[int, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<II", data, offset)
        chunks.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    try:
        return json.loads(chunks[_JSON]), chunks.get(_BIN, b"")
    except (KeyError, ValueError) as error:
        raise RenderError(f"{path}: its description (JSON) cannot be read") from error


def _local_matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.asarray(node.get("scale", (1, 1, 1)))
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix
