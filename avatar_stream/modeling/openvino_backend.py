"""The back end for processors: OpenVINO runs the graphs that lie beside a model's weights, in one step.

It computes in bfloat16 where the processor does, and with a model's ranges the convolutions of a frame in eight bits.
A graph is compiled at the first start with its shapes, which takes half a second, and read from the user's cache at
the next. Figures are in docs/engines.md.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino

from avatar_stream import compiled
from avatar_stream.errors import ModelError
from avatar_stream.modeling.backend import (
    KINDS,
    ONE_STEP,
    OPENVINO,
    OPENVINO_INT8,
    Backend,
    Graph,
    graph_file,
    read_index,
)
from avatar_stream.modeling.drawing import conditioning
from avatar_stream.modeling.drawing.conditioning import Views
from avatar_stream.modeling.drawing.finishing import ViewImages
from avatar_stream.modeling.drawing.geometry import Drawing
from avatar_stream.modeling.quantization import quantise

Memory = tuple[np.ndarray, ...]  # keys before values, float32


class OpenVinoBackend(Backend):
    """Runs a model's graphs on the processor.

    Args:
        place: a model's folder.
        eight_bits: use the model's ranges.
        threads: None: half of the processors that this process may use, at least one.
        reduced: False computes in float32 everywhere.
        cache: folder of compiled graphs; None: the user's.

    Raises:
        OSError, ValueError: the folder is incomplete.
    """

    def __init__(
        self,
        place: Path,
        eight_bits: bool = True,
        threads: int | None = None,
        reduced: bool = True,
        cache: Path | None = None,
    ):
        index = read_index(place)
        self.body_px = index.get("body_px", conditioning.BODY_PX)
        self._ranges = index.get("ranges") if eight_bits else None
        self.name = OPENVINO_INT8 if self._ranges else OPENVINO
        self._core = openvino.Core()
        self.precision = reduced_precision(self._core) if reduced else "f32"
        self._threads = threads or max(1, _processors() // 2)
        self._cache = cache or compiled.user_cache("graphs")
        self._place, self._digest = place, _digest(place)
        self._requests: dict[tuple, _Request] = {}

    def read_source(self, views: Views, size: str) -> Memory:
        """Encode a source's own views of one size; for the same views no network is run again."""
        arrays = _arrays(getattr(views, size), size)
        seen = hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest()
        memory = compiled.compute_once(
            self._core,
            lambda: self._request(Graph.SOURCE, size, arrays).run(arrays),
            (seen, self._digest, self._settings(Graph.SOURCE)),
            self._cache,
        )
        return tuple(memory if size == "body" else map(_join_windows, memory))

    def make(
        self,
        views: Sequence[Views],
        memories: Sequence[Memory],
        size: str,
        sigmas: Sequence[float] = ONE_STEP,
        seed: int | None = None,
    ) -> list[ViewImages]:
        """Make the views of one size, pose after pose; see `Backend.make`."""
        if tuple(sigmas) != ONE_STEP:
            raise ModelError(f"engine '{self.name}' makes one step: use eager")
        made = []
        for each, memory in zip(views, memories, strict=True):
            arrays = (*_arrays(getattr(each, size), size), *memory)
            found = self._request(Graph.FRAME, size, arrays).run(arrays)
            made.append(ViewImages(*(found if len(views) == 1 else map(np.copy, found))))
        return made

    def _request(self, graph: Graph, size: str, arrays: Sequence[np.ndarray]) -> _Request:
        key = (graph, size, *(each.shape for each in arrays))
        if key not in self._requests:
            ranges = self._ranges[size] if self._ranges and graph == Graph.FRAME else None
            self._requests[key] = _Request(
                compiled.compile_once(
                    self._core,
                    lambda: self._fitted(graph, arrays, ranges),
                    (key, ranges, self._digest),
                    self._settings(graph),
                    self._cache,
                )
            )
        return self._requests[key]

    def _fitted(
        self, graph: Graph, arrays: Sequence[np.ndarray], ranges: Mapping[str, tuple[float, float]] | None
    ) -> openvino.Model:
        """A graph for inputs of these shapes; those of bytes become 0..1 within it."""
        model = self._core.read_model(str(graph_file(self._place, graph)))
        model.reshape({place: list(each.shape) for place, each in enumerate(arrays)})
        if ranges:
            quantise(model, ranges)
        steps = openvino.preprocess.PrePostProcessor(model)
        for place, each in enumerate(arrays):
            if each.dtype == np.uint8:
                steps.input(place).tensor().set_element_type(openvino.Type.u8)
                steps.input(place).preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
        return steps.build()

    def _settings(self, graph: Graph) -> dict[str, object]:
        # What is made once for an avatar may take its time and keep its digits.
        precision = "f32" if graph == Graph.SOURCE else self.precision
        settings: dict[str, object] = {
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": precision,
            # Pinned threads would stay on a core that the tracker has taken.
            "ENABLE_CPU_PINNING": False,
        }
        # What OpenVINO 2026.4 fuses gains a twentieth: taken where it is known to work, in the graph that all run.
        return settings | ({"SNIPPETS_MODE": "DISABLE"} if precision == "f32" else {})


class _Request:
    """A compiled graph with the arrays that it reads: handing all over for each call costs 0.3 ms a frame."""

    def __init__(self, model: openvino.CompiledModel):
        self._request = model.create_infer_request()
        self._held: list[np.ndarray | None] = [None] * len(model.inputs)
        self._outputs = range(len(model.outputs))

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Its outputs, float32, valid until the next call."""
        for place, array in enumerate(arrays):
            if array is not self._held[place]:  # an avatar's memory is the same in every frame
                self._request.set_input_tensor(place, openvino.Tensor(array, shared_memory=True))
                self._held[place] = array
        self._request.infer(share_outputs=True)
        return [self._request.get_output_tensor(place).data for place in self._outputs]


_KIND_ARRAYS = {size: np.array(kinds, np.int64) for size, kinds in KINDS.items()}


def _arrays(drawn: Drawing, size: str) -> tuple[np.ndarray, ...]:
    return np.ascontiguousarray(drawn.look), drawn.maps, drawn.parts, _KIND_ARRAYS[size]


def _join_windows(memory: np.ndarray) -> np.ndarray:
    """(3, heads, N, d) -> (3, heads, 3 N, d): every window sees the places of all three; see `flow.read_source`."""
    joined = np.concatenate(list(memory), axis=1)
    return np.ascontiguousarray(np.broadcast_to(joined, (len(memory), *joined.shape)))


def reduced_precision(core: openvino.Core | None = None) -> str:
    """Say what graphs compute in here: "bf16" where the processor has it, else "f32"."""
    capabilities = (core or openvino.Core()).get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"


def _digest(place: Path) -> str:
    digest = hashlib.sha256()
    for graph in Graph:
        for suffix in (".xml", ".bin"):
            digest.update(graph_file(place, graph).with_suffix(suffix).read_bytes())
    return digest.hexdigest()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
