"""The space a person's trunk, neck and head take, from bind positions alone, and places on their surface."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from avatar_stream.people.skeleton import INDEX
from avatar_stream.turns import unit

# Places on the face, metres from the middle of the eyes of an average head (x = the hand's own side), and
# what way the skin looks there. Measured on the meshes of eight people.
FACE_SITES = {
    "nose": ((0.0, -0.036, 0.055), (0.0, 0.0, 1.0)),
    "chin": ((0.0, -0.104, 0.031), (0.0, -0.45, 0.9)),
    "mouth": ((0.0, -0.066, 0.040), (0.0, 0.0, 1.0)),
    "forehead": ((0.02, 0.045, 0.034), (0.15, 0.25, 0.95)),
    "cheek": ((0.050, -0.045, 0.008), (0.7, -0.1, 0.7)),
    "temple": ((0.075, 0.018, -0.030), (0.95, 0.1, 0.3)),
    "ear": ((0.088, -0.020, -0.080), (1.0, 0.0, 0.2)),
    "eye": ((0.045, 0.006, 0.022), (0.4, 0.1, 0.9)),
}
_HEAD_M = 0.18  # from Head to HeadEnd of the average head


class BodySpace:
    """Ellipsoids that move with joints: where arms, hands and fingers must not go."""

    def __init__(self, bind_m: np.ndarray):
        """Size the ellipsoids from bind positions (J, 3), metres."""
        bind = np.asarray(bind_m, np.float64)
        self._bind = bind
        self.eyes = (bind[INDEX["LeftEye"]] + bind[INDEX["RightEye"]]) / 2
        self.head_scale = float((bind[INDEX["HeadEnd"]] - bind[INDEX["Head"]])[1] / _HEAD_M)
        shapes = self._trunk(bind) + self._head(bind)
        self.joints = np.array([INDEX[name] for name, _, _ in shapes])
        self.radii = np.array([radii for _, _, radii in shapes])
        self.offsets = np.array([centre for _, centre, _ in shapes]) - bind[self.joints]

    @staticmethod
    def _trunk(bind: np.ndarray) -> list[tuple]:
        hips, neck = bind[INDEX["Hips"]], bind[INDEX["Neck"]]
        height = neck[1] - hips[1]
        width = bind[INDEX["LeftArm"], 0] - bind[INDEX["RightArm"], 0]
        depth = 0.5 * (width + 0.33)  # wide people are not as much deeper as they are wider
        up = (-0.06 * height, 0.35 * height, 0.66 * height)
        ahead = (0.040, 0.064, 0.050)
        radii = ((0.50, 0.42, 0.36), (0.46, 0.45, 0.36), (0.50, 0.40, 0.38))
        return [
            (name, np.array([0, hips[1] + y, z]), (x * width, r * height, d * depth))
            for name, y, z, (x, r, d) in zip(("Hips", "Spine1", "Spine2"), up, ahead, radii, strict=True)
        ]

    def _head(self, bind: np.ndarray) -> list[tuple]:
        scale, eyes = self.head_scale, self.eyes
        neck = (bind[INDEX["Neck"]] + bind[INDEX["Head"]]) / 2
        parts = [
            ((0, 0.005, -0.075), (0.090, 0.132, 0.108)),
            ((0, -0.065, -0.028), (0.060, 0.056, 0.066)),
            ((0, -0.034, 0.030), (0.016, 0.026, 0.024)),
        ]
        head = [("Head", eyes + scale * np.array(at), tuple(scale * r for r in radii)) for at, radii in parts]
        return [("Neck", neck, (0.062, 0.10, 0.066)), *head]

    def push(
        self, turns: np.ndarray, places: np.ndarray, points: np.ndarray, radii: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """How deep balls stand inside the body.

        Args:
            turns: (J, 3, 3) accumulated rotations.
            places: (J, 3) joint positions, metres.
            points: (N, 3) centres of the balls, metres.
            radii: (N,) of the balls, metres.

        Returns:
            (N,) metres of depth in the ellipsoid they are deepest in (negative: free), and (N, 3) unit ways
            out.
        """
        turn = turns[self.joints]
        centres = places[self.joints] + (turn @ self.offsets[:, :, None])[..., 0]
        return _push(turn, centres, self.radii, points, radii)

    def face_site(
        self, turns: np.ndarray, places: np.ndarray, name: str, mirror: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(3,) metres and (3,) outward direction of one of `FACE_SITES` on the side `mirror` (1 = left)."""
        at, way = (np.array(value) * (mirror, 1, 1) for value in FACE_SITES[name])
        head = INDEX["Head"]
        offset = self.eyes + self.head_scale * at - self._bind[head]
        return places[head] + turns[head] @ offset, unit(turns[head] @ way)

    def chest_site(
        self, turns: np.ndarray, places: np.ndarray, across: float, up: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(3,) metres and outward direction on the chest's front; across (left positive) and up are -1..1."""
        chest = 2
        row = self.joints[chest]
        x, y = 0.72 * across, 0.72 * up
        ball = np.array([x, y, np.sqrt(1 - x * x - y * y)])
        offset = self.offsets[chest] + self.radii[chest] * ball
        return places[row] + turns[row] @ offset, unit(turns[row] @ (ball / self.radii[chest]))


@njit(cache=True)
def _push(turns, centres, axes, points, radii) -> tuple:  # type: ignore[no-untyped-def]
    """Depth (N,) and way out (N, 3) of balls among ellipsoids; first-order distance, exact on the surface."""
    depth = np.full(len(points), -np.inf)
    way = np.zeros((len(points), 3))
    for n in range(len(points)):
        for e in range(len(centres)):
            near, steep = 0.0, 0.0
            gradient = np.zeros(3)
            for k in range(3):
                local = 0.0
                for i in range(3):
                    local += (points[n, i] - centres[e, i]) * turns[e, i, k]
                near += (local / axes[e, k]) ** 2
                slope = local / axes[e, k] ** 2
                steep += slope * slope
                for i in range(3):
                    gradient[i] += turns[e, i, k] * slope
            near, steep = math.sqrt(near) + 1e-9, math.sqrt(steep) + 1e-9
            inside = radii[n] - near * (near - 1) / steep
            if inside > depth[n]:
                depth[n] = inside
                way[n] = gradient / steep
    return depth, way
