"""`study-tracker`: how tracked landmarks differ from exact ones on rendered signers, and the noise model's table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import median_abs_deviation
from tqdm import tqdm

from avatar_stream.errors import ConfigError, SinkError
from avatar_stream.lab.renders.people import select
from avatar_stream.lab.training import tracker_noise
from avatar_stream.lab.training.tracker_clips import (
    FPS,
    SETTLED_FRAMES,
    SUBFRAMES,
    TrackedClip,
    film_clip,
    track_clip,
)
from avatar_stream.lab.training.tracker_losses import hand_frames, loss_table, losses
from avatar_stream.lab.training.tracker_noise import BODY_ROWS, body_axes, hand_axes, head_axes, sizes
from avatar_stream.landmarks import ELBOWS, HAND_PARENTS, HANDS, MESH, SHOULDERS, WRISTS
from avatar_stream.running.config import DEFAULT_TRACKER, find_stage
from avatar_stream.turns import fit, to_vector
from avatar_stream.types import FACE

_MOST_LAG = 9  # sub-frames
_CLIP_FRAMES = 100
_FACE_VARIANCE = 0.95  # what the face's modes keep
_FEWEST = 20  # samples that a figure needs
# (N, ...) -> (...): standard deviation of a normal distribution with the same median deviation.
_robust_spread = partial(median_abs_deviation, scale="normal")


@dataclass(frozen=True)
class Samples:
    """One part, exact and observed, in its own size, from its own origin, in view axes.

    Attributes:
        exact, seen: (N, K, 3) float64.
        axes: (N, 3, 3), or (N, K, 3, 3) where each point has its own; rows are unit vectors.
        follows: (N,) bool: the sample before is the frame before of the same clip.
        lag_s: how much later the observation is, already taken out.
    """

    exact: np.ndarray
    seen: np.ndarray
    axes: np.ndarray
    follows: np.ndarray
    lag_s: float


@dataclass(frozen=True)
class Differences:
    """What is left between exact and seen.

    Attributes:
        offset: (K, 3) median in the part's axes.
        spread: (K, 3) robust standard deviation of the rest, the part's axes.
        turn: (3,) robust standard deviation of the part's turn about the view's axes, radians.
        common: (3,) robust standard deviation of the part's mean displacement, view axes.
        total: (K, 3) robust standard deviation before the part-wide turn is taken out, view axes; the last is depth.
        frame_correlation: (K,) of the residual with that of the frame before.
        rest: (N, K, 3) residuals in the part's axes.
    """

    offset: np.ndarray
    spread: np.ndarray
    turn: np.ndarray
    common: np.ndarray
    total: np.ndarray
    frame_correlation: np.ndarray
    rest: np.ndarray


def _clip_samples(clip: TrackedClip, seen: np.ndarray, part: str, side: int, lag: int) -> tuple:
    """(exact, seen, axes, frame numbers) of one clip, seen against what was exact `lag` sub-frames before."""
    frames = np.arange(SETTLED_FRAMES, len(clip.tracked))
    truth = clip.exact[np.maximum(frames * SUBFRAMES - lag, 0)].astype(np.float64)
    found, raw, trust = seen[frames].astype(np.float64), clip.tracked[frames], clip.trust[frames]
    palms, face_px, _ = sizes(truth)
    shoulders_px = np.full(len(frames), np.linalg.norm(clip.portrait[11, :2] - clip.portrait[12, :2]))
    if part == "hand":
        rows, size, origin = HANDS[side], palms[:, side], np.array([HANDS[side].start])
        axes = hand_axes(truth[:, rows], side)
    elif part == "face":
        rows, size, origin = FACE, face_px, FACE.start + np.arange(MESH.stop)
        axes = head_axes(truth[:, FACE])
    else:
        rows, size, origin = BODY_ROWS, shoulders_px, SHOULDERS
        axes = body_axes(truth)
    good = np.isfinite(raw[:, rows]).all((1, 2)) & np.isfinite(found[:, rows]).all((1, 2))
    good &= trust[:, np.arange(553)[rows][0]] > 0.5
    parts = [(p[:, rows] - p[:, origin].mean(1, keepdims=True)) / size[:, None, None] for p in (truth, found)]
    return parts[0][good], parts[1][good], axes[good], frames[good]


def gather(clips: Sequence[TrackedClip], stage: str, part: str, side: int = 0) -> Samples:
    """Samples of a part over all clips, at the lag that fits best.

    Args:
        clips: the material.
        stage: "tracked" or "live".
        part: "hand", "face" or "body".
        side: of the hand: 0 left, 1 right.

    Raises:
        ConfigError: the part was hardly ever found.
    """
    best: Any = None
    for lag in range(_MOST_LAG + 1):
        found = [_clip_samples(clip, getattr(clip, stage), part, side, lag) for clip in clips]
        exact, seen, axes, frames = (np.concatenate([entry[k] for entry in found]) for k in range(4))
        if len(exact) < _FEWEST:
            raise ConfigError(
                f"the tracker found the {part} in {len(exact)} frames only: ask for more --frames"
            )
        error = seen - exact
        cost = np.median(np.linalg.norm((error - np.median(error, axis=0))[..., :2], axis=-1))
        if best is None or cost < best[0]:
            follows = np.append(False, np.diff(frames) == 1)
            # A frame's own exposure is half a sub-frame after its first.
            best = cost, Samples(exact, seen, axes, follows, (lag + 0.5) / (FPS * SUBFRAMES))
    return best[1]


def compare(samples: Samples, rigid: bool) -> Differences:
    """Split the differences of a part into offset, part-wide motion and the rest.

    Args:
        samples: of the part.
        rigid: take a turn of the whole part out of the rest.
    """
    axes = samples.axes if samples.axes.ndim == 4 else samples.axes[:, None]
    error = samples.seen - samples.exact
    offset = np.median(np.einsum("nkab,nkb->nka", _full(axes, error), error), axis=0)
    moved = samples.exact + np.einsum("nkab,ka->nkb", _full(axes, error), offset)
    turns = np.zeros((len(error), 3))
    straight = samples.seen
    if rigid:
        matrices = fit(moved, samples.seen)
        turns = to_vector(matrices)
        straight = np.einsum("nba,nkb->nka", matrices, samples.seen)
    rest = np.einsum("nkab,nkb->nka", _full(axes, error), straight - moved)
    before, after = rest[:-1][samples.follows[1:]], rest[1:][samples.follows[1:]]
    power = np.sqrt((before**2).sum((0, 2)) * (after**2).sum((0, 2))) + 1e-12
    return Differences(
        offset, _robust_spread(rest), _robust_spread(turns), _robust_spread(error.mean(1)), _robust_spread(error),
        (before * after).sum((0, 2)) / power, rest,
    )  # fmt: skip


def _full(axes: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.broadcast_to(axes, (*like.shape, 3))


def measure(clips: Sequence[TrackedClip], stage: str) -> tuple[dict[str, np.ndarray], dict]:
    """The noise model's table and the readable report of one stage.

    Args:
        clips: the material.
        stage: "tracked": what the tracker says; "live": what the Retargeter makes of it.

    Returns:
        Arrays by name as `tracker_noise.load_table` gives them, and a dict for JSON.
    """
    both = [gather(clips, stage, "hand", side) for side in (0, 1)]
    exact, seen, axes, follows = (
        np.concatenate([getattr(one, name) for one in both]) for name in ("exact", "seen", "axes", "follows")
    )
    hands = Samples(exact, seen, axes, follows, float(np.mean([one.lag_s for one in both])))
    faces, bodies = gather(clips, stage, "face"), gather(clips, stage, "body")
    hand, face, body = compare(hands, True), compare(faces, True), compare(bodies, False)
    reach = _reach(faces.exact, face.rest)
    table = {
        "hand_offset": hand.offset,
        "hand_spread": hand.spread,
        "hand_turn": hand.turn,
        "hand_chain": np.array(_chain_correlation(hand.rest)),
        "face_offset": face.offset,
        "face_spread": face.spread,
        "face_turn": face.turn,
        "face_modes": _face_modes(faces, reach),
        "face_shift": _face_shift(clips, stage),
        "body_offset": body.offset,
        "body_spread": body.spread,
        "flips": depth_flips(clips, stage),
    }
    parts = {
        "hand": _report(hand, hands, "palm lengths"),
        "face": _report(face, faces, "face heights"),
        "body": _report(body, bodies, "shoulder widths"),
    }
    parts["body"]["rows"] = BODY_ROWS.tolist()
    parts["hand"]["neighbour_correlation"] = float(table["hand_chain"])
    parts["face"]["reach"] = reach
    parts["arm_depth_flips"] = table["flips"].tolist()
    return table, parts


def _report(differences: Differences, samples: Samples, unit: str) -> dict:
    """A part's differences for JSON, rounded."""
    names = ("offset", "spread", "turn", "common", "total", "frame_correlation")
    points = {name: np.round(getattr(differences, name), 4).tolist() for name in names}
    summary = {
        "median_offset": float(np.median(np.linalg.norm(differences.offset, axis=-1))),
        "median_spread": float(np.median(differences.spread)),
        "depth_spread": float(np.median(differences.total[:, 2])),
        "turn_degrees": np.round(np.degrees(differences.turn), 2).tolist(),
        "frame_correlation": float(np.median(differences.frame_correlation)),
    }
    return {
        "unit": unit,
        "samples": len(samples.exact),
        "lag_ms": 1000 * samples.lag_s,
        **summary,
        "points": points,
    }


