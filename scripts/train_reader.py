"""Train the reader of fingerspelled letters that `evaluate` and `judge` ask.

.venv/bin/python scripts/train_reader.py --rounds 4 --seed 0

The six bundled people spell every letter `--rounds` times; MediaPipe finds their hands in the rendered pictures. Two
people are kept out of a first training to tell how well strangers are read; the weights that are kept saw all six.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avatar_stream.lab.evaluation.detector import PartDetector, wanted_parts
from avatar_stream.lab.evaluation.pictures import on_grey
from avatar_stream.lab.evaluation.reading import SHAPES, WEIGHTS, features, fit
from avatar_stream.lab.evaluation.truth import RenderedSubject, find_people
from avatar_stream.people.renderer import Renderer
from avatar_stream.running.avatars import list_avatars

KEPT_OUT = 2  # people


def main() -> None:
    """Render, find, train, tell, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="of all letters by each person (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    arguments = parser.parse_args()
    rows, labels, people = collect(arguments.rounds, arguments.seed, arguments.workers)
    strangers = people >= people.max() + 1 - KEPT_OUT
    trial = fit(rows[~strangers], labels[~strangers], SHAPES)
    read = trial.probabilities(rows[strangers]).argmax(axis=1) == labels[strangers]
    print(f"{len(rows)} hands; of strangers' letters {read.mean():.3f} are read")
    reader = fit(rows, labels, SHAPES)
    np.savez_compressed(
        arguments.output,
        names=np.array(reader.names),
        middle=reader.middle.astype(np.float32),
        spread=reader.spread.astype(np.float32),
        weights=reader.weights.astype(np.float32),
    )


def collect(rounds: int, seed: int, workers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, F), shapes (N,) and people (N,) of the hands that MediaPipe finds."""
    names = list_avatars()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        work = [(number, name, rounds, seed) for number, name in enumerate(names)]
        found = list(tqdm(pool.imap(collect_person, work), total=len(work), unit="person"))
    people = np.repeat(np.arange(len(found)), [len(labels) for _, labels in found])
    return np.concatenate([rows for rows, _ in found]), np.concatenate([each for _, each in found]), people


def collect_person(work: tuple[int, str, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, F) and shapes (n,) of one person: number, name, rounds, seed."""
    number, name, rounds, seed = work
    rows, labels = [], []
    with Renderer() as renderer, PartDetector() as detector:
        (person,) = find_people(None, [name], avatars=True)
        stage = RenderedSubject(person, renderer, np.random.default_rng([seed, number]), noise=False)
        for letter, side, shot in (spelled for _ in range(rounds) for spelled in stage.letters()):
            picture = np.round(on_grey(shot.image)).astype(np.uint8)
            for part in wanted_parts(shot.exact.points, shot.parts):
                found = detector.find(picture, part) if part.side == side else None
                if found is not None and found.points is not None:
                    rows.append(features(found.points, side))
                    labels.append(SHAPES.index(letter))
    return np.stack(rows), np.array(labels)


if __name__ == "__main__":
    main()
