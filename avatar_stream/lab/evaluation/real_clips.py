"""Filmed truth: one picture of a real person against what the same person signs in other shots of the clip.

Poses, mattes and frames are those of `prepare-videos`. A source picture's pose and all target poses are what the
project's tracker measured; the person is the same, so that nothing is retargeted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar_stream.errors import ConfigError, SourceError
from avatar_stream.lab.evaluation import pictures
from avatar_stream.lab.evaluation.truth import Case, Subject, TruthFrame, share_out
from avatar_stream.lab.training.video_folder import find_clips, prepare_videos
from avatar_stream.lab.training.video_frame import neutrality
from avatar_stream.types import CANVAS_PX, LEFT_HAND, Avatar, Credit, Pose

logger = logging.getLogger(__name__)

EVERY = 2  # frames of the video: 15 pictures a second of most clips
_MOST_OF_CLIP = 150
_FEWEST_TRUTHS = 2
_SOURCE_PART = 1 / 3  # of a clip without cuts: where the source picture is looked for
# Common part of two shots' colours below which they show two people: one person's shots have 0.62 and more, those of
# two who look alike 0.57 and less.
SAME_PERSON = 0.6
_NO_CREDIT = Credit(license="as the clip's", source_url="as the clip's", consent="for measuring only")


@dataclass(frozen=True)
class Filmed:
    """One person of one clip.

    Attributes:
        name: of the clip, without its ending.
        source: row of the source picture.
        sequences: rows of the truth of each shot by its name, in the order of time.
    """

    name: str
    source: int
    sequences: dict[str, np.ndarray]

    @property
    def rows(self) -> np.ndarray:
        """All of truth, shot after shot."""
        return np.concatenate(list(self.sequences.values()))


class Footage:
    """A data set that `prepare-videos` wrote, memory-mapped."""

    def __init__(self, folder: Path):
        """Open it.

        Raises:
            ConfigError: it is no such data set.
        """
        try:
            self.meta = json.loads((folder / "meta.json").read_text())
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r")
                for name in ("images", "parts", "points", "confidence", "time_s", "inside")
            }
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{folder} holds no clips made ready by this version: remove it or name another --work ({error})"
            ) from error
        self.images, self.parts, self.points, self._confidence, self.time_s, self._inside = arrays.values()

    def shots(self, clip: str) -> list[np.ndarray]:
        """Rows of each shot of a clip, in the order of time."""
        rows = [
            np.arange(variant["first"], variant["first"] + variant["count"])
            for variant in self.meta["variants"]
            if variant["person"] == clip
        ]
        return [each[np.argsort(self.time_s[each])] for each in rows]

    def pose(self, row: int) -> Pose:
        """As the tracker measured it, canvas px; a hand beyond the picture is NaN."""
        world = np.full((33, 3), np.nan, np.float32)
        points, confidence = np.array(self.points[row]), np.array(self._confidence[row])
        return Pose(points, confidence, world, (CANVAS_PX, CANVAS_PX), float(self.time_s[row]))

    def avatar(self, person: Filmed) -> Avatar:
        """The person's source picture with its pose."""
        return Avatar(person.name, np.array(self.images[person.source]), self.pose(person.source), _NO_CREDIT)

    def shot(self, row: int) -> TruthFrame:
        """One true picture."""
        pose, inside = self.pose(row), tuple(self._inside[row].tolist())
        return TruthFrame(np.array(self.images[row]), np.array(self.parts[row]), pose, pose, inside)


