"""Pairs of one person in two poses, from folders of prepared pictures (see docs/method.md).

Every sample is one source and several targets. Poses pass through the same `draw_views` as when running, after the
kind of noise that a tracker adds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from avatar_stream import types
from avatar_stream.errors import ConfigError
from avatar_stream.lab.training.correspondence import Chart, true_views
from avatar_stream.lab.training.tracker_noise import lose_hands, tracker_noise
from avatar_stream.modeling.drawing import conditioning, source_image
from avatar_stream.modeling.drawing.conditioning import SourceImages, Views
from avatar_stream.modeling.drawing.looks import LookChooser, describe
from avatar_stream.people import parts as part_codes

HAND_PARTS, HEAD_PARTS = (part_codes.LEFT_HAND, part_codes.RIGHT_HAND), (part_codes.HAIR, part_codes.FACE)
OUTSIDE = 255  # in part maps of windows that reach over the frame's edge: there is no truth there


@dataclass(frozen=True)
class TargetViews:
    """One target pose with its truth.

    Attributes:
        views: what the network sees.
        body_flow, window_flow: (1, body_px, body_px, 2) and (3, 128, 128, 2) float32, canvas px of the source that
            truth shows there; NaN where it is not known.
        body, windows: truth, (1, body_px, body_px, 4) and (3, 128, 128, 4) uint8 premultiplied RGBA.
        body_parts, window_parts: truth's part map in the same views, uint8; OUTSIDE beyond the frame.
    """

    views: Views
    body: np.ndarray
    windows: np.ndarray
    body_parts: np.ndarray
    window_parts: np.ndarray
    body_flow: np.ndarray
    window_flow: np.ndarray


class PictureFolder:
    """A memory-mapped data set folder.

    Args:
        path: folder written by `avatar-stream render-people` or `prepare-videos`.
        exclude: names of people to leave out.

    Raises:
        ConfigError: the folder is not a data set.
    """

    live = False

    def __init__(self, path: Path, exclude: tuple[str, ...] = ()):
        self.path = path
        try:
            self.meta = json.loads((path / "meta.json").read_text())
            self._open()
            person = np.load(path / "person.npy")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is not a data set folder: {error}") from error
        variants = self.meta.get("variants")
        names = [variant["person"] for variant in variants] if variants else self.meta["people"]
        rows = {v: np.where(person == v)[0] for v in np.unique(person) if not names[v].startswith(exclude)}
        self.variants = [own for own in rows.values() if len(own) > 1]

    def _open(self) -> None:
        self.images, self.parts, self.points = (
            np.load(self.path / name, mmap_mode="r") for name in ("images.npy", "parts.npy", "points.npy")
        )
        surface = self.path / "surface.npy"  # only rendered people have it
        self.surface = np.load(surface, mmap_mode="r") if surface.exists() else None

    def __getstate__(self) -> dict[str, object]:
        """Workers are spawned and map the files themselves; pickled, a map would travel whole."""
        return {"path": self.path, "meta": self.meta, "variants": self.variants}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Map the files again in the new process."""
        self.__dict__.update(state)
        self._open()


DataFolder: TypeAlias = Any  # a PictureFolder, or LiveRenders: both have images, parts, points, surface
DataFolders: TypeAlias = Sequence[DataFolder]


def disturb(points: np.ndarray, rng: np.random.Generator, picture_share: float) -> np.ndarray:
    """Disturb exact landmarks as a tracker does, but only so far as a network can see through.

    Depth and bends are disturbed as measured. In the picture's plane only a share remains: truth is rendered at the
    exact place, nothing in the pose tells how far off it is, and a network asked for the impossible learns to blur.

    Args:
        points: (553, 3) float32, canvas px.
        rng: random numbers.
        picture_share: 0..1, how much of the error within the picture is kept.
    """
    noisy = tracker_noise(points, rng)
    noisy[:, :2] = points[:, :2] + picture_share * (noisy - points)[:, :2]
    return noisy


def open_data(
    folders: Sequence[Path], people: Path | None, people_share: float, exclude: tuple[str, ...] = ()
) -> list[DataFolder]:
    """Open what a run trains on.

    Args:
        folders: data set folders.
        people: rigged people (.glb) to render while training, or None.
        people_share: how often samples come from them where there are folders too.
        exclude: names of people to leave out of both.

    Raises:
        ConfigError: a folder is no data set, or no person is left.
    """
    opened: list[DataFolder] = [PictureFolder(path, exclude) for path in folders]
    if people is not None:
        from avatar_stream.lab.training.live_renders import LiveRenders

        opened.append(LiveRenders(people, exclude, people_share))
    return opened


