"""What travels between the stages. All frozen: a stage returns a new object, it never edits one.

Images are RGB everywhere. Left and right are the signer's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

# Slices of Pose.points, in the order of `.pose` files (MediaPipe Holistic).
BODY = slice(0, 33)
FACE = slice(33, 511)  # 468 mesh points, then 5 + 5 iris points
LEFT_HAND = slice(511, 532)
RIGHT_HAND = slice(532, 553)
POINT_COUNT = 553

# Rows of Pose.points with a name (MediaPipe's body layout).
NOSE = 0
LEFT_EAR, RIGHT_EAR = 7, 8
LEFT_SHOULDER, RIGHT_SHOULDER = 11, 12
LEFT_ELBOW, RIGHT_ELBOW = 13, 14
LEFT_WRIST, RIGHT_WRIST = 15, 16
LEFT_HIP, RIGHT_HIP = 23, 24

SOUND_RATE = 48_000  # samples a second, everywhere
TICKS_PER_S = 90_000  # of video's time stamps, in files and as RTP has them

# The canonical signing frame: a square that holds the whole signing space, in which training and
# running both happen. It reaches from well below the waist to above the head, an elbow's width at
# both sides: 1.2 m for an adult with 0.35 m between the shoulder joints and 0.5 m from them to the hips.
CANVAS_PX = 512
# Sides of the avatar's picture. Poses stay in canvas pixels, whatever the picture's size.
PictureSide = Literal[512, 768, 1024]
PICTURE_SIDES_PX = get_args(PictureSide)
SHOULDER_CENTRE = (0.5, 0.46)  # where the middle of the shoulders stands, as parts of the side
SIDE_PER_SHOULDERS_AND_TORSO = 1.41  # side = 1.41 * (shoulder width + shoulder-to-hip height)
SIDE_PER_SHOULDERS = 3.45  # the same where the hips are not seen


@dataclass(frozen=True)
class Pose:
    """One person's landmarks in one picture.

    Attributes:
        points: (553, 3) float32. x, y in pixels of the tracked image, origin top left, y down. z in
            the same pixels, smaller is nearer; body z counts from between the hips, each hand's z from its
            own wrist, face z from about the middle of the head. NaN where not seen, never 0.
        confidence: (553,) float32, 0..1; 0 = not seen.
        world: (33, 3) float32, metres, origin between the hips, y down; NaN where the tracker has none.
        size: (width, height) of the tracked image, px.
        time_s: time of the frame, copied from it.
        matte: (height, width) uint8, 255 where the tracked image shows the person; None where nobody asked for it.
    """

    points: np.ndarray
    confidence: np.ndarray
    world: np.ndarray
    size: tuple[int, int]
    time_s: float
    matte: np.ndarray | None = None


@dataclass(frozen=True)
class Frame:
    """One picture on its way.

    Attributes:
        image: (H, W, 3) uint8 RGB, C-contiguous, upright (a file's rotation is already applied).
        time_s: live: `time.monotonic()` right after the camera read; file: media time from 0.
        index: counted by the source from 0; a gap means dropped frames.
        alpha: (H, W) uint8 matte or None, kept after composition for outputs that carry transparency.
        pose: filled by the tracker; None: not tracked yet, or nobody there.
        driver: (H, W, 3) uint8 RGB, the source's own picture, kept after composition for outputs that show it.
        person: (S, S, 4) uint8 RGBA, straight alpha, S one of PICTURE_SIDES_PX: the avatar alone, for outputs that
            leave its place to others.
        synthetic: False where no generated person is in the picture: a hold card, or the signer's own picture.
    """

    image: np.ndarray
    time_s: float
    index: int
    alpha: np.ndarray | None = None
    pose: Pose | None = None
    driver: np.ndarray | None = None
    person: np.ndarray | None = None
    synthetic: bool = True


@dataclass(frozen=True)
class Sound:
    """A block of a programme's sound; one block goes on where the last one ended.

    Attributes:
        samples: (n, 2) int16, left and right, 48,000 a second.
        time_s: of the first sample, on the clock of `Frame.time_s`.
    """

    samples: np.ndarray
    time_s: float


@dataclass(frozen=True)
class Credit:
    """Where a likeness comes from. An avatar without one does not load."""

    license: str
    source_url: str
    consent: str


@dataclass(frozen=True)
class Look:
    """A further picture of an avatar's person.

    Attributes:
        image: (S, S, 4) uint8 RGBA, straight alpha, in the canonical signing frame, in the portrait's light.
        pose: the pose in it, in canvas pixels.
    """

    image: np.ndarray
    pose: Pose


@dataclass(frozen=True)
class Avatar:
    """A person to sign with.

    Attributes:
        name: the folder's name under `assets/avatars/`.
        image: (S, S, 4) uint8 RGBA, straight alpha, S 512 to 2048: the source image in the canonical signing frame.
        pose: the pose found in `image`, in canvas pixels: its size is (512, 512), whatever S is.
        credit: where the likeness comes from.
        rig_path: a rigged glTF file of the same person, or None.
        looks: further pictures of the same person: hands from both sides, mouths, turned heads.
    """

    name: str
    image: np.ndarray
    pose: Pose
    credit: Credit
    rig_path: Path | None = None
    looks: tuple[Look, ...] = ()