def _chain_correlation(rest: np.ndarray) -> float:
    """Correlation of a hand joint's error with that of the joint before it on its finger."""
    ends = np.array([row for row in range(21) if HAND_PARENTS[row] > 0])
    limit = 3 * _robust_spread(rest) + 1e-9
    rest = np.clip(rest, -limit, limit)
    child, parent = rest[:, ends], rest[:, HAND_PARENTS[ends]]
    return float((child * parent).sum() / np.sqrt((child**2).sum() * (parent**2).sum()))


def _reach(exact: np.ndarray, rest: np.ndarray) -> float:
    """Distance, face heights, at which errors of the face are correlated by half, as a Gaussian's width."""
    rows = np.arange(0, MESH.stop, 6)
    normal = rest[:, rows] / (np.sqrt((rest[:, rows] ** 2).mean((0, 2), keepdims=True)) + 1e-9)
    together = np.einsum("nia,nja->ij", normal, normal) / (3 * len(rest))
    place = exact[:, rows].mean(0)
    apart = np.linalg.norm(place[:, None] - place[None], axis=-1)
    steps = np.linspace(0, 0.6, 13)
    curve = [together[(apart >= a) & (apart < b)].mean() for a, b in zip(steps[:-1], steps[1:], strict=True)]
    below = next((k for k, value in enumerate(curve) if value < 0.5), len(curve) - 1)
    # Noise smoothed by a Gaussian of width s is correlated by half at 1.67 s.
    return float(np.clip(0.5 * (steps[below] + steps[below + 1]) / 1.67, 0.03, 0.3))