class PairDataset(IterableDataset):
    """Endless random samples: (SourceImages, [Target, ...]).

    Args:
        folders: the data; at most one of them renders live, as often as its `share` says.
        targets: target poses per source.
        bodies: how many of them, the first, have the body's view too.
        portrait_share: how often the source is the variant's first frame, a neutral portrait.
        window_shift_px: standard deviation of the windows' random displacement.
        picture_share: see `disturb`.
        lost_hands: how often targets' hands are lost, see `tracker_noise.lose_hands`.
        looks: among how many further pictures the nearest face and hands are found. looks_share: how often
            there are any; one portrait alone has to do as well.
        body_px: side of the body's view.
        seed: with the worker's number it fixes the samples.
    """

    def __init__(
        self,
        folders: DataFolders,
        targets: int = 3,
        bodies: int = 1,
        portrait_share: float = 0.6,
        window_shift_px: float = 4.0,
        picture_share: float = 0.4,
        lost_hands: float = 0.0,
        looks: int = 0,
        looks_share: float = 0.5,
        body_px: int = conditioning.BODY_PX,
        seed: int = 0,
    ):
        self.rows = [(folder, rows) for folder in folders if not folder.live for rows in folder.variants]
        self.renders = next((folder for folder in folders if folder.live), None)
        if not self.rows and self.renders is None:
            raise ConfigError("the data set holds no person with two pictures")
        self.targets, self.bodies = targets, bodies
        self.portrait_share, self.window_shift_px = portrait_share, window_shift_px
        self.picture_share, self.lost_hands, self.body_px = picture_share, lost_hands, body_px
        self.looks, self.looks_share = looks, looks_share
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[SourceImages, list[TargetViews]]]:
        """Yield samples for ever; each worker its own."""
        cv2.setNumThreads(1)  # the training step needs the cores
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield self.sample(rng)

    def sample(self, rng: np.random.Generator) -> tuple[SourceImages, list[TargetViews]]:
        """One source and its targets."""
        folder, rows = self._variant(rng)
        source_row = rows[0] if rng.random() < self.portrait_share else rng.choice(rows)
        targets = rng.choice(rows[1:], self.targets)
        shown = [source_row, *self._look_rows(folder, rows, source_row, targets, rng)]
        pictures = [
            (np.asarray(folder.images[row]), disturb(folder.points[row], rng, self.picture_share))
            for row in shown
        ]
        source = conditioning.prepare_source(*pictures[0], self._shift(rng), self.body_px, pictures[1:])
        charts = [Chart(None if folder.surface is None else np.asarray(folder.surface[row])) for row in shown]
        return source, [
            self._target(folder, source, charts, row, rng, with_body=number < self.bodies)
            for number, row in enumerate(targets)
        ]

    def _look_rows(
        self,
        folder: DataFolder,
        rows: np.ndarray,
        source_row: int,
        targets: np.ndarray,
        rng: np.random.Generator,
    ) -> list[int]:
        """Rows of further pictures of which a target reads its face or a hand; all others need no preparing."""
        others = np.setdiff1d(rows[1:], [source_row, *targets])
        if not self.looks or not len(others) or rng.random() >= self.looks_share:
            return []
        others = rng.choice(others, min(self.looks, len(others)), replace=False)
        shown = [describe(folder.points[row]) for row in (source_row, *others)]
        chosen = {look for row in targets for look in LookChooser(shown).choose(folder.points[row])}
        return [int(others[look - 1]) for look in sorted(chosen) if look]

    def _variant(self, rng: np.random.Generator) -> tuple[DataFolder, np.ndarray]:
        if self.renders is not None and (not self.rows or rng.random() < self.renders.share):
            return self.renders, self.renders.choose(rng)
        return self.rows[rng.integers(len(self.rows))]

    def _shift(self, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(0.0, self.window_shift_px, (conditioning.WINDOWS, 2))

    def _target(
        self,
        folder: DataFolder,
        source: SourceImages,
        charts: Sequence[Chart],
        row: int,
        rng: np.random.Generator,
        with_body: bool,
    ) -> TargetViews:
        points = disturb(folder.points[row], rng, self.picture_share)
        points = lose_hands(points, rng, self.lost_hands)
        chosen = LookChooser([*source.shown]).choose(points)
        views = conditioning.draw_views(source, points, self._shift(rng), with_body, chosen)
        image = source_image.premultiply(np.asarray(folder.images[row]))
        body, windows = conditioning.cut_views(image, views.corners, self.body_px)
        parts = np.asarray(folder.parts[row])
        whole = cv2.resize(parts, (types.CANVAS_PX, types.CANVAS_PX), interpolation=cv2.INTER_NEAREST)
        # Parts count from 1 while they are cut, so that what is outside the frame comes out as OUTSIDE.
        window_parts = conditioning.cut_views(whole + 1, views.corners)[1] - np.uint8(1)
        body_parts = cv2.resize(whole, (self.body_px, self.body_px), interpolation=cv2.INTER_NEAREST)
        surface = None if folder.surface is None else np.asarray(folder.surface[row])
        flows = true_views(charts, surface, views, self.body_px)
        return TargetViews(views, body[None], windows, body_parts[None], window_parts, *flows)
