"""`Signer`: the one maker of a frame, for live, library, evaluation and benchmarks. Draw, network, paste."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatar_stream.errors import ModelError
from avatar_stream.modeling.backend import (
    AUTO,
    EAGER,
    ENGINES,
    ONE_STEP,
    OPENVINO,
    OPENVINO_INT8,
    START_SOURCE,
    Backend,
    Graph,
    graph_file,
    read_index,
)
from avatar_stream.modeling.drawing import conditioning, finishing
from avatar_stream.modeling.drawing.conditioning import Views
from avatar_stream.modeling.drawing.finishing import ViewImages
from avatar_stream.types import CANVAS_PX, Look, Pose


@dataclass(frozen=True)
class PreparedSource:
    """An avatar, encoded: all that the frames need of its pictures.

    Attributes:
        picture: the pictures and their poses, for warping.
        stream: which draws pose after pose: one prepared source for one stream.
        body, windows: what the networks read of it, for the two sizes of view; as the back end has it.
    """

    picture: conditioning.SourceImages
    stream: conditioning.Stream
    body: Any
    windows: Any


class Signer:
    """Makes pictures of avatars in target poses; for one thread at a time.

    Args:
        backend: what runs the networks.
    """

    def __init__(self, backend: Backend):
        self.backend = backend

    def prepare(
        self, image: np.ndarray, pose: Pose, looks: Sequence[Look] = (), size_px: int = CANVAS_PX
    ) -> PreparedSource:
        """Encode an avatar's pictures, once.

        Args:
            image: (S, S, 4) uint8 RGBA, S of 512 or more, straight alpha, in the canonical signing frame.
            pose: the pose in it, in canvas pixels.
            looks: further pictures of the same person.
            size_px: side of the pictures that are to be made.
        """
        others = [(each.image, each.pose.points) for each in looks]
        picture = conditioning.prepare_source(
            image, pose.points, body_px=self.backend.body_px, looks=others, size_px=size_px
        )
        body, windows = (self.backend.read_source(picture.views, size) for size in ("body", "windows"))
        return PreparedSource(picture, conditioning.Stream(picture), body, windows)

    def warm_up(
        self, source: PreparedSource, size_px: int = CANVAS_PX, sigmas: Sequence[float] = ONE_STEP
    ) -> None:
        """Load all that frames need, so that the first does not wait for it."""
        for views in conditioning.both_sizes(source.picture.views):
            made = self.compute([source], [views], sigmas=sigmas)
        self.paste([source], [views], *made, size_px)

    def picture(
        self,
        source: PreparedSource,
        pose: Pose,
        windows: bool = True,
        size_px: int = CANVAS_PX,
        sigmas: Sequence[float] = ONE_STEP,
        seed: int | None = None,
    ) -> np.ndarray:
        """Make one picture; see `pictures`."""
        return self.pictures([source], [pose], windows, size_px, sigmas, seed)[0]

    def pictures(
        self,
        sources: Sequence[PreparedSource],
        poses: Sequence[Pose],
        windows: bool = True,
        size_px: int = CANVAS_PX,
        sigmas: Sequence[float] = ONE_STEP,
        seed: int | None = None,
    ) -> list[np.ndarray]:
        """Make persons in target poses.

        Args:
            sources: from `prepare`.
            poses: one for each, in canvas pixels, every point finite.
            windows: False leaves hands and face at the body's resolution, for less than two thirds of the time.
            size_px: side of the pictures; the networks' work stays the same.
            sigmas: the steps' places on the path, falling from 1 to 0.
            seed: of the fixed noise; None: the model's own.

        Returns:
            One each: (size_px, size_px, 4) uint8 RGBA, straight alpha, canonical signing frame.

        Raises:
            ModelError: the back end does not make so many steps.
        """
        views = self.draw(sources, poses)
        bodies, details = self.compute(sources, views, windows, sigmas, seed)
        return self.paste(sources, views, bodies, details, size_px)

    def draw(self, sources: Sequence[PreparedSource], poses: Sequence[Pose]) -> list[Views]:
        """Draw the poses, and warp the sources' pictures along."""
        views = [each.stream.draw(pose.points) for each, pose in zip(sources, poses, strict=True)]
        return conditioning.trim_bodies(views)

    def compute(
        self,
        sources: Sequence[PreparedSource],
        views: Sequence[Views],
        windows: bool = True,
        sigmas: Sequence[float] = ONE_STEP,
        seed: int | None = None,
    ) -> tuple[list[ViewImages], list[ViewImages] | list[None]]:
        """Follow the flow: the views of the bodies, then those of faces and hands."""
        make = self.backend.make
        bodies = make(views, [each.body for each in sources], "body", sigmas, seed)
        if not windows:
            return bodies, [None] * len(bodies)
        return bodies, make(views, [each.windows for each in sources], "windows", sigmas, seed)

    def paste(
        self,
        sources: Sequence[PreparedSource],
        views: Sequence[Views],
        bodies: Sequence[ViewImages],
        details: Sequence[ViewImages | None],
        size_px: int = CANVAS_PX,
    ) -> list[np.ndarray]:
        """Put the views together and lay the sources' texture over them."""
        parts = zip(bodies, details, views, sources, strict=True)
        return [
            finishing.paste_views(body, detail, each, source.picture, size_px)
            for body, detail, each, source in parts
        ]


