"""Measure what composing and encoding a frame costs at each size of the avatar's picture, on one thread.

.venv/bin/python scripts/measure_sizes.py --frames 60

The pictures are the rigged person of a bundled avatar, drawn at each size and moved by the bundled clip. Prints
processor time, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.broadcast.outgoing.encoder import TICKS_PER_S, Encoder, as_yuv
from avatar_stream.broadcast.outgoing.overlay import OverlayPacker
from avatar_stream.broadcast.settings import EncodingOptions
from avatar_stream.images.compose import LABEL, Composer
from avatar_stream.running.config import check_pipeline
from avatar_stream.running.pipeline import build_pipeline
from avatar_stream.sinks.video_file import VideoFileSink
from avatar_stream.types import PICTURE_SIDES_PX, Frame

FPS, ROUNDS = 25, 5
CLIP = Path(__file__).parents[1] / "assets" / "clips" / "signer.mp4"


def main() -> None:
    """Make the pictures and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--avatar", default="mei", help="one with a rigged person (default: mei)")
    parser.add_argument("--frames", type=int, default=60, help="of the bundled clip (default: 60)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print(
        "| side, px | compose, ms | page, ms | overlay, ms | recording, ms | page, kbit/s | overlay, kbit/s |"
    )
    print("|---|---|---|---|---|---|---|")
    for side_px in PICTURE_SIDES_PX:
        persons = make_persons(arguments.avatar, side_px, arguments.frames)
        print(f"| {side_px} | {' | '.join(f'{value:.1f}' for value in measure(persons))} |", flush=True)


def make_persons(avatar: str, side_px: int, count: int) -> list[np.ndarray]:
    """Return (side_px, side_px, 4) uint8 RGBA pictures of the person who signs as the clip does."""
    given = {
        "avatar": avatar,
        "source": {"type": "video_file", "path": str(CLIP)},
        "synthesizer": {"type": "rig", "size_px": side_px},
    }
    pipeline = build_pipeline(check_pipeline(given, "measure_sizes", outputs_needed=False))
    stages = pipeline.source, pipeline.tracker, pipeline.cast.synthesizer
    for stage in stages:
        stage.open()
    try:
        return [pipeline.render(pipeline.analyze(pipeline.source.read())).shown.person for _ in range(count)]
    finally:
        for stage in stages:
            stage.close()


def measure(persons: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Return the columns of the table for (N) pictures of one size."""
    composer, packer = Composer(Composer.Options(size=persons[0].shape[0], label=LABEL)), OverlayPacker(LABEL)
    blank = Frame(np.zeros((2, 2, 3), np.uint8), 0.0, 0)
    frames = [
        Frame(composer.compose(blank, person).image, index / FPS, index)
        for index, person in enumerate(persons)
    ]
    compose_ms = median_ms(lambda index: composer.compose(blank, persons[index]), len(persons))
    page, overlay = Encoding(), Encoding()
    page_ms = median_ms(lambda index: page.encode(frames[index].image), len(frames))
    overlay_ms = median_ms(lambda index: overlay.encode(packer.pack(persons[index])), len(persons))
    with tempfile.TemporaryDirectory() as folder:
        sink = VideoFileSink(VideoFileSink.Options(path=Path(folder) / "o.mp4"))
        sink.open()
        record_ms = median_ms(lambda index: sink.write(frames[index]), len(frames))
        sink.close()
    return compose_ms, page_ms, overlay_ms, record_ms, page.kbps, overlay.kbps


class Encoding:
    """H.264 as for viewers, on this thread."""

    def __init__(self) -> None:
        self._encoder, self._bits, self._count = Encoder("h264", EncodingOptions()), 0, 0

    def encode(self, image: np.ndarray) -> None:
        """Encode (H, W, 3) uint8 RGB."""
        pts = self._count * TICKS_PER_S // FPS
        self._bits += sum(8 * len(each.data) for each in self._encoder.encode(as_yuv(image), pts))
        self._count += 1

    @property
    def kbps(self) -> float:
        """Of all pictures so far, kbit/s."""
        return self._bits * FPS / self._count / 1000


def median_ms(work: Callable[[int], object], count: int) -> float:
    """Return the median processor time of `work(0)` to `work(count - 1)`, ms; of several rounds the quickest.

    Other work on the machine takes caches away, and so processor time too.
    """
    rounds_s = []
    for _ in range(ROUNDS):
        times_s = []
        for index in range(count):
            begun_s = time.process_time()
            work(index)
            times_s.append(time.process_time() - begun_s)
        rounds_s.append(np.median(times_s))
    return 1000 * float(min(rounds_s))


if __name__ == "__main__":
    main()
