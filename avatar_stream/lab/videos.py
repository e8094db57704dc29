"""Clips frame by frame."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from avatar_stream.errors import EndOfStream
from avatar_stream.sources.video_file import VideoFileSource
from avatar_stream.types import Frame


def read_frames(path: Path, most: int | None = None, every: int = 1) -> Iterator[Frame]:
    """Read a clip, with a progress bar on a terminal.

    Args:
        path: any clip that can be read.
        most: so many frames at most; None: all.
        every: pass on every so many frames only.

    Raises:
        SourceError: the clip cannot be read.
    """
    source = VideoFileSource(VideoFileSource.Options(path=path))
    with contextlib.closing(source), contextlib.suppress(EndOfStream):
        source.open()
        total = source.frame_count if most is None else min(most, source.frame_count or most)
        with tqdm(desc=path.name, unit="frame", total=total, leave=False, disable=None) as bar:
            for _ in itertools.count() if most is None else range(most):
                frame = source.read()
                bar.update()
                if frame.index % every == 0:
                    yield frame
