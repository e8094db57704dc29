"""Short clips of rendered signers as a webcam gives them: exact landmarks, and what the live path makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.images.fitting import over
from avatar_stream.lab.renders.motion import Sampler
from avatar_stream.lab.renders.people import Studio, random_variant
from avatar_stream.people import parts
from avatar_stream.people.camera import Camera
from avatar_stream.people.inverse_kinematics import RigSolver
from avatar_stream.people.landmarks import landmarks
from avatar_stream.people.lens import Lens, photograph_scene
from avatar_stream.people.look import Appearance
from avatar_stream.people.renderer import Renderer
from avatar_stream.people.rig import Rig
from avatar_stream.people.skeleton import RigPose
from avatar_stream.retarget import Retargeter
from avatar_stream.running.config import DEFAULT_TRACKER, find_stage
from avatar_stream.sources.pose_file import read_pose_file
from avatar_stream.stages import Tracker
from avatar_stream.turns import part_of
from avatar_stream.types import CANVAS_PX, LEFT_HAND, RIGHT_HAND, Frame, Pose

FPS = 25
STILL_FRAMES = 25  # before the signing, in the portrait's pose
SETTLED_FRAMES = STILL_FRAMES + 10  # until the tracker has found the hands where signing begins
SUBFRAMES = 3  # drawn for each frame of the clip; their mean is its motion blur
_SHUTTER = 2  # of them that the shutter is open: webcams indoors expose for most of a frame
_HANDS, _GUESSED = slice(LEFT_HAND.start, RIGHT_HAND.stop), 0.3  # less sure hands are carried along unseen
_LEAD_IN_S = 0.3  # from the portrait to the first posture of a file


@dataclass(frozen=True)
class RenderedClip:
    """A rendered clip: STILL_FRAMES of rest, then signing. All points in px of the 512 canvas.

    Attributes:
        person: name of the file.
        exact: (N * SUBFRAMES, 553, 3) float32; frame n begins at row n * SUBFRAMES.
        hand_pixels: (N, 2) float32, pixels of the canvas that show the left and right hand.
    """

    person: str
    exact: np.ndarray
    hand_pixels: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """(N, 553, 3) exact landmarks in the middle of each frame's exposure."""
        return 0.5 * (self.exact[::SUBFRAMES] + self.exact[_SHUTTER - 1 :: SUBFRAMES])


@dataclass(frozen=True)
class FilmedClip(RenderedClip):
    """One clip as a webcam gives it.

    Attributes:
        motion: name of the pose file that it moves after, or "" where it signs at random.
        pictures: (N, 512, 512, 3) uint8 RGB with motion blur, as its lens takes them.
        portrait: the neutral portrait's exact pose.
    """

    motion: str
    pictures: np.ndarray
    portrait: Pose


@dataclass(frozen=True)
class TrackedClip(RenderedClip):
    """One clip, exact and as tracked.

    Attributes:
        tracked: (N, 553, 3) float32, what the tracker sees, NaN where lost or only guessed.
        live: (N, 553, 3) the same after the Retargeter, on the same person's neutral portrait.
        trust: (N, 553) float32, the Retargeter's confidence.
        portrait: (553, 3) the neutral portrait's exact landmarks.
        picture: (512, 512, 3) uint8 RGB, the clip's middle frame.
    """

    tracked: np.ndarray
    live: np.ndarray
    trust: np.ndarray
    portrait: np.ndarray
    picture: np.ndarray


