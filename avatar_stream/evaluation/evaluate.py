"""`avatar-stream evaluate`: a model against truth, rendered or filmed, in figures and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avatar_stream.errors import ConfigError
from avatar_stream.evaluation import scores
from avatar_stream.evaluation.detector import Detector
from avatar_stream.evaluation.judging import Judge, hand_ways
from avatar_stream.evaluation.measure import Plan, Results, measure
from avatar_stream.evaluation.painters import FlowPainter, Painter, RigPainter
from avatar_stream.evaluation.pictures import REGION_MEASURES, REGIONS, Lpips
from avatar_stream.evaluation.scores import Target, ratio
from avatar_stream.evaluation.truth import find_people, find_poses, rendered
from avatar_stream.figures import check_output, write_json

_PARTS = ("hand", "face", "body")
KEYS = (
    "psnr_db ssim tolerant_ssim sharpness lpips alpha_iou person_psnr_db hand_psnr_db face_psnr_db "
    + " ".join(
        f"{part}_{figure}{end}"
        for part in _PARTS
        for figure in ("detection_rate", "error")
        for end in ("", "_truth")
    )
    + " mouth_error brow_error lid_error gaze_error"
    + " identity identity_face identity_clothes flicker flicker_still flicker_motion motion_truth"
    + " start_person_psnr_db start_hand_psnr_db start_face_psnr_db ms_per_frame processor_ms_per_frame"
).split()
_STEP_KEYS = (
    "psnr_db ssim tolerant_ssim sharpness person_psnr_db hand_psnr_db face_psnr_db ms_per_frame "
    "processor_ms_per_frame"
).split()
_TIMES = ("ms_per_frame", "processor_ms_per_frame")
_LEAST = {
    "people": {"psnr_db": 23.0, "ssim": 0.88, "tolerant_ssim": 0.89},
    "avatars": {"psnr_db": 27.0, "ssim": 0.93},
    "clips": {"tolerant_ssim": 0.80},
}
_MOST_FLICKER = {
    "people": 1.7,
    "avatars": 1.5,
    "clips": 1.35,
}  # what it was before pictures were made sharper
_SHARPNESS = {"people": (0.8, 1.2), "avatars": (0.8, 1.2), "clips": (0.75, 1.2)}
_FRAME_MS = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    parser.add_argument("--model", default="signer-small", help="a name under models/, a path or a hub id")
    parser.add_argument("--people", type=Path, metavar="DIR", help="folder of rigged people (.glb)")
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="only these (files, clips: their names' beginnings)"
    )
    parser.add_argument("--avatars", action="store_true", help="the bundled avatars instead of --people")
    parser.add_argument(
        "--clips",
        type=Path,
        metavar="DIR",
        help="filmed people instead: source and truth from a folder of videos",
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keep the clips made ready there (with --clips)"
    )
    parser.add_argument(
        "--poses", type=Path, metavar="DIR", help="motion from .pose files; else random signing"
    )
    parser.add_argument("--frames", type=_positive, default=100, metavar="N", help="over all people (100)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn by chance (0)")
    parser.add_argument("--steps", type=_positive, default=1, metavar="K", help="of the model (1)")
    parser.add_argument(
        "--synthesizer", choices=("flow", "rig"), default="flow", help="the model, or the rigged person"
    )
    parser.add_argument(
        "--tracker-noise", action="store_true", help="disturb the poses as tracking and retargeting do"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one, else cpu)")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    parser.add_argument("--report", type=Path, metavar="DIR", help="also write a page with pictures there")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the figures, write the file and the report.

    Raises:
        AvatarStreamError: with one line that says why not.
    """
    check_output(arguments.json)
    _check(arguments)
    if arguments.clips is not None:
        from avatar_stream.evaluation.evaluate_clips import evaluate_clips

        figures, results, driven = evaluate_clips(arguments)
    else:
        figures, results = _evaluate_rendered(arguments)
        driven = []
    print_figures(figures)
    write_json(arguments.json, figures)
    if arguments.report is not None:
        from avatar_stream.evaluation.report import write_report

        print(write_report(arguments.report, figures, results, driven))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.synthesizer == "rig" and arguments.steps != 1:
        raise ConfigError("--synthesizer rig has no --steps: leave it out")
    if arguments.clips is None:
        if arguments.work is not None:
            raise ConfigError("--work keeps clips: give --clips, or leave it out")
        return
    others = {
        "--people": arguments.people,
        "--poses": arguments.poses,
        "--avatars": arguments.avatars,
        "--tracker-noise": arguments.tracker_noise,
        "--synthesizer rig": arguments.synthesizer == "rig",
    }
    given = [name for name, value in others.items() if value]
    if given:
        raise ConfigError(f"--clips brings people and poses along: leave {', '.join(given)} out")


