"""The signing sampler: random postures, smooth clips, fingerspelling and one person's neutral portrait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avatar_stream.lab.renders.signing import PostureSampler
from avatar_stream.people.expressions import close_eyes, random_face, random_gaze
from avatar_stream.people.handshapes import shape
from avatar_stream.people.postures import LEFT, RIGHT, ArmState, Posture, RigBody, portrait, portrait_arm
from avatar_stream.people.skeleton import RigPose

_TRIES = 8
_GOOD_M = 0.004  # what may remain of one limb in another
_SHAPE_LEAD_S = 0.06  # fingers start before the arm and are done before it: coarticulation
_BLINK_S = 0.16
_SMOOTHINGS, _PUSH_SPREAD_S = 3, 0.07
_ARC = 0.22  # of a way's length


@dataclass
class _Timeline:
    """One value's keys: it reaches `values[i]` at `arrives[i]` and stays until it must leave for the next."""

    arrives: list[float] = field(default_factory=list)
    moves_s: list[float] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    arc: float = 0.0

    def add(self, arrive_s: float, move_s: float, value: np.ndarray) -> None:
        self.arrives.append(arrive_s)
        self.moves_s.append(move_s)
        self.values.append(value)

    def at(self, time_s: float) -> np.ndarray:
        """The value at a time: minimum jerk between keys, still within holds."""
        after = int(np.searchsorted(self.arrives, time_s, side="left"))
        if after == 0 or after == len(self.arrives):
            return self.values[min(after, len(self.values) - 1)]
        start, end = self.values[after - 1], self.values[after]
        move = min(self.moves_s[after], self.arrives[after] - self.arrives[after - 1])
        part = np.clip(1 - (self.arrives[after] - time_s) / max(move, 1e-6), 0, 1)
        part = part**3 * (10 + part * (6 * part - 15))
        # Hands go round the body and round the shoulder, not through.
        bend = np.array([0.0, 0.0, self.arc * float(np.linalg.norm(end - start))]) if self.arc else 0.0
        return start + (end - start) * part + bend * (16 * part**2 * (1 - part) ** 2)


@dataclass
class _Score:
    """Every track of a clip."""

    trunk: _Timeline = field(default_factory=_Timeline)
    face: _Timeline = field(default_factory=_Timeline)
    gaze: _Timeline = field(default_factory=_Timeline)
    wrists: tuple[_Timeline, _Timeline] = field(
        default_factory=lambda: (_Timeline(arc=_ARC), _Timeline(arc=_ARC))
    )
    angles: tuple[_Timeline, _Timeline] = field(default_factory=lambda: (_Timeline(), _Timeline()))
    shapes: tuple[_Timeline, _Timeline] = field(default_factory=lambda: (_Timeline(), _Timeline()))
    blinks: list[float] = field(default_factory=list)

    def add_arm(self, side: int, arrive_s: float, move_s: float, state: ArmState) -> None:
        self.wrists[side].add(arrive_s, move_s, state.wrist)
        self.angles[side].add(arrive_s, move_s, state.angles)
        self.shapes[side].add(max(arrive_s - _SHAPE_LEAD_S, 1e-3), 0.85 * move_s, state.shape)

    def least_move_s(self, posture: Posture) -> float:
        """Seconds that the way from the last key to a posture takes at signing's fastest."""
        longest = 0.0
        for side in (LEFT, RIGHT):
            state = posture.arms[side]
            way_m = np.linalg.norm(state.wrist - self.wrists[side].values[-1])
            turn_rad = np.abs(state.angles - self.angles[side].values[-1]).max()
            longest = max(longest, way_m + 0.12 * turn_rad)
        return 0.16 + 0.62 * longest

    def start(self, posture: Posture) -> None:
        self.trunk.add(0.0, 0.0, posture.trunk)
        self.face.add(0.0, 0.0, posture.face)
        self.gaze.add(0.0, 0.0, posture.gaze)
        for side in (LEFT, RIGHT):
            state = posture.arms[side]
            self.wrists[side].add(0.0, 0.0, state.wrist)
            self.angles[side].add(0.0, 0.0, state.angles)
            self.shapes[side].add(0.0, 0.0, state.shape)

    def at(self, time_s: float) -> Posture:
        tracks = zip(self.wrists, self.angles, self.shapes, strict=True)
        left, right = (ArmState(*(track.at(time_s) for track in arm)) for arm in tracks)
        face = self.face.at(time_s)
        for blink_s in self.blinks:
            if abs(time_s - blink_s) < _BLINK_S / 2:
                face = close_eyes(face, np.cos(np.pi * (time_s - blink_s) / _BLINK_S) ** 0.7)
        return Posture(self.trunk.at(time_s), (left, right), face, self.gaze.at(time_s))


