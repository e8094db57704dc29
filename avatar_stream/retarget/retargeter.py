"""The stateful one: driver's poses in, the avatar's poses out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from avatar_stream.retarget import bones, contacts
from avatar_stream.retarget import hands as hand_work
from avatar_stream.retarget.face import Expression, FaceTransfer, Head
from avatar_stream.retarget.layout import (
    ELBOWS,
    FACE_OF_HEAD,
    HAND_OF_BODY,
    HAND_RATIOS,
    HANDS,
    HEAD_ROWS,
    HIPS,
    SHOULDERS,
    WRISTS,
    mirror_pose,
)
from avatar_stream.retarget.lost_hands import palm_angle, turn_in_picture
from avatar_stream.retarget.observation import FACE_PART, FORE, HAND, UPPER, Observation, Observer
from avatar_stream.retarget.presence import Presence
from avatar_stream.retarget.proportions import DriverProportions, Tracked, measure_avatar
from avatar_stream.retarget.smoothing import PoseSmoother
from avatar_stream.stages import Options
from avatar_stream.types import BODY, CANVAS_PX, FACE, POINT_COUNT, Pose

_MOST_SHIFT_PX = np.array([70.0, 45.0])
_MOST_HEAD_SHIFT = 0.5  # in shoulder widths
_FLAT_SHOULDERS = 0.96  # a shoulder line that lost less than this of its width is not turned, only noisy
_LEAST_PALM = 0.9  # of its usual length; less is a hand from the edge, whose depth was not found
_HIPS_FOLLOW = 0.35  # part of the shoulders' shift that unseen hips take


class RetargetOptions(Options):
    """How the driver's motion is taken over.

    Attributes:
        mirrored: the motion of the driver's left side goes to the avatar's right side (for left-handers).
        smoothing: 1 as designed, more is smoother and later, 0 none.
        hold_lost_s: how long the last pose stays when nobody is in view.
        rest_s: how long the way to the rest pose takes after that.
        hold_hand_s: how long a lost hand or arm keeps its last shape.
        contacts: keep hands where they touch face, torso or each other.
    """

    mirrored: bool = False
    smoothing: Annotated[float, Field(ge=0, le=10)] = 1.0
    hold_lost_s: Annotated[float, Field(ge=0)] = 0.5
    rest_s: Annotated[float, Field(gt=0)] = 1.0
    hold_hand_s: Annotated[float, Field(ge=0)] = 0.3
    contacts: bool = True


@dataclass
class _Made:
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
        self._presence = Presence(self.options.hold_hand_s, self.options.hold_lost_s, self.options.rest_s)
        self._lifted_rest = _lift(self.avatar.rest, self._face_depth())
        self.reset()

    def reset(self) -> None:
        """Forget the driver: the next pose starts a new calibration."""
        self._driver = DriverProportions(self._face.height)
        self._observer = Observer()
        self._face.reset()
        self._smoother.reset()
        self._presence.reset()
        self._centre = Tracked(50.0, up_s=8.0, down_s=8.0)
        self._hip_centre = Tracked(50.0, up_s=8.0, down_s=8.0)
        self._head_offset = Tracked(50.0, up_s=12.0, down_s=12.0)
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
        step_s = 1 / 30 if self._time_s is None else float(np.clip(time_s - self._time_s, 1e-3, 10.0))
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
        arms = np.stack([seen.seen[UPPER], seen.seen[FORE]], axis=1)
        self._driver.update(seen.points, head.scale if head else np.nan, arms, step_s, seen.facing)
        middle = seen.points[SHOULDERS, :2].mean(axis=0)
        self._centre.update(middle, step_s)
        if seen.hips:
            self._hip_centre.update(seen.points[HIPS, :2].mean(axis=0), step_s)
        if head is not None:
            self._expression, self._head = self._face.read(face, head, step_s), head
            self._head_offset.update((head.centre[:2] - middle) / self._driver.shoulders, step_s)
        self._turn_signs(seen.points)
        self._front.update(seen.right_nearer_m, step_s, self._joined)
        self._last = seen
        return seen

    def _turn_signs(self, points: np.ndarray) -> None:
        # A signer's arms are in front; a bone points backwards only where the tracker insists, and
        # then until it takes that back: foreshortening cannot tell, and flicker is worse.
        unit = self._driver.shoulders
        depth = (
            np.concatenate([points[ELBOWS, 2] - points[SHOULDERS, 2], points[WRISTS, 2] - points[ELBOWS, 2]])
            / unit
        )
        self._depth_signs[depth > 0.3] = 1.0
        self._depth_signs[depth < 0.1] = -1.0
        turn = (points[11, 2] - points[12, 2]) / unit
        if abs(turn) > 0.1:
            self._shoulder_sign = np.sign(turn)

    def _make(self, seen: Observation, weights: np.ndarray) -> tuple[np.ndarray, float]:
        made = _Made(self._lifted_rest.copy(), np.zeros((2, 21, 3)), weights)
        self._place_trunk(made, seen)
        self._place_head(made, seen)
        self._place_arms(made, seen)
        self._place_hands(made, seen)
        if self.options.contacts:
            self._keep_contacts(made, seen)
        return self._unlift(made), made.joined

    def _place_trunk(self, made: _Made, seen: Observation) -> None:
        present = self._presence.present
        avatar, unit = self.avatar, self._driver.shoulders
        scale = avatar.shoulders / unit
        driver = seen.points[SHOULDERS, :2]
        shift = present * _soft((driver.mean(axis=0) - self._centre.value) * scale, _MOST_SHIFT_PX)
        rest = self._lifted_rest
        rest_line = rest[11] - rest[12]
        flat = (driver[0] - driver[1]) / unit
        flat /= max(1.0, float(np.linalg.norm(flat)))
        depth = np.sqrt(max(_FLAT_SHOULDERS**2 - float(flat @ flat), 0.0)) * self._shoulder_sign
        line = (1 - present) * rest_line + present * avatar.shoulders * np.array([flat[0], flat[1], depth])
        middle = rest[SHOULDERS].mean(axis=0) + [shift[0], shift[1], 0.0]
        made.points[11], made.points[12] = middle + line / 2, middle - line / 2
        hips = _HIPS_FOLLOW * shift * [1.0, 0.0]
        if seen.hips and self._hip_centre.value is not None:
            moved = (seen.points[HIPS, :2].mean(axis=0) - self._hip_centre.value) * scale
            hips = present * _soft(moved, _MOST_SHIFT_PX)
        made.points[HIPS[0] : BODY.stop, :2] += hips

    def _place_head(self, made: _Made, seen: Observation) -> None:
        weight, avatar, rest = made.weights[FACE_PART], self.avatar, self._lifted_rest
        face = self._face.make(self._expression, weight)
        turn, shift = np.eye(3), np.zeros(3)
        if weight > 0 and self._head is not None:
            turn = bones.part_of_turn(self._face.relative_turn(self._head), weight)
            middle = seen.points[SHOULDERS, :2].mean(axis=0)
            offset = (seen.head_centre(self._head) - middle) / self._driver.shoulders
            usual = self._head_offset.value
            # A longer neck swings further.
            own = self._rest_head()[:2] - rest[SHOULDERS, :2].mean(axis=0)
            neck = np.linalg.norm(own) / max(float(np.linalg.norm(usual)), 1e-3)
            neck = np.clip(neck, 0.75 * avatar.shoulders, 1.33 * avatar.shoulders)
            shift[:2] = weight * _soft((offset - usual) * neck, _MOST_HEAD_SHIFT * avatar.shoulders)
        shift += made.points[SHOULDERS].mean(axis=0) - rest[SHOULDERS].mean(axis=0)
        centre = self._rest_head() + shift
        made.points[FACE] = face @ turn.T + centre
        # Body points of the head keep their small distance from the mesh.
        gap = rest[HEAD_ROWS] - rest[FACE][FACE_OF_HEAD]
        made.points[HEAD_ROWS] = made.points[FACE][FACE_OF_HEAD] + gap @ turn.T

    def _place_arms(self, made: _Made, seen: Observation) -> None:
        lengths = self._driver.arm_lengths()
        driver, avatar = seen.points, self.avatar
        for bone, (start, end, part, rest) in enumerate((
            (SHOULDERS, ELBOWS, UPPER, avatar.upper_arms), (ELBOWS, WRISTS, FORE, avatar.forearms)
        )):  # fmt: skip
            flat = np.nan_to_num(driver[end, :2] - driver[start, :2])
            signs = self._depth_signs[2 * bone : 2 * bone + 2]
            seen_way = bones.lift_bones(flat, np.full(2, lengths[bone]), signs)
            way = bones.blend_directions(rest, seen_way, made.weights[part])
            made.points[end] = made.points[start] + way * avatar.arms[:, bone, None]

    def _place_hands(self, made: _Made, seen: Observation) -> None:
        avatar = self.avatar
        forearms = bones.unit(made.points[WRISTS] - made.points[ELBOWS])
        usual = self._driver.palm_px.value
        least_palm = 0.0 if usual is None else _LEAST_PALM * float(usual)
        for side, rows in enumerate(HANDS):
            rest = avatar.rest[rows] - avatar.rest[rows][0]
            turned = rest @ bones.turn_between(avatar.forearms[side], forearms[side]).T
            weight = made.weights[HAND][side]
            if not seen.seen[HAND][side]:
                # A hand is lost in a blur while its arm is seen: its direction is not that of a hand at rest.
                turn = seen.ways.turn(side, palm_angle(turned)) * made.weights[FORE][side]
                turned = turn_in_picture(turned, turn)
            hand = seen.points[rows]
            if weight > 0 and np.isfinite(hand).all():
                shape = hand_work.transfer_hand(hand, avatar.hand, least_palm)
                turned = hand_work.blend_hands(turned, shape, weight)
            made.offsets[side] = turned

    def _keep_contacts(self, made: _Made, seen: Observation) -> None:
        avatar, weights = self.avatar, made.weights
        # Below half, a hand is on its way to rest and touches nothing any more.
        hands = contacts.smooth_step(np.minimum(weights[HAND], weights[FORE]), 0.2, 0.8)
        hands[~np.isfinite(seen.points[[rows.start for rows in HANDS]]).all(axis=1)] = 0.0
        face_seen = self._head is not None and np.isfinite(seen.points[FACE][:468]).all()
        if not hands.any():
            return
        palms = [hand_work.palm_px(seen.points[HANDS[side]]) for side in (0, 1) if hands[side] > 0]
        usual = float(self._driver.palm_px.value)
        palm = float(np.clip(max(palms), 0.85 * usual, 1.25 * usual))  # from the edge a hand looks too small
        scale = self._head.scale if face_seen else 1.0
        driver = contacts.Scene(
            seen.points, self._driver.shoulders, self._face.height * scale, palm,
            np.stack([seen.points[rows] for rows in HANDS]), self._front.right_before,
        )  # fmt: skip
        palm = float(avatar.hand.sum() / HAND_RATIOS.sum())
        placed = made.points[WRISTS][:, None] + made.offsets
        scene = contacts.Scene(made.points, avatar.shoulders, self._face.height, palm, placed)
        shifts, made.joined = contacts.contact_shifts(
            driver, scene, hands, float(weights[FACE_PART]) if face_seen else 0.0
        )
        for side in np.flatnonzero(np.abs(shifts).sum(axis=1) > 0):
            shoulder, elbow, wrist = SHOULDERS[side], ELBOWS[side], WRISTS[side]
            made.points[elbow], made.points[wrist] = bones.solve_elbow(
                made.points[shoulder],
                made.points[elbow],
                made.points[wrist] + shifts[side],
                *avatar.arms[side],
            )

    def _unlift(self, made: _Made) -> np.ndarray:
        points = made.points
        for side, rows in enumerate(HANDS):
            points[rows] = made.offsets[side]
            points[rows, :2] += points[WRISTS[side], :2]
            for body, row in HAND_OF_BODY.items():
                points[body + side] = points[WRISTS[side]] + made.offsets[side][row]
        points[FACE, 2] -= self._face_depth()
        points[BODY, 2] -= points[HIPS, 2].mean()
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

    def _face_depth(self) -> float:
        # What the face's z must be raised by to count from between the hips: body and mesh share the nose.
        return float(self.avatar.rest[0, 2] - self.avatar.rest[FACE.start + 1, 2])

    def _rest_head(self) -> np.ndarray:
        return self._face.centre + [0.0, 0.0, self._face_depth()]


def _lift(rest: np.ndarray, face_depth: float) -> np.ndarray:
    lifted = rest.copy()
    lifted[FACE, 2] += face_depth
    return lifted


def _soft(shift: np.ndarray, most: np.ndarray | float) -> np.ndarray:
    """Leave small shifts as they are and keep large ones inside `most`."""
    return most * np.tanh(shift / most)
