"""One filmed person driven by another: there is no truth, but the person must stay and the hands must be there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from avatar_stream.lab.evaluation import pictures
from avatar_stream.lab.evaluation.detector import PARTS, PartDetector, wanted_parts
from avatar_stream.lab.evaluation.painters import Painter
from avatar_stream.lab.evaluation.real_clips import SAME_PERSON, Filmed, Footage, person_likeness
from avatar_stream.lab.evaluation.scores import ratio, summarize
from avatar_stream.lab.training import matting
from avatar_stream.retarget import Retargeter
from avatar_stream.types import Avatar, Pose

FRAMES = 24  # of each pair
KEYS = (
    "hand_detection_rate hand_detection_rate_driver hand_error face_detection_rate face_error body_error "
    "identity identity_face identity_clothes"
).split()
_REST_S = 2.0  # between two shots: a driver that jumps is another driver


@dataclass(frozen=True)
class Driven:
    """One picture of a person in another one's pose.

    Attributes:
        pair: who is driven by whom, in words.
        source: (512, 512, 4) uint8 RGBA, the person's picture.
        driver: the same, the true picture of the driver.
        made: the same, made.
    """

    pair: str
    source: np.ndarray
    driver: np.ndarray
    made: np.ndarray


def cross_pairs(footage: Footage, people: Sequence[Filmed]) -> list[tuple[Filmed, Filmed]]:
    """Who is driven by whom: each by the next one, in the order of their names, who is somebody else."""
    pairs = []
    for place, person in enumerate(people):
        others = [*people[place + 1 :], *people[:place]]
        other = next(
            (one for one in others if person_likeness(footage, person.source, one.source) < SAME_PERSON), None
        )
        if other is not None:
            pairs.append((person, other))
    return pairs


def measure_cross(
    footage: Footage,
    pairs: Sequence[tuple[Filmed, Filmed]],
    painter: Painter,
    detector: PartDetector,
    steps: int,
    seed: int,
) -> tuple[dict | None, list[Driven]]:
    """Drive and judge each pair.

    Args:
        footage: where the people are from.
        pairs: (who is seen, who drives).
        painter: who makes the pictures.
        detector: what looks for hands and face.
        steps: of the model.
        seed: of the intervals' bootstrap.

    Returns:
        Figures (docs/evaluation.md), None without pairs; and one picture of each pair.
    """
    rows, names, shown = [], [], []
    for person, driver in pairs:
        avatar = footage.avatar(person)
        painter.meet(avatar)
        frames = list(_retargeted(footage, avatar, driver))
        chosen = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).astype(int)
        for place in chosen:
            sequence, row, pose = frames[place]
            made = pictures.at_canvas(painter.paint(pose, steps))
            rows.append(_values(footage, person, row, pose, made, detector))
            names.append(f"{person.name} driven by {sequence}")
            if place == chosen[len(chosen) // 2]:
                shown.append(Driven(names[-1], avatar.image, footage.shot(row).image, made))
    return (_figures(pairs, rows, names, seed) if rows else None), shown


def _retargeted(footage: Footage, avatar: Avatar, driver: Filmed) -> Iterator[tuple[str, int, Pose]]:
    """The driver's truth, shot after shot, as the avatar's poses: sequence, row, pose."""
    retargeter, start_s = Retargeter(avatar.pose), 0.0
    for sequence, rows in driver.sequences.items():
        first_s = float(footage.time_s[rows[0]])
        for row in rows:
            time_s = start_s + float(footage.time_s[row]) - first_s
            yield sequence, int(row), retargeter.retarget(footage.pose(row), time_s)
        start_s = time_s + _REST_S


def _values(
    footage: Footage, person: Filmed, row: int, pose: Pose, made: np.ndarray, detector: PartDetector
) -> dict[str, float | list[float]]:
    groups = matting.draw_groups(pose.points)
    # What the pose shows, whatever matte was made: a hand left out is a hand not found.
    solid = np.dstack([made[..., :3], np.full(made.shape[:2], 255, np.uint8)])
    drawn = wanted_parts(pose.points, matting.part_map(solid, pose.points, groups))
    shot = footage.shot(row)
    true = wanted_parts(shot.exact.points, shot.parts)
    values: dict[str, float | list[float]] = {}
    looks = ((made, drawn, ""), (shot.image, true, "_driver"))
    for image, wanted, end in looks:
        picture = np.round(pictures.on_grey(image)).astype(np.uint8)
        found = [(part.kind, detector.find(picture, part)) for part in wanted]
        for kind in PARTS:
            own = [each for part, each in found if part == kind]
            values[f"{kind}_detection_rate{end}"] = [float(each.places is not None) for each in own]
            values[f"{kind}_error{end}"] = [each.error for each in own]
    return values | _identity(footage, person, made, matting.part_map(made, pose.points, groups))


def _identity(footage: Footage, person: Filmed, made: np.ndarray, parts: np.ndarray) -> dict[str, float]:
    """Likeness to the source picture, each looked at where its own head and clothes are."""
    shown = [pictures.on_grey(each) for each in (made, np.array(footage.images[person.source]))]
    regions = [pictures.enlarged_parts(each) for each in (parts, np.array(footage.parts[person.source]))]
    alike = {}
    for name, codes in (("face", pictures.HEAD), ("clothes", pictures.CLOTHES)):
        own, source = (np.isin(each, codes) for each in regions)
        alike[f"identity_{name}"] = pictures.likeness(shown[0], shown[1], source, own)
    known = [value for value in alike.values() if np.isfinite(value)]
    return alike | {"identity": float(np.mean(known)) if known else np.nan}


def _figures(pairs: Sequence[tuple[Filmed, Filmed]], rows: list[dict], names: list[str], seed: int) -> dict:
    found = summarize(rows, KEYS, seed, names)
    rates = found.means["hand_detection_rate"], found.means["hand_detection_rate_driver"]
    return {
        "pairs": [{"source": person.name, "driver": driver.name} for person, driver in pairs],
        "frames": len(rows),
        **found.means,
        "hands_found_of_driver": ratio(*rates),
        "intervals": found.intervals,
        "counts": found.counts,
    }
