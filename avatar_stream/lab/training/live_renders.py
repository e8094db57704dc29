"""Rendered people made while training, in the worker process: endless data that need no disk.

A few variants (one person in one look before one camera) are kept; after every few samples the oldest one is
replaced. To `PairDataset` they look like a `PictureFolder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avatar_stream.lab.renders import people as rendered_people
from avatar_stream.people.landmarks import landmarks
from avatar_stream.people.lens import Lens, photograph
from avatar_stream.people.rig import UNKNOWN
from avatar_stream.types import CANVAS_PX, POINT_COUNT


class LiveRenders:
    """A small pool of rendered variants that renews itself.

    Attributes:
        live: True; `PairDataset` asks `choose` for a variant.
        share: how often, 0..1, where there are folders too.
        images: (N, 512, 512, 4) uint8 RGBA, straight alpha; parts: (N, 256, 256) uint8; surface:
            (N, 256, 256, 2) uint16; points: (N, 553, 3) float32, canvas px: as in a data set folder.
            Rows of a variant that is not made yet hold nobody.
        variants: rows of each place in the pool, the neutral portrait first.
        names: the person in each place; "" where none is made yet.
    """

    live = True

    def __init__(
        self,
        folder: Path,
        exclude: tuple[str, ...] = (),
        share: float = 0.5,
        frames: int = 24,
        samples: int = 24,
        places: int = 6,
    ):
        """Choose the people; nothing is rendered before the first sample.

        Args:
            folder: rigged people (.glb).
            exclude: names of people to leave out, by their beginnings.
            share: how often samples come from here where there are data set folders too.
            frames: pictures of one variant.
            samples: how many samples are taken between two replacements.
            places: variants kept at once; each picture takes 1.4 MB.

        Raises:
            ConfigError: no person is left.
        """
        self.people = rendered_people.select(folder, exclude=exclude)
        self.share, self.frames, self.samples, self.places = share, frames, samples, places
        self._clear()

    def _clear(self) -> None:
        self.images: Any = None
        self.parts: Any = None
        self.surface: Any = None
        self.points: Any = None
        self.variants = [np.arange(self.frames) + place * self.frames for place in range(self.places)]
        self.names = [""] * self.places
        self._taken = self._made = 0

    def __getstate__(self) -> dict[str, object]:
        """Workers are spawned and render for themselves; a full pool would travel whole."""
        return {name: self.__dict__[name] for name in ("people", "share", "frames", "samples", "places")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start with an empty pool in the new process."""
        self.__dict__.update(state)
        self._clear()

    def choose(self, rng: np.random.Generator) -> np.ndarray:
        """Rows of one variant for the next sample; renders where the pool has room or has grown old.

        Args:
            rng: random numbers; they fix people, looks, cameras and motion too.

        Raises:
            RenderError: OpenGL or a person cannot be used.
        """
        if self._made < self.places or self._taken >= self.samples:
            self._render(self._made % self.places, rng)
            self._made, self._taken = self._made + 1, 0
        self._taken += 1
        return self.variants[rng.integers(min(self._made, self.places))]

    def _render(self, place: int, rng: np.random.Generator) -> None:
        if self.images is None:
            count = self.places * self.frames
            self.images = np.zeros((count, CANVAS_PX, CANVAS_PX, 4), np.uint8)
            self.parts = np.zeros((count, CANVAS_PX // 2, CANVAS_PX // 2), np.uint8)
            self.surface = np.full((*self.parts.shape, 2), UNKNOWN, np.uint16)
            self.points = np.zeros((count, POINT_COUNT, 3), np.float32)
        path = self.people[rng.integers(len(self.people))]
        renderer, rig, face = rendered_people.Studio.enter(path)
        rig, look, camera = rendered_people.random_variant(rig, face, rng)
        motion = rendered_people.motion_of(rig, self.frames, rng, [])
        for row, pose in zip(self.variants[place], motion, strict=True):
            drawn = renderer.draw(rig, pose, camera, look)
            self.images[row], self.parts[row] = photograph(drawn.image, look.lens or Lens(), rng), drawn.parts
            self.surface[row] = drawn.surface
            self.points[row] = landmarks(rig, face, pose, camera).points
        self.names[place] = path.stem
