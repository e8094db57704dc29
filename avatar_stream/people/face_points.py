"""MediaPipe's 478 face points on the surface of one rigged person.

They are found once: MediaPipe looks at pictures of the person's head from several sides, each point is
carried back to the triangle it was seen on, and the sights are averaged. From then on the points follow
skin, morphs and eyes exactly. Lips are attached with the mouth open, so that upper and lower lip part; lids
with the eyes open.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from avatar_stream.errors import RenderError
from avatar_stream.images.fitting import over
from avatar_stream.landmarks import EARS_OF_FACE, LIPS, MESH
from avatar_stream.people.camera import Camera, PlacedCamera
from avatar_stream.people.parts import region_weights
from avatar_stream.people.renderer import Renderer
from avatar_stream.people.rig import BODY, EYE, HAIR, Rig
from avatar_stream.people.skeleton import INDEX, RigPose

_VERSION = 2  # goes into the name of cached files
_LOGGER = logging.getLogger(__name__)
_VIEW_PX, _VIEW_M = 512, 0.30
_YAWS_RAD = (-0.6, -0.3, 0.0, 0.3, 0.6)
_OPENINGS = (0.0, 0.45, 0.9)  # of MouthOpen_h
_AGREE_M = 0.008  # sights of one point further apart are not of the same place
_REFERENCE_OPENING = 0.6  # the face on which sights are averaged


@dataclass(frozen=True)
class FacePoints:
    """Where the points sit.

    Attributes:
        vertices: (478, 3) vertex numbers of each point's triangle.
        shares: (478, 3) float32 barycentric coordinates in it.
    """

    vertices: np.ndarray
    shares: np.ndarray

    def place(self, rig: Rig, pose: RigPose) -> np.ndarray:
        """(478, 3) float32: the points in model space in a pose, metres."""
        rows, where = np.unique(self.vertices, return_inverse=True)
        corners = rig.skinned(pose, rows)[where.reshape(self.vertices.shape)]
        return np.einsum("nk,nka->na", self.shares, corners)


def face_points(rig: Rig, renderer: Renderer | None = None, cache: Path | None = None) -> FacePoints:
    """Return a person's face points, from the cache where the file was seen before.

    Args:
        rig: who.
        renderer: one to reuse, with 512 px pictures; by default one is opened when needed.
        cache: folder of found points; by default `$XDG_CACHE_HOME/avatar_stream` (`~/.cache/avatar_stream`).

    Raises:
        RenderError: MediaPipe sees no face in the pictures of this person, or is missing.
    """
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "avatar_stream"
    digest = hashlib.sha256(rig.path.read_bytes()).hexdigest()[:24]
    file = folder / f"face-{digest}-{_VERSION}.npz"
    try:
        with np.load(file) as data:
            return FacePoints(data["vertices"], data["shares"])
    except (OSError, ValueError, KeyError):
        pass  # not found before, or half written by an older version: find them now
    if renderer is None or renderer.size_px != _VIEW_PX:
        with Renderer(_VIEW_PX) as own:
            found = attach(rig, own)
    else:
        found = attach(rig, renderer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, vertices=found.vertices, shares=found.shares)
        partial.replace(file)
    except OSError as error:
        _LOGGER.warning("face points of %s are not kept for next time: %s", rig.path.name, error)
    return found


def attach(rig: Rig, renderer: Renderer) -> FacePoints:
    """Find the points by looking at the person.

    Args:
        rig: who.
        renderer: with 512 px pictures.

    Raises:
        RenderError: MediaPipe sees no face, or is missing.
    """
    skin, eyes = _outer_skin(rig, renderer), np.flatnonzero(rig.kinds[rig.triangles[:, 0]] == EYE)
    reference = RigPose(morphs={"MouthOpen_h": _REFERENCE_OPENING})
    vertices = rig.skinned(reference, np.arange(len(rig.positions_m)))
    places, trusts, frontal = [], [], None
    mesh, irises = np.split(np.arange(478), [MESH.stop])
    for pose, camera, points in sorted(_sights(rig, renderer), key=lambda sight: abs(_yaw(sight[1]))):
        if frontal is None:  # how far to the signer's left each point lies: -1 and 1 at the ears
            right, left = points[EARS_OF_FACE, 0]
            frontal = (points[:, 0] - (right + left) / 2) / max((left - right) / 2, 1.0)
        place, trust = np.zeros((478, 3)), np.zeros(478)
        for triangles, rows in ((skin, mesh), (eyes, irises)):
            place[rows], trust[rows] = _carry_back(
                rig, renderer, pose, camera, triangles, points[rows], vertices
            )
        # A camera at one side cannot see the far cheek, though MediaPipe guesses where it is.
        trust *= np.clip((frontal * np.sin(_yaw(camera)) + 0.25) / 0.15, 0, 1)
        if pose.morphs["MouthOpen_h"] < 0.3:
            trust[list(LIPS)] = 0
        places.append(place)
        trusts.append(trust)
    if not places:
        raise RenderError(f"{rig.path}: MediaPipe finds no face on this person, so there are no face points")
    means = _agreed(np.stack(places), np.stack(trusts))
    found = [
        _nearest(vertices, rig.triangles[triangles], means[rows])
        for triangles, rows in ((skin, mesh), (eyes, irises))
    ]
    return FacePoints(*(np.concatenate(both) for both in zip(*found, strict=True)))


def _yaw(camera: PlacedCamera) -> float:
    return float(np.arctan2(camera.turn[2, 0], camera.turn[0, 0]))


def _agreed(places: np.ndarray, trusts: np.ndarray) -> np.ndarray:
    """Average (S, 478, 3) sights of the points, without those far from where most trust lies -> (478, 3)."""
    trusts = trusts + 1e-6
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    middle = np.einsum("stn,tn->sn", apart, trusts).argmin(0)
    near = apart[middle, :, np.arange(places.shape[1])].T < _AGREE_M
    trusts = trusts * near
    return (places * trusts[..., None]).sum(0) / trusts.sum(0)[:, None]


def _head_camera(rig: Rig, yaw_rad: float) -> PlacedCamera:
    eyes = (rig.bind_m[INDEX["LeftEye"]] + rig.bind_m[INDEX["RightEye"]]) / 2
    return Camera(1.2, yaw_rad).aimed(rig.bind_m, eyes - np.array([0, 0.025, 0.06]), _VIEW_M)


def _outer_skin(rig: Rig, renderer: Renderer) -> np.ndarray:
    """(N,) the head's triangles that are seen with mouth and eyes closed: no sockets, no mouth cavity."""
    on_head = region_weights(rig.joints, rig.weights)[:, 0] > 0.3
    solid = np.flatnonzero(rig.kinds[rig.triangles[:, 0]] != HAIR)
    closed = RigPose(morphs={"ReyeClose_h": 1.0, "LeyeClose_h": 1.0})
    seen = [
        np.unique(renderer.triangle_map(rig, closed, _head_camera(rig, yaw), solid))
        for yaw in (-1.3, -0.9, *_YAWS_RAD, 0.9, 1.3)
    ]
    seen = np.unique(np.concatenate(seen))
    seen = seen[seen >= 0]
    first = rig.triangles[seen, 0]
    return seen[(rig.kinds[first] == BODY) & on_head[first]]


