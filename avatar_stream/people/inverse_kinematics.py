"""From MediaPipe's landmarks to a rigged person's joint rotations, inside what a body can do.

Depth from one camera is a guess, lengths of bones are known: where the picture shows a bone shorter than it
is, it points towards or away from the camera, and the tracker's depth only says which of the two.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avatar_stream.landmarks import ELBOWS, HIPS, MESH, MIRROR_ROWS, SHOULDERS, WRISTS
from avatar_stream.people import face_fit
from avatar_stream.people.arms import Arm
from avatar_stream.people.hand_fit import FingerFit, fit_palm
from avatar_stream.people.handshapes import shape
from avatar_stream.people.postures import LEFT, RIGHT, ArmState, RigBody, Stand, portrait
from avatar_stream.people.skeleton import INDEX, RigPose
from avatar_stream.turns import about, from_vector, to_vector, unit
from avatar_stream.types import FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, SHOULDER_CENTRE, Pose

_SHOULDER_JOINTS, _HIP_JOINTS = (
    [INDEX[f"{side}{name}"] for side in ("Left", "Right")] for name in ("Arm", "UpLeg")
)
# Rows of a mirrored pose: body and hands change sides, the mesh's own rows do not move.
_SWAPPED = np.where(
    np.isin(np.arange(POINT_COUNT), np.arange(POINT_COUNT)[FACE]), np.arange(POINT_COUNT), MIRROR_ROWS
)
_SEEN = 0.35  # confidence below which a body point is not used
_CALIBRATION_S = 1.0
_HOLD_S, _EASE_S = 0.3, 0.2  # of a hand that is no longer seen
_FORWARDS_M = 0.04  # where depth says nothing, a forearm points to the viewer rather than away
_HEAD_LIMIT_RAD = 1.2
_HAND_SCALE_PULL = 0.08  # how fast the expected hand size follows what is measured


def _swapped(pose: Pose) -> np.ndarray:
    """(553, 3) the points of the mirror image's own signer: x turned round, left and right exchanged."""
    points = np.array(pose.points, np.float64)[_SWAPPED]
    points[:, 0] = pose.size[0] - points[:, 0]
    return points


