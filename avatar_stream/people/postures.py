"""A whole person's posture as numbers that blend, and their way to joint rotations without collisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from avatar_stream.people.arms import SWIVELS, Arm, ArmPlace
from avatar_stream.people.body_space import BodySpace
from avatar_stream.people.expressions import MORPHS, weights
from avatar_stream.people.handshapes import shape
from avatar_stream.people.skeleton import INDEX, PARENTS, RigPose, rest_rotations
from avatar_stream.turns import about, unit
from avatar_stream.types import SIDE_PER_SHOULDERS_AND_TORSO

SIDES = ("Left", "Right")
LEFT, RIGHT = 0, 1
_X, _Y, _Z = np.eye(3)
_TRUNK_ROWS = [
    INDEX[n] for n in ("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head", "LeftShoulder", "RightShoulder")
]
# Balls along an arm: elbow, three on the forearm, wrist; then the hand's.
_ARM_PARTS = np.array([0.0, 0.3, 0.6, 0.85, 1.0])
_ARM_RADII = np.array([0.046, 0.042, 0.036, 0.030, 0.026])
_ALLOWED_M = 0.003  # skin gives way
_PUSHES = 5


@dataclass(frozen=True)
class ArmState:
    """One arm: everything in it may be blended number by number.

    Attributes:
        wrist: (3,) metres from the middle of the shoulders, in the chest's axes.
        angles: (4,) radians, see arms.py: swivel, roll, flexion, deviation.
        shape: (5, 4) radians, see handshapes.py.
    """

    wrist: np.ndarray
    angles: np.ndarray
    shape: np.ndarray


@dataclass(frozen=True)
class Posture:
    """A whole person.

    Attributes:
        trunk: (8,) radians: lean, sway, turn, nod, tilt, look, shrug left and right; lean and nod forwards,
            sway, turn, tilt and look to the signer's left, shrugs upwards.
        arms: left and right.
        face: (len(MORPHS),) weights.
        gaze: (2,) radians yaw, pitch.
    """

    trunk: np.ndarray
    arms: tuple[ArmState, ArmState]
    face: np.ndarray
    gaze: np.ndarray


class Stand:
    """A trunk in place: accumulated turns (J, 3, 3), places (J, 3) and joint rotations so far."""

    def __init__(self, bind_m: np.ndarray, trunk: np.ndarray):
        """Pose hips, spine, neck and head by `trunk` (8,), see Posture."""
        lean, sway, turn, nod, tilt, look = trunk[:6]
        self.rotations = rest_rotations().astype(np.float64)
        self.turns = self.rotations.copy()
        self.places = bind_m.copy()
        for name, part in (("Hips", 0.1), ("Spine", 0.25), ("Spine1", 0.3), ("Spine2", 0.35)):
            bend = about(_X, part * lean) @ about(_Z, -part * sway)
            self.rotations[INDEX[name]] = about(_Y, part * turn) @ bend
        for name, part in (("Neck", 0.45), ("Head", 0.55)):
            self.rotations[INDEX[name]] = (
                about(_Y, part * look) @ about(_X, part * nod) @ about(_Z, -part * tilt)
            )
        self.shrugs = trunk[6:8]
        self._bind_m = bind_m
        for row in _TRUNK_ROWS:
            self.follow(row)

    def follow(self, row: int) -> None:
        """Forward kinematics of one joint whose parent is in place."""
        parent = PARENTS[row]
        if parent < 0:
            self.turns[row], self.places[row] = self.rotations[row], self._bind_m[row]
            return
        self.turns[row] = self.turns[parent] @ self.rotations[row]
        self.places[row] = self.places[parent] + self.turns[parent] @ (
            self._bind_m[row] - self._bind_m[parent]
        )


class RigBody:
    """One person's proportions: turns postures into rig poses and wanted hands into arm states."""

    def __init__(self, bind_m: np.ndarray):
        """Measure bind positions (J, 3), metres."""
        self.bind_m = np.asarray(bind_m, np.float64)
        self.arms = tuple(Arm(self.bind_m, side) for side in SIDES)
        self.body = BodySpace(self.bind_m)
        self.arm_m = self.arms[0].length_m
        self._chest = INDEX["Spine2"]
        joints = self.bind_m[[INDEX["LeftArm"], INDEX["RightArm"]]]
        self._middle = joints.mean(0) - self.bind_m[self._chest]
        scale = self.arms[0].hand.palm_m / 0.083
        self._arm_radii = _ARM_RADII * np.sqrt(scale)
        fingers = np.full((5, 4), 0.0085)
        fingers[0] = 0.0095
        between_joints = np.full((5, 3), 0.0085)
        self._hand_radii = scale * np.concatenate(
            (fingers.ravel(), between_joints.ravel(), np.full(5, 0.014))
        )

    def stand(self, trunk: np.ndarray) -> Stand:
        """Put the trunk (8,) in place."""
        return Stand(self.bind_m, trunk)

    def to_space(self, stand: Stand, point: np.ndarray) -> np.ndarray:
        """(3,) metres in the model of a point counted from the shoulders' middle in the chest's axes."""
        return stand.places[self._chest] + stand.turns[self._chest] @ (self._middle + point)

    def to_chest(self, stand: Stand, point: np.ndarray) -> np.ndarray:
        """The inverse of `to_space`."""
        return stand.turns[self._chest].T @ (point - stand.places[self._chest]) - self._middle

    def shoulder(self, stand: Stand, side: int, wrist: np.ndarray) -> np.ndarray:
        """Move the shoulder girdle towards a wrist (3,) in chest axes; return the shoulder joint (3,), m."""
        arm = self.arms[side]
        up = np.clip(wrist[1] / self.arm_m + 0.35, 0, 1.3)
        forward = np.clip(wrist[2] / self.arm_m, 0, 1) * np.clip(
            1.1 - wrist[0] * arm.mirror / self.arm_m, 0, 1.5
        )
        row = arm.rows[0]
        stand.rotations[row] = arm.clavicle(0.32 * up - 0.13 + stand.shrugs[side], 0.16 * forward)
        stand.follow(row)
        stand.follow(arm.rows[1])
        return stand.places[arm.rows[1]]

    def hand_balls(self, side: int, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(20, 3, 3) joint rotations of a shape and (40, 3) centres of its balls from the wrist, metres."""
        hand = self.arms[side].hand
        rotations = hand.rotations(shape)
        points = hand.points(rotations)
        middles = (points[:, 1:] + points[:, :-1]) / 2
        balls = np.concatenate((points.reshape(20, 3), middles.reshape(15, 3), 0.55 * points[:, 0]))
        return rotations.reshape(20, 3, 3), balls

    def arm_state(
        self,
        stand: Stand,
        side: int,
        hand_turn: np.ndarray,
        shape: np.ndarray,
        at: np.ndarray,
        offset: np.ndarray | None = None,
    ) -> tuple[ArmState, float]:
        """The arm that brings a point of the hand to a place.

        Args:
            stand: the trunk.
            side: 0 left, 1 right.
            hand_turn: (3, 3) wanted accumulated turn of the hand.
            shape: (5, 4) radians.
            at: (3,) metres in the model.
            offset: (3,) metres from the wrist to that point in the hand's unturned axes; None: the wrist
                itself.

        Returns:
            The state within the limits, and a measure of what had to give way (radians and 10 cm count
            alike).
        """
        arm, chest = self.arms[side], stand.turns[self._chest]
        offset = np.zeros(3) if offset is None else offset
        turn, missed = hand_turn, 0.0
        for _ in range(2):
            wanted = at - turn @ offset
            shoulder = self.shoulder(stand, side, self.to_chest(stand, wanted))
            wrist = arm.clamp_reach(shoulder, wanted)
            elbows = arm.elbows(chest, shoulder, wrist)
            radii = np.full(len(SWIVELS), 0.046)
            depth, _ = self.body.push(stand.turns, stand.places, (2 * elbows + wrist) / 3, radii)
            cost = 60.0 * np.maximum(depth, 0.0)
            depth, _ = self.body.push(stand.turns, stand.places, elbows, radii)
            angles, passed = arm.fit(chest, shoulder, wrist, hand_turn, cost + 60.0 * np.maximum(depth, 0.0))
            turn = arm.place(chest, shoulder, wrist, angles).hand
            missed = passed + 10 * float(np.linalg.norm(wrist - wanted))
        wrist = at - turn @ offset
        return ArmState(self.to_chest(stand, wrist), angles, shape), missed

    def resolve(self, posture: Posture) -> tuple[RigPose, float]:
        """Joint rotations of a posture, with arms pushed out of the body and out of each other.

        Returns:
            The rig pose, and the depth in metres that remains between limbs or in the body (0 = none).
        """
        stand = self.stand(posture.trunk)
        depth, _ = self.settle(stand, posture.arms)
        pose = RigPose(
            stand.rotations.astype(np.float32),
            np.zeros(3, np.float32),
            weights(posture.face),
            posture.gaze.astype(np.float32),
        )
        return pose, depth

    def settle(
        self, stand: Stand, states: Sequence[ArmState], forwards: bool = False
    ) -> tuple[float, np.ndarray]:
        """Write both arms into a stand's rotations, pushed out of the body and out of each other.

        Args:
            stand: the trunk; its rotations are completed in place.
            states: left and right.
            forwards: push towards the viewer rather than the shortest way, which keeps the picture of a
                tracked arm.

        Returns:
            The depth in metres that remains between limbs or in the body (0 = none), and (2, 3) metres: how
            far the wrists were pushed, in the chest's axes.
        """
        hands = [self.hand_balls(side, states[side].shape) for side in (0, 1)]
        wrists = [self.to_space(stand, state.wrist) for state in states]
        shoulders = [self.shoulder(stand, side, states[side].wrist) for side in (0, 1)]
        for attempt in range(_PUSHES):
            places = [
                self.arms[side].place(
                    stand.turns[self._chest], shoulders[side], wrists[side], states[side].angles
                )
                for side in (0, 1)
            ]
            moves, depth = self._moves(stand, places, [balls for _, balls in hands], forwards)
            if depth <= _ALLOWED_M or attempt == _PUSHES - 1:
                break
            wrists = [place.wrist_m + 1.05 * move for place, move in zip(places, moves, strict=True)]
        for side in (0, 1):
            arm = self.arms[side]
            arm.write(stand.rotations, stand.turns[arm.rows[0]], places[side])
            stand.rotations[arm.hand.first : arm.hand.first + 20] = hands[side][0]
        pushed = [
            self.to_chest(stand, place.wrist_m) - state.wrist
            for place, state in zip(places, states, strict=True)
        ]
        return max(depth - _ALLOWED_M, 0.0), np.stack(pushed)

    def _moves(
        self, stand: Stand, places: list[ArmPlace], hands: list[np.ndarray], forwards: bool
    ) -> tuple[list[np.ndarray], float]:
        """(3,) metres each wrist should move by, and the greatest depth."""
        balls = []
        for place, hand in zip(places, hands, strict=True):
            arm = place.elbow_m + _ARM_PARTS[:, None] * (place.wrist_m - place.elbow_m)
            balls.append(np.concatenate((arm, place.wrist_m + hand @ place.hand.T)))
        radii = np.concatenate((self._arm_radii, self._hand_radii))
        depth, way = self.body.push(stand.turns, stand.places, np.concatenate(balls), np.tile(radii, 2))
        depth, way = depth.reshape(2, -1), way.reshape(2, -1, 3)
        deepest = depth.argmax(1)
        if forwards:
            way = 0.3 * way + np.array([0.0, 0.0, 1.0])
        moves = [way[s, deepest[s]] * max(depth[s, deepest[s]], 0.0) for s in (0, 1)]
        overlap, row, column = _overlap(balls[0], balls[1], radii)
        if overlap > _ALLOWED_M:
            # Two finger balls may have passed each other already: the hands' own centres say which way is
            # back.
            direction = balls[0][row] - balls[1][column] + 0.5 * (balls[0][5:].mean(0) - balls[1][5:].mean(0))
            if forwards:  # which hand is in front stays as it is, and where both are seen as well
                direction = np.array([0.0, 0.0, 1.0 if direction[2] > 0 else -1.0])
            step = 0.5 * overlap * direction / (np.sqrt(direction @ direction) + 1e-9)
            moves = [moves[0] + step, moves[1] - step]
        return moves, max(float(depth.max()), overlap)


@njit(cache=True)
def _overlap(left: np.ndarray, right: np.ndarray, radii: np.ndarray) -> tuple[float, int, int]:
    """The greatest overlap between balls of two arms, metres, and their rows."""
    best, row, column = -np.inf, 0, 0
    for i in range(len(left)):
        for j in range(len(right)):
            x, y, z = left[i, 0] - right[j, 0], left[i, 1] - right[j, 1], left[i, 2] - right[j, 2]
            distance = np.sqrt(x * x + y * y + z * z)
            if radii[i] + radii[j] - distance > best:
                best, row, column = radii[i] + radii[j] - distance, i, j
    return best, row, column


def mirrored(posture: Posture) -> Posture:
    """The posture as a left-hander's: sides exchanged, turns to the other side."""
    left, right = posture.arms
    flip = np.array([-1.0, 1.0, 1.0])
    trunk = posture.trunk * np.array([1, -1, -1, 1, -1, -1, 1, 1])
    trunk[[6, 7]] = trunk[[7, 6]]
    arms = (replace(right, wrist=right.wrist * flip), replace(left, wrist=left.wrist * flip))
    return replace(posture, trunk=trunk, arms=arms, gaze=posture.gaze * np.array([-1.0, 1.0]))


def portrait_arm(figure: RigBody, stand: Stand, side: int) -> ArmState:
    """An arm beside the hips with its whole relaxed hand inside the canonical frame; no chance in it."""
    arm = figure.arms[side]
    hips = figure.bind_m[[INDEX["LeftUpLeg"], INDEX["RightUpLeg"]]].mean(0)
    shoulders = figure.bind_m[[figure.arms[0].rows[1], figure.arms[1].rows[1]]]
    width = np.linalg.norm(shoulders[0] - shoulders[1])
    frame_m = SIDE_PER_SHOULDERS_AND_TORSO * (width + np.linalg.norm(shoulders.mean(0) - hips))
    lowest = -(0.54 * frame_m - 0.03 * frame_m)
    at = np.array([arm.mirror * (0.5 * width + 0.13), lowest + 2.15 * arm.hand.palm_m, 0.09])
    palm = np.array([-1, 0, 0.75 if side == LEFT else 0.15]) * (arm.mirror, 1, 1)
    turn = arm.hand_turn(unit(np.array([0.12 * arm.mirror, -1, 0.12])), unit(palm))
    angles = 0.6 * shape("relaxed") + 0.4 * shape("open")
    return figure.arm_state(stand, side, turn, angles, figure.to_space(stand, at))[0]


def portrait(figure: RigBody) -> Posture:
    """The neutral portrait: upright, looking at the viewer, both whole hands beside the hips."""
    trunk = np.zeros(8)
    stand = figure.stand(trunk)
    arms = (portrait_arm(figure, stand, LEFT), portrait_arm(figure, stand, RIGHT))
    return Posture(trunk, arms, np.zeros(len(MORPHS)), np.zeros(2))
