"""From values of single frames to means, intervals and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 1000
Row = Mapping[str, float | Sequence[float]]


@dataclass(frozen=True)
class Target:
    """What the project promises, and whether it is kept.

    Attributes:
        name: of the figure.
        value: measured; None where it could not be.
        limit: the promised value.
        at_least: True: the value must not be less; False: not more.
    """

    name: str
    value: float | None
    limit: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        """None where there is no value."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def as_json(self) -> dict[str, float | bool | str | None]:
        """What goes into the file."""
        sign = ">=" if self.at_least else "<="
        return {"value": self.value, "target": f"{sign} {self.limit:g}", "met": self.met}


@dataclass(frozen=True)
class Summary:
    """Means over frames.

    Attributes:
        means: a number for each key, None where no frame has a value.
        intervals: [low, high] of 95% by bootstrap over sequences, None likewise.
        counts: how many values each mean has.
    """

    means: dict[str, float | None]
    intervals: dict[str, list[float] | None]
    counts: dict[str, int]


def summarize(
    rows: Sequence[Row], keys: Sequence[str], seed: int, sequences: Sequence[str] | None = None
) -> Summary:
    """Average rows of single frames.

    Args:
        rows: a frame's values by key: a number, or a list of them (two hands); NaN and missing keys do not count.
        keys: which, in the order of the result.
        seed: of the bootstrap.
        sequences: which sequence each row is of. Frames of one are alike, so the bootstrap draws whole sequences;
            None: every row is one.
    """
    homes = np.arange(len(rows)) if sequences is None else np.unique(sequences, return_inverse=True)[1]
    count = homes.max(initial=-1) + 1
    draws = np.random.default_rng(seed).integers(max(count, 1), size=(_RESAMPLES, count))
    means: dict[str, float | None] = {}
    intervals: dict[str, list[float] | None] = {}
    counts: dict[str, int] = {}
    for key in keys:
        values = [np.atleast_1d(np.asarray(row.get(key, ()), np.float64)) for row in rows]
        values = [each[np.isfinite(each)] for each in values]
        sums, numbers = (
            np.bincount(homes, [float(fold(each)) for each in values], count) for fold in (np.sum, len)
        )
        counts[key] = round(numbers.sum())
        if not counts[key]:
            means[key] = intervals[key] = None
            continue
        means[key] = float(sums.sum() / numbers.sum())
        drawn = numbers[draws].sum(1)
        resampled = sums[draws].sum(1)[drawn > 0] / drawn[drawn > 0]
        intervals[key] = [float(edge) for edge in np.percentile(resampled, [2.5, 97.5])]
    return Summary(means, intervals, counts)


def ratio(value: float | None, reference: float | None) -> float | None:
    """Value in parts of the reference; None where one is missing or the reference is nothing."""
    if value is None or not reference:
        return None
    return value / reference
