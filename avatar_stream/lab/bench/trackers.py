"""`avatar-stream bench tracker`: trackers on the same clips, what they cost, how often and how well they see."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from avatar_stream import stages
from avatar_stream.errors import ConfigError
from avatar_stream.lab.bench import tracker_measures as measures
from avatar_stream.lab.bench.tracker_measures import Clip, Track
from avatar_stream.lab.bench.tracker_overlay import Overlay
from avatar_stream.lab.evaluation.scores import Target
from avatar_stream.lab.evaluation.truth import find_poses
from avatar_stream.lab.figures import check_output, machine, write_json
from avatar_stream.lab.renders.people import select
from avatar_stream.lab.training.tracker_clips import FPS, STILL_FRAMES, FilmedClip, film_clip
from avatar_stream.lab.videos import read_frames
from avatar_stream.running.config import find_stage, stage_names
from avatar_stream.trackers.holistic import quiet_stderr
from avatar_stream.types import POINT_COUNT, Frame, Pose

_WARM_FRAMES = 5  # of each clip, whose time is not counted: networks and caches are cold
_CLIP_FRAMES = 100  # of signing in a rendered clip
_MEDIANS = ("jitter", "agreement")  # what is told by the median over frames, all else by the mean
# What the project promises of the tracker for live use (docs/tracking.md): most, or least.
_MOST = {
    "cpu_ms": 25.0, "agreement_body": 0.02, "agreement_left_hand": 0.06, "agreement_right_hand": 0.06,
    "agreement_face": 0.02,
}  # fmt: skip
_LEAST = dict.fromkeys(
    (f"{side}_palm_rate{end}" for side in ("left", "right") for end in ("", "_fast")), 0.95
)
_TIMES = ("ms_p50", "ms_p95", "cpu_ms")
_TABLE = (
    *_TIMES, "pose_rate", "face_rate", "left_hand_rate", "right_hand_rate", "left_hand_rate_fast",
    "right_hand_rate_fast", "left_palm_rate", "right_palm_rate", "left_palm_rate_fast", "right_palm_rate_fast",
    "handedness_swaps", "hands_astray_rate", "hands_unsure_rate", "jitter_body", "jitter_left_hand",
    "jitter_right_hand", "jitter_face", "agreement_body", "agreement_left_hand", "agreement_right_hand",
    "agreement_face", "mouth_correlation", "other_person_rate",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Compare trackers: time, how often they see what is there, how steady they are, how far from rendered truth."""
    add = parser.add_argument
    add("--input", type=Path, nargs="+", default=[], metavar="CLIP", help="clips of people, any size")
    add(
        "--trackers",
        nargs="+",
        metavar="TYPE",
        help="the first is what others are compared with (default: all)",
    )
    add("--most-frames", type=int, metavar="N", help="of each clip (default: all)")
    add("--people", type=Path, metavar="DIR", help="folder of rigged people: truth is rendered")
    add("--poses", type=Path, metavar="DIR", help="every second rendered clip moves after these .pose files")
    add("--frames", type=int, default=500, metavar="N", help="of rendered signing in all (default: 500)")
    add("--seed", type=int, default=0, help="of everything that is rendered by chance (0)")
    add("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    add("--overlay", type=Path, metavar="DIR", help="write a video of each clip there, trackers side by side")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a table, write `arguments.json`.

    Raises:
        ConfigError: nothing to measure, or an unknown tracker. SourceError: a clip cannot be read.
        TrackerError: a tracker does not start. RenderError: truth cannot be rendered.
    """
    names = _checked(arguments)
    clips = [track_file(path, names, arguments) for path in arguments.input]
    rendered = list(_rendered_clips(names, arguments)) if arguments.people else []
    report = {
        "machine": machine("mediapipe", "openvino"),
        "seed": arguments.seed,
        "frames": sum(len(clip.shots) for clip in clips),
        "frames_rendered": sum(len(clip.shots) - STILL_FRAMES for clip in rendered),
        "trackers": [describe(name, clips, rendered) for name in names],
    }
    for each in report["trackers"]:
        targets = make_targets(each, report["trackers"][0])
        each["targets"] = {target.name: target.as_json() for target in targets}
    print_table(report)
    if arguments.json:
        write_json(arguments.json, report)
    return 0


def _checked(arguments: argparse.Namespace) -> list[str]:
    if not arguments.input and not arguments.people:
        raise ConfigError("nothing to measure on: give clips with --input, or rigged people with --people")
    if arguments.poses and not arguments.people:
        raise ConfigError("--poses moves rendered people: give --people DIR too")
    if arguments.frames < 1 or (arguments.most_frames is not None and arguments.most_frames < 1):
        raise ConfigError("--frames and --most-frames must be 1 or more")
    if arguments.json:
        check_output(arguments.json)
    if arguments.overlay and not arguments.overlay.is_dir():
        raise ConfigError(f"there is no folder {arguments.overlay} for overlays: make it, or name another")
    names = list(dict.fromkeys(arguments.trackers or stage_names("trackers")))
    for name in names:
        find_stage("trackers", name)
    return names


def track_file(path: Path, names: Sequence[str], arguments: argparse.Namespace) -> Clip:
    """One clip through fresh trackers, with an overlay where one is asked for.

    Raises:
        SourceError: the clip cannot be read. TrackerError: a tracker does not start.
    """
    overlay = None
    if arguments.overlay:
        overlay = Overlay(arguments.overlay / f"{path.stem}-trackers.mp4", names)
    with contextlib.closing(overlay) if overlay else contextlib.nullcontext():
        frames = read_frames(path, arguments.most_frames)
        return track_frames(path.stem, frames, names, overlay.write if overlay else None)


def track_frames(
    name: str,
    frames: Iterable[Frame],
    names: Sequence[str],
    on_frame: Callable[[Frame, dict[str, Pose | None]], None] | None = None,
) -> Clip:
    """Bring frames through fresh trackers, each frame through all of them in turn.

    In turn, so that whatever else the machine does falls on all of them.

    Args:
        name: of the clip.
        frames: in order, at least one.
        names: types of trackers.
        on_frame: called with each frame and what each tracker found in it.

    Raises:
        TrackerError: a tracker does not start, or fails on a picture.
    """
    with contextlib.ExitStack() as stack:
        trackers = _open_trackers(names, stack)
        found: dict[str, list] = {each: [] for each in names}
        small, size = [], (0, 0)
        for frame in frames:
            for each, tracker in trackers.items():
                found[each].append(_timed(tracker, frame))
            grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
            small.append(cv2.resize(grey, measures.CUT_SIZE, interpolation=cv2.INTER_AREA))
            size = (frame.image.shape[1], frame.image.shape[0])
            if on_frame is not None:
                on_frame(frame, {each: found[each][-1][0] for each in names})
    tracks = {each: _as_track(entries) for each, entries in found.items()}
    return Clip(name, size, measures.number_shots(small), tracks)


def _open_trackers(names: Sequence[str], stack: contextlib.ExitStack) -> dict[str, stages.Tracker]:
    trackers = {}
    for name in names:
        trackers[name] = find_stage("trackers", name)()
        stack.callback(trackers[name].close)
        # What one of them writes to stderr from its own threads comes while another is opened.
        with quiet_stderr():
            trackers[name].open()
    return trackers


def _timed(tracker: stages.Tracker, frame: Frame) -> tuple[Pose | None, float, float]:
    begun, cpu = time.perf_counter(), time.process_time()
    pose = tracker.track(frame)
    return pose, 1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - cpu)


def _as_track(entries: Sequence[tuple[Pose | None, float, float]]) -> Track:
    points = np.full((len(entries), POINT_COUNT, 3), np.nan, np.float32)
    confidence = np.zeros((len(entries), POINT_COUNT), np.float32)
    for row, (pose, _, _) in enumerate(entries):
        if pose is not None:
            points[row], confidence[row] = pose.points, pose.confidence
    times = np.array([entry[1:] for entry in entries], np.float64).reshape(-1, 2)
    return Track(points, confidence, times[:, 0], times[:, 1])


def _rendered_clips(names: Sequence[str], arguments: argparse.Namespace) -> Iterator[Clip]:
    people, files = select(arguments.people), find_poses(arguments.poses)
    random = np.random.default_rng(arguments.seed)
    order, motions = random.permutation(len(people)), random.permutation(len(files))
    left, number = arguments.frames, 0
    with tqdm(desc="rendered", unit="frame", total=arguments.frames, disable=None) as bar:
        while left > 0:
            person = people[order[number % len(order)]]
            motion = files[motions[number // 2 % len(motions)]] if files and number % 2 else None
            own = np.random.default_rng([arguments.seed, number])
            filmed = film_clip(person, min(left, _CLIP_FRAMES), own, motion)
            yield track_filmed(filmed, names, arguments.overlay)
            made = len(filmed.pictures) - STILL_FRAMES
            left, number = left - max(made, 1), number + 1
            bar.update(made)


def track_filmed(filmed: FilmedClip, names: Sequence[str], folder: Path | None) -> Clip:
    """A rendered clip through fresh trackers, with truth beside; and its overlay in `folder`."""
    name = f"{filmed.person}-{filmed.motion or 'random'}"
    frames = (Frame(picture, row / FPS, row) for row, picture in enumerate(filmed.pictures))
    overlay = Overlay(folder / f"{name}-trackers.mp4", names) if folder else None
    with contextlib.closing(overlay) if overlay else contextlib.nullcontext():
        clip = track_frames(name, frames, names, overlay.write if overlay else None)
    one_shot = np.zeros_like(clip.shots)  # a rendered clip has no cuts
    return Clip(name, clip.size, one_shot, clip.tracks, filmed.middle, filmed.hand_pixels)


def describe(name: str, clips: Sequence[Clip], rendered: Sequence[Clip]) -> dict[str, object]:
    """All figures of one tracker.

    Args:
        name: its type.
        clips: without truth; their frames are pooled, and told for each clip too.
        rendered: with truth.
    """
    report: dict[str, object] = {"tracker": name}
    if clips:
        report |= figures(name, clips)
        report["clips"] = {
            clip.name: figures(name, [clip]) | measures.lost_runs(clip, name) for clip in clips
        }
    if rendered:
        report["truth"] = truth_figures(name, rendered)
    return report


def make_targets(made: dict, first: dict) -> list[Target]:
    """The project's targets for a tracker.

    Args:
        made: what `describe` says of it.
        first: the same of the tracker that it is compared with: against truth it must not be worse.
    """
    targets = [Target(key, made.get(key), limit, False) for key, limit in _MOST.items()]
    targets += [Target(key, made.get(key), limit, True) for key, limit in _LEAST.items()]
    for key in ("body_error_common", "hand_error_common", "face_error_common"):
        limit = first.get("truth", {}).get(key)
        if limit is not None:
            targets.append(Target(f"truth_{key}", made["truth"][key], limit, False))
    return [target for target in targets if target.value is not None]


def figures(name: str, clips: Sequence[Clip]) -> dict[str, object]:
    """A tracker's figures over some clips, with `counts`: how many frames (or hands) each has."""
    values = _pooled([measures.frame_values(clip, name) | measures.agreement(clip, name) for clip in clips])
    pairs = np.concatenate([measures.mouth_openings(clip, name) for clip in clips])
    made = _times([clip.tracks[name] for clip in clips]) | _summed(values)
    made["mouth_correlation"] = measures.correlation(pairs)
    counts = {key: len(each) for key, each in values.items()} | {"mouth_correlation": len(pairs)}
    # A swap is a thing that happens: how often, not its share, is what a reader looks for.
    made["handedness_swaps"] = int(values["handedness_swaps"].sum())
    return made | {"counts": counts}


def truth_figures(name: str, rendered: Sequence[Clip]) -> dict[str, object]:
    """A tracker's distances from truth over rendered clips; jitter where nothing moves at all."""
    values = []
    for clip in rendered:
        steady = {
            key: each for key, each in measures.frame_values(clip, name).items() if key.startswith("jitter")
        }
        signing = clip.since(STILL_FRAMES)
        values.append(measures.truth_values(signing, name) | steady)
        values[-1] |= measures.side_values(signing, signing.tracks[name], measures.units_px(signing))
    pooled = _pooled(values)
    made = _summed(pooled)
    for part in ("hand", "face", "body"):
        errors = pooled[f"{part}_error_common"]
        made[f"{part}_error_common_p50"] = _number(np.median(errors)) if len(errors) else None
    made["handedness_swaps"] = int(pooled["handedness_swaps"].sum())
    openings = np.concatenate(
        [measures.opening_pairs(clip, clip.exact, clip.tracks[name].points) for clip in rendered]
    )
    made["mouth_correlation"] = measures.correlation(openings)
    counts = {key: len(each) for key, each in pooled.items()} | {"mouth_correlation": len(openings)}
    return made | {"clips": [clip.name for clip in rendered], "counts": counts}


def _pooled(each: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([values[key] for values in each]) for key in each[0]}


def _summed(values: dict[str, np.ndarray]) -> dict[str, float | None]:
    made: dict[str, float | None] = {}
    for key, each in values.items():
        fold = np.median if key.startswith(_MEDIANS) else np.mean
        made[key] = _number(fold(each)) if len(each) else None
    return made


def _times(tracks: Sequence[Track]) -> dict[str, float | None]:
    ms, cpu_ms = (
        np.concatenate([getattr(track, key)[_WARM_FRAMES:] for track in tracks]) for key in ("ms", "cpu_ms")
    )
    if not len(ms):
        return dict.fromkeys(_TIMES)
    return {
        "ms_p50": _number(np.percentile(ms, 50)),
        "ms_p95": _number(np.percentile(ms, 95)),
        "cpu_ms": _number(np.mean(cpu_ms)),
    }


def _number(value: float) -> float:
    return round(float(value), 4)


def print_table(report: dict) -> None:
    """Print the pooled figures, one row a key, one column a tracker; those against truth; missed targets."""
    trackers = report["trackers"]
    print(f"{'':<30}" + "".join(f"{each['tracker']:>16}" for each in trackers) + f"{'count':>9}")
    for title, chosen in (("", trackers), ("truth ", [each.get("truth") for each in trackers])):
        if chosen[0] is None or "counts" not in chosen[0]:
            continue
        keys = [key for key, value in chosen[0].items() if key in _TABLE or title]
        for key in keys:
            cells = [each[key] for each in chosen]
            if any(isinstance(cell, list | dict) for cell in cells):
                continue
            count = chosen[-1]["counts"].get(key, "")
            print(f"{title + key:<30}" + "".join(f"{_text(cell):>16}" for cell in cells) + f"{count:>9}")
    for each in trackers:
        missed = [name for name, target in each["targets"].items() if not target["met"]]
        told = [f"{name} {_text(each['targets'][name]['value'])}" for name in missed]
        print(
            f"{each['tracker']}: {len(each['targets']) - len(missed)} targets met, {len(missed)} missed",
            end="",
        )
        print(f": {', '.join(told)}" if told else "")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