def _face_modes(faces: Samples, reach: float) -> np.ndarray:
    """(478, M): of M independent numbers, errors of the face with variance 1 that are alike where points are near."""
    place = np.median(np.einsum("nkb,nab->nka", faces.exact, faces.axes), axis=0)
    apart = ((place[:, None] - place[None]) ** 2).sum(-1)
    # Correlated as independent errors are that a Gaussian of the reach's width has smoothed.
    values, vectors = np.linalg.eigh(np.exp(-0.25 * apart / reach**2))
    values, vectors = values[::-1].clip(0.0), vectors[:, ::-1]
    count = int(np.searchsorted(np.cumsum(values), _FACE_VARIANCE * values.sum())) + 1
    modes = vectors[:, :count] * np.sqrt(values[:count])
    return modes / np.linalg.norm(modes, axis=1, keepdims=True)


def _face_shift(clips: Sequence[TrackedClip], stage: str) -> np.ndarray:
    """(3,) spread of the head's place against the shoulders, shoulder widths, view axes."""
    errors = []
    for clip in clips:
        frames = np.arange(SETTLED_FRAMES, len(clip.tracked))
        exact, seen = clip.exact[frames * SUBFRAMES - 3], getattr(clip, stage)[frames]
        width = np.linalg.norm(clip.portrait[11, :2] - clip.portrait[12, :2])
        heads = [p[:, FACE][:, MESH].mean(1) - p[:, SHOULDERS].mean(1) for p in (exact, seen)]
        error = (heads[1] - heads[0]) / width
        # A constant difference is the calibration's, and the avatar's own neck replaces it.
        errors.append(error - np.nanmedian(error, axis=0))
    error = np.concatenate(errors)
    return _robust_spread(error[np.isfinite(error).all(1)])