def even_steps(count: int) -> tuple[float, ...]:
    """Sigmas of so many equal steps."""
    return tuple(np.linspace(1.0, 0.0, count + 1).tolist())


def open_signer(
    place: str | Path,
    engine: str = AUTO,
    device: str | None = None,
    threads: int | None = None,
    steps: int = 1,
    cache: Path | None = None,
) -> Signer:
    """Load a model with the back end that is asked for, or the fastest that can run it here.

    Args:
        place: folder or hub id of a model.
        engine: one of ENGINES.
        device: `cpu`, `cuda`, `cuda:1`; None: CUDA where there is one, else the processor.
        threads: of the processor; None: half of those that this process may use, for the tracker needs the rest
            (eager: what PyTorch is set to). PyTorch's are set for the whole process.
        steps: of the flow that are to be made.
        cache: folder of OpenVINO's compiled graphs; None: the user's.

    Raises:
        ModelError: no such engine, or it cannot run this model, on this device, in so many steps.
        OSError, ValueError, KeyError: the model is incomplete.
    """
    if threads is not None and threads < 1:
        raise ModelError(f"threads must be 1 or more, got {threads}")
    place = _local(place)
    chosen, _ = choose(engine, place, device, steps)
    if chosen == EAGER:
        from avatar_stream.modeling.torch_backend import load_backend

        return Signer(load_backend(place, device, threads))
    from avatar_stream.modeling.openvino_backend import OpenVinoBackend

    return Signer(OpenVinoBackend(place, chosen == OPENVINO_INT8, threads, cache=cache))


def choose(engine: str, place: Path, device: str | None = None, steps: int = 1) -> tuple[str, str]:
    """Say which engine runs where one is asked for: its name, never "auto", and the reason in a few words.

    Raises:
        ModelError: see `open_signer`.
    """
    if engine not in ENGINES:
        raise ModelError(f"unknown engine '{engine}': choose one of {', '.join(ENGINES)}")
    if engine == EAGER:
        return engine, "asked for"
    index = read_index(place)
    chosen = OPENVINO_INT8 if engine == AUTO and index.get("ranges") else engine.replace(AUTO, OPENVINO)
    why_not = None
    if not graph_file(place, Graph.FRAME).is_file():
        why_not = "has no graphs beside this model's weights (SignerPipeline.save_pretrained writes them)"
    elif device is not None and device != "cpu":
        why_not = f"runs on the processor, not on '{device}'"
    elif steps != 1 or index.get("start", START_SOURCE) != START_SOURCE:
        why_not = "makes one step that begins at the source's picture"
    elif engine == OPENVINO_INT8 and not index.get("ranges"):
        raise ModelError(f"engine '{engine}' needs a model published with ranges: use engine {OPENVINO}")
    elif engine == AUTO and device is None and may_have_gpu():
        return EAGER, "a GPU is there"
    if why_not is None:
        return chosen, "asked for" if engine != AUTO else "fastest on a processor"
    if engine == AUTO:
        return EAGER, f"'{OPENVINO}' {why_not}"
    raise ModelError(f"engine '{engine}' {why_not}: use {EAGER}")


def may_have_gpu() -> bool:
    """Whether a driver is there that PyTorch could use: asking PyTorch itself costs the time until it is loaded."""
    for name in ("nvcuda.dll",) if os.name == "nt" else ("libcuda.so.1", "libamdhip64.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def _local(place: str | Path) -> Path:
    if Path(place).is_dir():
        return Path(place)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(place)))
