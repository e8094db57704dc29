"""The stateful one: driver's poses in, the avatar's poses out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from avatar_stream import turns
from avatar_stream.landmarks import (
    BONE_ENDS,
    BONE_STARTS,
    ELBOWS,
    FACE_OF_HEAD,
    HAND_OF_BODY,
    HANDS,
    HEAD_ROWS,
    HIPS,
    MESH,
    PALMS_IN_BONES,
    SHOULDERS,
    WRISTS,
    both_hands,
    mirror_pose,
)
from avatar_stream.options import Options
from avatar_stream.retarget import bones, contacts
from avatar_stream.retarget import hands as hand_work
from avatar_stream.retarget.face import Expression, FaceTransfer, Head
from avatar_stream.retarget.lost_hands import palm_angle, turn_in_picture
from avatar_stream.retarget.observation import ARMS, FACE_PART, FORE, HAND, UPPER, Observation, Observer
from avatar_stream.retarget.presence import Presence
from avatar_stream.retarget.proportions import DriverProportions, RunningEstimate, measure_avatar
from avatar_stream.retarget.smoothing import PoseSmoother
from avatar_stream.types import BODY, CANVAS_PX, FACE, POINT_COUNT, Pose

_MOST_SHIFT_PX = np.array([70.0, 45.0])
_MOST_HEAD_SHIFT = 0.5  # in shoulder widths
_FLAT_SHOULDERS = 0.96  # a shoulder line that lost less than this of its width is not turned, only noisy
_LEAST_PALM = 0.9  # of its usual length; less is a hand from the edge, whose depth was not found
_HIPS_FOLLOW = 0.35  # part of the shoulders' shift that unseen hips take


class RetargetOptions(Options):
    """How the driver's motion is taken over."""

    mirrored: bool = False
    """The motion of the driver's left side goes to the avatar's right side (for left-handers)."""
    smoothing: Annotated[float, Field(ge=0, le=10)] = 1.0
    """1 as designed, more is smoother and later, 0 none."""
    contacts: bool = True
    """Keep hands where they touch face, torso or each other."""


@dataclass
class _Draft:
    # The avatar's pose while it is made. z counts from between the hips for every part.
    points: np.ndarray  # (553, 3)
    offsets: np.ndarray  # (2, 21, 3) hands from their wrists
    weights: np.ndarray  # see observation.py
    joined: float = 0.0  # how much the hands belong together, 0..1


