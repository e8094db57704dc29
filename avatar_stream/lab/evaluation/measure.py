"""Makes the frames of an evaluation and measures each of them."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from avatar_stream.lab.evaluation import pictures
from avatar_stream.lab.evaluation.detector import HAND
from avatar_stream.lab.evaluation.judging import HandsAt, Judge, Judged, shape_values
from avatar_stream.lab.evaluation.painters import Painter
from avatar_stream.lab.evaluation.truth import Case, Subject
from avatar_stream.types import Pose

STUDIED_STEPS = (1, 2, 4, 8)
WORST = 16
_STUDIED_CASES = 8
_HANDS_SHOWN = 24
_STILL_EVERY = 20  # frames for each pose that is held to judge flicker
_STILL_FRAMES = 10
# A held pose trembles by this part of the measured noise: most of that is constant in a clip, and what is left
# is smoothed before it reaches the model.
_STILL_NOISE = 0.25


@dataclass
class Results:
    """All that an evaluation found.

    Attributes:
        rows: values of each frame, with `person`, `motion` and `sequence`.
        steps: rows of the study of steps by their number.
        worst: the worst cases, worst first.
        shown: cases spread over all, made with several numbers of steps.
        hands: (Judged, number of the part) of hands to look at, spread over all.
        ways: by sequence, where hands went over time.
        letters: a row for each fingerspelled letter (`Judge.read_letter`) or filmed frame (`shape_values`).
        first_frame_ms: of the first picture after the weights were loaded.
    """

    rows: list[dict] = field(default_factory=list)
    steps: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    worst: list[Judged] = field(default_factory=list)
    shown: list[Judged] = field(default_factory=list)
    hands: list[tuple[Judged, int]] = field(default_factory=list)
    ways: dict[str, list[HandsAt]] = field(default_factory=dict)
    letters: list[dict] = field(default_factory=list)
    first_frame_ms: float = 0.0


@dataclass(frozen=True)
class Plan:
    """How it is evaluated.

    Attributes:
        names: of the people, in the order of their turns.
        frames: how many, over all people.
        seed: of everything that is drawn.
        steps: of the model.
        noise: poses are disturbed like a tracker's.
        studied_steps: numbers of steps compared on a few frames.
    """

    names: Sequence[str]
    frames: int
    seed: int
    steps: int
    noise: bool = False
    studied_steps: Sequence[int] = STUDIED_STEPS


def measure(
    plan: Plan,
    turns: Iterable[tuple[Subject, Iterator[Case]]],
    painter: Painter,
    judge: Judge,
    on_frame: Callable[[], None] | None = None,
) -> Results:
    """Take truth, make the same frames, and judge them.

    Args:
        plan: how.
        turns: who, and truth of each.
        painter: who makes the pictures.
        judge: who compares them.
        on_frame: called after each frame, for a progress bar.

    Raises:
        AvatarStreamError: a person, a pose file or a network cannot be used.
    """
    results = Results()
    for stage, cases in turns:
        painter.meet(stage.avatar)
        if not results.rows:
            results.first_frame_ms = _timed(painter, stage.avatar.pose, plan.steps)[1]
        letters, before = stage.letters(), len(results.rows)
        for case in cases:
            judged = _one(plan, painter, judge, stage, case)
            _keep(results, plan, judged)
            if letters is None:
                results.letters.append({"sequence": case.sequence, **shape_values(judged)})
            if on_frame is not None:
                on_frame()
        for name, side, shot in itertools.islice(letters or (), len(results.rows) - before):
            read = judge.read_letter(name, side, shot, _paint(painter, shot.given, plan.steps))
            results.letters.append({"sequence": stage.avatar.name, **read})
    return results


def _one(plan: Plan, painter: Painter, judge: Judge, stage: Subject, case: Case) -> Judged:
    """Make and judge one case, with all that hangs on it: flicker, motion, other numbers of steps."""
    made, wall_ms, processor_ms = _timed(painter, case.shot.given, plan.steps)
    made = pictures.cut_to(made, case.shot.inside)
    judged = judge.judge(case, stage.avatar.image, made)
    judged.values.update(ms_per_frame=wall_ms, processor_ms_per_frame=processor_ms)
    start = painter.start_picture(case.shot.given)
    if start is not None:
        regions = pictures.enlarged_parts(case.shot.parts)
        first, truth_seen = pictures.on_grey(pictures.at_canvas(start)), pictures.on_grey(case.shot.image)
        found = pictures.region_psnr_db(first, truth_seen, regions)
        judged.values.update({f"start_{key}": value for key, value in found.items()})
    if case.next_shot is not None:
        after = _paint(painter, case.next_shot.given, plan.steps)
        truth = (case.shot.image, case.next_shot.image)
        judged.values["flicker_motion"] = pictures.motion_error((made, after), truth)
        judged.values["motion_truth"] = pictures.mean_change(list(truth))
    if case.number % _STILL_EVERY == 0:
        judged.values.update(_flicker(painter, stage, case, plan.steps))
    if _is_studied(plan, case.number) and painter.takes_steps:
        return dataclasses.replace(judged, by_steps=_other_steps(plan, painter, judged))
    return judged


def _is_studied(plan: Plan, number: int) -> bool:
    return number in np.linspace(0, plan.frames - 1, min(_STUDIED_CASES, plan.frames)).astype(int)


def _timed(painter: Painter, pose: Pose, steps: int) -> tuple[np.ndarray, float, float]:
    """The picture, milliseconds that passed, and milliseconds of work over all cores."""
    wall, work = time.perf_counter(), time.process_time()
    made = painter.paint(pose, steps)
    times_ms = 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - work)
    return pictures.at_canvas(made), *times_ms


def _paint(painter: Painter, pose: Pose, steps: int) -> np.ndarray:
    return pictures.at_canvas(painter.paint(pose, steps))


def _flicker(painter: Painter, stage: Subject, case: Case, steps: int) -> dict[str, float]:
    """Change from frame to frame where the pose is held: trembling like a tracker's, and not at all."""
    held = case.shot.exact
    poses = {
        "flicker": [stage.disturbed(held, _STILL_NOISE) for _ in range(_STILL_FRAMES)],
        "flicker_still": [held] * 2,
    }
    return {
        key: pictures.mean_change(
            [
                _paint(painter, dataclasses.replace(pose, time_s=held.time_s + 0.04 * k), steps)
                for k, pose in enumerate(row)
            ]
        )
        for key, row in poses.items()
    }


