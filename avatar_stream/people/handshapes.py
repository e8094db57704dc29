"""Handshapes of the manual alphabets and of signing, as joint angles that fit any person's either hand.

A shape is a (5, 4) array of radians: thumb, index, middle, ring, pinky.
Fingers: flexion at the knuckle (towards the palm), the middle and the end joint, then spread (away from the
middle finger; the middle finger's own is towards the thumb).
Thumb: where it points, as two angles in the hand's frame (around: 0 along the fingers, 90 degrees away from
the hand in the palm's plane, negative across the palm; out: towards the side the palm faces), then flexion
at the knuckle and the end joint.
"""

from __future__ import annotations

import numpy as np

from avatar_stream.errors import ConfigError
from avatar_stream.people.skeleton import INDEX
from avatar_stream.turns import about, between, cross, unit

# Degrees. Limits are those of a loose adult hand.
LOWEST = np.deg2rad([[-45, -15, -15, -15]] + [[-20, -3, -8, -22]] * 4)
HIGHEST = np.deg2rad([[75, 75, 60, 80]] + [[95, 108, 80, 25]] * 4)

_UP = (0, 2, 2, 0)
_FIST = (82, 98, 62, 0)
_BENT = (78, 4, 4, 0)
_HOOK = (8, 80, 50, 0)
_CLAW = (14, 55, 38, 0)
_CURVE = (34, 36, 24, 0)
_ROUND = (48, 50, 34, 0)
_PINCH = (62, 48, 22, 0)

# Thumbs: (around, out, knuckle, end).
_SIDE = (16, 18, 12, 4)  # upright along the index finger, as in A
_OUT = (62, 14, 0, 0)  # away from the hand, as in L
_OVER = (0, 68, 36, 70)  # across the curled fingers, as in S
_HOLD = (6, 58, 42, 64)  # on the ring and little fingers, as in V
_ACROSS = (-36, 40, 50, 46)  # across the palm, as in B
_FACING = (22, 58, 12, 14)  # opposite the fingers, as in C
_MEET = (31, 16, 20, 32)  # its tip at the index finger's tip, as in F and O
_LOOSE = (34, 24, 8, 10)

