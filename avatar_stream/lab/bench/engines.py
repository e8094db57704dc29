"""`avatar-stream bench engines`: what each engine takes for a frame, and how far its pictures are from exact ones."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar_stream.errors import ConfigError, ModelError
from avatar_stream.images.fitting import over
from avatar_stream.lab.evaluation.truth import find_poses
from avatar_stream.lab.figures import check_output, machine, write_json
from avatar_stream.modeling.backend import ENGINES
from avatar_stream.modeling.pipeline import SignerPipeline
from avatar_stream.modeling.signer import PreparedSource, Signer, choose, even_steps, open_signer
from avatar_stream.modeling.torch_backend import find_device
from avatar_stream.retarget import Retargeter
from avatar_stream.running.avatars import list_avatars, load_avatar
from avatar_stream.sources.pose_file import PoseFileSource
from avatar_stream.synthesizers.flow import DEFAULT_MODEL, find_model
from avatar_stream.types import Avatar, Pose

_MOST_POSES = 12  # compared with the exact network for each avatar


@dataclasses.dataclass
class Candidate:
    """An engine at work.

    Attributes:
        signer: with this engine.
        result: what was measured: start and first frame in s, parts of a frame in ms, distances in steps of 255.
        times_ms: of each part of a frame, one entry per round.
    """

    signer: Signer
    result: dict[str, object]
    times_ms: dict[str, list[float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="weights (default: the bundled ones)")
    add("--avatars", nargs="+", metavar="NAME", help="whose pictures are compared (default: all bundled)")
    add("--poses", type=Path, metavar="DIR", help="folder of .pose files (default: the avatars' own poses)")
    add(
        "--engines", nargs="+", default=None, metavar="ENGINE",
        help=f"of {', '.join(ENGINES[1:])} (default: all that can run here)",
    )  # fmt: skip
    add("--threads", type=int, default=1, help="of the processor (default: 1)")
    add("--steps", type=int, default=1, help="of the flow (default: 1)")
    add("--batch", type=int, default=1, help="streams in one forward (default: 1)")
    add("--frames", type=int, default=30, help="measured of each engine, in turn (default: 30)")
    add("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one, else cpu)")
    add("--json", type=Path, metavar="FILE", help="write the figures to FILE")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print a table; write `arguments.json`.

    Raises:
        ConfigError: nothing to measure with. ModelError: the model or an engine cannot be used.
        AvatarError: an avatar is unknown.
    """
    if min(arguments.frames, arguments.threads, arguments.batch, arguments.steps) < 1:
        raise ConfigError("--frames, --threads, --batch and --steps must be 1 or more")
    if arguments.json:
        check_output(arguments.json)
    device = find_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    avatars = [load_avatar(name) for name in arguments.avatars or list_avatars()]
    if not avatars:
        raise ConfigError("there are no avatars to measure with: name some with --avatars")
    poses = {avatar.name: target_poses(avatar, arguments.poses) for avatar in avatars}
    place = find_model(arguments.model)
    with tempfile.TemporaryDirectory() as cache:
        names = list(arguments.engines or ())
        for name in () if names else ENGINES[1:]:
            with contextlib.suppress(ModelError):  # those that can run here
                names.append(choose(name, Path(place), arguments.device, arguments.steps)[0])
        started = [start(name, place, avatars[0], poses, arguments, Path(cache)) for name in names]
    measure_frames(started, avatars[0], poses[avatars[0].name], arguments)
    exact = SignerPipeline.from_pretrained(place, torch_dtype=torch.float32).to(device).signer
    for candidate in started:
        candidate.result |= distances(candidate.signer, exact, avatars, poses, arguments.steps)
    report = {
        "machine": {"device": str(device), "threads": arguments.threads, **machine("torch", "openvino")},
        "model": str(arguments.model), "steps": arguments.steps, "batch": arguments.batch,
        "engines": [candidate.result for candidate in started],
    }  # fmt: skip
    _print_table(report)
    if arguments.json:
        write_json(arguments.json, report)
    return 0