def _evaluate_rendered(arguments: argparse.Namespace) -> tuple[dict, Results]:
    people = find_people(arguments.people, arguments.names, arguments.avatars)
    files = find_poses(arguments.poses)
    plan = Plan(
        names=[person.name for person in people],
        frames=arguments.frames,
        seed=arguments.seed,
        steps=arguments.steps,
        noise=arguments.tracker_noise,
    )
    turns = rendered(people, files, plan.frames, plan.seed, plan.noise)
    painter = open_painter(arguments)
    try:
        with tqdm(total=plan.frames, unit="frame") as bar, Detector() as detector:
            results = measure(plan, turns, painter, Judge(detector, Lpips()), bar.update)
    finally:
        painter.close()
    return make_figures(plan, results, painter, arguments), results


def open_painter(arguments: argparse.Namespace) -> Painter:
    """What the arguments ask to be evaluated."""
    return RigPainter() if arguments.synthesizer == "rig" else FlowPainter(arguments.model, arguments.device)


def make_figures(plan: Plan, results: Results, painter: Painter, arguments: argparse.Namespace) -> dict:
    """All that the file holds.

    Args:
        plan: what was evaluated.
        results: what was found.
        painter: what made the pictures.
        arguments: model, avatars.
    """
    sequences = [row["sequence"] for row in results.rows]
    summary = scores.summarize(results.rows, KEYS, plan.seed, sequences)
    by_steps = {}
    for steps, rows in sorted(results.steps.items()):
        by_steps[steps] = scores.summarize(rows, _STEP_KEYS, plan.seed).means | _usual_times(rows)
    means = summary.means | _usual_times(results.rows)
    for each in (_ways(results, plan.seed), _letters(results, plan.seed)):
        means |= each.means
        summary.intervals.update(each.intervals)
        summary.counts.update(each.counts)
    for key in _TIMES:
        summary.intervals[key] = None
    kind = "clips" if arguments.clips is not None else "avatars" if arguments.avatars else "people"
    targets = make_targets(means, by_steps, kind)
    return {
        "frames": len(results.rows),
        "people": len(plan.names),
        "steps": plan.steps,
        **means,
        **_of_truth(means),
        "first_frame_ms": results.first_frame_ms,
        "model": arguments.model if painter.name == "flow" else None,
        "synthesizer": painter.name,
        "seed": plan.seed,
        "tracker_noise": plan.noise,
        "names": list(plan.names),
        "motion": sorted({row["motion"] for row in results.rows}),
        "intervals": summary.intervals,
        "counts": summary.counts,
        "by_region": _by_region(results, plan.seed, sequences),
        "by_steps": by_steps,
        "by_person": _by_person(plan, results),
        "targets": {target.name: target.as_json() for target in targets},
    }


def _ways(results: Results, seed: int) -> scores.Summary:
    """Distance of hands over time, for sequences that are long enough."""
    return scores.summarize(hand_ways(results.ways), ["ndtwp", "ndtwp_truth"], seed)


def _letters(results: Results, seed: int) -> scores.Summary:
    sequences = [row["sequence"] for row in results.letters]
    keys = ["letters_read", "letters_read_truth", "letters_read_of_truth"]
    return scores.summarize(results.letters, keys, seed, sequences)


def _usual_times(rows: list[dict]) -> dict[str, float]:
    """Medians: a mean would hold what is made only once, and the hiccups of a busy machine."""
    return {key: float(np.median([row[key] for row in rows])) for key in _TIMES}


