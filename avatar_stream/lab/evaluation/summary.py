"""What an evaluation's file holds: means, intervals, regions, steps, targets."""

from __future__ import annotations

import argparse

import numpy as np

from avatar_stream.lab.evaluation import scores
from avatar_stream.lab.evaluation.judging import hand_ways
from avatar_stream.lab.evaluation.measure import Plan, Results
from avatar_stream.lab.evaluation.painters import Painter
from avatar_stream.lab.evaluation.pictures import REGION_MEASURES, REGIONS
from avatar_stream.lab.evaluation.scores import Target, ratio

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
# Of flicker: what it was before pictures were made sharper.
_MOST_FLICKER = {"people": 1.7, "avatars": 1.5, "clips": 1.35}
_SHARPNESS = {"people": (0.8, 1.2), "avatars": (0.8, 1.2), "clips": (0.75, 1.2)}
_FRAME_MS = 30.0


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
    # Distance of hands over time, for sequences that are long enough, and letters that can still be read.
    ways = scores.summarize(hand_ways(results.ways), ["ndtwp", "ndtwp_truth"], plan.seed)
    spelled = [row["sequence"] for row in results.letters]
    keys = ["letters_read", "letters_read_truth", "letters_read_of_truth"]
    letters = scores.summarize(results.letters, keys, plan.seed, spelled)
    for each in (ways, letters):
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


def _usual_times(rows: list[dict]) -> dict[str, float | None]:
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
    rows: dict[str, list[dict]] = {name: [] for name in plan.names}
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