class Retargeter:
    """Turns the driver's poses, frame by frame, into the avatar's poses in the canonical signing frame."""

    def __init__(self, avatar_pose: Pose, options: RetargetOptions | None = None):
        """Take the avatar's proportions.

        Args:
            avatar_pose: of the avatar's portrait, px of the 512 canvas: upright, arms down, mouth closed.
            options: how to do it.

        Raises:
            AvatarError: the portrait's shoulders or face are not seen.
        """
        self.options = options or RetargetOptions()
        self.avatar = measure_avatar(avatar_pose)
        self._face = FaceTransfer(self.avatar.rest[FACE])
        self._smoother = PoseSmoother(self.options.smoothing)
        self._presence = Presence()
        self._take_rest()
        self.reset()

    def _take_rest(self) -> None:
        # The avatar at rest, as poses are made: z counts from between the hips for every part.
        self._rest, hands = self.avatar.rest.copy(), both_hands(self.avatar.rest)
        # What the face's z must be raised by: body and mesh share the nose.
        self._face_depth = float(self._rest[0, 2] - self._rest[FACE.start + 1, 2])
        self._rest[FACE, 2] += self._face_depth
        self._rest_hands = hands - hands[:, :1]  # (2, 21, 3) from their wrists
        self._rest_middle = turns.middle(self._rest, SHOULDERS)
        self._rest_head = self._face.centre + [0.0, 0.0, self._face_depth]
        # Body points of the head keep their small distance from the mesh.
        self._head_gaps = self._rest[HEAD_ROWS] - self._rest[FACE][FACE_OF_HEAD]

    def reset(self) -> None:
        """Forget the driver: the next pose starts a new calibration."""
        self._driver = DriverProportions(self._face.height)
        self._observer = Observer()
        self._face.reset()
        self._smoother.reset()
        self._presence.reset()
        self._centre = RunningEstimate(50.0, up_s=8.0, down_s=8.0)
        self._hip_centre = RunningEstimate(50.0, up_s=8.0, down_s=8.0)
        self._head_offset = RunningEstimate(50.0, up_s=12.0, down_s=12.0)
        self._depth_signs = -np.ones(4)
        self._front, self._joined = contacts.Front(), 0.0
        self._shoulder_sign = -1.0
        self._last: Observation | None = None
        self._expression: Expression | None = None
        self._head: Head | None = None
        self._time_s: float | None = None

    def retarget(self, pose: Pose | None, time_s: float) -> Pose:
        """Take one frame's pose.

        Args:
            pose: the driver's, px of the tracked image, NaN where unseen; None where nobody is there.
            time_s: time of the frame; frames may be missing and their distances may vary.

        Returns:
            The avatar's pose, px of the 512 canvas, all 553 points finite; confidence 1 where it follows the
            driver, less while held, 0 at rest. `world` is NaN.
        """
        step_s = 1 / 30 if self._time_s is None else min(max(time_s - self._time_s, 1e-3), 10.0)
        if pose is not None and self.options.mirrored:
            pose = mirror_pose(pose)
        if pose is not None and self._observer.is_cut(pose, self._driver, step_s, self._last):
            self.reset()
        self._time_s = time_s
        seen = self._observe(pose, step_s)
        weights = self._presence.update(
            *((None, step_s) if seen is None else (seen.seen, step_s, seen.touching))
        )
        if self._last is None:
            points = self.avatar.rest
        else:
            points, self._joined = self._make(self._last, weights)
            if step_s > 0.5:
                self._smoother.reset()
        return self._finish(self._smoother.smooth(points, time_s, self._joined), time_s)

    def _observe(self, pose: Pose | None, step_s: float) -> Observation | None:
        seen = None if pose is None else self._observer.observe(pose, self._driver, self._last, step_s)
        if seen is None:
            return None
        face = seen.points[FACE]
        head = self._face.locate(face) if seen.seen[FACE_PART] else None
        scale = head.scale if head else math.nan
        self._driver.update(seen.points, scale, seen.seen[ARMS], step_s, seen.facing)
        self._centre.update(seen.middle, step_s)
        if seen.hips:
            self._hip_centre.update(turns.middle(seen.points[:, :2], HIPS), step_s)
        if head is not None:
            self._expression, self._head = self._face.read(face, head, step_s), head
            self._head_offset.update((head.centre[:2] - seen.middle) / self._driver.shoulders, step_s)
        self._turn_signs(seen.points)
        self._front.update(seen.right_nearer_m, step_s, self._joined)
        self._last = seen
        return seen

    def _turn_signs(self, points: np.ndarray) -> None:
        # A signer's arms are in front; a bone points backwards only where the tracker insists, and
        # then until it takes that back: foreshortening cannot tell, and flicker is worse.
        unit = self._driver.shoulders
        depth = (points[BONE_ENDS, 2] - points[BONE_STARTS, 2]) / unit
        self._depth_signs[depth > 0.3] = 1.0
        self._depth_signs[depth < 0.1] = -1.0
        turn = (points[11, 2] - points[12, 2]) / unit
        if abs(turn) > 0.1:
            self._shoulder_sign = math.copysign(1.0, turn)

    def _make(self, seen: Observation, weights: np.ndarray) -> tuple[np.ndarray, float]:
        draft = _Draft(self._rest.copy(), np.zeros((2, 21, 3)), weights)
        self._place_trunk(draft, seen)
        self._place_head(draft, seen)
        self._place_arms(draft, seen)
        self._place_hands(draft, seen)
        if self.options.contacts:
            self._keep_contacts(draft, seen)
        return self._unlift(draft), draft.joined

    def _place_trunk(self, draft: _Draft, seen: Observation) -> None:
        present, rest = self._presence.present, self._rest
        avatar, unit = self.avatar, self._driver.shoulders
        scale = avatar.shoulders / unit
        shift = present * _soft((seen.middle - self._centre.value) * scale, _MOST_SHIFT_PX)
        flat = (seen.points[11, :2] - seen.points[12, :2]) / unit
        flat /= max(1.0, math.hypot(*flat))
        depth = math.sqrt(max(_FLAT_SHOULDERS**2 - float(flat @ flat), 0.0)) * self._shoulder_sign
        rest_line = rest[11] - rest[12]
        line = (1 - present) * rest_line + present * avatar.shoulders * np.array([*flat, depth])
        middle = self._rest_middle + np.array([*shift, 0.0])
        draft.points[11], draft.points[12] = middle + line / 2, middle - line / 2
        hips = np.array([_HIPS_FOLLOW * shift[0], 0.0])
        if seen.hips and self._hip_centre.value is not None:
            moved = (turns.middle(seen.points[:, :2], HIPS) - self._hip_centre.value) * scale
            hips = present * _soft(moved, _MOST_SHIFT_PX)
        draft.points[HIPS[0] : BODY.stop, :2] += hips

    def _place_head(self, draft: _Draft, seen: Observation) -> None:
        weight, width = draft.weights[FACE_PART], self.avatar.shoulders
        face = self._face.make(self._expression, weight)
        moved = turns.middle(draft.points, SHOULDERS) - self._rest_middle
        turn, centre = np.eye(3), self._rest_head + moved
        if weight > 0 and self._head is not None:
            turn = turns.part_of(self._face.relative_turn(self._head), weight)
            offset = (self._head.centre[:2] + seen.face_shift - seen.middle) / self._driver.shoulders
            usual = self._head_offset.value
            # A longer neck swings further.
            neck = math.dist(self._rest_head[:2], self._rest_middle[:2]) / max(math.hypot(*usual), 1e-3)
            neck = min(max(neck, 0.75 * width), 1.33 * width)
            centre[:2] += weight * _soft((offset - usual) * neck, _MOST_HEAD_SHIFT * width)
        draft.points[FACE] = face @ turn.T + centre
        draft.points[HEAD_ROWS] = draft.points[FACE][FACE_OF_HEAD] + self._head_gaps @ turn.T

    def _place_arms(self, draft: _Draft, seen: Observation) -> None:
        avatar = self.avatar
        flat = seen.points[BONE_ENDS, :2] - seen.points[BONE_STARTS, :2]
        flat[np.isnan(flat)] = 0.0
        seen_ways = bones.lift_bones(flat, self._driver.arm_lengths().repeat(2), self._depth_signs)
        rest_ways = np.concatenate([avatar.upper_arms, avatar.forearms])
        ways = bones.blend_directions(rest_ways, seen_ways, draft.weights[ARMS])
        arms = ways * avatar.arms.T.reshape(4, 1)
        draft.points[ELBOWS] = draft.points[SHOULDERS] + arms[:2]
        draft.points[WRISTS] = draft.points[ELBOWS] + arms[2:]

    def _place_hands(self, draft: _Draft, seen: Observation) -> None:
        weights = draft.weights[HAND]
        usual = self._driver.palm_px.value
        least_palm = 0.0 if usual is None else _LEAST_PALM * float(usual)
        follows = np.flatnonzero((weights > 0) & seen.known_hands)
        hands = both_hands(seen.points)[follows]
        draft.offsets[follows] = hand_work.transfer_hands(hands, self.avatar.hand, least_palm)
        for side in (0, 1):
            if side not in follows:
                draft.offsets[side] = self._hang(draft, seen, side)
            elif weights[side] < 1.0:
                rest = self._hang(draft, seen, side)
                draft.offsets[side] = hand_work.blend_hands(rest, draft.offsets[side], weights[side])

    def _hang(self, draft: _Draft, seen: Observation, side: int) -> np.ndarray:
        """(21, 3) px from the wrist, a hand at rest on its arm."""
        forearm = turns.unit(draft.points[WRISTS[side]] - draft.points[ELBOWS[side]])
        turned = self._rest_hands[side] @ turns.between(self.avatar.forearms[side], forearm).T
        if seen.seen[HAND][side]:
            return turned
        # A hand is lost in a blur while its arm is seen: its direction is not that of a hand at rest.
        return turn_in_picture(turned, seen.ways.turn(side, palm_angle(turned)) * draft.weights[FORE][side])

    def _keep_contacts(self, draft: _Draft, seen: Observation) -> None:
        avatar, weights = self.avatar, draft.weights
        # Below half, a hand is on its way to rest and touches nothing any more.
        hands = contacts.smooth_steps(np.minimum(weights[HAND], weights[FORE]), 0.2, 0.8) * seen.known_hands
        if not hands.any():
            return
        head = self._head if np.isfinite(seen.points[FACE][MESH]).all() else None
        driver_hands, usual = both_hands(seen.points), float(self._driver.palm_px.value)
        palm = float(hand_work.palm_px(driver_hands[hands > 0]).max())
        palm = min(max(palm, 0.85 * usual), 1.25 * usual)  # from the edge a hand looks too small
        face = self._face.height * (1.0 if head is None else head.scale)
        driver = contacts.Scene(
            seen.points, self._driver.shoulders, face, palm, driver_hands, self._front.right_before
        )
        placed = draft.points[WRISTS][:, None] + draft.offsets
        palm = float(avatar.hand.sum()) / PALMS_IN_BONES
        scene = contacts.Scene(draft.points, avatar.shoulders, self._face.height, palm, placed)
        shifts, draft.joined = contacts.contact_shifts(
            driver, scene, hands, 0.0 if head is None else float(weights[FACE_PART])
        )
        for side in np.flatnonzero(shifts.any(axis=1)):
            shoulder, elbow, wrist = SHOULDERS[side], ELBOWS[side], WRISTS[side]
            draft.points[elbow], draft.points[wrist] = bones.solve_elbow(
                draft.points[shoulder],
                draft.points[elbow],
                draft.points[wrist] + shifts[side],
                *avatar.arms[side],
            )

    def _unlift(self, draft: _Draft) -> np.ndarray:
        points, wrists = draft.points, draft.points[WRISTS]
        hands = both_hands(points)
        hands[:] = draft.offsets
        hands[..., :2] += wrists[:, None, :2]
        for body, row in HAND_OF_BODY.items():
            points[body : body + 2] = wrists + draft.offsets[:, row]
        points[FACE, 2] -= self._face_depth
        points[BODY, 2] -= 0.5 * (points[HIPS[0], 2] + points[HIPS[1], 2])
        return points

    def _finish(self, points: np.ndarray, time_s: float) -> Pose:
        trust = self._presence.confidence()
        confidence = np.zeros(POINT_COUNT, np.float32)
        confidence[BODY] = self._presence.trust
        confidence[ELBOWS], confidence[WRISTS] = trust[UPPER], trust[FORE]
        confidence[FACE] = confidence[HEAD_ROWS] = trust[FACE_PART]
        for side, rows in enumerate(HANDS):
            confidence[rows] = trust[HAND][side]
            confidence[[body + side for body in HAND_OF_BODY]] = trust[HAND][side]
        confidence[HIPS[0] : BODY.stop] *= self.avatar.known[HIPS[0] : BODY.stop]
        world = np.full((33, 3), np.nan, np.float32)
        return Pose(points.astype(np.float32), confidence, world, (CANVAS_PX, CANVAS_PX), time_s)


def _soft(shift: np.ndarray, most: np.ndarray | float) -> np.ndarray:
    """Leave small shifts as they are and keep large ones inside `most`."""
    return most * np.tanh(shift / most)
