"""One arm of a rigged person: from a wrist in space to joint rotations, inside what an arm can do.

An arm's posture is four angles besides the wrist's place: the elbow's swivel about the line from shoulder to
wrist (0 = down and a bit outwards, positive = up and outwards), the forearm's roll (0 = thumb up when the
forearm points forwards, positive = palm up), the wrist's flexion (towards the palm) and its deviation
(towards the thumb).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from avatar_stream.people.handshapes import Hand
from avatar_stream.people.skeleton import INDEX
from avatar_stream.turns import about, between, cross, frame, from_vector, to_vector, twist, unit

LOWEST = np.deg2rad([-35.0, -88.0, -68.0, -32.0])
HIGHEST = np.deg2rad([100.0, 92.0, 70.0, 24.0])
SWIVELS = np.deg2rad(np.arange(-35.0, 101.0, 11.25))
ROLL_OF_FOREARM = 0.55  # the rig has no twist joints: elbow and wrist share the forearm's roll
REACH = (0.30, 0.985)  # of the arm's length; beyond it the elbow would lock or fold flat


@dataclass(frozen=True)
class ArmPlace:
    """Where an arm's bones are: accumulated rotations (3, 3) and places (3,) in metres."""

    arm: np.ndarray
    forearm: np.ndarray
    hand: np.ndarray
    shoulder_m: np.ndarray
    elbow_m: np.ndarray
    wrist_m: np.ndarray