def _sights(rig: Rig, renderer: Renderer) -> Iterator[tuple[RigPose, PlacedCamera, np.ndarray]]:
    """Yield (pose, camera, (478, 2) px) for every picture in which MediaPipe finds the face."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    bald = replace(
        rig, batches=tuple(batch for batch in rig.batches if rig.kinds[rig.triangles[batch[1], 0]] != HAIR)
    )
    with FaceMesh(static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.2) as mesh:
        for yaw in _YAWS_RAD:
            for opening in _OPENINGS:
                pose, camera = RigPose(morphs={"MouthOpen_h": opening}), _head_camera(rig, yaw)
                image = renderer.draw(bald, pose, camera).image
                faces = mesh.process(over(image, 140).astype(np.uint8)).multi_face_landmarks
                if faces:
                    points = np.array([(point.x, point.y) for point in faces[0].landmark], np.float64)
                    yield pose, camera, points * _VIEW_PX


def _carry_back(
    rig: Rig,
    renderer: Renderer,
    pose: RigPose,
    camera: PlacedCamera,
    triangles: np.ndarray,
    points: np.ndarray,
    reference: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Points of a picture -> (N, 3) places on the reference face, and (N,) trust 0..1 in each."""
    seen = renderer.triangle_map(rig, pose, camera, triangles)
    away, nearest = ndimage.distance_transform_edt(seen < 0, return_indices=True)
    columns, rows = np.clip(np.floor(points).astype(int), 0, _VIEW_PX - 1).T
    inside = (nearest[0][rows, columns], nearest[1][rows, columns])
    miss_px = away[rows, columns]
    targets = np.where((miss_px > 0)[:, None], np.stack([inside[1], inside[0]], 1) + 0.5, points)
    corners = rig.triangles[seen[inside]]
    used, where = np.unique(corners, return_inverse=True)
    now = rig.skinned(pose, used)[where.reshape(corners.shape)]
    shares = _screen_shares(camera, now, targets)
    across = np.cross(now[:, 1] - now[:, 0], now[:, 2] - now[:, 0])
    to_eye = camera.eye_m() - now.mean(1)
    slant = (across * to_eye).sum(1) / np.maximum(
        np.linalg.norm(across, axis=1) * np.linalg.norm(to_eye, axis=1), 1e-12
    )
    trust = np.clip(slant, 0.02, 1) ** 2 / (1 + (miss_px / 3) ** 2)
    return np.einsum("nk,nka->na", shares, reference[corners]), trust


def _screen_shares(camera: PlacedCamera, corners: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N, 3) barycentric coordinates of picture points in projected triangles, kept inside them."""
    flat, _ = camera.project(corners.astype(np.float64), _VIEW_PX)
    a, b, c = flat[:, 0], flat[:, 1], flat[:, 2]

    def area(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])

    whole = area(a, b, c)
    whole = np.where(np.abs(whole) < 1e-6, 1e-6, whole)
    shares = np.stack([area(targets, b, c), area(a, targets, c), area(a, b, targets)], 1) / whole[:, None]
    shares = np.clip(shares, 0, 1)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-9)


def _nearest(
    vertices: np.ndarray, triangles: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest place on a surface: (N, 3) vertex numbers, (N, 3) float32 barycentric coordinates."""
    _, candidates = cKDTree(vertices[triangles].mean(1)).query(points, k=min(24, len(triangles)))
    corners = vertices[triangles[candidates]]  # (N, K, 3, 3)
    a, ab, ac = corners[:, :, 0], corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    away = points[:, None] - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (away * ab).sum(-1), (away * ac).sum(-1)
    whole = np.maximum(d00 * d11 - d01 * d01, 1e-18)
    v, w = (d11 * d20 - d01 * d21) / whole, (d00 * d21 - d01 * d20) / whole
    shares = np.clip(np.stack([1 - v - w, v, w], -1), 0, 1)
    shares /= shares.sum(-1, keepdims=True)
    distance = np.linalg.norm(np.einsum("nks,nksa->nka", shares, corners) - points[:, None], axis=-1)
    best = distance.argmin(1)
    row = np.arange(len(points))
    return triangles[candidates[row, best]].astype(np.int32), shares[row, best].astype(np.float32)
