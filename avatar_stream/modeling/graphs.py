"""OpenVINO graphs of a model's networks: of fixed shapes, compiled once, kept on disk, run on arrays.

Loads no PyTorch: importing that, and diffusers, takes longer than everything else until the first picture. Only where a
graph is not on disk yet its maker does (`openvino_engine.py`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatar_stream import compiled

if TYPE_CHECKING:
    import openvino

BODY, FACE, HAND = range(3)  # kinds of view, as in denoiser.py, which loads PyTorch
BODY_GRAPH, WINDOWS_GRAPH = "body", "windows"
FRAME, SOURCE, VELOCITY = "frame", "source", "velocity"
# Graph -> layer of TargetNet -> lowest, highest input.
Ranges = Mapping[str, Mapping[str, tuple[float, float]]]
# What a graph is traced from: a changed network must not be read from the cache.
_CODE = (
    "autoencoder.py",
    "denoiser.py",
    "detail.py",
    "flow.py",
    "graphs.py",
    "openvino_engine.py",
    "quantization.py",
    "drawing/texture.py",
)


class Graphs:
    """The graphs of one model, for one thread.

    A graph is compiled at the first call with its shapes, which takes seconds, and read from the user's cache folder at
    the next start.

    Args:
        weights: a digest of the model's weights.
        threads: None: half of the processors that this process may use, at least one.
        reduced: False computes in float32 everywhere.
        cache: folder of compiled graphs; None: the user's.
        ranges: of the activations, see `quantization.py`; None: no eight bits.
    """

    def __init__(
        self,
        weights: str,
        threads: int | None = None,
        reduced: bool = True,
        cache: Path | None = None,
        ranges: Ranges | None = None,
    ):
        """Start OpenVINO; no graph is loaded yet."""
        import openvino

        self._core = openvino.Core()
        self._ranges, self._cache = ranges, cache or compiled.user_cache("graphs")
        self.precision = reduced_precision(self._core) if reduced else "f32"
        self._threads = threads or max(1, _processors() // 2)
        self._made_from = (weights, importlib.metadata.version("torch"), _code_digest())
        self._graphs: dict[tuple, _Graph] = {}

    def run(
        self,
        name: tuple,
        kinds: Sequence[int],
        arrays: Sequence[np.ndarray],
        make: Callable[[], openvino.Model],
    ) -> list[np.ndarray]:
        """Run one graph.

        Args:
            name: what it computes, and constants in it; the first part is FRAME, SOURCE or VELOCITY.
            kinds: of its views, constants too.
            arrays: its inputs, float32, or uint8 for what counts from 0 to 255; C-contiguous; read where they lie.
            make: traces it; called only where no compiled one is on disk.

        Returns:
            Its outputs, float32, valid until the next call of the same graph. What SourceNet says of an avatar is kept
            on disk: for the same inputs no graph is run again.
        """
        key = (*name, *kinds, *((each.shape, each.dtype.str) for each in arrays))
        if name[0] != SOURCE:
            return self._graph(key, kinds, make).run(arrays)
        inputs = hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest()
        what = (key, inputs, *self._made_from, self._settings(SOURCE))
        return compiled.compute_once(
            self._core, lambda: self._graph(key, kinds, make).run(arrays), what, self._cache
        )

    def _graph(self, key: tuple, kinds: Sequence[int], make: Callable) -> _Graph:
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = _Graph(self._load(key, kinds, make))
        return graph

    def _load(self, key: tuple, kinds: Sequence[int], make: Callable) -> openvino.CompiledModel:
        eight_bits = None
        if self._ranges and key[0] == FRAME:
            eight_bits = self._ranges[BODY_GRAPH if kinds[0] == BODY else WINDOWS_GRAPH]

        def made() -> openvino.Model:
            model = make()
            if eight_bits:
                from avatar_stream.modeling.quantization import quantise

                quantise(model, eight_bits)
            return model

        what = (key, eight_bits, *self._made_from)
        return compiled.compile_once(self._core, made, what, self._settings(key[0]), self._cache)

    def _settings(self, name: str) -> dict[str, object]:
        # What is made once for an avatar may take its time and keep its digits.
        precision = "f32" if name == SOURCE else self.precision
        settings: dict[str, object] = {
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": precision,
            # Pinned threads would stay on a core that the tracker has taken.
            "ENABLE_CPU_PINNING": False,
        }
        # OpenVINO 2026.4 crashes when it fuses a float32 network whose time is an input. What it fuses elsewhere gains
        # a twentieth: taken where it is known to work, in the graph that everybody runs.
        unfused = name == VELOCITY or precision == "f32"
        return settings | ({"SNIPPETS_MODE": "DISABLE"} if unfused else {})


class _Graph:
    """A compiled graph with the arrays that it reads: handing all over for each call costs 0.3 ms a frame."""

    def __init__(self, compiled: openvino.CompiledModel):
        self._request = compiled.create_infer_request()
        self._held: list[np.ndarray | None] = [None] * len(compiled.inputs)
        self._outputs = range(len(compiled.outputs))

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        import openvino

        for place, array in enumerate(arrays):
            if array is not self._held[place]:  # an avatar's memory is the same in every frame
                self._request.set_input_tensor(place, openvino.Tensor(array, shared_memory=True))
                self._held[place] = array
        self._request.infer(share_outputs=True)
        return [self._request.get_output_tensor(place).data for place in self._outputs]


def reduced_precision(core: openvino.Core | None = None) -> str:
    """Say what graphs compute in here: "bf16" where the processor has it, else "f32"."""
    if core is None:
        import openvino

        core = openvino.Core()
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _code_digest() -> str:
    files = [*(Path(__file__).parent / name for name in _CODE), Path(compiled.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
