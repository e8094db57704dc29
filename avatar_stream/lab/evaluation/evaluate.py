"""`avatar-stream evaluate`: a model against truth, rendered or filmed, in figures and pictures."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from tqdm import tqdm

from avatar_stream.errors import ConfigError
from avatar_stream.lab.evaluation import cross
from avatar_stream.lab.evaluation.detector import PartDetector
from avatar_stream.lab.evaluation.judging import Judge
from avatar_stream.lab.evaluation.measure import Plan, Results, measure
from avatar_stream.lab.evaluation.painters import open_painter
from avatar_stream.lab.evaluation.pictures import Lpips
from avatar_stream.lab.evaluation.real_clips import (
    Filmed,
    Footage,
    counts_of,
    filmed,
    find_filmed,
    make_ready,
)
from avatar_stream.lab.evaluation.summary import make_figures
from avatar_stream.lab.evaluation.truth import find_people, find_poses, rendered
from avatar_stream.lab.figures import check_output, print_figures, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    add = parser.add_argument
    add("--model", default="signer-small", help="a name under models/, a path or a hub id")
    add("--people", type=Path, metavar="DIR", help="folder of rigged people (.glb)")
    add("--names", nargs="+", metavar="NAME", help="only these (files, clips: their names' beginnings)")
    add("--avatars", action="store_true", help="the bundled avatars instead of --people")
    add(
        "--clips",
        type=Path,
        metavar="DIR",
        help="filmed people instead: source and truth from a folder of videos",
    )
    add("--work", type=Path, metavar="DIR", help="keep the clips made ready there (with --clips)")
    add("--poses", type=Path, metavar="DIR", help="motion from .pose files; else random signing")
    add("--frames", type=_positive, default=100, metavar="N", help="over all people (100)")
    add("--seed", type=int, default=0, help="of everything that is drawn by chance (0)")
    add("--steps", type=_positive, default=1, metavar="K", help="of the model (1)")
    add("--synthesizer", choices=("flow", "rig"), default="flow", help="the model, or the rigged person")
    add("--tracker-noise", action="store_true", help="disturb the poses as tracking and retargeting do")
    add("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one, else cpu)")
    add("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    add("--report", type=Path, metavar="DIR", help="also write a page with pictures there")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the figures, write the file and the report; AvatarStreamError says in one line why not."""
    check_output(arguments.json)
    _check(arguments)
    if arguments.clips is not None:
        figures, results, driven = _evaluate_clips(arguments)
    else:
        figures, results = _evaluate_rendered(arguments)
        driven = []
    print_figures(figures)
    write_json(arguments.json, figures)
    if arguments.report is not None:
        from avatar_stream.lab.evaluation.report import write_report

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
        with tqdm(total=plan.frames, unit="frame") as bar, PartDetector() as detector:
            results = measure(plan, turns, painter, Judge(detector, Lpips()), bar.update)
    finally:
        painter.close()
    return make_figures(plan, results, painter, arguments), results


def _evaluate_clips(arguments: argparse.Namespace) -> tuple[dict, Results, list[cross.Driven]]:
    """Self-reenactment of filmed people, and each of them driven by another one.

    Returns:
        Figures (docs/evaluation.md), what they were made of, and pictures of pairs.
    """
    with contextlib.ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        footage = make_ready(arguments.clips, work)
        people = find_filmed(footage, arguments.names)
        counts = counts_of(people, arguments.frames)
        plan = Plan([person.name for person in people], sum(counts), arguments.seed, arguments.steps)
        painter = open_painter(arguments)
        stack.callback(painter.close)
        detector = stack.enter_context(PartDetector())
        with tqdm(total=plan.frames, unit="frame") as bar:
            turns = filmed(footage, people, counts, plan.seed)
            results = measure(plan, turns, painter, Judge(detector, Lpips()), bar.update)
        pairs = cross.cross_pairs(footage, people)
        found, driven = cross.measure_cross(footage, pairs, painter, detector, plan.steps, plan.seed)
        figures = make_figures(plan, results, painter, arguments)
        figures |= {"pairs": [_pair(footage, person) for person in people], "cross": found}
    return figures, results, driven


def _pair(footage: Footage, person: Filmed) -> dict[str, object]:
    """What is source and what is truth, for the file: who repeats it can choose the same."""
    truth = {
        name: {"frames": len(rows), "from_s": _time(footage, rows[0]), "to_s": _time(footage, rows[-1])}
        for name, rows in person.sequences.items()
    }
    return {"clip": person.name, "source_s": _time(footage, person.source), "truth": truth}


def _time(footage: Footage, row: int) -> float:
    return round(float(footage.time_s[row]), 3)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
