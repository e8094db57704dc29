"""`render-people`: data sets, clips and portraits of rigged people."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from avatar_stream.errors import AvatarStreamError, ConfigError, SinkError
from avatar_stream.lab.figures import keep_or_make
from avatar_stream.lab.renders.accessories import adorned, is_man
from avatar_stream.lab.renders.clips import render_clip, render_portrait
from avatar_stream.lab.renders.motion import Sampler
from avatar_stream.lab.renders.shape import random_shape, reshaped
from avatar_stream.people.camera import Camera
from avatar_stream.people.face_points import FacePoints, face_points
from avatar_stream.people.inverse_kinematics import RigSolver
from avatar_stream.people.landmarks import landmarks
from avatar_stream.people.lens import photograph
from avatar_stream.people.look import Appearance, random_look
from avatar_stream.people.renderer import Renderer
from avatar_stream.people.rig import Rig
from avatar_stream.people.skeleton import RigPose
from avatar_stream.types import CANVAS_PX, POINT_COUNT, Pose

VERSION = 5
_ARRAYS = {
    "images": ((CANVAS_PX, CANVAS_PX, 4), np.uint8),
    "parts": ((CANVAS_PX // 2, CANVAS_PX // 2), np.uint8),
    "surface": ((CANVAS_PX // 2, CANVAS_PX // 2, 2), np.uint16),
    "points": ((POINT_COUNT, 3), np.float32),
    "confidence": ((POINT_COUNT,), np.float32),
    "person": ((), np.int16),
}
_FROM_FILES = 0.3  # share of frames whose motion comes from pose files, where some are given
_FILE_RUN = 8  # consecutive solved poses skip this many frames of the file, so that pictures differ


@dataclass(frozen=True)
class Variant:
    """One person in one look before one camera: what stays the same over its frames.

    Attributes:
        number: index of the variant, the value in `person.npy`.
        person: index into the list of person files.
        first, count: its rows in the data set.
    """

    number: int
    person: int
    first: int
    count: int


def plan(people: int, frames: int, frames_per_variant: int, seed: int) -> list[Variant]:
    """Share frames out to variants, and variants to people equally, by chance."""
    if people < 1 or frames < 1 or frames_per_variant < 1:
        raise ConfigError("rendering people needs at least one person, one frame and one frame per variant")
    count = -(-frames // frames_per_variant)
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(people) for _ in range(-(-count // people))])[:count]
    order = np.sort(order)  # variants of one person side by side: its file is read once
    firsts = range(0, frames, frames_per_variant)
    return [
        Variant(number, int(person), first, min(frames_per_variant, frames - first))
        for number, (person, first) in enumerate(zip(order, firsts, strict=True))
    ]


def random_camera(random: np.random.Generator) -> Camera:
    """Draw a camera roughly in front of the person, as a webcam stands: near and wide or far and long."""
    return Camera(
        distance_m=float(np.exp(random.uniform(np.log(1.15), np.log(3.2)))),
        yaw_rad=float(np.radians(random.normal(0, 7))),
        pitch_rad=float(np.radians(random.normal(0, 5))),
        scale=float(np.exp(random.normal(0, 0.04))),
        shift=(float(random.normal(0, 0.018)), float(random.normal(0, 0.015))),
    )


def random_variant(rig: Rig, face: FacePoints, random: np.random.Generator) -> tuple[Rig, Appearance, Camera]:
    """Draw another identity from a person: body and face shape, look, what it wears, and the camera it stands before.

    Args:
        rig: the person; its face points hold for the result too.
        face: the person's face points.
        random: where chance comes from.
    """
    shaped = reshaped(rig, face, random_shape(random))
    look = random_look(rig.part_colours, random)
    return adorned(shaped, face, look, is_man(rig)), look, random_camera(random)


def render_people(
    people: Sequence[Path],
    output: Path,
    frames: int,
    seed: int,
    frames_per_variant: int = 120,
    poses: Sequence[Path] = (),
    processes: int = 1,
    as_filed: bool = False,
) -> None:
    """Write a data set of rendered people (docs/method.md).

    Frames go to `OUTPUT.partial` as they are made; a broken run of the same settings goes on there, and only
    a whole data set gets the final name.

    Args:
        people: rigged glTF files.
        output: the folder to make; it must not be there.
        frames: how many.
        seed: of everything that is drawn.
        frames_per_variant: frames of one person in one look before one camera.
        poses: pose files to take part of the motion from.
        processes: how many variants are made at once.
        as_filed: every person only as the file has it, in the canonical signing frame: what an avatar's portrait shows.

    Raises:
        ConfigError: a setting makes no sense.
        RenderError: OpenGL or a person cannot be used.
        SinkError: the folder cannot be written.
    """
    if output.exists():
        raise SinkError(f"{output} is there already: remove it or choose another name")
    variants = plan(len(people), frames, frames_per_variant, seed)
    folder = output.with_name(output.name + ".partial")
    meta = {
        "version": VERSION,
        "frames": frames,
        "seed": seed,
        "frames_per_variant": frames_per_variant,
        "people": [person_name(path) for path in people],
        "as_filed": as_filed,
        "poses": [path.name for path in poses],
    }
    try:
        _prepare(folder, frames, meta, len(variants))
        own: dict[str, Any] = {
            "people": list(people),
            "seed": seed,
            "poses": list(poses),
            "as_filed": as_filed,
        }
        work = partial(_render_variant, folder=folder, **own)
        entries = _render_all(folder, variants, work, processes)
        meta["variants"] = [entries[str(variant.number)] for variant in variants]
        (folder / "meta.json").write_text(json.dumps(meta, indent=1))
        for name in ("done.npy", "variants.json", "settings.json"):
            (folder / name).unlink()
        folder.rename(output)
    except OSError as error:
        raise SinkError(f"could not write the data set {output}: {error.strerror or error}") from error


def _render_all(folder: Path, variants: list[Variant], work: Callable, processes: int) -> dict[str, dict]:
    """Render what is not done yet; what `meta.json` says of each variant, by its number."""
    done = np.load(folder / "done.npy", mmap_mode="r+")
    todo = [variant for variant in variants if not done[variant.number]]
    path = folder / "variants.json"
    entries = json.loads(path.read_text()) if path.exists() else {}
    total = sum(variant.count for variant in variants)
    with tqdm(total=total, initial=total - sum(variant.count for variant in todo), unit="frame") as bar:
        for variant, entry in _mapped(work, todo, processes):
            entries[str(variant.number)] = entry
            path.write_text(json.dumps(entries))
            done[variant.number] = True
            bar.update(variant.count)
    return entries


def _prepare(folder: Path, frames: int, meta: dict, variants: int) -> None:
    """Make the partial folder, or keep what an earlier run with the same settings left."""
    if keep_or_make(folder, meta) and (folder / "done.npy").exists():
        return
    needed = sum(frames * int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in _ARRAYS.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        shutil.rmtree(folder)
        raise SinkError(
            f"{frames} frames need {needed / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB free"
        )
    for name, (shape, dtype) in _ARRAYS.items():
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (frames, *shape))  # type: ignore[no-untyped-call]
    np.save(folder / "done.npy", np.zeros(variants, bool))


def _mapped(work: Callable, variants: list[Variant], processes: int) -> Iterator[tuple[Variant, dict]]:
    if processes <= 1 or len(variants) <= 1:
        yield from map(work, variants)
        return
    # Spawned, not forked: an OpenGL context does not survive a fork.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(work, variants)


class Studio:
    """The renderer and the person of the last variant, kept for the next one in the same process."""

    renderer: Renderer | None = None
    person: tuple[Path, Rig, FacePoints] | None = None

    @classmethod
    def enter(cls, path: Path) -> tuple[Renderer, Rig, FacePoints]:
        """The process's renderer, and a person loaded with its face points."""
        if cls.renderer is None:
            cls.renderer = Renderer(CANVAS_PX)
        if cls.person is None or cls.person[0] != path:
            rig = Rig.load(path)
            cls.person = (path, rig, face_points(rig, cls.renderer))
        return cls.renderer, cls.person[1], cls.person[2]


