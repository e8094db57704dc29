"""Measure the ranges of what goes into the hand network's layers, for its eight-bit convolutions.

.venv/bin/python scripts/measure_tracker.py --people PEOPLE

Crops come from the bundled clip and from rendered people who sign before a webcam: nobody's likeness is needed for it.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import openvino

from avatar_stream.errors import EndOfStream
from avatar_stream.lab.renders.people import select
from avatar_stream.lab.training.tracker_clips import FPS, film_clip
from avatar_stream.sources.video_file import VideoFileSource
from avatar_stream.trackers import _eight_bits
from avatar_stream.trackers._networks import Network, Networks
from avatar_stream.trackers.holistic_fast import HolisticFastTracker
from avatar_stream.types import Frame

CLIP = Path(__file__).parents[1] / "assets" / "clips" / "signer.mp4"
EXTREMES = (0.02, 99.98)  # percent of a layer's inputs: single odd values would coarsen all others


def main() -> None:
    """Collect crops, run the exact network on them, write the ranges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=Path, required=True, help="folder of rigged people")
    parser.add_argument("--clips", type=int, default=6, help="rendered, of 2 s (default: 6)")
    parser.add_argument("--crops", type=int, default=250, help="measured on (default: 250)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=_eight_bits.RANGES)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    crops = list(look_at(bundled_frames()))
    people = select(arguments.people)
    for number in range(arguments.clips):
        person = people[random.integers(len(people))]
        filmed = film_clip(person, 2 * FPS, np.random.default_rng([arguments.seed, number]))
        crops += look_at(Frame(each, row / FPS, row) for row, each in enumerate(filmed.pictures))
    chosen = random.permutation(len(crops))[: arguments.crops]
    ranges = measure([crops[row] for row in chosen])
    _eight_bits.save_ranges(arguments.output, ranges)
    print(f"{arguments.output}: {len(ranges)} layers, {len(chosen)} of {len(crops)} crops")


def bundled_frames() -> Iterator[Frame]:
    """Every second frame of the bundled clip."""
    source = VideoFileSource(VideoFileSource.Options(path=CLIP))
    source.open()
    with contextlib.closing(source), contextlib.suppress(EndOfStream):
        while True:
            yield source.read()
            source.read()


def look_at(frames: Iterable[Frame]) -> list[np.ndarray]:
    """(224, 224, 3) uint8 crops that a tracker shows the hand's network."""
    tracker, crops = HolisticFastTracker(), []
    tracker.open()
    networks = tracker._hands._networks

    def noting(network: Network) -> Callable:
        def note(*seen: np.ndarray) -> list[np.ndarray]:
            crops.extend(crop.copy() for crop in seen)
            return network(*seen)

        return note

    networks.hand, networks.both_hands = noting(networks.hand), noting(networks.both_hands)
    with contextlib.closing(tracker):
        for frame in frames:
            tracker.track(frame)
    return crops


def measure(crops: list[np.ndarray]) -> dict[str, tuple[float, float]]:
    """Each layer's range: the mean over crops of what nearly all of its inputs lie between."""
    networks = Networks(reduced=(), eight_bits=False)
    model = networks.exact_hand()
    layers = _eight_bits.pointwise_layers(networks.core, model)
    inputs = openvino.Model([node.input_value(0) for _, node, _ in layers], model.get_parameters(), "inputs")
    watched = Network(networks.core.compile_model(inputs, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))
    seen = np.array([[np.percentile(each, EXTREMES) for each in watched(crop)] for crop in crops])
    return {
        name: (min(float(low), 0.0), float(high))
        for (name, _, _), (low, high) in zip(layers, seen.mean(axis=0), strict=True)
    }


if __name__ == "__main__":
    main()
