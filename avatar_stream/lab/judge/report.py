"""The page of a judged clip: figures, curves of both, frames in which they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.images.compose import draw_pose
from avatar_stream.lab.evaluation.clips import FACE_NUMBERS, TrackedFrame, arm_angles, hands_seen
from avatar_stream.lab.evaluation.page import Page, PlotLine, line_plot, number
from avatar_stream.lab.judge.compare import compare_poses, face_curves

_SHOWN = 12
_TILE_PX = 300
_LOST_DEG = 45.0  # what a hand that is no longer found counts beside an arm's difference
_TITLES = {
    "mouth_open": "Mouth open",
    "brow_raise": "Brows, height",
    "lids": "Lids, gap",
    "gaze_left": "Eyes to the left",
    "gaze_up": "Eyes up",
    "head_yaw": "Head to the left, degrees",
    "head_pitch": "Head up, degrees",
    "head_roll": "Head tilt, degrees",
}


def write_report(folder: Path, figures: dict, pairs: Sequence[tuple[TrackedFrame, TrackedFrame]]) -> Path:
    """Write the page.

    Args:
        folder: made where it is missing.
        figures: as `judge.judge_pairs` gives them, with the names of both clips.
        pairs: frames of both clips, with their pictures.

    Returns:
        The path of its `index.html`.

    Raises:
        SinkError: the folder cannot be written.
    """
    page = Page(folder, f"{figures['avatar']} against {figures['driver']}")
    page.note(f"{figures['frames']} frames at the same times. What each figure means: docs/evaluation.md.")
    page.targets(figures["targets"])
    page.heading("Over time", "The driver's and the avatar's values as the tracker sees them.")
    page.plots(_curves(pairs))
    _frames(page, pairs)
    page.heading("All figures")
    rows = [(key, value) for key, value in figures.items() if not isinstance(value, dict | list)]
    page.table(("key", "value"), rows)
    return page.write()


def _curves(pairs: Sequence[tuple[TrackedFrame, TrackedFrame]]) -> list[str]:
    times = [frame.time_s for frame, _ in pairs]
    both = face_curves(pairs)
    drawn = []
    for place, name in enumerate(FACE_NUMBERS):
        lines = [
            PlotLine(who, times, curve[:, place], dots=False)
            for who, curve in zip(("driver", "avatar"), both, strict=True)
        ]
        drawn.append(line_plot(_TITLES[name], "seconds", lines))
    angles = [np.stack([arm_angles(pair[side].pose) for pair in pairs]) for side in (0, 1)]
    for side, side_name in enumerate(("Left", "Right")):
        lines = [
            PlotLine(who, times, _unbroken(each[:, side, 1]), dots=False)
            for who, each in zip(("driver", "avatar"), angles, strict=True)
        ]
        drawn.append(line_plot(f"{side_name} forearm, degrees", "seconds", lines))
    return drawn


def _unbroken(angles_deg: np.ndarray) -> np.ndarray:
    """Directions (F,) with a gap where they pass from 180 to -180 degrees: no line belongs there."""
    jumps = np.flatnonzero(np.abs(np.diff(angles_deg)) > 180)
    shown = angles_deg.copy()
    shown[jumps] = np.nan
    return shown


def _frames(page: Page, pairs: Sequence[tuple[TrackedFrame, TrackedFrame]]) -> None:
    page.heading(
        f"The {min(_SHOWN, len(pairs))} frames that differ most",
        "Driver left, avatar right, with what the tracker finds. A lost hand counts as 45 degrees of an arm.",
    )
    shown = sorted([(*_difference(*pair), pair) for pair in pairs], key=lambda entry: -entry[0])[:_SHOWN]
    page.cards([(np.concatenate([_tile(frame) for frame in pair], axis=1), text) for _, text, pair in shown])


def _difference(driver: TrackedFrame, avatar: TrackedFrame) -> tuple[float, str]:
    """How much two frames differ, degrees of an arm, and their caption."""
    values = compare_poses(driver.pose, avatar.pose)
    apart = [value for value in values["arm_angle_deg"] if np.isfinite(value)]
    mean = float(np.mean(apart)) if apart else 0.0
    hands = f"hands {int(hands_seen(driver.pose).sum())} and {int(hands_seen(avatar.pose).sum())}"
    arms = f"arms {number(mean)}° apart" if apart else "no arms"
    lost = values["hands_found"].count(0.0)
    return _LOST_DEG * lost + mean, f"{driver.time_s:.2f} s: {hands}, {arms}"


def _tile(frame: TrackedFrame) -> np.ndarray:
    image = draw_pose(np.asarray(frame.thumbnail), frame.pose)
    height_px, width_px = image.shape[:2]
    scale = _TILE_PX / max(height_px, width_px)
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    tile = np.full((_TILE_PX, _TILE_PX, 3), 24, np.uint8)
    top, left = (_TILE_PX - size[1]) // 2, (_TILE_PX - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return tile