def _render_variant(
    variant: Variant, folder: Path, people: list[Path], seed: int, poses: list[Path], as_filed: bool
) -> tuple[Variant, dict]:
    """Draw all frames of one variant into the memory-mapped files; returns its entry in meta.json."""
    random = np.random.default_rng([seed, variant.number])
    path = people[variant.person]
    renderer, rig, face = Studio.enter(path)
    rig, look, camera = (rig, Appearance(), Camera()) if as_filed else random_variant(rig, face, random)
    maps = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in _ARRAYS}
    motion = motion_of(rig, variant.count, random, poses)
    noise = np.random.default_rng([seed, variant.number, 1])
    for row, pose in enumerate(motion, variant.first):
        drawn = renderer.draw(rig, pose, camera, look)
        seen = landmarks(rig, face, pose, camera)
        maps["images"][row] = photograph(drawn.image, look.lens, noise) if look.lens else drawn.image
        maps["parts"][row] = drawn.parts
        maps["surface"][row] = drawn.surface
        maps["points"][row], maps["confidence"][row] = seen.points, seen.confidence
        maps["person"][row] = variant.number
    entry = {"person": person_name(path), "person_index": variant.person, "first": variant.first}
    return variant, entry | {"count": variant.count, "look": look.as_json(), "camera": vars(camera)}