class Arm:
    """One arm of one person, measured from bind positions."""

    def __init__(self, bind_m: np.ndarray, side: str):
        """Measure the arm of `side` ("Left" or "Right") in bind positions (J, 3), metres."""
        bind = np.asarray(bind_m, np.float64)
        self.side = side
        self.mirror = 1.0 if side == "Left" else -1.0
        self.hand = Hand(bind, side)
        self.rows = [INDEX[f"{side}{name}"] for name in ("Shoulder", "Arm", "ForeArm", "Hand")]
        shoulder, elbow, wrist = bind[self.rows[1:]]
        self.upper_m = float(np.linalg.norm(elbow - shoulder))
        self.fore_m = float(np.linalg.norm(wrist - elbow))
        self.length_m = self.upper_m + self.fore_m
        hinge = np.array([0.0, -self.mirror, 0.0])  # at bind time the elbow bends forwards
        self.forearm_axis = unit(wrist - elbow)
        self._upper_inverse = frame(unit(elbow - shoulder), hinge).T
        self._fore_inverse = frame(self.forearm_axis, hinge).T
        self._flexion = cross(self.hand.along, self.hand.palm)
        self._deviation = self.mirror * self.hand.palm
        # An elbow's natural way for a wrist straight ahead; other wrists turn it along. Only behind the
        # back, where no wrist goes, it is undefined.
        self._ahead = unit(np.array([-0.2 * self.mirror, 0.1, 1.0]))
        self._below = np.array([0.45 * self.mirror, -1.0, 0.0])

    def clamp_reach(self, shoulder_m: np.ndarray, wrist_m: np.ndarray) -> np.ndarray:
        """(3,) the wrist, moved along its line from the shoulder into reach."""
        line = wrist_m - shoulder_m
        distance = np.sqrt(line @ line) + 1e-9
        return shoulder_m + line * (
            np.clip(distance, self.length_m * REACH[0], self.length_m * REACH[1]) / distance
        )

    def _bones(
        self, chest: np.ndarray, shoulder_m: np.ndarray, wrist_m: np.ndarray, swivel: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Elbow (..., 3) and turns of upper arm and unrolled forearm (..., 3, 3) for swivels (...)."""
        down = self._down(chest, unit(wrist_m - shoulder_m))
        swivels = np.asarray(swivel, np.float64)
        places = _elbows(
            shoulder_m,
            wrist_m,
            down,
            float(self.mirror),
            float(self.upper_m),
            float(self.fore_m),
            swivels.ravel(),
        )
        elbow, upper, fore = (each.reshape(*swivels.shape, 3) for each in places)
        hinge = cross(upper, fore)
        return elbow, frame(upper, hinge) @ self._upper_inverse, frame(fore, hinge) @ self._fore_inverse

    def _down(self, chest: np.ndarray, line: np.ndarray) -> np.ndarray:
        """(3,) unit direction of the elbow from the shoulder-wrist line (3,) at swivel 0."""
        down = between(chest @ self._ahead, line) @ (chest @ self._below)
        return unit(down - line * (down @ line))

    def wrist_angles(self, forearm: np.ndarray, hand: np.ndarray) -> np.ndarray:
        """(..., 3) roll, flexion, deviation in radians of hand turns relative to unrolled forearm turns."""
        relative = np.swapaxes(forearm, -1, -2) @ hand
        roll = -twist(np.swapaxes(relative, -1, -2), self.forearm_axis)
        bend = to_vector(np.swapaxes(about(self.forearm_axis, roll), -1, -2) @ relative)
        return np.stack((-self.mirror * roll, bend @ self._flexion, bend @ self._deviation), -1)

    def fit(
        self,
        chest: np.ndarray,
        shoulder_m: np.ndarray,
        wrist_m: np.ndarray,
        hand: np.ndarray,
        cost: np.ndarray | None = None,
    ) -> tuple[np.ndarray, float]:
        """The posture that comes nearest to a wanted wrist and hand.

        Args:
            chest: (3, 3) the chest's turn, for what is down and outwards.
            shoulder_m: (3,) the shoulder joint, metres.
            wrist_m: (3,) a wrist within reach.
            hand: (3, 3) the wanted accumulated turn of the hand.
            cost: what each of `SWIVELS` costs besides (an elbow inside the body), or None.

        Returns:
            (4,) angles in radians within the limits, and how far the limits were passed, radians.
        """
        _, _, forearms = self._bones(chest, shoulder_m, wrist_m, SWIVELS)
        angles = self.wrist_angles(forearms, hand)
        passed = np.maximum(LOWEST[1:] - angles, 0) + np.maximum(angles - HIGHEST[1:], 0)
        total = 2.0 * (passed**2).sum(-1) + 0.25 * SWIVELS**2 + 0.05 * (angles**2).sum(-1)
        best = int((total if cost is None else total + cost).argmin())
        wanted = np.concatenate(([SWIVELS[best]], angles[best]))
        return np.clip(wanted, LOWEST, HIGHEST), float(np.sqrt((passed[best] ** 2).sum())) + 0.4 * max(
            SWIVELS[best] - 0.35, 0.0
        )

    def elbows(self, chest: np.ndarray, shoulder_m: np.ndarray, wrist_m: np.ndarray) -> np.ndarray:
        """(len(SWIVELS), 3) metres: where the elbow would be for each of `SWIVELS`."""
        return self._bones(chest, shoulder_m, wrist_m, SWIVELS)[0]

    def swivel(
        self, chest: np.ndarray, shoulder_m: np.ndarray, wrist_m: np.ndarray, elbow_m: np.ndarray
    ) -> float:
        """Radians: the swivel whose elbow lies nearest to `elbow_m` (3,)."""
        line = unit(wrist_m - shoulder_m)
        down = self._down(chest, line)
        elbow = elbow_m - shoulder_m
        return float(np.arctan2(elbow @ (self.mirror * cross(line, down)), elbow @ down))

    def place(
        self, chest: np.ndarray, shoulder_m: np.ndarray, wrist_m: np.ndarray, angles: np.ndarray
    ) -> ArmPlace:
        """Bones for a wrist (3,) metres and posture angles (4,) radians; both are moved into the limits."""
        swivel, roll, flexion, deviation = np.clip(angles, LOWEST, HIGHEST)
        wrist_m = self.clamp_reach(shoulder_m, wrist_m)
        elbow, upper, fore = self._bones(chest, shoulder_m, wrist_m, swivel)
        about_axis = -self.mirror * roll
        bend = from_vector(flexion * self._flexion + deviation * self._deviation)
        hand = fore @ about(self.forearm_axis, about_axis) @ bend
        fore = fore @ about(self.forearm_axis, ROLL_OF_FOREARM * about_axis)
        return ArmPlace(upper, fore, hand, shoulder_m, elbow, wrist_m)

    def write(self, rotations: np.ndarray, clavicle: np.ndarray, place: ArmPlace) -> None:
        """Put the arm's rotations into (J, 3, 3) `rotations`; `clavicle` is its parent's accumulated turn."""
        _, arm, forearm, hand = self.rows
        rotations[arm] = clavicle.T @ place.arm
        rotations[forearm] = place.arm.T @ place.forearm
        rotations[hand] = place.forearm.T @ place.hand

    def hand_turn(self, fingers: np.ndarray, palm: np.ndarray) -> np.ndarray:
        """(3, 3) accumulated turn of a hand whose fingers point to, and palm faces, directions (3,)."""
        return frame(fingers, palm) @ frame(self.hand.along, self.hand.palm).T

    def clavicle(self, raise_rad: float, forward_rad: float) -> np.ndarray:
        """(3, 3) the shoulder girdle's rotation: raised and drawn forwards, radians."""
        forward = about(np.array([0.0, -self.mirror, 0.0]), forward_rad)
        return forward @ about(np.array([0.0, 0.0, self.mirror]), raise_rad)


@njit(cache=True)
def _elbows(shoulder, wrist, down, mirror, upper_m, fore_m, swivels):  # type: ignore[no-untyped-def]
    """Elbow places and both bones' unit directions, (N, 3) each, for (N,) swivels about shoulder-wrist."""
    line = wrist - shoulder
    distance = math.sqrt(line[0] ** 2 + line[1] ** 2 + line[2] ** 2) + 1e-9
    line /= distance
    along = (upper_m**2 - fore_m**2 + distance**2) / (2 * distance)
    radius = math.sqrt(max(upper_m**2 - along**2, 1e-8))
    elbow, upper, fore = np.empty((len(swivels), 3)), np.empty((len(swivels), 3)), np.empty((len(swivels), 3))
    for n in range(len(swivels)):
        cosine, sine = radius * math.cos(swivels[n]), mirror * radius * math.sin(swivels[n])
        for k in range(3):
            out = line[(k + 1) % 3] * down[(k + 2) % 3] - line[(k + 2) % 3] * down[(k + 1) % 3]
            elbow[n, k] = shoulder[k] + line[k] * along + cosine * down[k] + sine * out
            upper[n, k] = (elbow[n, k] - shoulder[k]) / upper_m
            fore[n, k] = (wrist[k] - elbow[n, k]) / fore_m
    return elbow, upper, fore