# Index, middle, ring, pinky after the thumb.
_DEGREES: dict[str, tuple] = {
    "flat": (_SIDE, _UP, _UP, _UP, _UP),
    "b": (_ACROSS, _UP, _UP, _UP, _UP),
    "bent_b": (_SIDE, _BENT, _BENT, _BENT, _BENT),
    "open": ((48, 16, 4, 4), (4, 6, 4, 6), (4, 6, 4, 0), (4, 6, 4, 5), (4, 6, 4, 9)),
    "five": (_OUT, (-2, 2, 2, 13), _UP, (-2, 2, 2, 12), (-2, 2, 2, 20)),
    "claw": (_FACING, (14, 55, 38, 9), _CLAW, (14, 55, 38, 7), (14, 55, 38, 13)),
    "relaxed": (_LOOSE, (14, 18, 10, 4), (20, 22, 12, 0), (24, 26, 14, 1), (26, 28, 16, 4)),
    "loose_fist": (_LOOSE, (38, 52, 30, 1), (46, 58, 34, 0), (50, 62, 36, 1), (52, 62, 36, 3)),
    "a": (_SIDE, _FIST, _FIST, _FIST, _FIST),
    "s": (_OVER, _FIST, _FIST, _FIST, _FIST),
    "thumb_up": (_OUT, _FIST, _FIST, _FIST, _FIST),
    "t": ((-8, 52, 38, 30), (66, 84, 50, 0), _FIST, _FIST, _FIST),
    "n": ((-3, 66, 48, 50), (70, 76, 46, 0), (70, 76, 46, 0), _FIST, _FIST),
    "m": ((-20, 48, 36, 44), (70, 74, 44, 0), (70, 74, 44, 0), (70, 74, 44, 0), _FIST),
    "e": ((-8, 58, 56, 66), (28, 98, 64, 0), (30, 98, 64, 0), (32, 98, 64, 0), (32, 96, 62, 0)),
    "c": (_FACING, _CURVE, _CURVE, _CURVE, _CURVE),
    "baby_c": (_FACING, _CURVE, _FIST, _FIST, _FIST),
    "o": (_MEET, _ROUND, _ROUND, _ROUND, _ROUND),
    "flat_o": ((6, 28, 2, 4), (60, 22, 10, 0), (62, 24, 10, 0), (62, 22, 10, 0), (58, 18, 10, 0)),
    "baby_o": (_MEET, _ROUND, _FIST, _FIST, _FIST),
    "d": ((19, 31, 25, 36), _UP, _ROUND, _ROUND, _ROUND),
    "f": ((36, 12, 26, 39), _PINCH, (2, 4, 2, 2), (0, 2, 2, 8), (0, 2, 2, 16)),
    "open_8": ((30, 50, 6, 6), (2, 4, 2, 6), (58, 16, 6, 0), (2, 4, 2, 5), (0, 2, 2, 12)),
    "g": ((14, 30, 4, 4), _UP, _FIST, _FIST, _FIST),
    "g_closed": ((22, 26, 8, 14), (50, 22, 10, 0), _FIST, _FIST, _FIST),
    "k": ((18, 38, 2, 0), (0, 2, 2, 4), (34, 4, 2, 2), _FIST, _FIST),
    "l": (_OUT, _UP, _FIST, _FIST, _FIST),
    "bent_l": (_OUT, _HOOK, _FIST, _FIST, _FIST),
    "i": (_OVER, _FIST, _FIST, _FIST, _UP),
    "y": (_OUT, _FIST, _FIST, _FIST, (0, 2, 2, 16)),
    "ily": (_OUT, (0, 2, 2, 4), _FIST, _FIST, (0, 2, 2, 12)),
    "horns": (_OVER, (0, 2, 2, 3), _FIST, _FIST, (0, 2, 2, 10)),
    "one": (_OVER, _UP, _FIST, _FIST, _FIST),
    "r": (_HOLD, (2, 4, 2, -10), (14, 6, 4, 10), _FIST, _FIST),
    "u": (_HOLD, (0, 2, 2, -1), (0, 2, 2, -1), _FIST, _FIST),
    "v": (_HOLD, (0, 2, 2, 12), (0, 2, 2, -10), _FIST, _FIST),
    "bent_v": (_HOLD, (6, 78, 46, 10), (6, 78, 46, -8), _FIST, _FIST),
    "w": ((-29, 38, 46, 51), (0, 2, 2, 13), (0, 2, 2, 0), (0, 2, 2, 12), (74, 84, 50, 0)),
    "x": (_OVER, (6, 92, 54, 0), _FIST, _FIST, _FIST),
    "three": (_OUT, (0, 2, 2, 11), (0, 2, 2, -8), _FIST, _FIST),
    "bent_three": (_OUT, (6, 72, 44, 10), (6, 72, 44, -7), _FIST, _FIST),
    "four": (_ACROSS, (0, 2, 2, 11), _UP, (0, 2, 2, 9), (0, 2, 2, 16)),
    "seven": ((6, 51, 35, 44), (0, 2, 2, 7), (0, 2, 2, 0), (54, 60, 30, 0), (2, 4, 2, 12)),
    "eight": ((9, 66, 28, 55), (0, 2, 2, 7), (58, 54, 28, 0), (2, 4, 2, 3), (0, 2, 2, 12)),
    "six": ((-33, 38, 23, 26), (0, 2, 2, 8), (0, 2, 2, 0), (2, 4, 2, 6), (60, 56, 30, 0)),
    "middle": (_OVER, _FIST, _UP, _FIST, _FIST),
}

# Letters and numbers of the American manual alphabet (J and Z move; their shape is that of I and 1).
LETTERS = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", [*"abcdefguiiklmnokgrstuvwxy", "one"], strict=True)) | dict(
    zip("0123456789", "o one v three four five six seven eight f".split(), strict=True)
)

NAMES: tuple[str, ...] = tuple(_DEGREES)


def shape(name: str) -> np.ndarray:
    """(5, 4) float64 radians of a shape in `NAMES`, a capital letter or a digit; ConfigError if unknown."""
    name = LETTERS.get(name, name)
    if name not in _DEGREES:
        raise ConfigError(f"Unknown handshape {name!r}. Known: {', '.join(NAMES)}.")
    return np.deg2rad(np.array(_DEGREES[name], np.float64))


