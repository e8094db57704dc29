"""`prepare-videos`: a data set of any folder of videos; two frames of one shot are source and target."""

from __future__ import annotations

import argparse
import json
import logging
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from avatar_stream.errors import ConfigError, SinkError, SourceError, TrackerError
from avatar_stream.lab.figures import keep_or_make
from avatar_stream.lab.training import matting
from avatar_stream.lab.training.video_frame import CutFinder, SigningFrame, neutrality, usable_pose
from avatar_stream.lab.videos import read_frames
from avatar_stream.trackers.holistic_fast import HolisticFastTracker
from avatar_stream.types import CANVAS_PX, POINT_COUNT, Frame, Pose

logger = logging.getLogger(__name__)

VERSION = 2
_SUFFIXES = tuple(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .flv .ogv .3gp .gif".split())
_ARRAYS = {
    "images": ((CANVAS_PX, CANVAS_PX, 4), np.uint8),
    "parts": ((matting.PARTS_PX, matting.PARTS_PX), np.uint8),
    "points": ((POINT_COUNT, 3), np.float32),
    "confidence": ((POINT_COUNT,), np.float32),
    "person": ((), np.int16),
    "time_s": ((), np.float32),
    "inside": ((4,), np.int16),
}
_FEWEST_ROWS = 2  # a source and a target
_SMALLEST_SIDE_PX = 160  # of the signing frame in the video's own pixels; less would be enlarged threefold
_LEAST_COVERAGE = 0.8  # of the drawn body by the matte, or the segmenter has lost the person


@dataclass
class Shot:
    """What the tracker found between two cuts.

    Attributes:
        poses: usable poses by the number of their frame, px of the video.
    """

    poses: dict[int, Pose] = field(default_factory=dict)


def find_clips(folder: Path) -> list[Path]:
    """All video files in a folder and its subfolders, sorted.

    Raises:
        ConfigError: the folder is missing or holds no video.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: --input takes a folder of videos")
    clips = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not clips:
        raise ConfigError(f"{folder} holds no video ({', '.join(_SUFFIXES)})")
    return clips


def prepare_videos(folder: Path, output: Path, every: int = 3, max_frames_per_clip: int = 120) -> int:
    """Write a data set of a folder of videos (docs/method.md); each shot is one variant.

    Clips go to `OUTPUT.partial` one by one; a broken run of the same settings goes on there, and only a whole
    data set gets the final name. A clip that cannot be used costs one warning.

    Args:
        folder: searched with its subfolders.
        output: the folder to make; it must not be there.
        every: track every n-th frame.
        max_frames_per_clip: pictures kept of one clip, spread over it.

    Returns:
        How many pictures the data set has.

    Raises:
        ConfigError: the folder is missing or holds no video, or a number makes no sense.
        SourceError: no clip shows a person who can be used.
        SinkError: the output is there already, or cannot be written.
        TrackerError: mediapipe does not start.
    """
    if every < 1 or max_frames_per_clip < _FEWEST_ROWS:
        raise ConfigError(f"--every must be 1 or more, --max-frames-per-clip {_FEWEST_ROWS} or more")
    clips = find_clips(folder)
    if output.exists():
        raise SinkError(f"{output} is there already: remove it or choose another name")
    partial = output.with_name(output.name + ".partial")
    settings = {
        "version": VERSION,
        "every": every,
        "max_frames_per_clip": max_frames_per_clip,
        "clips": [[clip.relative_to(folder).as_posix(), clip.stat().st_size] for clip in clips],
    }
    segmenter = matting.Segmenter()
    try:
        keep_or_make(partial, settings)
        with closing(segmenter), logging_redirect_tqdm():
            segmenter.open()
            for number, clip in enumerate(tqdm(clips, unit="clip", disable=None)):
                name = clip.relative_to(folder).with_suffix("").as_posix()
                path = partial / f"{number:05d}.npz"
                if not path.exists():
                    _prepare_clip(path, name, clip, every, max_frames_per_clip, segmenter)
        rows = _join(partial, settings, folder)
        partial.rename(output)
    except OSError as error:
        raise SinkError(f"could not write the data set {output}: {error.strerror or error}") from error
    return rows


def _prepare_clip(
    path: Path, name: str, clip: Path, every: int, most: int, segmenter: matting.Segmenter
) -> None:
    """Write one clip's pictures to `path`; a clip that gives none costs a warning and leaves no file."""
    try:
        rows = _rows_of(clip, every, _choose(find_shots(clip, every), most), segmenter)
    except (SourceError, TrackerError) as error:
        logger.warning("left out: %s", error)
        return
    if not rows["person"].size:
        logger.warning("left out: %s shows nobody with body, face and hands in view", clip)
        return
    with path.with_suffix(".part").open("wb") as file:
        np.savez(file, name=name, **rows)
    path.with_suffix(".part").rename(path)


def find_shots(clip: Path, every: int) -> list[Shot]:
    """Track a clip, and part it where the picture or the person jumps.

    Raises:
        SourceError: the clip cannot be read.
        TrackerError: the tracker failed on it.
    """
    tracker, finder, shots = HolisticFastTracker(), CutFinder(), [Shot()]
    with closing(tracker):
        tracker.open()
        for frame in read_frames(clip, every=every):
            if finder.is_picture_cut(frame.image):
                # What the tracker finds depends on the frames before: a new shot starts with a fresh one.
                tracker.close()
                tracker.open()
                shots.append(Shot())
            pose = tracker.track(frame)
            if pose is not None and finder.is_jump(pose):
                shots.append(Shot())
            pose = None if pose is None else usable_pose(pose)
            if pose is not None:
                shots[-1].poses[frame.index] = pose
    return [shot for shot in shots if len(shot.poses) >= _FEWEST_ROWS]


def _choose(shots: list[Shot], most: int) -> list[tuple[SigningFrame, Shot]]:
    """Spread `most` pictures over the shots, each with its most neutral one; too small people are left out."""
    placed = [(SigningFrame.of(list(shot.poses.values())), shot) for shot in shots]
    placed = [(frame, shot) for frame, shot in placed if frame.side_px >= _SMALLEST_SIDE_PX]
    total = sum(len(shot.poses) for _, shot in placed)
    chosen = []
    for frame, shot in placed:
        scores = {number: neutrality(frame.place(pose.points)) for number, pose in shot.poses.items()}
        portrait = max(scores, key=scores.__getitem__)
        others = [number for number in scores if number != portrait]
        count = max(_FEWEST_ROWS, most * len(scores) // max(total, most)) - 1
        picks = [others[k] for k in np.linspace(0, len(others) - 1, min(count, len(others))).astype(int)]
        chosen.append((frame, Shot({number: shot.poses[number] for number in sorted([portrait, *picks])})))
    return chosen


def _rows_of(
    clip: Path, every: int, chosen: list[tuple[SigningFrame, Shot]], segmenter: matting.Segmenter
) -> dict[str, np.ndarray]:
    """Read the chosen frames again and make their rows; `person` counts the clip's shots from 0."""
    rows: dict[str, list] = {name: [] for name in _ARRAYS}
    homes = {number: k for k, (_, shot) in enumerate(chosen) for number in shot.poses}
    for frame in read_frames(clip, every=every) if homes else ():
        home = homes.get(frame.index)
        row = None if home is None else _row(frame, *chosen[home], segmenter)
        for name, value in ({} if row is None else row | {"person": home}).items():
            rows[name].append(value)
    arrays = {
        name: np.array(rows[name], dtype).reshape(-1, *shape) for name, (shape, dtype) in _ARRAYS.items()
    }
    order = _ordered(arrays["person"], arrays["points"])
    return {name: array[order] for name, array in arrays.items()}


def _row(frame: Frame, place: SigningFrame, shot: Shot, segmenter: matting.Segmenter) -> dict | None:
    """One picture of the data set; None where the segmenter has lost the person."""
    pose = shot.poses[frame.index]
    image, inside = place.cut(frame.image)
    points = place.place(pose.points)
    groups = matting.draw_groups(points)
    matte = matting.refine_matte(image, segmenter.segment(image), groups, inside)
    if matting.coverage(matte, groups, inside) < _LEAST_COVERAGE:
        return None
    picture = matting.clean_colours(image, matte)
    parts = matting.part_map(picture, points, groups)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return {
        "images": picture,
        "parts": parts,
        "points": points,
        "confidence": pose.confidence,
        "time_s": frame.time_s,
        "inside": (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1),
    }


def _ordered(person: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Rows of each shot together, the most neutral first; shots with too few rows are left out."""
    order: list[int] = []
    for shot in np.unique(person):
        rows = np.flatnonzero(person == shot)
        if len(rows) >= _FEWEST_ROWS:
            first = max(rows, key=lambda row: neutrality(points[row]))
            order += [first, *rows[rows != first]]
    return np.array(order, int)


def _join(partial: Path, settings: dict, folder: Path) -> int:
    """Put the clips' files together as the data set's arrays; returns the number of rows."""
    files = sorted(partial.glob("*.npz"))
    counts = []
    for file in files:
        with np.load(file) as clip:
            counts.append(len(clip["person"]))
    if not files:
        raise SourceError(f"no video in {folder} shows one person with body, face and hands in view")
    arrays = {
        name: np.lib.format.open_memmap(partial / f"{name}.npy", "w+", dtype, (sum(counts), *shape))  # type: ignore[no-untyped-call]
        for name, (shape, dtype) in _ARRAYS.items()
    }
    variants: list[dict] = []
    first = 0
    for file, count in zip(files, counts, strict=True):
        with np.load(file) as clip:
            shots, numbers = np.unique(clip["person"], return_inverse=True)
            for name in arrays:
                rows = len(variants) + numbers if name == "person" else clip[name]
                arrays[name][first : first + count] = rows
            starts = [first + int(np.argmax(numbers == k)) for k in range(len(shots))]
            ends = [*starts[1:], first + count]
            for start, end in zip(starts, ends, strict=True):
                variants.append({"person": str(clip["name"]), "first": start, "count": end - start})
        first += count
    people = sorted({variant["person"] for variant in variants})
    meta = settings | {"frames": first, "seed": 0, "people": people, "variants": variants}
    (partial / "meta.json").write_text(json.dumps(meta, indent=1))
    for file in [*files, partial / "settings.json"]:
        file.unlink()
    return first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `prepare-videos`."""
    parser.description = (
        "Make training data of any folder of videos: poses by the tracker, mattes by a segmenter. Every shot becomes "
        "a person of the data set. Frames are kept in which body, face and hands are found; a hand may be missing "
        "where it is out of the picture. What cannot be read or used costs one warning. An interrupted run goes on "
        "where it was when it is started again."
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, metavar="DIR", help="folder of videos, searched with subfolders")
    add("--output", type=Path, required=True, metavar="DATASET", help="data set folder to make")
    add("--every", type=int, default=3, metavar="N", help="track every N-th frame (default: 3)")
    add(
        "--max-frames-per-clip",
        type=int,
        default=120,
        metavar="N",
        help="pictures kept of one clip, spread over it (default: 120)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line asks, and say how many pictures the data set has."""
    count = prepare_videos(arguments.input, arguments.output, arguments.every, arguments.max_frames_per_clip)
    print(f"{arguments.output}: {count} pictures")
    return 0