def target_poses(avatar: Avatar, folder: Path | None) -> list[Pose]:
    """Poses for an avatar: moments spread over real signing, or its own pose where no folder is given.

    Raises:
        ConfigError: the folder holds no .pose file.
    """
    retargeter = Retargeter(avatar.pose)
    if folder is None:
        return [retargeter.retarget(None, 0.0)]
    paths, poses = find_poses(folder), []
    for path in paths[:: max(1, len(paths) // _MOST_POSES)][:_MOST_POSES]:
        source = PoseFileSource(PoseFileSource.Options(path=path))
        source.open()
        with contextlib.closing(source):
            frames = [source.read() for _ in range(min(12, source.frame_count or 12))]
        retargeter = Retargeter(avatar.pose)
        poses.append([retargeter.retarget(frame.pose, frame.time_s) for frame in frames][-1])
    return poses


def start(
    name: str,
    place: str,
    avatar: Avatar,
    poses: dict[str, list[Pose]],
    arguments: argparse.Namespace,
    cache: Path,
) -> Candidate:
    """Start an engine twice, with nothing kept on disk and again, and keep the second."""
    result: dict[str, object] = {"engine": name}
    for when in ("", "_again"):
        begun = time.perf_counter()
        signer = open_signer(place, name, arguments.device, arguments.threads, arguments.steps, cache)
        source = signer.prepare(avatar.image, avatar.pose)
        ready = time.perf_counter()
        make_frame(signer, source, poses[avatar.name][0], arguments, {})
        result |= {f"load{when}_s": ready - begun, f"first_frame{when}_s": time.perf_counter() - ready}
    result["precision"] = signer.backend.precision
    return Candidate(signer, result, {})


def measure_frames(
    candidates: Sequence[Candidate], avatar: Avatar, poses: list[Pose], arguments: argparse.Namespace
) -> None:
    """Time frames of all engines in turn, so that whatever else the machine does falls on all of them."""
    sources = [candidate.signer.prepare(avatar.image, avatar.pose) for candidate in candidates]
    targets = itertools.cycle(poses)
    for _ in range(arguments.frames + 2):
        pose = next(targets)
        for candidate, source in zip(candidates, sources, strict=True):
            make_frame(candidate.signer, source, pose, arguments, candidate.times_ms)
    for candidate in candidates:
        parts = {key: np.array(times[2:]) for key, times in candidate.times_ms.items()}
        parts["frame"] = np.sum(list(parts.values()), axis=0)
        for key, times in parts.items():
            candidate.result |= {f"{key}_ms": float(times.min()), f"{key}_median_ms": float(np.median(times))}


def make_frame(
    signer: Signer,
    source: PreparedSource,
    pose: Pose,
    arguments: argparse.Namespace,
    times_ms: dict[str, list[float]],
) -> list[np.ndarray]:
    """`Signer.pictures` with the parts timed: draw, networks (with both codings), paste."""
    sources = [source] * arguments.batch

    def timed(part: str, work: Callable, *inputs: object, **more: object) -> Any:
        begun = time.perf_counter()
        made = work(*inputs, **more)
        times_ms.setdefault(part, []).append((time.perf_counter() - begun) * 1e3)
        return made

    views = timed("draw", signer.draw, sources, [pose] * arguments.batch)
    made = timed("networks", signer.compute, sources, views, sigmas=even_steps(arguments.steps))
    return timed("paste", signer.paste, sources, views, *made)


def distances(
    signer: Signer, exact: Signer, avatars: Sequence[Avatar], poses: dict[str, list[Pose]], steps: int
) -> dict[str, object]:
    """How far the pictures are from eager float32's, over grey, in steps of 255; and whether bits repeat."""
    most, means, same, sigmas = 0.0, [], True, even_steps(steps)
    for avatar in avatars:
        source, again, reference = (
            each.prepare(avatar.image, avatar.pose) for each in (signer, signer, exact)
        )
        for pose in poses[avatar.name]:
            made, repeated, expected = (
                each.picture(start, pose, sigmas=sigmas)
                for each, start in ((signer, source), (signer, again), (exact, reference))
            )
            # Where nothing is seen, straight colours are arbitrary: they must not count.
            difference = np.abs(over(made, 127.0) - over(expected, 127.0))
            most, same = max(most, float(difference.max())), same and np.array_equal(made, repeated)
            means.append(float(difference.mean()))
    return {
        "difference_max": most, "difference_mean": float(np.mean(means)), "same_bits": bool(same),
        "pictures": len(means),
    }  # fmt: skip


def _print_table(report: dict[str, Any]) -> None:
    columns = {
        "load_s": "load s", "first_frame_s": "first s", "first_frame_again_s": "again s", "draw_ms": "draw ms",
        "networks_ms": "networks ms", "paste_ms": "paste ms", "frame_ms": "frame ms",
        "frame_median_ms": "median ms", "difference_max": "max /255", "difference_mean": "mean /255",
    }  # fmt: skip
    print(f"{'engine':<18}{'precision':<10}" + "".join(f"{title:>12}" for title in columns.values()))
    for result in report["engines"]:
        figures = "".join(f"{result[key]:>12.2f}" for key in columns)
        print(f"{result['engine']:<18}{result['precision']:<10}{figures}")