def motion_of(rig: Rig, count: int, random: np.random.Generator, poses: list[Path]) -> Iterator[RigPose]:
    """The portrait, then random signing, the last part of it from a pose file."""
    sampler = Sampler(rig.bind_m, int(random.integers(2**31)))
    from_file: list[RigPose] = []
    if poses:
        from avatar_stream.sources.pose_file import read_pose_file

        path = poses[random.integers(len(poses))]
        from_file = _solved(rig, read_pose_file(path), int(_FROM_FILES * count), bool(random.random() < 0.2))
    yield sampler.portrait()
    for _ in range(count - 1 - len(from_file)):
        yield sampler.pose()
    yield from from_file[: count - 1]


def _solved(rig: Rig, poses: Sequence[Pose], count: int, mirrored: bool) -> list[RigPose]:
    """Follow a whole pose file with a person, and keep `count` postures spread over it."""
    solver = RigSolver(rig.bind_m, mirrored=mirrored)
    solved = [solver.solve(pose) for pose in poses]
    step = max(1, min(_FILE_RUN, len(solved) // max(count, 1)))
    return solved[step - 1 :: step][:count]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `render-people`."""
    add = parser.add_argument
    add("--people", type=Path, required=True, metavar="DIR", help="folder of rigged people (.glb)")
    add("--names", nargs="+", metavar="NAME", help="only these files (their names' beginnings)")
    add("--exclude", nargs="+", default=[], metavar="NAME", help="without these files")
    add("--as-filed", action="store_true", help="without other looks, shapes and cameras: as avatars stand")
    add("--poses", type=Path, metavar="DIR", help="take part of the motion from .pose files")
    add("--output", type=Path, metavar="PATH", help="data set folder, or the clip's .mp4")
    add("--frames", type=int, default=1000, metavar="N", help="pictures to make (1000)")
    add("--frames-per-variant", type=int, default=120, metavar="N", help="of one person in one look (120)")
    add("--seed", type=int, default=0, help="of everything that is drawn by chance (0)")
    add("--processes", type=int, default=1, metavar="N", help="people drawn at once (1)")
    add("--clip", type=float, metavar="SECONDS", help="a smooth clip of the first person instead")
    add("--portrait", type=Path, metavar="FILE.png", help="a portrait of the first person instead")


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks; AvatarStreamError says in one line why not."""
    people = select(args.people, args.names, args.exclude)
    if args.portrait:
        rig = Rig.load(people[0])
        with Renderer(CANVAS_PX) as renderer:
            drawn, _ = render_portrait(rig, renderer)
        try:
            Image.fromarray(drawn.image).save(args.portrait)
        except (OSError, ValueError) as error:
            raise SinkError(f"could not write {args.portrait}: {error}") from error
        return
    if args.output is None:
        raise ConfigError("render-people needs --output (or --portrait FILE.png)")
    if args.clip is not None:
        if args.clip <= 0:
            raise ConfigError(f"--clip {args.clip:g}: seconds above 0 are needed")
        rig = Rig.load(people[0])
        render_clip(rig, Sampler(rig.bind_m, args.seed).clip(args.clip, 30), args.output)
        return
    poses = sorted(args.poses.glob("*.pose")) if args.poses else []
    if args.poses and not poses:
        raise ConfigError(f"{args.poses} holds no .pose files")
    size = args.frames, args.seed, args.frames_per_variant
    render_people(people, args.output, *size, poses, args.processes, args.as_filed)


def select(folder: Path, names: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> list[Path]:
    """The `.glb` files of a folder and those below whose names begin with one of `names` and none of `exclude`, sorted.

    Raises:
        ConfigError: none is left.
    """
    files = sorted(folder.rglob("*.glb"))
    chosen = [
        file
        for file in files
        if (not names or person_name(file).startswith(tuple(names)))
        and not person_name(file).startswith(tuple(exclude))
    ]
    if not chosen:
        raise ConfigError(f"{folder} holds no person to render: {len(files)} .glb files, none of them chosen")
    return chosen


def person_name(path: Path) -> str:
    """Who is in a file: its name, or for `NAME/person.glb`, as avatars' folders have it, the folder's."""
    return path.parent.name if path.stem == "person" else path.stem


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    try:
        run(parser.parse_args())
    except AvatarStreamError as error:
        raise SystemExit(f"error: {error}") from error