class Hand:
    """One hand of one person: its axes in the model at bind time, and shapes as joint rotations.

    Attributes:
        side: "Left" or "Right", the signer's own.
        first: row in JOINTS of the thumb's first joint; the 20 finger joints follow, finger by finger.
        wrist: row of the hand's joint.
        along, across, palm: (3,) unit axes: to the fingers, to the thumb's side, out of the palm.
        offsets_m: (5, 4, 3) from the wrist to each finger's first joint, then from joint to joint.
        palm_m: metres from the wrist to the middle finger's knuckle.
    """

    def __init__(self, bind_m: np.ndarray, side: str):
        """Measure the hand in bind positions `bind_m` (J, 3), metres."""
        self.side = side
        self.wrist = INDEX[f"{side}Hand"]
        self.first = INDEX[f"{side}HandThumb1"]
        joints = np.asarray(bind_m, np.float64)[self.first : self.first + 20].reshape(5, 4, 3)
        wrist = np.asarray(bind_m[self.wrist], np.float64)
        self.offsets_m = np.concatenate((joints[:, :1] - wrist, np.diff(joints, axis=1)), 1)
        self.palm_m = float(np.linalg.norm(joints[2, 0] - wrist))
        along = unit((joints[1:, 1] - joints[1:, 0]).sum(0))
        across = joints[1, 0] - joints[4, 0]
        self.across = unit(across - along * (across @ along))
        self.along = along
        self._mirror = 1.0 if side == "Left" else -1.0
        self.palm = self._mirror * cross(along, self.across)
        self.flexion = unit(cross(unit(joints[1:, 3] - joints[1:, 0]), self.palm))
        self.spread = self.palm * self._mirror * np.array([1.0, 1.0, -1.0, -1.0])[:, None]
        self.thumb = unit(joints[0, 3] - joints[0, 0])
        bends = -0.85 * self.across + 0.5 * self.palm  # where the thumb's pad looks at bind time
        self.thumb_flexion = unit(cross(self.thumb, bends))

    def rotations(self, angles: np.ndarray) -> np.ndarray:
        """Joint rotations of shapes.

        Args:
            angles: (..., 5, 4) radians, see the module.

        Returns:
            (..., 5, 4, 3, 3) float64, each relative to its parent in the model's bind axes; tips stay
            unturned.
        """
        out = np.broadcast_to(np.eye(3), (*angles.shape, 3, 3)).copy()
        fingers = angles[..., 1:, :]
        bend = about(self.flexion[:, None], fingers[..., :3])
        out[..., 1:, :3, :, :] = bend
        out[..., 1:, 0, :, :] = about(self.spread, fingers[..., 3]) @ bend[..., 0, :, :]
        thumb = angles[..., 0, :]
        around, outwards = thumb[..., :1], thumb[..., 1:2]
        flat = np.cos(around) * self.along + np.sin(around) * self.across
        aim = np.cos(outwards) * flat + np.sin(outwards) * self.palm
        # Opposition rolls the thumb: the further it stands out of the palm's plane, the more its pad faces
        # them.
        rolled = 1.2 * (thumb[..., 1] - np.deg2rad(20)) - 0.7 * (thumb[..., 0] - np.deg2rad(30))
        roll = about(self.thumb, self._mirror * rolled)
        out[..., 0, 0, :, :] = between(self.thumb, aim) @ roll
        out[..., 0, 1:3, :, :] = about(self.thumb_flexion, thumb[..., 2:4])
        return out

    def points(self, rotations: np.ndarray) -> np.ndarray:
        """(..., 5, 4, 3) metres: finger joints from the wrist, in the hand's unturned axes."""
        out = np.empty((*rotations.shape[:-4], 5, 4, 3))
        turn = rotations[..., 0, :, :]
        out[..., 0, :] = self.offsets_m[:, 0]
        for joint in (1, 2, 3):
            out[..., joint, :] = out[..., joint - 1, :] + (turn @ self.offsets_m[:, joint, :, None])[..., 0]
            if joint < 3:
                turn = turn @ rotations[..., joint, :, :]
        return out