class RigSolver:
    """Follows one signer with one rigged person. It remembers: what is not seen keeps its last posture."""

    def __init__(
        self,
        bind_m: np.ndarray,
        metres_per_px: float | None = None,
        neutral: Pose | None = None,
        mirrored: bool = False,
        distance_m: float = np.inf,
    ):
        """Measure the rigged person.

        Args:
            bind_m: (J, 3) joint positions in the bind pose, metres.
            metres_per_px: size of the poses' pixels at the body, for poses in the canonical signing frame;
                None: it and the signer's place are found from shoulders and hips over the first second.
            neutral: a pose with a neutral face looking at the camera; None: the first second's median face.
            mirrored: the rigged person signs with the other hand.
            distance_m: of the camera from the shoulders: what is nearer looks larger and further out.
                Infinite: no perspective.
        """
        self._figure = RigBody(bind_m)
        self._fixed_scale = metres_per_px
        shoulders = self._figure.bind_m[_SHOULDER_JOINTS].mean(0)
        self._bind_shoulders = np.array([shoulders[0], shoulders[1], 0.0])
        self._focus = shoulders
        self._distance_m = distance_m
        self._given_neutral = neutral
        self._mirrored = mirrored
        self._fits = tuple(FingerFit(arm.hand) for arm in self._figure.arms)
        self.reset()

    def reset(self) -> None:
        """Forget the signer: the next pose is the first of a new clip."""
        rest = portrait(self._figure)
        self._states: list[ArmState] = list(rest.arms)
        self._palms: list[np.ndarray | None] = [None, None]
        self._hand_scales = [1.0, 1.0]
        self._head = np.eye(3)  # relative to the chest
        self._morphs: dict[str, float] = {}
        self._gaze = np.zeros(2, np.float32)
        self._trunk = np.zeros(8)
        self._root = np.zeros(3)
        self._start_s: float | None = None
        self._seen_s = [0.0, 0.0]
        self._relaxed_s = [0.0, 0.0]
        self._scales: list[float] = []
        self._origins: list[np.ndarray] = []
        self._origin_px = np.zeros(2)
        self._scale = self._fixed_scale
        self._faces: list[face_fit.FaceMeasures] = []
        self._nods: list[float] = []
        self._neutral: face_fit.FaceMeasures | None = None
        self._neutral_turn = np.eye(3)
        if self._given_neutral is not None:
            face = self._oriented(self._given_neutral, 1.0)[0][FACE]
            if np.isfinite(face[MESH]).all():
                turn = face_fit.head_turn(face)
                self._neutral, self._neutral_turn = face_fit.measure(face, turn), turn

    def solve(self, pose: Pose) -> RigPose:
        """Joint rotations, morphs and gaze for one tracked pose; call it in the order of the frames."""
        if self._start_s is None or pose.time_s < self._start_s:
            self._start_s = pose.time_s
            self._seen_s, self._relaxed_s = [pose.time_s] * 2, [pose.time_s] * 2
        calibrating = pose.time_s - self._start_s <= _CALIBRATION_S
        points, confidence = self._oriented(pose, self._pixel_m(pose, calibrating))
        self._solve_trunk(points, confidence)
        stand = self._figure.stand(self._trunk)
        self._solve_face(points[FACE], stand, calibrating)
        self._turn_head(stand)
        for side in (LEFT, RIGHT):
            self._figure.shoulder(stand, side, self._states[side].wrist)
        self._solve_root(points, confidence, stand)
        for side in (LEFT, RIGHT):
            self._solve_arm(side, points, confidence, stand)
            self._relax(side, confidence, pose.time_s)
        self._figure.settle(stand, self._states, forwards=True)
        return RigPose(
            stand.rotations.astype(np.float32),
            self._root.astype(np.float32),
            dict(self._morphs),
            self._gaze.copy(),
        )

    def _oriented(self, pose: Pose, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """(553, 3) metres in the model, z from the tracker's own zero, and (553,) confidence."""
        points = _swapped(pose) if self._mirrored else np.array(pose.points, np.float64)
        confidence = np.array(pose.confidence, np.float64)
        if self._mirrored:
            confidence = confidence[_SWAPPED]
        confidence = np.where(np.isfinite(points[:, :2]).all(1), confidence, 0.0)
        points[:, 2] = np.nan_to_num(points[:, 2])
        origin = np.append(
            np.multiply(SHOULDER_CENTRE, pose.size) if self._fixed_scale else self._origin_px, 0.0
        )
        if self._mirrored and not self._fixed_scale:
            origin[0] = pose.size[0] - origin[0]
        return (points - origin) * (scale, -scale, -scale) + self._bind_shoulders, confidence

    def _pixel_m(self, pose: Pose, calibrating: bool) -> float:
        """Metres a pixel at the body."""
        if self._fixed_scale is not None:
            return self._fixed_scale
        points, seen = np.asarray(pose.points, np.float64), np.asarray(pose.confidence) > _SEEN
        bind = self._figure.bind_m
        arms = bind[_SHOULDER_JOINTS]
        if (calibrating or not self._scales) and seen[SHOULDERS].all():
            width_m = float(np.linalg.norm(arms[0] - arms[1]))
            width_px = float(np.linalg.norm(np.subtract(*points[SHOULDERS, :2])))
            if seen[HIPS].all():
                hips = bind[_HIP_JOINTS].mean(0)
                width_m += float(np.linalg.norm((arms.mean(0) - hips)[:2]))
                width_px += float(np.linalg.norm((points[SHOULDERS] - points[HIPS]).mean(0)[:2]))
            if np.isfinite(width_px) and width_px > 1:
                self._scales.append(width_m / width_px)
                self._origins.append(points[SHOULDERS, :2].mean(0))
                self._scale = float(np.median(self._scales))
                self._origin_px = np.median(self._origins, axis=0)
        return self._scale or 1.2 / max(*pose.size)

    def _solve_trunk(self, points: np.ndarray, confidence: np.ndarray) -> None:
        """Lean, sway and turn of the chest and the difference of the shrugs."""
        if confidence[SHOULDERS].min() < _SEEN:
            return
        left, right = points[SHOULDERS[0]], points[SHOULDERS[1]]
        across = left - right
        turn = np.clip(np.arctan2(-across[2], max(across[0], 1e-3)), -0.7, 0.7)
        tilt = np.arctan2(across[1], np.hypot(across[0], across[2]) + 1e-6)
        lean, sway = 0.0, -0.5 * tilt
        if confidence[HIPS].min() > 0.6:
            up = (left + right) / 2 - points[HIPS].mean(0)
            bind = self._figure.bind_m
            resting = bind[_SHOULDER_JOINTS].mean(0) - bind[_HIP_JOINTS].mean(0)
            lean = np.clip(np.arctan2(up[2], up[1]) - np.arctan2(resting[2], resting[1]), -0.2, 0.4)
            sway = np.arctan2(up[0], up[1])
        shrug = np.clip(tilt + np.clip(sway, -0.4, 0.4), -0.25, 0.25) * 1.1
        self._trunk = np.array([lean, np.clip(sway, -0.4, 0.4), turn, 0, 0, 0, shrug, -shrug])

    def _solve_face(self, face: np.ndarray, stand: Stand, calibrating: bool) -> None:
        """Head turn, morphs and gaze; a face that is not seen changes nothing."""
        if not np.isfinite(face[MESH]).all():
            return
        turn = face_fit.head_turn(face)
        learning = self._given_neutral is None and (calibrating or self._neutral is None)
        if learning:  # signers look into the camera at first: their median nod is level
            self._nods.append(face_fit.nod(turn))
            self._neutral_turn = about(np.array([1.0, 0.0, 0.0]), float(np.median(self._nods)))
        relative = stand.turns[INDEX["Spine2"]].T @ turn @ self._neutral_turn.T
        vector = to_vector(relative)
        angle = float(np.linalg.norm(vector))
        self._head = from_vector(vector * min(1.0, _HEAD_LIMIT_RAD / max(angle, 1e-9)))
        now = face_fit.measure(face, turn)
        if learning:
            self._faces.append(now)
            self._neutral = face_fit.average(self._faces)
        if self._neutral is None:
            return
        weights = face_fit.morphs(now, self._neutral)
        # A mirrored picture already has the sides exchanged with its rows; the mesh's own rows do not move.
        self._morphs = face_fit.mirrored(weights) if self._mirrored else weights
        if np.isfinite(face[MESH.stop :]).all():
            self._gaze = face_fit.gaze(now, self._neutral)

    def _turn_head(self, stand: Stand) -> None:
        vector = to_vector(self._head)
        stand.rotations[INDEX["Neck"]] = from_vector(0.45 * vector)
        stand.rotations[INDEX["Head"]] = from_vector(0.55 * vector)
        for name in ("Neck", "Head"):
            stand.follow(INDEX[name])

    def _solve_root(self, points: np.ndarray, confidence: np.ndarray, stand: Stand) -> None:
        """How far the body stands from its place in the picture."""
        if confidence[SHOULDERS].min() < _SEEN:
            return
        joints = stand.places[_SHOULDER_JOINTS].mean(0)
        self._root = points[SHOULDERS].mean(0) - joints
        self._root[2] = 0.0

    def _solve_arm(self, side: int, points: np.ndarray, confidence: np.ndarray, stand: Stand) -> None:
        """Elbow, wrist and hand of one side into its ArmState."""
        arm, state = self._figure.arms[side], self._states[side]
        hand = points[LEFT_HAND if side == LEFT else RIGHT_HAND]
        hand_seen = confidence[LEFT_HAND if side == LEFT else RIGHT_HAND].min() > 0
        wrist_seen = hand_seen or confidence[WRISTS[side]] >= _SEEN
        angles, wrist = state.angles.copy(), state.wrist
        chest = stand.turns[INDEX["Spine2"]]
        if wrist_seen and confidence[ELBOWS[side]] > 0.1:
            body = points[[SHOULDERS[side], ELBOWS[side], WRISTS[side]]].copy()
            if hand_seen:
                body[2, :2] = hand[0, :2]
            for _ in range(2):  # the shoulder girdle follows the wrist
                shoulder = stand.places[arm.rows[1]]
                elbow, target = self._bones(arm, shoulder, body - self._root * (1, 1, 0))
                wrist = self._figure.to_chest(stand, target)
                shoulder = self._figure.shoulder(stand, side, wrist)
            elbow, target = self._bones(arm, shoulder, body - self._root * (1, 1, 0))
            wrist = self._figure.to_chest(stand, arm.clamp_reach(shoulder, target))
            angles[0] = arm.swivel(chest, shoulder, self._figure.to_space(stand, wrist), elbow)
        fingers = state.shape
        if hand_seen:
            angles, fingers = self._solve_hand(side, hand, wrist, angles, stand)
        self._states[side] = ArmState(wrist, angles, fingers)

    def _relax(self, side: int, confidence: np.ndarray, time_s: float) -> None:
        """A hand that has not been seen for a while goes limp instead of keeping its last shape for ever."""
        step_s, self._relaxed_s[side] = time_s - self._relaxed_s[side], time_s
        if confidence[LEFT_HAND if side == LEFT else RIGHT_HAND].min() > 0:
            self._seen_s[side] = time_s
        elif time_s - self._seen_s[side] > _HOLD_S:
            part = 1 - np.exp(-max(step_s, 0.0) / _EASE_S)
            state = self._states[side]
            angles = state.angles * np.array([1.0, 1 - part, 1 - part, 1 - part])
            self._states[side] = replace(
                state, angles=angles, shape=state.shape + part * (shape("relaxed") - state.shape)
            )

    def _bones(self, arm: Arm, shoulder: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Elbow and wrist (3,) metres from a shoulder joint and seen shoulder, elbow and wrist (3, 3)."""
        elbow = self._end(shoulder, seen[1], seen[1, 2] - seen[0, 2], arm.upper_m)
        return elbow, self._end(elbow, seen[2], seen[2, 2] - seen[1, 2] + _FORWARDS_M, arm.fore_m)

    def _end(self, start: np.ndarray, seen: np.ndarray, depth_m: float, length_m: float) -> np.ndarray:
        """The end of a bone with perspective: how far out it is seen depends on how near it is."""
        end = _known_length(start, seen, depth_m, length_m)
        if np.isfinite(self._distance_m):
            for _ in range(2):
                nearer = 1 - (end[2] - self._focus[2]) / self._distance_m
                flat = self._focus[:2] + (seen[:2] - self._focus[:2]) * nearer
                end = _known_length(start, np.append(flat, 0.0), depth_m, length_m)
        return end

    def _solve_hand(
        self, side: int, hand: np.ndarray, wrist: np.ndarray, angles: np.ndarray, stand: Stand
    ) -> tuple[np.ndarray, np.ndarray]:
        """Posture angles and shape from a hand's 21 points."""
        arm = self._figure.arms[side]
        nearer = 1 - (self._figure.to_space(stand, wrist)[2] - self._focus[2]) / self._distance_m
        seen = (hand - hand[0]) * nearer
        turn, scale, _ = fit_palm(arm.hand, seen, self._hand_scales[side], self._palms[side])
        self._palms[side] = turn
        self._hand_scales[side] += _HAND_SCALE_PULL * (scale - self._hand_scales[side])
        fingers = self._fits[side].fit(seen, turn, scale, self._states[side].shape)
        place = arm.place(
            stand.turns[INDEX["Spine2"]],
            stand.places[arm.rows[1]],
            self._figure.to_space(stand, wrist),
            np.array([angles[0], 0.0, 0.0, 0.0]),
        )
        angles = np.concatenate((angles[:1], arm.wrist_angles(place.forearm, turn)))
        return angles, fingers


def _known_length(start: np.ndarray, seen: np.ndarray, depth_m: float, length_m: float) -> np.ndarray:
    """(3,) the end of a bone of known length; its depth's sign comes from the tracker."""
    flat = seen[:2] - start[:2]
    short = length_m**2 - flat @ flat
    if short <= 0:
        return start + np.append(flat * (length_m / np.linalg.norm(flat)), 0.0)
    depth = np.sqrt(short)
    # A depth guess far smaller than the length says makes the sign a guess too: pass through zero, do not
    # jump.
    return start + length_m * unit(np.append(flat, depth * np.clip(2.0 * depth_m / depth, -1.0, 1.0)))
