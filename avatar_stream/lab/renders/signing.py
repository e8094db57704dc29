"""Random postures of signing: where hands go, how they are turned, what they touch."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_stream.people import handshapes
from avatar_stream.people.expressions import random_face, random_gaze
from avatar_stream.people.handshapes import NAMES, shape
from avatar_stream.people.postures import LEFT, RIGHT, ArmState, Posture, RigBody, Stand
from avatar_stream.turns import from_vector, unit

# Regions of the signing space: low and high corner in arm lengths from the middle of the shoulders (x = the
# hand's own side, y up, z forwards), and how often.
_REGIONS = (
    (0.30, (-0.10, -0.72, 0.38), (0.48, -0.20, 0.80)),  # neutral space
    (0.16, (-0.12, -0.30, 0.38), (0.50, 0.12, 0.82)),  # before chest and shoulders
    (0.16, (-0.05, 0.05, 0.40), (0.55, 0.62, 0.78)),  # before and beside the face
    (0.06, (0.05, 0.50, 0.10), (0.70, 1.05, 0.60)),  # above the head
    (0.12, (0.42, -0.60, 0.10), (1.05, 0.55, 0.65)),  # out to the side
    (0.05, (-0.42, -0.50, 0.42), (0.00, 0.10, 0.65)),  # across the middle
    (0.06, (0.15, -1.00, 0.15), (0.60, -0.68, 0.50)),  # about the hips
    (0.09, (0.24, -0.28, 0.40), (0.50, 0.12, 0.66)),  # where one fingerspells
)
_DIRECTIONS = np.array([(0, 0, 1), (0, 0, -1), (0, -1, 0), (0, 1, 0), (-1, 0, 0), (1, 0, 0)], float)
_PALMS = (0.30, 0.17, 0.20, 0.10, 0.19, 0.04)
_FINGERS = (0.14, 0.03, 0.06, 0.45, 0.27, 0.05)
# What part of the hand touches, with shapes that bring it forward.
_TOUCHES = {
    "index": ("one", "l", "d", "x", "r", "u", "v", "bent_v", "three", "k", "bent_l", "g"),
    "middle": ("flat", "b", "bent_b", "open_8", "u", "v", "five", "w", "claw", "open", "flat_o", "o", "m"),
    "thumb": ("five", "open", "y", "thumb_up", "ily", "a", "l", "three"),
    "palm": ("flat", "b", "open", "five", "claw", "relaxed", "c"),
    "knuckles": ("a", "s", "bent_b", "e", "x", "t"),
}
# Arms that do nothing: chance up to, low and high corner as above, palm, fingers, how loosely.
_RESTS = (
    (0.45, (0.50, -0.97, 0.02), (0.66, -0.78, 0.24), (-1, 0, -0.1), (0.1, -1, 0.1), 0.15),  # beside the body
    (0.70, (0.36, -1.2, -0.02), (0.5, -0.98, 0.15), (-1, 0, -0.1), (0, -1, 0.1), 0.15),  # out of view
    (
        1.00,
        (0.08, -0.88, 0.40),
        (0.30, -0.68, 0.55),
        (-0.2, -0.3, -1),
        (-1, -0.25, 0.3),
        0.2,
    ),  # before the belly
)
_BASES = ("flat", "b", "open", "s", "one", "c", "bent_b", "five", "o", "u")


class PostureSampler:
    """Draws random postures of one person."""

    def __init__(self, figure: RigBody, random: np.random.Generator):
        """Keep the person and the source of chance."""
        self.figure = figure
        self.random = random

    def posture(self) -> Posture:
        """One independent posture: body, face and both arms. Collisions are not checked here."""
        random = self.random
        trunk = self.trunk()
        stand = self.figure.stand(trunk)
        dominant = LEFT if random.random() < 0.25 else RIGHT
        kind = random.choice(8, p=(0.22, 0.17, 0.14, 0.12, 0.10, 0.08, 0.12, 0.05))
        arms: list[Any] = [None, None]
        other = 1 - dominant
        if kind == 0:
            arms = [self.free(stand, LEFT), self.free(stand, RIGHT)]
        elif kind == 1:
            arms[dominant], arms[other] = self.free(stand, dominant), self.resting(stand, other)
        elif kind == 2:
            arms[dominant] = self.touching(stand, dominant)
            arms[other] = self.resting(stand, other) if random.random() < 0.7 else self.free(stand, other)
        elif kind == 3:
            arms = self.symmetric(stand)
        elif kind == 4:
            arms = self.base_and_dominant(stand, dominant)
        elif kind == 5:
            arms = self.together(stand)
        elif kind == 6:
            arms[dominant], arms[other] = self.spelling(stand, dominant), self.resting(stand, other)
        else:
            arms = [self.resting(stand, LEFT), self.resting(stand, RIGHT)]
        return Posture(trunk, (arms[0], arms[1]), random_face(random), random_gaze(random))

    def trunk(self) -> np.ndarray:
        """(8,) radians: small leans and turns, freer head, now and then a shrug."""
        spread = np.deg2rad([5.0, 3.5, 6.0, 9.0, 7.0, 13.0])
        shrugs = np.deg2rad(self.random.uniform(-1, 3, 2))
        if self.random.random() < 0.15:
            shrugs += np.deg2rad(self.random.uniform(4, 14))
        head = np.clip(self.random.normal(0, 1, 6), -2.2, 2.2) * spread
        return np.concatenate((head + np.deg2rad([2, 0, 0, 2, 0, 0]), shrugs))

    def shape(self) -> np.ndarray:
        """(5, 4) radians: a named shape, a blend of two, or a mixture; always a little of its own."""
        random = self.random
        angles = shape(NAMES[random.integers(len(NAMES))])
        kind = random.random()
        if kind < 0.22:
            part = random.random()
            angles = (1 - part) * angles + part * shape(NAMES[random.integers(len(NAMES))])
        elif kind < 0.30:  # fingers of several shapes: what no list foresees
            for finger in range(1, 5):
                angles[finger] = shape(NAMES[random.integers(len(NAMES))])[finger]
        return self.vary(angles)

    def vary(self, angles: np.ndarray) -> np.ndarray:
        """A shape (5, 4) as another hand would make it, inside the joints' limits."""
        noise = np.deg2rad(np.array([5.0, 4.0, 3.0, 2.0])) * self.random.normal(0, 1, (5, 4))
        return np.clip(angles + noise, handshapes.LOWEST, handshapes.HIGHEST)

    def _pick(self, names: tuple[str, ...]) -> np.ndarray:
        return self.vary(shape(names[self.random.integers(len(names))]))

    def hand_turn(
        self,
        side: int,
        palm: np.ndarray | None = None,
        fingers: np.ndarray | None = None,
        loose: float = 0.22,
    ) -> np.ndarray:
        """(3, 3) a turn of the hand; directions (x = own side) that are not given are drawn."""
        mirror = np.array([self.figure.arms[side].mirror, 1, 1])
        if palm is None:
            palm = _DIRECTIONS[self.random.choice(6, p=_PALMS)]
        while fingers is None or abs(unit(fingers) @ unit(palm)) > 0.95:
            fingers = _DIRECTIONS[self.random.choice(6, p=_FINGERS)]
            fingers = fingers + 0.35 * _DIRECTIONS[self.random.choice(6, p=_FINGERS)]
        # The fingers' direction is kept; the palm is made square to it.
        turn = self.figure.arms[side].hand_turn(unit(fingers * mirror), unit(palm * mirror))
        return from_vector(self.random.normal(0, loose, 3)) @ turn

    def _best(
        self,
        stand: Stand,
        side: int,
        turns: list[np.ndarray],
        angles: np.ndarray,
        at: np.ndarray,
        offset: np.ndarray | None = None,
    ) -> ArmState:
        """The arm state whose wanted hand turn was the easiest."""
        tries = [self.figure.arm_state(stand, side, turn, angles, at, offset) for turn in turns]
        return min(tries, key=lambda entry: entry[1])[0]

    def free(self, stand: Stand, side: int, at: np.ndarray | None = None) -> ArmState:
        """A hand anywhere in the signing space."""
        if at is None:
            at = self.figure.to_space(stand, self.place(side))
        turns = [self.hand_turn(side), self.hand_turn(side)]
        return self._best(stand, side, turns, self.shape(), at)

    def place(self, side: int) -> np.ndarray:
        """(3,) a wrist place, metres from the middle of the shoulders in chest axes."""
        chances = [chance for chance, _, _ in _REGIONS]
        _, low, high = _REGIONS[self.random.choice(len(_REGIONS), p=chances)]
        at = self.random.uniform(low, high) * self.figure.arm_m
        return at * (self.figure.arms[side].mirror, 1, 1)

    def spelling(
        self, stand: Stand, side: int, angles: np.ndarray | None = None, loose: float = 0.12
    ) -> ArmState:
        """A letter or number beside the shoulder, palm out."""
        if angles is None:
            letters = list(handshapes.LETTERS)
            angles = self.vary(shape(letters[self.random.integers(len(letters))]))
        at = self.random.normal((0.40, -0.16, 0.50), 0.3 * loose) * self.figure.arm_m
        at = self.figure.to_space(stand, at * (self.figure.arms[side].mirror, 1, 1))
        turn = self.hand_turn(side, np.array([-0.15, 0, 1.0]), np.array([-0.1, 1.0, 0.1]), loose)
        return self.figure.arm_state(stand, side, turn, angles, at)[0]

    def resting(self, stand: Stand, side: int, spread: float = 1.0) -> ArmState:
        """An arm that does nothing: beside the body, often out of view, or loosely before the belly."""
        random, figure = self.random, self.figure
        kind = random.random()
        _, low, high, palm, fingers, loose = next(rest for rest in _RESTS if kind < rest[0])
        at = random.uniform(low, high)
        turn = self.hand_turn(side, np.array(palm), np.array(fingers), loose * spread)
        at = figure.to_space(stand, at * figure.arm_m * (figure.arms[side].mirror, 1, 1))
        names = ("relaxed", "relaxed", "loose_fist", "flat", "open")
        return figure.arm_state(stand, side, turn, self._pick(names), at)[0]

    def _contact(self, side: int, part: str, angles: np.ndarray) -> np.ndarray:
        """(3,) metres from the wrist to the part of the hand that touches, in the hand's unturned axes."""
        hand = self.figure.arms[side].hand
        points = hand.points(hand.rotations(angles))
        if part == "palm":
            return 0.6 * points[1:, 0].mean(0) + 0.016 * hand.palm
        if part == "knuckles":
            return points[1:3, 1].mean(0) + 0.008 * hand.along
        return points[("thumb", "index", "middle").index(part), 3]

    def touching(self, stand: Stand, side: int) -> ArmState:
        """A hand at the face or the chest."""
        random, figure = self.random, self.figure
        mirror = figure.arms[side].mirror
        part = list(_TOUCHES)[random.choice(5, p=(0.32, 0.28, 0.14, 0.16, 0.10))]
        if random.random() < 0.68:
            names = ("nose", "chin", "mouth", "forehead", "cheek", "temple", "ear", "eye")
            name = names[random.choice(8, p=(0.10, 0.22, 0.14, 0.14, 0.16, 0.10, 0.07, 0.07))]
            at, way = figure.body.face_site(stand.turns, stand.places, name, mirror)
        else:
            across, up = random.uniform(-0.9, 0.5), random.uniform(-0.5, 0.85)
            at, way = figure.body.chest_site(stand.turns, stand.places, -mirror * across, up)
        angles = self._pick(_TOUCHES[part])
        # Contact is where skins meet; some signs only come near.
        at = at + way * (0.004 if random.random() < 0.75 else random.uniform(0.01, 0.06))
        inwards = -way * (mirror, 1, 1)
        turns = []
        for _ in range(3):
            along = unit(np.array([-0.7, 0.6, 0.0]) + random.normal(0, 0.5, 3))
            if part == "palm":
                turns.append(self.hand_turn(side, inwards, along - inwards * (along @ inwards), 0.12))
            elif part == "thumb":
                turns.append(self.hand_turn(side, np.array([-1, 0, 0.3]), along * (0.4, 1, 1), 0.3))
            else:
                palm = _DIRECTIONS[random.choice((1, 2, 4))]
                turns.append(self.hand_turn(side, palm, 0.8 * inwards + along, 0.12))
        return self._best(stand, side, turns, angles, at, self._contact(side, part, angles))

    def symmetric(self, stand: Stand) -> list[ArmState]:
        """Both hands with one shape, mirror images of each other or alternating."""
        random, figure = self.random, self.figure
        at = self.place(LEFT)
        at[0] = max(at[0], 0.13 * figure.arm_m)
        flip = np.array([-1.0, 1, 1])
        offset = random.normal(0, 0.07, 3) if random.random() < 0.4 else np.zeros(3)
        angles = self.shape()
        palm = _DIRECTIONS[random.choice(6, p=_PALMS)]
        fingers = _DIRECTIONS[random.choice(6, p=_FINGERS)]
        arms = []
        for side, place in ((LEFT, at + offset), (RIGHT, at * flip - offset * flip)):
            turn = self.hand_turn(side, palm, fingers, 0.12)
            arms.append(
                figure.arm_state(stand, side, turn, self.vary(angles), figure.to_space(stand, place))[0]
            )
        return arms

    def _meeting_point(self, stand: Stand) -> np.ndarray:
        at = self.random.uniform((-0.2, -0.70, 0.50), (0.2, 0.05, 0.78)) * self.figure.arm_m
        return self.figure.to_space(stand, at)

    def base_and_dominant(self, stand: Stand, dominant: int) -> list[ArmState]:
        """The dominant hand on, at or above the other hand's palm or fist."""
        random, figure = self.random, self.figure
        other = 1 - dominant
        at = self._meeting_point(stand)
        up = np.array([0, 1.0, 0]) if random.random() < 0.55 else np.array([-0.8, 0.25, -0.3])
        fingers = np.array([-0.7, 0.1, 0.7]) if up[1] == 1.0 else np.array([-0.2, 0.8, 0.5])
        base_shape = self._pick(_BASES)
        base = self.hand_turn(other, up, fingers, 0.15)
        arms: list[Any] = [None, None]
        arms[other] = figure.arm_state(
            stand, other, base, base_shape, at, self._contact(other, "palm", base_shape)
        )[0]
        out = unit(up * (figure.arms[other].mirror, 1, 1))
        part = list(_TOUCHES)[random.choice(5, p=(0.30, 0.25, 0.08, 0.20, 0.17))]
        angles = self._pick(_TOUCHES[part])
        gap = 0.006 if random.random() < 0.6 else random.uniform(0.01, 0.10)
        towards = -out * (figure.arms[dominant].mirror, 1, 1)
        turns = []
        for _ in range(2):
            along = unit(np.array([-0.6, 0.2, 0.7]) + random.normal(0, 0.4, 3))
            if part == "palm":
                turns.append(self.hand_turn(dominant, towards, along, 0.1))
            else:
                turns.append(self.hand_turn(dominant, None, 0.9 * towards + 0.6 * along, 0.1))
        arms[dominant] = self._best(
            stand, dominant, turns, angles, at + gap * out, self._contact(dominant, part, angles)
        )
        return arms

    def together(self, stand: Stand) -> list[ArmState]:
        """Fingertips together, palm on palm, or wrists crossed."""
        random, figure = self.random, self.figure
        at = self._meeting_point(stand)
        kind = random.choice(3, p=(0.5, 0.3, 0.2))
        part = ("index", "middle", "thumb")[random.choice(3, p=(0.5, 0.35, 0.15))] if kind == 0 else "palm"
        angles = self._pick(_TOUCHES[part] if kind != 2 else ("s", "flat", "five", "relaxed", "one"))
        up = random.uniform(0, 1)
        arms = []
        for side in (LEFT, RIGHT):
            mirror = figure.arms[side].mirror
            if kind == 0:
                turn = self.hand_turn(side, None, np.array([-1, up, 0.2]), 0.1)
                place, offset = at + np.array([0.004 * mirror, 0, 0]), self._contact(side, part, angles)
            elif kind == 1:
                turn = self.hand_turn(side, np.array([-1, 0, 0.0]), np.array([0, up, 1 - 0.8 * up]), 0.05)
                place, offset = at + np.array([0.004 * mirror, 0, 0]), self._contact(side, part, angles)
            else:  # crossed: the right wrist in front of the left one
                turn = self.hand_turn(side, np.array([0, 0, -1.0]), np.array([-0.8, 0.8, 0.1]), 0.12)
                place, offset = at + np.array([-0.03 * mirror, 0, -0.045 * mirror]), None
            arms.append(figure.arm_state(stand, side, turn, self.vary(angles), place, offset)[0])
        return arms
