"""Do hands go the same way over time? Normalised dynamic time warping of landmarks.

As sign language production is judged: DTW over mean joint distances, in shoulder widths, with a fixed price for a hand
that one side has and the other has not (Arkushin and others 2023, "Ham2Pose", nDTW-MJE; Moryossef and others 2025,
"Meaningful Pose-Based Sign Language Evaluation").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LOST = 1.0  # shoulder widths: what a frame costs in which only one side has the hand
REACH_S = 0.5  # how far a frame may be matched away from its own time


def frame_costs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What it costs to match each frame of one row with each of another.

    Args:
        first: (A, N, 2) landmarks in shoulder widths from the middle of the shoulders; NaN: not found.
        second: (B, N, 2), the same.

    Returns:
        (A, B): mean distance of the landmarks; LOST where one side has none; 0 where neither has.
    """
    seen = [np.isfinite(each).all(axis=(1, 2)) for each in (first, second)]
    costs = np.linalg.norm(first[:, None] - second[None], axis=3).mean(2)
    costs = np.where(seen[0][:, None] & seen[1][None], costs, LOST)
    return np.where(seen[0][:, None] | seen[1][None], costs, 0.0)


def warped_distance(costs: np.ndarray, times: np.ndarray, second_times: np.ndarray) -> float:
    """Mean cost along the cheapest way through (A, B) costs that goes back in neither row.

    Args:
        costs: of matching two frames.
        times: (A,) s, rising.
        second_times: (B,) s, rising. Frames further apart than REACH_S are not matched.

    Returns:
        NaN where REACH_S leaves no way.
    """
    near = np.abs(times[:, None] - second_times[None]) <= REACH_S
    sums = np.full((len(times) + 1, len(second_times) + 1), np.inf)
    steps = np.zeros(sums.shape, int)
    sums[0, 0] = 0.0
    for row in range(1, sums.shape[0]):
        for column in np.flatnonzero(near[row - 1]) + 1:
            before = min(
                ((row - 1, column - 1), (row - 1, column), (row, column - 1)), key=lambda place: sums[place]
            )
            sums[row, column] = sums[before] + costs[row - 1, column - 1]
            steps[row, column] = steps[before] + 1
    ended = sums[-1, -1]
    return float(ended / steps[-1, -1]) if np.isfinite(ended) and steps[-1, -1] else np.nan


def hands_distance(
    first: np.ndarray, second: np.ndarray, times: np.ndarray, second_times: np.ndarray | None = None
) -> list[float]:
    """Distance over time of both hands of one stretch of signing.

    Args:
        first: (A, 2, 21, 2) left and right hand in shoulder widths from the middle of the shoulders; NaN: not found.
        second: (B, 2, 21, 2), the same.
        times: (A,) s, rising.
        second_times: (B,) s; None: the same.

    Returns:
        Shoulder widths for each hand that either side shows at all.
    """
    second_times = times if second_times is None else second_times
    found = []
    for side in (0, 1):
        pair = first[:, side], second[:, side]
        if any(np.isfinite(each).any() for each in pair):
            found.append(warped_distance(frame_costs(*pair), times, second_times))
    return [value for value in found if np.isfinite(value)]


def from_shoulders(hands: Sequence[np.ndarray], shoulders: np.ndarray) -> np.ndarray:
    """Hands (21, 2 or 3) px each, and shoulders (2, 2 or 3) px -> (n, 21, 2) shoulder widths from their middle."""
    width_px = max(float(np.linalg.norm(shoulders[0, :2] - shoulders[1, :2])), 1e-6)
    middle = shoulders[:, :2].mean(0)
    return np.stack([(np.asarray(hand)[:, :2] - middle) / width_px for hand in hands])