def track_clip(filmed: FilmedClip, tracker: str = DEFAULT_TRACKER) -> TrackedClip:
    """Bring a clip through a tracker (its type, a file's name in `trackers/`) and the Retargeter.

    Raises:
        ConfigError: there is no such tracker.
        TrackerError: the tracker's libraries are missing, or it failed.
    """
    seen = _track(filmed.pictures, filmed.portrait, find_stage("trackers", tracker)())
    picture = filmed.pictures[len(filmed.pictures) // 2]
    return TrackedClip(
        filmed.person, filmed.exact, filmed.hand_pixels, *seen, filmed.portrait.points, picture
    )


def film_clip(
    person: Path, frames: int, random: np.random.Generator, motion: Path | None = None
) -> FilmedClip:
    """Draw one person signing as a webcam shows it.

    Args:
        person: a rigged glTF file.
        frames: of signing at 25 fps, at most; STILL_FRAMES stand before them.
        random: look, camera, background, motion and noise come from it.
        motion: a pose file to move after; None: random signing.

    Raises:
        RenderError: OpenGL or the person cannot be used.
        SourceError: the pose file cannot be read.
    """
    renderer, rig, face = Studio.enter(person)
    rig, look, camera = random_variant(rig, face, random)
    sampler = Sampler(rig.bind_m, int(random.integers(2**31)))
    # A signer stands still at first, and that is when the Retargeter learns the head's neutral turn.
    poses = [sampler.portrait()] * (STILL_FRAMES * SUBFRAMES)
    if motion is None:
        poses += sampler.clip(frames / FPS, FPS * SUBFRAMES)[: frames * SUBFRAMES]
    else:
        poses += _moved_after(motion, rig, poses[-1], frames)
    portrait = landmarks(rig, face, sampler.portrait(), camera)
    exact = np.stack([landmarks(rig, face, pose, camera).points for pose in poses])
    pictures, hand_pixels = _film(renderer, rig, poses, camera, look, random)
    name = "" if motion is None else motion.stem
    return FilmedClip(person.stem, exact, hand_pixels, name, pictures, portrait)


def _moved_after(motion: Path, rig: Rig, rest: RigPose, frames: int) -> list[RigPose]:
    """Whole frames of sub-frames of a file's postures, at most `frames`, after a short way from rest."""
    seen = read_pose_file(motion)
    solver = RigSolver(rig.bind_m)
    postures = [rest, *(solver.solve(pose) for pose in seen)]
    times = np.array([0.0, *(_LEAD_IN_S + pose.time_s - seen[0].time_s for pose in seen)])
    count = min(frames, int(times[-1] * FPS)) * SUBFRAMES
    moved = []
    for time_s in np.arange(count) / (FPS * SUBFRAMES):
        after = int(np.clip(np.searchsorted(times, time_s, "right"), 1, len(times) - 1))
        part = float((time_s - times[after - 1]) / (times[after] - times[after - 1]))
        moved.append(_between(postures[after - 1], postures[after], part))
    return moved


def _between(start: RigPose, end: RigPose, part: float) -> RigPose:
    names = sorted(start.morphs.keys() | end.morphs.keys())  # one order, the same bits
    return RigPose(
        (start.rotations @ part_of(np.swapaxes(start.rotations, 1, 2) @ end.rotations, part)).astype(
            np.float32
        ),
        (start.root_m + part * (end.root_m - start.root_m)).astype(np.float32),
        {name: (1 - part) * start.morphs.get(name, 0) + part * end.morphs.get(name, 0) for name in names},
        (start.gaze + part * (end.gaze - start.gaze)).astype(np.float32),
    )


def _film(
    renderer: Renderer,
    rig: Rig,
    poses: Sequence[RigPose],
    camera: Camera,
    look: Appearance,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 512, 512, 3) uint8 RGB frames and (N, 2) pixels of each hand."""
    background = draw_background(random)
    pictures, hand_pixels = [], []
    for first in range(0, len(poses), SUBFRAMES):
        light = np.zeros((CANVAS_PX, CANVAS_PX, 3), np.float32)
        for pose in poses[first : first + _SHUTTER]:
            drawn = renderer.draw(rig, pose, camera, look)
            light += over(drawn.image, background)
        # The part map has half the canvas's side.
        hand_pixels.append(
            [4.0 * (drawn.parts == part).sum() for part in (parts.LEFT_HAND, parts.RIGHT_HAND)]
        )
        seen = np.clip(light / _SHUTTER + 0.5, 0, 255).astype(np.uint8)
        pictures.append(photograph_scene(seen, look.lens or Lens(), random))
    return np.stack(pictures), np.array(hand_pixels, np.float32)


def draw_background(random: np.random.Generator) -> np.ndarray:
    """(512, 512, 3) float32 RGB 0..255: every second time a wall, else a busy room of boxes and shelves."""
    wall = random.uniform(60, 235) * (1 + 0.1 * random.normal(0, 1, 3))
    start, end = random.uniform(0.8, 1.1, 2)
    fall = np.linspace(start, end, CANVAS_PX)[None, :, None]
    picture = np.clip(np.broadcast_to(wall, (CANVAS_PX, CANVAS_PX, 3)) * fall, 0, 255).astype(np.float32)
    if random.random() < 0.5:
        return picture
    for _ in range(random.integers(25, 70)):
        corner = random.integers(-40, CANVAS_PX, 2)
        size = random.integers(8, 160, 2)
        colour = tuple(float(value) for value in random.uniform(10, 240, 3))
        cv2.rectangle(picture, corner.tolist(), (corner + size).tolist(), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), random.uniform(0.5, 3.0))


def _track(
    pictures: np.ndarray, portrait: Pose, tracker: Tracker
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What tracker and Retargeter give: (N, 553, 3) each, and the latter's confidence (N, 553)."""
    retargeter = Retargeter(portrait)
    tracked = np.full((len(pictures), *portrait.points.shape), np.nan, np.float32)
    live, trust = np.empty_like(tracked), np.empty(tracked.shape[:2], np.float32)
    tracker.open()
    try:
        for number, picture in enumerate(pictures):
            time_s = number / FPS
            pose = tracker.track(Frame(picture, time_s, number))
            if pose is not None:
                tracked[number] = pose.points
                tracked[number, _HANDS][pose.confidence[_HANDS] < _GUESSED] = np.nan
            made = retargeter.retarget(pose, time_s)
            live[number], trust[number] = made.points, made.confidence
    finally:
        tracker.close()
    return tracked, live, trust
