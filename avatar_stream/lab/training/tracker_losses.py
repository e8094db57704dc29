"""How often and for how long the tracker loses hands, and what the Retargeter shows instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avatar_stream.lab.training.tracker_clips import FPS, SETTLED_FRAMES, SUBFRAMES, TrackedClip
from avatar_stream.lab.training.tracker_noise import NEAR_PALMS, hand_axes, hand_gaps, sizes
from avatar_stream.landmarks import HANDS, WRISTS
from avatar_stream.types import CANVAS_PX, FACE

_SPEEDS = (0.0, 0.5, 1.5, 3.0, 6.0, np.inf)  # of a wrist, shoulder widths a second
_SHOWN = (0.0, 0.6, 0.9, 1.2, 1.5, np.inf)  # pixels of a hand, in squares of its palm length
_GAPS = (0.0, 0.15, 0.4, NEAR_PALMS, 1.5, np.inf)  # palm lengths between nearest points
_SEEN_TRUST = 0.99  # of the Retargeter; a hand with less is held, on its way to rest or back
_EVERY_FACE_POINT = 8
_TIPS = np.array([4, 8, 12, 16, 20])
_LAG = SUBFRAMES // 2  # sub-frames by which live hands are late, as `gather` finds it
_MOST_EXAMPLES = 96


@dataclass(frozen=True)
class HandFrames:
    """The hands that are wholly in the picture, one row a hand and frame.

    Attributes:
        speed: (N,) of the wrist, shoulder widths a second.
        shown: (N,) pixels of the hand, squares of its palm length.
        other_gap, face_gap: (N,) palm lengths from its nearest point to one of the other hand or of the face.
        lost: (N,) bool: the tracker did not see it.
        made_up: (N,) bool: the Retargeter shows another one than the tracker's.
        run: (N,) int, number of the loss that a made-up hand belongs to; -1 elsewhere.
        exact, live: (N, 21, 3) float64 from the wrist, palm lengths, axes of the exact hand.
        astray: (N,) palm lengths in the picture from the exact wrist to the live one.
    """

    speed: np.ndarray
    shown: np.ndarray
    other_gap: np.ndarray
    face_gap: np.ndarray
    lost: np.ndarray
    made_up: np.ndarray
    run: np.ndarray
    exact: np.ndarray
    live: np.ndarray
    astray: np.ndarray


def hand_frames(clips: Sequence[TrackedClip]) -> HandFrames:
    """Both hands of all clips, from when signing has begun."""
    parts = [_of_clip(clip, side) for clip in clips for side in (0, 1)]
    runs = np.cumsum([0, *(part["run"].max(initial=-1) + 1 for part in parts)])
    for part, first in zip(parts, runs[:-1], strict=True):
        part["run"][part["run"] >= 0] += first
    return HandFrames(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _of_clip(clip: TrackedClip, side: int) -> dict[str, np.ndarray]:
    frames, rows = np.arange(SETTLED_FRAMES, len(clip.tracked)), HANDS[side]
    exact = clip.middle[frames].astype(np.float64)
    width = np.linalg.norm(clip.portrait[11, :2] - clip.portrait[12, :2])
    palms = sizes(exact)[0][:, side]
    made_up = clip.trust[frames, rows.start] < _SEEN_TRUST
    begins = made_up & ~np.append(False, made_up[:-1])
    before = clip.exact[frames * SUBFRAMES - _LAG][:, rows].astype(np.float64)
    live, axes = clip.live[frames][:, rows].astype(np.float64), hand_axes(before, side)
    found = {
        "speed": np.linalg.norm(np.gradient(exact[:, WRISTS[side], :2], axis=0), axis=1) * FPS / width,
        # Foreshortened palms look shorter than they are: three dimensions say how large the hand is.
        "shown": clip.hand_pixels[frames, side] / palms**2,
        "other_gap": hand_gaps(exact) / palms,
        "face_gap": _nearest(exact[:, rows], exact[:, FACE][:, ::_EVERY_FACE_POINT]) / palms,
        "lost": ~np.isfinite(clip.tracked[frames, rows.start, 0]),
        "made_up": made_up,
        "run": np.where(made_up, np.cumsum(begins) - 1, -1),
        "exact": _own(before, axes, palms),
        "live": _own(live, axes, sizes(clip.live[frames])[0][:, side]),
        "astray": np.linalg.norm((live - before)[:, 0, :2], axis=1) / palms,
    }
    inside = ((exact[:, rows, :2] >= 0) & (exact[:, rows, :2] < CANVAS_PX)).all((1, 2))
    return {name: values[inside] for name, values in found.items()}


def _own(hands: np.ndarray, axes: np.ndarray, palms: np.ndarray) -> np.ndarray:
    return np.einsum("nka,nba->nkb", hands - hands[:, :1], axes) / palms[:, None, None]


def _nearest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a[:, :, None, :2] - b[:, None, :, :2], axis=-1).min((1, 2))


def losses(hands: HandFrames) -> dict:
    """How often and how long hands are lost, by what, and how wrong they are meanwhile; for JSON."""
    if not len(hands.lost):
        return {"hands_in_picture": 0, "lost": None, "made_up": None}
    lengths = np.bincount(hands.run[hands.made_up])
    lengths = lengths[lengths > 0]
    return {
        "hands_in_picture": len(hands.lost),
        "lost": _rounded(hands.lost.mean()),
        "made_up": _rounded(hands.made_up.mean()),
        "by_speed_shoulder_widths_a_second": _binned(hands.speed, hands, _SPEEDS),
        "by_visible_square_palms": _binned(hands.shown, hands, _SHOWN),
        "by_palms_to_other_hand": _binned(hands.other_gap, hands, _GAPS),
        "by_palms_to_face": _binned(hands.face_gap, hands, _GAPS),
        "made_up_runs": {
            "count": len(lengths),
            "frames_median_p90_most": np.percentile(lengths, [50, 90, 100]).tolist()
            if len(lengths)
            else None,
        },
        "errors_made_up": _errors(hands, hands.made_up),
        "errors_seen": _errors(hands, ~hands.made_up),
    }


def _errors(hands: HandFrames, rows: np.ndarray) -> dict | None:
    """Medians of what is left beyond the usual offset of hands that are seen."""
    if not rows.any():
        return None
    away = np.linalg.norm(hands.live[rows] - _usual_offset(hands) - hands.exact[rows], axis=-1)
    return {
        "frames": int(rows.sum()),
        "fingertips_palm_lengths": _rounded(np.median(away[:, _TIPS].mean(1))),
        "wrist_palm_lengths": _rounded(np.median(hands.astray[rows])),
    }


def _usual_offset(hands: HandFrames) -> np.ndarray:
    seen = ~hands.made_up
    return np.median((hands.live - hands.exact)[seen], axis=0) if seen.any() else np.zeros((21, 3))


def loss_table(hands: HandFrames) -> dict[str, np.ndarray]:
    """What `tracker_noise.lose_hands` reads.

    Returns:
        lost_share: (2,) share of hands that are made up: apart from the other hand, near to it.
        lost_exact, lost_live: (E, 21, 3) examples, from the wrist, palm lengths, axes of the exact hand.
    """
    near = hands.other_gap < NEAR_PALMS
    rows = np.flatnonzero(hands.made_up)
    if len(rows) > _MOST_EXAMPLES:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_EXAMPLES).round().astype(int)]
    shares = [hands.made_up[which].mean() if which.any() else 0.0 for which in (~near, near)]
    return {
        "lost_share": np.array(shares),
        "lost_exact": hands.exact[rows],
        "lost_live": hands.live[rows] - _usual_offset(hands),
    }


def _binned(values: np.ndarray, hands: HandFrames, edges: Sequence[float]) -> list[dict]:
    entries = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (values >= low) & (values < high)
        shares = {
            name: _rounded(rows[inside].mean()) if inside.any() else None
            for name, rows in (("lost", hands.lost), ("made_up", hands.made_up))
        }
        top = None if np.isinf(high) else high
        entries.append({"from": low, "to": top, "frames": int(inside.sum()), **shares})
    return entries


def _rounded(value: float) -> float:
    return round(float(value), 4)
