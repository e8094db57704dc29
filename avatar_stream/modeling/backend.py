"""What runs a model's networks: one small interface, for the two back ends that there are.

`torch_backend.py` runs them on any device, in any number of steps. `openvino_backend.py` makes one step on the
processor, several times as fast, and loads neither torch nor diffusers, whose import alone takes seconds.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from avatar_stream.modeling.drawing.conditioning import Views
from avatar_stream.modeling.drawing.finishing import ViewImages

BODY, FACE, HAND = range(3)  # kinds of view, for the networks
KINDS = {"body": (BODY,), "windows": (FACE, HAND, HAND)}  # of the views of each size, as `Views` names them
ONE_STEP = (1.0, 0.0)
START_SOURCE, START_NOISE = "source", "noise"  # where the path begins

AUTO, EAGER, OPENVINO, OPENVINO_INT8 = "auto", "eager", "openvino", "openvino-int8"
ENGINES = (AUTO, EAGER, OPENVINO, OPENVINO_INT8)


class Backend(ABC):
    """Runs the networks of one model; for one thread at a time.

    Attributes:
        name: one of ENGINES but "auto".
        precision: what it computes in, in a word.
        body_px: side of the body's view that the model was trained with.
    """

    name: str
    precision: str
    body_px: int

    @abstractmethod
    def read_source(self, views: Views, size: str) -> Any:
        """Encode a source's own views of one size, once; what comes is for `make`."""

    @abstractmethod
    def make(
        self,
        views: Sequence[Views],
        memories: Sequence[Any],
        size: str,
        sigmas: Sequence[float] = ONE_STEP,
        seed: int | None = None,
    ) -> list[ViewImages]:
        """Make the views of one size of some poses.

        Args:
            views: the poses'; their bodies are of one size.
            memories: of their sources, one each, from `read_source`.
            size: "body" or "windows".
            sigmas: falling from 1 to 0, one more than steps.
            seed: of the fixed noise; None: the model's own.

        Returns:
            Pose by pose; valid until the next call of the same size.

        Raises:
            ModelError: it does not make so many steps.
        """


def read_index(place: Path) -> dict[str, Any]:
    """What a model's folder says of itself.

    Raises:
        OSError, ValueError: the folder is no model's.
    """
    index: dict[str, Any] = json.loads((place / "model_index.json").read_text(encoding="utf-8"))
    return index


class Graph(StrEnum):
    """The graphs that a model's folder has for OpenVINO."""

    FRAME = "frame"
    SOURCE = "source"


def graph_file(place: Path, graph: Graph) -> Path:
    """Where a model's folder has a graph; its weights lie beside it, as `.bin`."""
    return place / "openvino" / f"{graph}.xml"


def remove_graphs(place: Path) -> None:
    """Remove a model's graphs, if it has any."""
    for graph in Graph:
        for suffix in (".xml", ".bin"):
            graph_file(place, graph).with_suffix(suffix).unlink(missing_ok=True)
