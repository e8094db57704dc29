"""Is an avatar's clip as sharp as the portrait that it was made from?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.lab.evaluation.clips import TrackedFrame, face_is_free
from avatar_stream.lab.evaluation.pictures import at_canvas, detail, on_grey, sharpness_of
from avatar_stream.lab.training import matting
from avatar_stream.lab.training.video_frame import SigningFrame
from avatar_stream.lab.videos import read_frames
from avatar_stream.modeling.drawing import geometry
from avatar_stream.types import CANVAS_PX, Avatar

_FRAMES = 24
_COMPARED = (geometry.TORSO, geometry.SKIN)  # hands move, and a portrait shows them otherwise


def portrait_sharpness(clip: Path, frames: Sequence[TrackedFrame], avatar: Avatar) -> float | None:
    """Fine detail of trunk and face in parts of the portrait's, both in the canonical signing frame.

    Args:
        clip: the avatar's.
        frames: the clip, tracked.
        avatar: with the portrait.

    Returns:
        Median over frames spread over the clip; below 1 also where the clip shows the person smaller than 512 px, or
        is compressed much. None where no frame has a face and nothing before it.
    """
    usable = {
        number: frame.pose for number, frame in enumerate(frames) if frame.pose and face_is_free(frame.pose)
    }
    if not usable:
        return None
    place = SigningFrame.of(list(usable.values()))
    numbers = list(usable)
    chosen = {numbers[k] for k in np.linspace(0, len(usable) - 1, _FRAMES).astype(int)}
    portrait = at_canvas(avatar.image)
    wanted = _mean_detail(on_grey(portrait), _mask(avatar.pose.points))
    found = []
    for number, frame in enumerate(read_frames(clip)):
        if number in chosen:
            points = place.place(usable[number].points)
            found.append(_mean_detail(place.cut(frame.image)[0].astype(np.float32), _mask(points)) / wanted)
    found = [value for value in found if np.isfinite(value)]
    return float(np.median(found)) if found else None


def _mean_detail(image: np.ndarray, mask: np.ndarray) -> float:
    return sharpness_of(detail(image), np.ones(mask.shape, np.float32), mask)


def _mask(points: np.ndarray) -> np.ndarray:
    groups = matting.draw_groups(points)
    drawn = np.isin(groups, _COMPARED).astype(np.uint8)
    return cv2.resize(drawn, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_NEAREST) > 0