def make_ready(folder: Path, work: Path) -> Footage:
    """Track and matte the clips of a folder, or take what an earlier run left.

    Args:
        folder: of clips, searched with its subfolders.
        work: a folder that keeps what was made.

    Raises:
        ConfigError: there are no clips, or `work` holds other ones.
        SourceError: nobody can be seen.
        SinkError: `work` cannot be written.
        TrackerError: mediapipe does not start.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: --clips takes a folder of videos")
    clips, data = find_clips(folder), work / "clips"
    if not data.exists():
        prepare_videos(folder, data, EVERY, _MOST_OF_CLIP)
    footage = Footage(data)
    wanted = [[clip.relative_to(folder).as_posix(), clip.stat().st_size] for clip in clips]
    if footage.meta["clips"] != wanted:
        raise ConfigError(f"{data} holds other clips than {folder}: remove it or name another --work")
    return footage


def find_filmed(footage: Footage, names: Sequence[str] | None) -> list[Filmed]:
    """Choose a source picture and truth in each clip.

    The source is the most neutral picture, both hands in view, of the shot that has it; truth are the other shots of
    the same person. In a clip without cuts the source comes from the first third and truth from the rest.

    Args:
        footage: the clips made ready.
        names: only clips whose names begin so; None: all.

    Raises:
        ConfigError: no clip has such a name.
        SourceError: no clip has a source and truth.
    """
    clips = [name for name in footage.meta["people"] if not names or name.startswith(tuple(names))]
    if not clips:
        raise ConfigError(
            f"no clip that shows a person is called {', '.join(names or ())}: there are "
            f"{', '.join(footage.meta['people'])}"
        )
    found = [person for clip in clips if (person := _cast(footage, clip)) is not None]
    if not found:
        raise SourceError(
            "no clip is long enough: one part gives the source picture, another one truth; take clips of some seconds"
        )
    return found


def _cast(footage: Footage, clip: str) -> Filmed | None:
    shots = _of_one_person(footage, clip)
    if len(shots) == 1:
        (shot,) = shots.values()
        first = shot[: max(1, round(_SOURCE_PART * len(shot)))]
        source, truths = _most_neutral(footage, first), {clip: shot[len(first) :]}
    else:
        source = _most_neutral(footage, np.concatenate(list(shots.values())))
        truths = {name: rows for name, rows in shots.items() if source not in rows}
    if sum(map(len, truths.values())) < _FEWEST_TRUTHS:
        logger.warning("left out: %s has no second shot, or later part, of the same person", clip)
        return None
    return Filmed(clip, source, truths)


def _of_one_person(footage: Footage, clip: str) -> dict[str, np.ndarray]:
    """Rows of the shots, by name, of the person whom the clip shows most."""
    casts: list[dict[str, np.ndarray]] = []
    for number, rows in enumerate(footage.shots(clip), 1):
        for cast in casts:
            first = next(iter(cast.values()))
            alike = person_likeness(footage, first[len(first) // 2], rows[len(rows) // 2])
            if alike >= SAME_PERSON:
                break
        else:
            casts.append(cast := {})
        cast[f"{clip} shot {number}"] = rows
    chosen = max(casts, key=lambda cast: sum(map(len, cast.values())))
    for name in (name for cast in casts if cast is not chosen for name in cast):
        logger.warning("left out: %s shows somebody else than the rest", name)
    return chosen


def _most_neutral(footage: Footage, rows: np.ndarray) -> int:
    """A portrait must show both hands: nothing else tells how they look."""
    scores = [neutrality(footage.points[row]) for row in rows]
    whole = [np.isfinite(footage.points[row][LEFT_HAND.start :]).all() for row in rows]
    return int(rows[np.argmax(np.where(whole, scores, np.array(scores) - 10.0))])


def person_likeness(footage: Footage, first: int, second: int) -> float:
    """Common part, 0..1, of the colours of the people in two rows: with other clothes or skin it falls."""
    found = []
    for row in (first, second):
        picture = pictures.on_grey(np.array(footage.images[row]))
        found.append(pictures.joint_colours(picture, pictures.enlarged_parts(footage.parts[row]) > 0))
    return float(np.minimum(*found).sum())


class FilmedSubject(Subject):
    """One person of a clip: the source picture, and truth in the poses of other shots."""

    def __init__(self, footage: Footage, person: Filmed, random: np.random.Generator):
        """Take the person; `random` is where the trembling of held poses comes from."""
        super().__init__(random)
        self._footage, self._person = footage, person
        self.avatar = footage.avatar(person)

    def cases(self, count: int, first: int) -> Iterator[Case]:
        """`count` cases (fewer where the clip has fewer), numbered from `first`, evenly over truth."""
        names = [name for name, rows in self._person.sequences.items() for _ in rows]
        rows = self._person.rows
        for place, chosen in enumerate(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)):
            shot = self._footage.shot(rows[chosen])
            yield Case(first + place, self._person.name, self._person.name, names[chosen], shot)


def filmed(
    footage: Footage, people: Sequence[Filmed], counts: Sequence[int], seed: int
) -> Iterator[tuple[FilmedSubject, Iterator[Case]]]:
    """Let one person after the other sign, `counts` frames each."""
    first = 0
    for place, (person, count) in enumerate(zip(people, counts, strict=True)):
        stage = FilmedSubject(footage, person, np.random.default_rng([seed, place]))
        yield stage, stage.cases(count, first)
        first += count


def counts_of(people: Sequence[Filmed], frames: int) -> list[int]:
    """How many frames of each person: `frames` shared out equally, at most what each has.

    Raises:
        ConfigError: fewer frames than people.
    """
    shares = share_out(frames, len(people))
    return [min(share, len(person.rows)) for share, person in zip(shares, people, strict=True)]
