"""Generates the frames of an evaluation and measures each of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avatar_stream.evaluation import pictures
from avatar_stream.evaluation.detector import HAND, PARTS, Detector, Found, Wanted, wanted_parts
from avatar_stream.evaluation.painters import Painter
from avatar_stream.evaluation.truth import Case, Person, Stage, share_out
from avatar_stream.rendering.renderer import Renderer
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


@dataclass(frozen=True)
class Judged:
    """A case with what was made of it.

    Attributes:
        case: truth.
        source: (512, 512, 4) uint8 RGBA, the person's source picture.
        made: (512, 512, 4) uint8 RGBA, straight alpha.
        values: its measures by key; lists for hands.
        wanted: the parts that truth shows.
        found_made, found_truth: what MediaPipe found of them.
        by_steps: pictures made with other numbers of steps, like `made`.
    """

    case: Case
    source: np.ndarray
    made: np.ndarray
    values: dict[str, float | list[float]]
    wanted: list[Wanted]
    found_made: list[Found]
    found_truth: list[Found]
    by_steps: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def badness(self) -> float:
        """Higher is worse: hands, face and person count alike, a hand that is not found counts 6 dB."""
        keys = ("person_psnr_db", "hand_psnr_db", "face_psnr_db")
        known = [self.values[key] for key in keys if np.isfinite(self.values[key])]
        lost = sum(
            wanted.kind == HAND and made.places is None and true.places is not None
            for wanted, made, true in zip(self.wanted, self.found_made, self.found_truth, strict=True)
        )
        return 6.0 * lost - float(np.mean(known))


@dataclass
class Results:
    """All that an evaluation found.

    Attributes:
        rows: values of each frame, with `person`, `motion` and `sequence`.
        steps: rows of the study of steps by their number.
        worst: the worst cases, worst first.
        shown: cases spread over all, made with several numbers of steps.
        hands: (Judged, number of the part) of hands to look at, spread over all.
        first_frame_ms: of the first picture after the weights were loaded.
    """

    rows: list[dict] = field(default_factory=list)
    steps: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    worst: list[Judged] = field(default_factory=list)
    shown: list[Judged] = field(default_factory=list)
    hands: list[tuple[Judged, int]] = field(default_factory=list)
    first_frame_ms: float = 0.0


class Judge:
    """Compares made pictures with truth."""

    def __init__(self, detector: Detector, lpips: pictures.Lpips):
        """Take the networks; they stay the caller's."""
        self._detector, self._lpips = detector, lpips

    def judge(self, case: Case, source: np.ndarray, made: np.ndarray) -> Judged:
        """Measure one picture.

        Args:
            case: truth.
            source: (512, 512, 4) uint8 RGBA, for the report.
            made: (512, 512, 4) uint8 RGBA, straight alpha.
        """
        shot = case.shot
        values: dict = pictures.compare(made, shot.image, shot.parts)
        values["lpips"] = self._lpips.distance(pictures.on_grey(made), pictures.on_grey(shot.image))
        wanted = wanted_parts(shot.exact.points, shot.parts)
        seen = [np.round(pictures.on_grey(image)).astype(np.uint8) for image in (made, shot.image)]
        found = [[self._detector.find(image, part) for part in wanted] for image in seen]
        values |= detection_values(wanted, *found)
        return Judged(case, source, made, values, wanted, *found)


def detection_values(
    wanted: Sequence[Wanted], made: Sequence[Found], truth: Sequence[Found]
) -> dict[str, list[float]]:
    """Lists of found (0 or 1) and errors, for hands, face and body, made and true.

    Errors count only where a part is found in both pictures: else a model that loses the difficult hands would
    have the smaller error.
    """
    values: dict[str, list[float]] = {}
    for kind in PARTS:
        pairs = [(a, b) for part, a, b in zip(wanted, made, truth, strict=True) if part.kind == kind]
        both = [(a, b) for a, b in pairs if a.places is not None and b.places is not None]
        values[f"{kind}_detection_rate"] = [float(a.places is not None) for a, _ in pairs]
        values[f"{kind}_detection_rate_truth"] = [float(b.places is not None) for _, b in pairs]
        values[f"{kind}_error"] = [a.error for a, _ in both]
        values[f"{kind}_error_truth"] = [b.error for _, b in both]
    return values


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    Attributes:
        people: who.
        files: `.pose` files that move them; none: random signing.
        frames: how many, over all people.
        seed: of everything that is drawn.
        steps: of the model.
        noise: disturb poses like a tracker.
        studied_steps: numbers of steps compared on a few frames.
    """

    people: Sequence[Person]
    files: Sequence[Path]
    frames: int
    seed: int
    steps: int
    noise: bool = False
    studied_steps: Sequence[int] = STUDIED_STEPS


def measure(plan: Plan, painter: Painter, on_frame: Callable[[], None] | None = None) -> Results:
    """Render truth, make the same frames, and judge them.

    Args:
        plan: what.
        painter: who makes the pictures.
        on_frame: called after each frame, for a progress bar.

    Raises:
        AvatarStreamError: a person, a pose file or a network cannot be used.
    """
    results, first = Results(), 0
    shares = share_out(plan.frames, len(plan.people))
    with Renderer() as renderer, Detector() as detector:
        judge = Judge(detector, pictures.Lpips())
        for place, (person, count) in enumerate(zip(plan.people, shares, strict=True)):
            stage = Stage(person, renderer, np.random.default_rng([plan.seed, place]), plan.noise)
            painter.meet(stage.avatar)
            if place == 0:
                results.first_frame_ms = _timed(painter, stage.avatar.pose, plan.steps)[1]
            for case in stage.cases(count, first, plan.files):
                _keep(results, plan, _one(plan, painter, judge, stage, case))
                if on_frame is not None:
                    on_frame()
            first += count
    return results


def _one(plan: Plan, painter: Painter, judge: Judge, stage: Stage, case: Case) -> Judged:
    """Make and judge one case, with all that hangs on it: flicker, motion, other numbers of steps."""
    made, wall_ms, processor_ms = _timed(painter, case.shot.given, plan.steps)
    judged = judge.judge(case, stage.avatar.image, made)
    judged.values.update(ms_per_frame=wall_ms, processor_ms_per_frame=processor_ms)
    start = painter.start_picture(case.shot.given)
    if start is not None:
        regions = pictures.enlarged_parts(case.shot.parts)
        pair = (pictures.at_canvas(start), case.shot.image)
        found = pictures.region_psnr_db(*map(pictures.on_grey, pair), regions)
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


def _flicker(painter: Painter, stage: Stage, case: Case, steps: int) -> dict[str, float]:
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
        made[steps], wall_ms, work_ms = _timed(painter, pose, steps)
        shot = judged.case.shot
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
    if _is_studied(plan, case.number):
        results.shown.append(judged)
    results.worst = sorted([*results.worst, judged], key=lambda each: -each.badness)[:WORST]
    shown_every = max(1, plan.frames // _HANDS_SHOWN)
    if case.number % shown_every == 0 and len(results.hands) < _HANDS_SHOWN:
        results.hands += list(_hands_of(judged))[:1]


def _hands_of(judged: Judged) -> Iterator[tuple[Judged, int]]:
    hands = [number for number, part in enumerate(judged.wanted) if part.kind == HAND]
    # The signer's left and right take turns.
    yield from ((judged, number) for number in (hands[::-1] if judged.case.number % 2 else hands))