def _other_steps(plan: Plan, painter: Painter, judged: Judged) -> dict[int, np.ndarray]:
    pose = judged.case.shot.given
    made = {}
    for steps in plan.studied_steps:
        if judged.case.number == 0:  # a new number of steps may have to be compiled: that is no frame's time
            painter.paint(pose, steps)
        image, wall_ms, work_ms = _timed(painter, pose, steps)
        shot = judged.case.shot
        made[steps] = pictures.cut_to(image, shot.inside)
        values = pictures.compare(made[steps], shot.image, shot.parts)
        values |= {"ms_per_frame": wall_ms, "processor_ms_per_frame": work_ms}
        judged.values.setdefault("steps", {})[steps] = values
    return made


def _keep(results: Results, plan: Plan, judged: Judged) -> None:
    """Take over the values, and of the pictures only those that a report shows: memory does not grow with frames."""
    values = dict(judged.values)
    for steps, row in values.pop("steps", {}).items():
        results.steps.setdefault(steps, []).append(row)
    case = judged.case
    about = {"person": case.person, "motion": case.motion, "sequence": case.sequence}
    results.rows.append({"frame": case.number, **about, **values})
    results.ways.setdefault(case.sequence, []).append(HandsAt.of(judged))
    if _is_studied(plan, case.number):
        results.shown.append(judged)
    results.worst = sorted([*results.worst, judged], key=lambda each: -each.badness)[:WORST]
    shown_every = max(1, plan.frames // _HANDS_SHOWN)
    if case.number % shown_every == 0 and len(results.hands) < _HANDS_SHOWN:
        hands = [number for number, part in enumerate(judged.wanted) if part.kind == HAND]
        # The signer's left and right take turns.
        results.hands += [(judged, number) for number in (hands[::-1] if case.number % 2 else hands)[:1]]