class Sampler:
    """Random signing of one rigged person; the same seed gives the same poses."""

    def __init__(self, bind_m: np.ndarray, seed: int):
        """Measure the person.

        Args:
            bind_m: (J, 3) joint positions in the bind pose in the order of skeleton.JOINTS, metres.
            seed: of everything that is drawn.
        """
        self._random = np.random.default_rng(seed)
        self._figure = RigBody(bind_m)
        self._signer = PostureSampler(self._figure, self._random)

    def pose(self) -> RigPose:
        """One random signing pose, independent of the others, no limb inside the body or another limb."""
        return self._free_posture()[1]

    def portrait(self) -> RigPose:
        """Neutral standing: arms a little away from the body, both whole hands in view, eyes open."""
        return self._figure.resolve(portrait(self._figure))[0]

    def clip(self, duration_s: float, fps: float) -> list[RigPose]:
        """A stretch of random signing: holds and smooth movements, blinks, changing face.

        Args:
            duration_s: length of the clip, seconds.
            fps: frames per second.

        Returns:
            `round(duration_s * fps)` poses.
        """
        score = _Score()
        score.start(self._free_posture()[0])
        self._sign_until(score, 0.0, duration_s)
        self._live(score, duration_s)
        return self._play(score, duration_s, fps)

    def fingerspelling_clip(
        self, word: str, duration_s: float, fps: float, hand: str = "Right"
    ) -> list[RigPose]:
        """A demonstration: two-handed signing, then `word` letter by letter beside the shoulder, then rest.

        It begins and ends in the portrait pose. Letters take about 0.45 s each; the rest of the time is
        signing, half before and half after the word. ConfigError for a letter that has no handshape.
        """
        side = LEFT if hand == "Left" else RIGHT
        letters = [shape(letter) for letter in word.upper()]
        rest = portrait(self._figure)
        score = _Score()
        score.start(rest)
        ending_s, spelling_s = 1.1, 0.45 * len(letters) + 0.8
        signing_s = max(duration_s - ending_s - spelling_s - 0.4, 0.0)
        now = self._sign_until(score, 0.4, 0.4 + 0.55 * signing_s, two_handed=True)
        now = self._spell(score, now, letters, side)
        now = self._sign_until(score, now, duration_s - ending_s, two_handed=True)
        for arm in (LEFT, RIGHT):
            score.add_arm(arm, duration_s - 0.25, 0.75, rest.arms[arm])
        score.trunk.add(duration_s - 0.25, 0.8, rest.trunk)
        self._live(score, duration_s)
        score.face.add(duration_s - 0.3, 0.4, rest.face)
        score.gaze.add(duration_s - 0.3, 0.2, rest.gaze)
        return self._play(score, duration_s, fps)

    def _free_posture(self, draw: Callable[[], Posture] | None = None) -> tuple[Posture, RigPose]:
        """A drawn posture whose limbs are free of each other once pushed apart, and its rig pose."""
        best: Any = None
        least = np.inf
        for _ in range(_TRIES):
            posture = (draw or self._signer.posture)()
            rig_pose, depth = self._figure.resolve(posture)
            if depth < least:
                best, least = (posture, rig_pose), depth
            if depth <= _GOOD_M:
                break
        return best

    def _sign_until(self, score: _Score, now_s: float, end_s: float, two_handed: bool = False) -> float:
        """Add signs to the score; return the time of the last one's end."""
        random = self._random
        while True:
            posture, _ = self._free_posture(self._two_handed if two_handed else None)
            move_s = max(random.uniform(0.28, 0.50), score.least_move_s(posture))
            beats = random.integers(1, 4)
            beat_s, hold_s = random.uniform(0.20, 0.32), random.uniform(0.08, 0.35)
            length_s = move_s + (beats - 1) * beat_s + hold_s
            if now_s + length_s > end_s:
                return now_s
            self._add_sign(score, now_s + move_s, move_s, posture, beats, beat_s)
            now_s += length_s

    def _two_handed(self) -> Posture:
        signer = self._signer
        trunk = 0.7 * signer.trunk()
        stand = self._figure.stand(trunk)
        draws = (
            signer.symmetric,
            signer.together,
            lambda s: signer.base_and_dominant(s, RIGHT),
            lambda s: [signer.free(s, LEFT), signer.touching(s, RIGHT)],
        )
        left, right = draws[self._random.choice(4, p=(0.4, 0.2, 0.2, 0.2))](stand)
        return Posture(trunk, (left, right), random_face(self._random), np.zeros(2))

    def _add_sign(
        self, score: _Score, arrive_s: float, move_s: float, posture: Posture, beats: int, beat_s: float
    ) -> None:
        """One sign: both arms arrive, then a small movement to and fro, then hold."""
        random = self._random
        score.trunk.add(arrive_s + 0.05, move_s + 0.05, posture.trunk)
        sway = random.normal(0, 0.035, (2, 3))
        roll = random.normal(0, 0.25, 2)
        if random.random() < 0.5:  # both hands do the same, mirrored
            sway[1], roll[1] = sway[0] * (-1, 1, 1), roll[0]
        for side in (LEFT, RIGHT):
            state = posture.arms[side]
            late = random.uniform(0, 0.04)
            score.add_arm(side, arrive_s + late, move_s, state)
            for beat in range(1, beats):
                odd = beat % 2
                wrist = state.wrist + odd * sway[side]
                angles = state.angles + odd * np.array([0, roll[side], 0.6 * roll[side], 0])
                score.add_arm(
                    side, arrive_s + late + beat * beat_s, beat_s, ArmState(wrist, angles, state.shape)
                )

    def _spell(self, score: _Score, now_s: float, letters: Sequence[np.ndarray], side: int) -> float:
        trunk = np.zeros(8)
        stand = self._figure.stand(trunk)
        other = portrait_arm(self._figure, stand, 1 - side)
        now_s += 0.6
        score.trunk.add(now_s, 0.6, trunk)
        score.add_arm(1 - side, now_s, 0.6, other)
        for letter in letters:
            state = self._signer.spelling(stand, side, letter, loose=0.03)
            score.add_arm(side, now_s, 0.24 if letter is not letters[0] else 0.6, state)
            now_s += 0.45
        score.add_arm(side, now_s - 0.1, 0.05, state)
        return now_s + 0.1

    def _live(self, score: _Score, duration_s: float) -> None:
        """Face, gaze and blinks have times of their own."""
        random = self._random
        now_s = random.uniform(0.3, 0.8)
        while now_s < duration_s:
            score.face.add(now_s, random.uniform(0.12, 0.35), random_face(random))
            now_s += random.uniform(0.35, 1.2)
        now_s = random.uniform(0.3, 1.0)
        while now_s < duration_s:
            score.gaze.add(now_s, 0.05, random_gaze(random))
            now_s += random.uniform(0.5, 2.0)
        score.blinks += list(np.cumsum(random.uniform(1.2, 4.5, int(duration_s) + 1)))

    def _play(self, score: _Score, duration_s: float, fps: float) -> list[RigPose]:
        """Resolve every frame; pushes out of the body are first spread over time, so nothing jumps."""
        postures = [score.at(time_s) for time_s in np.arange(round(duration_s * fps)) / fps]
        pushes = np.zeros((len(postures), 2, 3))
        for _ in range(_SMOOTHINGS):
            found = [
                self._figure.settle(self._figure.stand(posture.trunk), _moved(posture, push).arms)[1]
                for posture, push in zip(postures, pushes, strict=True)
            ]
            pushes = gaussian_filter1d(pushes + np.array(found), _PUSH_SPREAD_S * fps, axis=0, mode="nearest")
        return [
            self._figure.resolve(_moved(posture, push))[0]
            for posture, push in zip(postures, pushes, strict=True)
        ]


def _moved(posture: Posture, push: np.ndarray) -> Posture:
    """A posture whose wrists are moved by (2, 3) metres in the chest's axes."""
    left, right = (replace(arm, wrist=arm.wrist + way) for arm, way in zip(posture.arms, push, strict=True))
    return replace(posture, arms=(left, right))
