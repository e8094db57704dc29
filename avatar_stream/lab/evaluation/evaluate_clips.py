"""`evaluate --clips`: self-reenactment of filmed people, and each of them driven by another one."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from tqdm import tqdm

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


def evaluate_clips(arguments: argparse.Namespace) -> tuple[dict, Results, list[cross.Driven]]:
    """Make the clips ready, paint what they show, and judge it.

    Returns:
        Figures (docs/evaluation.md), what they were made of, and pictures of pairs.

    Raises:
        AvatarStreamError: with one line that says why not.
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
