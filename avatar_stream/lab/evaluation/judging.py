"""One made picture against truth: pictures, what MediaPipe finds again, expressions, letters, hands over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avatar_stream.lab.evaluation import pictures, warping
from avatar_stream.lab.evaluation.clips import mesh_numbers
from avatar_stream.lab.evaluation.detector import (
    FACE_PART,
    HAND,
    PARTS,
    ExpectedPart,
    PartDetection,
    PartDetector,
    wanted_parts,
)
from avatar_stream.lab.evaluation.reading import SURE, Reader
from avatar_stream.lab.evaluation.truth import Case, TruthFrame
from avatar_stream.landmarks import HANDS, SHOULDERS

_FEWEST_OF_WAY = 8  # frames of a sequence: fewer are no way that hands go


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
    values: dict[str, Any]
    wanted: list[ExpectedPart]
    found_made: list[PartDetection]
    found_truth: list[PartDetection]
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


class Judge:
    """Compares made pictures with truth."""

    def __init__(self, detector: PartDetector, lpips: pictures.Lpips):
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
        found, true = ([self._detector.find(image, part) for part in wanted] for image in seen)
        values |= detection_values(wanted, found, true) | self._expression_values(wanted, *seen)
        return Judged(case, source, made, values, wanted, found, true)

    def read_letter(self, name: str, side: int, shot: TruthFrame, made: np.ndarray) -> dict[str, list[float]]:
        """Can a spelled letter still be read?

        Args:
            name: of its handshape.
            side: of the hand that spells: 0 left, 1 right.
            shot: truth.
            made: (512, 512, 4) uint8 RGBA, straight alpha.

        Returns:
            `letters_read` and `letters_read_truth` (0 or 1), `letters_read_of_truth` where truth's is read; empty
            lists where truth does not show the hand.
        """
        wanted = [part for part in wanted_parts(shot.exact.points, shot.parts) if part.side == side]
        if not wanted:
            return {}
        read = []
        for image in (made, shot.image):
            found = self._detector.find(np.round(pictures.on_grey(image)).astype(np.uint8), wanted[0])
            read.append(float(Reader.load().read(found.points, side)[0] == name))
        of_truth = [read[0]] if read[1] else []
        return {"letters_read": [read[0]], "letters_read_truth": [read[1]], "letters_read_of_truth": of_truth}

    def _expression_values(
        self, wanted: Sequence[ExpectedPart], made: np.ndarray, truth: np.ndarray
    ) -> dict[str, float]:
        """How far what the made face does differs from what truth's face does, as the same network sees both."""
        face = next((part for part in wanted if part.kind == FACE_PART), None)
        if face is None:
            return {}
        meshes = [self._detector.find_expression(image, face) for image in (made, truth)]
        numbers = [mesh_numbers(mesh) for mesh in meshes if mesh is not None]
        if len(numbers) < 2:
            return {}
        first, second = numbers
        mouth, brow, lid, *gaze = np.abs(first - second)[:5]
        names = ("mouth_error", "brow_error", "lid_error", "gaze_error")
        return dict(zip(names, (mouth, brow, lid, float(np.hypot(*gaze))), strict=True))


def shape_values(judged: Judged) -> dict[str, list[float]]:
    """For each hand of a filmed person whose shape the reader names in truth: 1 if it names the same in the made."""
    same = []
    for part, made, truth in zip(judged.wanted, judged.found_made, judged.found_truth, strict=True):
        if part.kind == HAND and truth.points is not None:
            name, probability = Reader.load().read(truth.points, part.side)
            if probability >= SURE:
                same.append(float(Reader.load().read(made.points, part.side)[0] == name))
    return {"letters_read_of_truth": same}


def detection_values(
    wanted: Sequence[ExpectedPart], made: Sequence[PartDetection], truth: Sequence[PartDetection]
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
class HandsAt:
    """Where hands are in one frame, in shoulder widths from the middle of the shoulders; NaN: not shown, not found.

    Attributes:
        time_s: of the frame.
        driving: (2, 21, 2) left and right, as the pose has it.
        made, truth: (2, 21, 2) as MediaPipe finds it in the pictures.
    """

    time_s: float
    driving: np.ndarray
    made: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, judged: Judged) -> HandsAt:
        """Of one judged case; a hand that truth does not show counts nowhere."""
        exact = judged.case.shot.exact
        rows = np.full((3, 2, 21, 2), np.nan)
        for part, made, truth in zip(judged.wanted, judged.found_made, judged.found_truth, strict=True):
            if part.kind == HAND:
                rows[0, part.side] = exact.points[HANDS[part.side], :2]
                for row, found in ((1, made), (2, truth)):
                    if found.places is not None:
                        rows[row, part.side] = found.places
        shoulders = exact.points[SHOULDERS]
        return cls(exact.time_s, *(warping.from_shoulders(each, shoulders) for each in rows))


def hand_ways(ways: dict[str, list[HandsAt]]) -> list[dict]:
    """A row for each sequence that is long enough: `ndtwp` and `ndtwp_truth`, lists over hands (docs/evaluation.md)."""
    rows = []
    for sequence, frames in ways.items():
        if len(frames) < _FEWEST_OF_WAY:
            continue
        times = np.array([frame.time_s for frame in frames])
        driving, made, truth = (
            np.stack([getattr(frame, name) for frame in frames]) for name in ("driving", "made", "truth")
        )
        distances = (warping.hands_distance(driving, seen, times) for seen in (made, truth))
        rows.append({"sequence": sequence} | dict(zip(("ndtwp", "ndtwp_truth"), distances, strict=True)))
    return rows