def depth_flips(clips: Sequence[TrackedClip], stage: str) -> np.ndarray:
    """(2, 2): share of upper arms and forearms whose depth has the wrong sign, [bone, exactly away or not]."""
    flips = np.zeros((2, 2))
    for bone, (starts, ends) in enumerate(((SHOULDERS, ELBOWS), (ELBOWS, WRISTS))):
        depths: list[list[np.ndarray]] = [[], []]
        for clip in clips:
            frames = np.arange(SETTLED_FRAMES, len(clip.tracked))
            width = np.linalg.norm(clip.portrait[11, :2] - clip.portrait[12, :2])
            both = clip.exact[frames * SUBFRAMES], getattr(clip, stage)[frames]
            for points, own in zip(both, depths, strict=True):
                own.append((points[:, ends, 2] - points[:, starts, 2]) / width)
        truth, seen = (np.concatenate(own) for own in depths)
        for away in (0, 1):
            clear = (truth > 0.12) if away else (truth < -0.12)
            clear &= np.isfinite(seen)
            flips[bone, away] = ((seen > 0) != (truth > 0))[clear].mean() if clear.sum() >= _FEWEST else 0.0
    return flips


def record(
    people: Sequence[Path], frames: int, seed: int, tracker: str = DEFAULT_TRACKER
) -> list[TrackedClip]:
    """Record clips of 4 s until `frames` frames are there, each with a person drawn anew."""
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(people)) for _ in range(-(-frames // 100))])
    count = max(1, round(frames / _CLIP_FRAMES))
    return [
        track_clip(
            film_clip(people[order[number]], _CLIP_FRAMES, np.random.default_rng([seed, number])), tracker
        )
        for number in tqdm(range(count), unit="clip")
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Measure what the tracker gets wrong on rendered signers, and write the noise that training adds.

    Draws clips of 4 s at 25 fps with motion blur, backgrounds and a webcam's noise, whose landmarks are known
    exactly, and brings them through the tracker and the Retargeter.
    """
    add = parser.add_argument
    add("--people", type=Path, required=True, metavar="DIR", help="folder of rigged people (.glb)")
    add("--names", nargs="+", metavar="NAME", help="only these (their names' beginnings)")
    add("--exclude", nargs="+", default=[], metavar="NAME", help="without these")
    add("--tracker", default=DEFAULT_TRACKER, metavar="TYPE", help=f"which one ({DEFAULT_TRACKER})")
    add("--frames", type=int, default=1000, metavar="N", help="frames in all (1000)")
    add("--seed", type=int, default=0, help="of everything that is drawn by chance (0)")
    add("--output", type=Path, required=True, metavar="FILE.json", help="the report")
    add(
        "--table",
        type=Path,
        metavar="FILE.npz",
        help=f"also write the table that training reads ({tracker_noise.TABLE.name} beside the code)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line asks; AvatarStreamError says in one line why not."""
    people = select(arguments.people, arguments.names, arguments.exclude)
    if arguments.frames < _CLIP_FRAMES:
        raise ConfigError(f"--frames {arguments.frames}: {_CLIP_FRAMES} at least, one clip")
    find_stage("trackers", arguments.tracker)
    clips = record(people, arguments.frames, arguments.seed, arguments.tracker)
    table, live = measure(clips, "live")
    hands = hand_frames(clips)
    report = {
        "tracker": arguments.tracker,
        "people": [clip.person for clip in clips],
        "frames": sum(len(clip.tracked) for clip in clips),
        "seed": arguments.seed,
        "losses": losses(hands),
        "tracked": measure(clips, "tracked")[1],
        "live": live,
    }
    try:
        arguments.output.write_text(json.dumps(report, indent=1))
        if arguments.table is not None:
            table |= loss_table(hands)
            halves = {name: np.float16(value) for name, value in table.items()}
            np.savez_compressed(arguments.table, **halves)
    except OSError as error:
        raise SinkError(
            f"could not write {error.filename or arguments.output}: {error.strerror or error}"
        ) from error
    return 0
