"""Rendered truth: rigged people in poses that a model is then asked to make from one picture of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar_stream.errors import ConfigError, RenderError
from avatar_stream.lab.evaluation import reading
from avatar_stream.lab.renders.clips import render_portrait
from avatar_stream.lab.renders.motion import Sampler
from avatar_stream.lab.renders.people import select
from avatar_stream.lab.training.tracker_noise import tracker_noise
from avatar_stream.people.face_points import FacePoints, face_points
from avatar_stream.people.inverse_kinematics import RigSolver
from avatar_stream.people.landmarks import landmarks
from avatar_stream.people.renderer import Renderer
from avatar_stream.people.rig import Rig
from avatar_stream.people.skeleton import RigPose
from avatar_stream.running.avatars import list_avatars, load_avatar
from avatar_stream.sources.pose_file import read_pose_file
from avatar_stream.types import CANVAS_PX, Avatar, Credit, Pose

_RANDOM_MOTION = "random signing"
_FRAMES_PER_FILE = 4  # a file is followed from its start, so several frames are taken from each
_FILE_STEP_S = 1 / 25  # between a frame and the one after it
_MOTION_EVERY = 4  # every so many cases also have the next frame, to judge motion
_CLIP_S, _CLIP_FPS = 2.0, 25
_NO_CREDIT = Credit(license="as the file's", source_url="as the file's", consent="a rendered person")


@dataclass(frozen=True)
class Person:
    """Somebody to evaluate.

    Attributes:
        name: of the file or the avatar.
        rig_path: the rigged glTF file that truth is rendered from.
        avatar: the bundled avatar; None: the source picture is rendered from the file.
    """

    name: str
    rig_path: Path
    avatar: Avatar | None = None


@dataclass(frozen=True)
class TruthFrame:
    """One true picture.

    Attributes:
        image: (512, 512, 4) uint8 RGBA, straight alpha, canonical signing frame.
        parts: (256, 256) uint8 part map (docs/method.md).
        exact: the pose in it: every point known if it is rendered, as tracked if it is filmed.
        given: the pose that the model gets: exact, or disturbed like a tracker's.
        inside: left, top, right, bottom, px: where a video's picture is; beyond it truth shows nothing.
    """

    image: np.ndarray
    parts: np.ndarray
    exact: Pose
    given: Pose
    inside: tuple[int, ...] = (0, 0, CANVAS_PX, CANVAS_PX)


@dataclass(frozen=True)
class Case:
    """One frame to be judged.

    Attributes:
        number: counted over all people.
        person: name.
        motion: the pose file's name, or that it is random.
        sequence: of one person's frames that follow each other and are alike; its name.
        shot: the frame.
        next_shot: the frame after it, where motion is judged.
    """

    number: int
    person: str
    motion: str
    sequence: str
    shot: TruthFrame
    next_shot: TruthFrame | None = None


def find_people(folder: Path | None, names: Sequence[str] | None, avatars: bool) -> list[Person]:
    """List who is evaluated.

    Args:
        folder: of `.glb` files; not used for avatars.
        names: only files (their names' beginnings) or avatars of these names; None: all.
        avatars: the bundled avatars instead of a folder's people.

    Raises:
        ConfigError: nobody is left.
        AvatarError: an avatar is broken.
        RenderError: an avatar has no rigged person, so there is no truth of it.
    """
    if not avatars:
        if folder is None or not folder.is_dir():
            raise ConfigError(f"there is no folder {folder} of people: give --people DIR, or --avatars")
        return [Person(path.stem, path) for path in select(folder, names)]
    people = []
    for name in names or list_avatars():
        avatar = load_avatar(name)
        if avatar.rig_path is None:
            raise RenderError(f"avatar '{name}' has no rigged person: there is no truth to compare with")
        people.append(Person(avatar.name, avatar.rig_path, avatar))
    if not people:
        raise ConfigError("there are no bundled avatars to evaluate")
    return people


def find_poses(folder: Path | None) -> list[Path]:
    """The folder's `.pose` files, sorted; none where no folder is given.

    Raises:
        ConfigError: a folder without such files.
    """
    if folder is None:
        return []
    files = sorted(folder.glob("*.pose"))
    if not files:
        raise ConfigError(f"{folder} holds no .pose files: give another folder, or leave --poses out")
    return files


class Subject:
    """One person before the camera, rendered or filmed: the source picture, and truth in any pose.

    Attributes:
        avatar: with the source picture.
    """

    avatar: Avatar

    def __init__(self, random: np.random.Generator):
        """Take where chance comes from."""
        self._random = random

    def disturbed(self, pose: Pose, amount: float = 1.0) -> Pose:
        """The pose as tracking and retargeting would give it."""
        return dataclasses.replace(pose, points=tracker_noise(pose.points, self._random, amount))

    def letters(self) -> Iterator[tuple[str, int, TruthFrame]] | None:
        """The person spells: name of the handshape, side (0 left, 1 right), truth; None: a clip spells nothing."""
        return None


class RenderedSubject(Subject):
    """A rigged person."""

    def __init__(self, person: Person, renderer: Renderer, random: np.random.Generator, noise: bool):
        """Load the person.

        Args:
            person: who.
            renderer: draws truth; it stays the caller's.
            random: where chance comes from: motion and noise.
            noise: disturb the poses that the model gets, the source's too.

        Raises:
            RenderError: the file is broken.
        """
        super().__init__(random)
        self.person, self._renderer, self._noise = person, renderer, noise
        self._rig = Rig.load(person.rig_path)
        self._face: FacePoints = face_points(self._rig, renderer)
        self._sampler = Sampler(self._rig.bind_m, int(random.integers(2**31)))
        avatar = person.avatar
        if avatar is None:
            drawn, pose = render_portrait(self._rig, renderer)
            avatar = Avatar(person.name, drawn.image, pose, _NO_CREDIT, person.rig_path)
        self.avatar = dataclasses.replace(avatar, pose=self.disturbed(avatar.pose)) if noise else avatar

    def shoot(self, rig_pose: RigPose, time_s: float = 0.0) -> TruthFrame:
        """Render truth."""
        drawn = self._renderer.draw(self._rig, rig_pose)
        exact = landmarks(self._rig, self._face, rig_pose, time_s=time_s)
        return TruthFrame(drawn.image, drawn.parts, exact, self.disturbed(exact) if self._noise else exact)

    def cases(self, count: int, first: int, files: Sequence[Path]) -> Iterator[Case]:
        """Render `count` cases, numbered from `first`, moved by the files (none: random signing)."""
        motions = self._from_files(count, files) if files else self._at_random(count)
        for place, (motion, now, after) in enumerate(motions):
            # Time goes on, as a synthesizer that remembers (the rig) expects it.
            time_s = place * 1.0
            with_next = place % _MOTION_EVERY == 0
            shot = self.shoot(now, time_s)
            next_shot = self.shoot(after, time_s + _FILE_STEP_S) if with_next else None
            number = first + place
            sequence = f"{self.person.name} {motion if files else number}"
            yield Case(number, self.person.name, motion, sequence, shot, next_shot)

    def letters(self, names: Sequence[str] = reading.SHAPES) -> Iterator[tuple[str, int, TruthFrame]]:
        """The person spells: name of the shape, side (0 left, 1 right), truth; each once."""
        for name, side, pose in reading.spelled(self._rig.bind_m, self._random, names):
            yield name, side, self.shoot(pose)

    def _from_files(self, count: int, files: Sequence[Path]) -> Iterator[tuple[str, RigPose, RigPose]]:
        order = self._random.permutation(len(files))
        made = turn = 0
        while made < count:
            path = files[order[turn % len(order)]]
            turn += 1
            wanted = min(_FRAMES_PER_FILE, count - made)
            for now, after in self._follow(path, wanted):
                made += 1
                yield path.stem, now, after

    def _follow(self, path: Path, count: int) -> list[tuple[RigPose, RigPose]]:
        """Postures of this person in `count` frames of a file, and in the frames after them."""
        poses = read_pose_file(path)
        if len(poses) == 1:
            poses = poses * 2
        chosen = np.sort(self._random.choice(len(poses) - 1, min(count, len(poses) - 1), replace=False))
        after = [self._next(poses, row) for row in chosen]
        # The solver remembers what it saw, so every frame up to the last chosen one goes through it.
        solver = RigSolver(self._rig.bind_m)
        solved = [solver.solve(pose) for pose in poses[: max(after) + 1]]
        return [(solved[row], solved[end]) for row, end in zip(chosen, after, strict=True)]

    @staticmethod
    def _next(poses: Sequence[Pose], row: int) -> int:
        """The first frame that is a live frame's distance later: files of 50 fps hardly move from one to the next."""
        end = row + 1
        while end + 1 < len(poses) and poses[end].time_s - poses[row].time_s < 0.9 * _FILE_STEP_S:
            end += 1
        return end

    def _at_random(self, count: int) -> Iterator[tuple[str, RigPose, RigPose]]:
        moving = -(-count // _MOTION_EVERY)
        clip = self._sampler.clip(_CLIP_S, _CLIP_FPS)
        rows = self._random.choice(len(clip) - 1, moving, replace=moving > len(clip) - 1)
        for place in range(count):
            if place % _MOTION_EVERY == 0:
                row = rows[place // _MOTION_EVERY]
                yield _RANDOM_MOTION, clip[row], clip[row + 1]
            else:
                pose = self._sampler.pose()
                yield _RANDOM_MOTION, pose, pose


def rendered(
    people: Sequence[Person], files: Sequence[Path], frames: int, seed: int, noise: bool
) -> Iterator[tuple[RenderedSubject, Iterator[Case]]]:
    """Let one person after the other sign.

    Args:
        people: who.
        files: `.pose` files that move them; none: random signing.
        frames: how many, over all people.
        seed: of everything that is drawn.
        noise: disturb poses like a tracker.

    Raises:
        ConfigError: fewer frames than people.
        RenderError: a person's file is broken, or OpenGL does not start.
    """
    first = 0
    with Renderer() as renderer:
        for place, (person, count) in enumerate(zip(people, share_out(frames, len(people)), strict=True)):
            stage = RenderedSubject(person, renderer, np.random.default_rng([seed, place]), noise)
            yield stage, stage.cases(count, first, files)
            first += count


def share_out(frames: int, people: int) -> list[int]:
    """Frames of each person, as equal as can be.

    Raises:
        ConfigError: fewer frames than people.
    """
    if frames < people:
        raise ConfigError(
            f"--frames {frames} is less than one for each of {people} people: give more, or --names"
        )
    return [frames // people + (place < frames % people) for place in range(people)]
