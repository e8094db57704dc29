"""One step of a published model through OpenVINO alone: the pictures of `SignerPipeline`, ready in a second.

PyTorch and diffusers, whose import alone takes longer than that, are loaded only where a graph is not on disk yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar_stream.modeling.drawing import conditioning, finishing
from avatar_stream.modeling.graphs import BODY, FACE, FRAME, HAND, SOURCE, Graphs
from avatar_stream.types import CANVAS_PX, Look, Pose

_ONE_STEP = (1.0, 0.0)
_KINDS = {BODY: (BODY,), FACE: (FACE, HAND, HAND)}  # of the body's view, and of the windows
_START_SOURCE = "source"


@dataclass(frozen=True)
class LiveSource:
    """An avatar, encoded.

    Attributes:
        picture: the pictures and their poses, for warping.
        body, windows: TargetNet's memory for the two sizes of view, keys before values, float32.
        stream: which draws pose after pose.
    """

    picture: conditioning.Source
    stream: conditioning.Stream
    body: tuple[np.ndarray, ...]
    windows: tuple[np.ndarray, ...]


class LiveSigner:
    """Makes frames on the processor, in one step; for one thread at a time.

    Args:
        place: a model's folder for which `fits` holds.
        eight_bits: use the model's ranges.
        reduced: False computes in float32 everywhere.
        threads: see `Graphs`.
        cache: folder of compiled graphs; None: the user's.

    Raises:
        OSError: a file of the model is missing.
    """

    def __init__(
        self,
        place: Path,
        eight_bits: bool = True,
        reduced: bool = True,
        threads: int | None = None,
        cache: Path | None = None,
    ):
        """Read what the model says of itself; no graph is loaded yet."""
        self._place, config = place, read_index(place)
        self._body_px = config.get("body_px", conditioning.BODY_PX)
        ranges = config.get("ranges") if eight_bits else None
        self._graphs = Graphs(_digest(place), threads, reduced, cache, ranges)

    def prepare(
        self, image: np.ndarray, pose: Pose, looks: Sequence[Look] = (), size_px: int = CANVAS_PX
    ) -> LiveSource:
        """Encode an avatar's picture, once.

        Args:
            image: (S, S, 4) uint8 RGBA, S of 512 or more, straight alpha, in the canonical signing frame.
            pose: the pose in it, in canvas pixels.
            looks: further pictures of the same person.
            size_px: side of the pictures that are to be made.

        Raises:
            OSError, ValueError, KeyError: a graph is not on disk yet and the weights cannot be read.
        """
        others = [(each.image, each.pose.points) for each in looks]
        picture = conditioning.prepare_source(
            image, pose.points, body_px=self._body_px, looks=others, size_px=size_px
        )
        views = picture.views
        body = self._run((SOURCE,), BODY, views.body, ())
        windows = self._run((SOURCE,), FACE, views.windows, ())
        return LiveSource(
            picture, conditioning.Stream(picture), tuple(body), tuple(map(_join_windows, windows))
        )

    def warm_up(self, source: LiveSource, size_px: int = CANVAS_PX) -> None:
        """Load all that frames need."""
        for views in conditioning.both_sizes(source.picture.views):
            body = self._frame(BODY, views.body, source.body)
        windows = self._frame(FACE, views.windows, source.windows)
        finishing.paste_views(body, windows, views, source.picture, size_px)

    def picture(
        self, source: LiveSource, pose: Pose, windows: bool = True, size_px: int = CANVAS_PX
    ) -> np.ndarray:
        """Make the source person in the target pose.

        Args:
            source: from `prepare`.
            pose: in canvas pixels, every point finite.
            windows: False leaves hands and face at the body's resolution, for less than two thirds of the time.
            size_px: side of the picture.

        Returns:
            (size_px, size_px, 4) uint8 RGBA, straight alpha.
        """
        views = conditioning.trim_bodies([source.stream.draw(pose.points)])[0]
        body = self._frame(BODY, views.body, source.body)
        details = self._frame(FACE, views.windows, source.windows) if windows else None
        return finishing.paste_views(body, details, views, source.picture, size_px)

    def _frame(
        self, size: int, drawn: conditioning.Drawn, memory: tuple[np.ndarray, ...]
    ) -> finishing.MadeViews:
        made = self._run((FRAME, *_ONE_STEP), size, drawn, memory)
        return finishing.MadeViews(*made)  # until the next frame of its size

    def _run(
        self, name: tuple, size: int, drawn: conditioning.Drawn, memory: tuple[np.ndarray, ...]
    ) -> list[np.ndarray]:
        arrays = (np.ascontiguousarray(drawn.look), drawn.maps, drawn.parts, *memory)

        def make():
            from avatar_stream.modeling.openvino_engine import trace_folder

            return trace_folder(self._place, name[0], _KINDS[size], arrays)

        return self._graphs.run(name, _KINDS[size], arrays, make)


def _join_windows(memory: np.ndarray) -> np.ndarray:
    """(3, heads, N, d) -> (3, heads, 3 N, d): every window sees the places of all three; see `flow.read_source`."""
    joined = np.concatenate(list(memory), axis=1)
    return np.ascontiguousarray(np.broadcast_to(joined, (len(memory), *joined.shape)))


def read_index(place: Path) -> dict:
    """What a model's folder says of itself."""
    return json.loads((Path(place) / "model_index.json").read_text(encoding="utf-8"))


def fits(place: Path) -> bool:
    """Whether `LiveSigner` can run a model: it starts at the source, and all its networks are ours."""
    try:
        index = read_index(place)
        kinds = [index[name][1] for name in ("autoencoder", "source_net", "target_net")]
        starts = index.get("start", _START_SOURCE) == _START_SOURCE
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False  # whoever loads it as a whole says what is wrong with it
    return kinds == ["PatchAutoencoder", "SourceNet", "TargetNet"] and starts


def _digest(place: Path) -> str:
    digest = hashlib.sha256()
    for name in ("autoencoder", "source_net", "target_net"):
        files = sorted(path for path in (place / name).iterdir() if path.is_file())
        for file in files:
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