def _by_region(results: Results, seed: int, sequences: list[str]) -> dict[str, dict[str, dict]]:
    """Value, 95% interval and count of each measure of each region."""
    keys = {"whole": {measure: measure for measure in ("psnr_db", "ssim", "lpips")}}
    for region in REGIONS:
        keys[region] = {measure: f"{region}_{measure}" for measure in REGION_MEASURES}
    found = scores.summarize(
        results.rows, [key for each in keys.values() for key in each.values()], seed, sequences
    )
    return {
        region: {
            measure: {"value": found.means[key], "interval": found.intervals[key], "count": found.counts[key]}
            for measure, key in each.items()
        }
        for region, each in keys.items()
    }


def _by_person(plan: Plan, results: Results) -> dict[str, dict[str, float | None]]:
    keys = [key for key in KEYS if not key.endswith("ms_per_frame")]
    rows = {name: [] for name in plan.names}
    for row in results.rows:
        rows[row["person"]].append(row)
    return {name: scores.summarize(own, keys, plan.seed).means for name, own in rows.items()}


def make_targets(means: dict, by_steps: dict[int, dict], kind: str) -> list[Target]:
    """The project's targets for a model (docs/evaluation.md).

    Args:
        means: by key.
        by_steps: means of the study of steps.
        kind: people, avatars or clips: they have different ones.
    """
    of_truth = _of_truth(means)
    targets = [
        Target("hands_found_of_truth", of_truth["hands_found_of_truth"], 0.98, True),
        Target("hand_error_of_truth", of_truth["hand_error_of_truth"], 1.2, False),
        Target("face_error_of_truth", of_truth["face_error_of_truth"], 1.3, False),
        Target("flicker", means["flicker"], _MOST_FLICKER[kind], False),
        Target("processor_ms_per_frame", means["processor_ms_per_frame"], _FRAME_MS, False),
    ]
    targets += [Target(key, means[key], limit, True) for key, limit in _LEAST[kind].items()]
    targets += [
        Target("sharpness_least", means["sharpness"], _SHARPNESS[kind][0], True),
        Target("sharpness_most", means["sharpness"], _SHARPNESS[kind][1], False),
    ]
    if 1 in by_steps and 8 in by_steps:
        for key in ("psnr_db", "hand_psnr_db"):
            value = ratio(by_steps[1][key], by_steps[8][key])
            targets.append(Target(f"one_step_of_eight_{key}", value, 0.98, True))
    return targets


def _of_truth(means: dict) -> dict[str, float | None]:
    """Hands and face in parts of what MediaPipe makes of truth itself."""
    return {
        "hands_found_of_truth": ratio(means["hand_detection_rate"], means["hand_detection_rate_truth"]),
        "hand_error_of_truth": ratio(means["hand_error"], means["hand_error_truth"]),
        "face_error_of_truth": ratio(means["face_error"], means["face_error_truth"]),
    }


def print_figures(figures: dict) -> None:
    """Print keys, values and intervals, regions, then the targets."""
    intervals = figures.get("intervals", {})
    for key, value in figures.items():
        if isinstance(value, dict | list):
            continue
        print(f"{key}: {_text(value)}{_between(intervals.get(key))}")
    if figures.get("cross"):
        for key, value in figures["cross"].items():
            if not isinstance(value, dict | list):
                print(f"cross {key}: {_text(value)}{_between(figures['cross']['intervals'].get(key))}")
    for region, measures in figures.get("by_region", {}).items():
        told = [
            f"{name} {_text(each['value'])}{_between(each['interval'])}" for name, each in measures.items()
        ]
        print(f"{region}: {', '.join(told)}")
    for name, target in figures["targets"].items():
        word = {True: "met", False: "MISSED", None: "not measured"}[target["met"]]
        print(f"target {name}: {_text(target['value'])} ({target['target']}) {word}")


def _between(interval: list[float] | None) -> str:
    return f" [{_text(interval[0])}, {_text(interval[1])}]" if interval else ""


def _text(value: object) -> str:
    if value is None:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
