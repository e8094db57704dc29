"""Eight-bit convolutions for the hand's network, by ranges that `scripts/measure_tracker.py` measured once.

A layer is known by its weights, so that ranges never meet another network than the one they were measured on. Only what
stands in the file is rounded: convolutions over single pixels; those over neighbours lose too much and gain little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatar_stream.compiled import round_convolution

if TYPE_CHECKING:
    import openvino

RANGES = Path(__file__).with_name("hand_ranges.npz")
_NAME_LENGTH = 12
# Layer (see `_name`) -> lowest and highest input.
Ranges = Mapping[str, tuple[float, float]]


def load_ranges(path: Path = RANGES) -> dict[str, tuple[float, float]]:
    """Read ranges; none where there is no such file."""
    if not path.is_file():
        return {}
    with np.load(path) as held:
        return {
            str(name): (float(low), float(high))
            for name, (low, high) in zip(held["layers"], held["ranges"], strict=True)
        }


def save_ranges(path: Path, ranges: Ranges) -> None:
    """Write ranges, sorted, so that the same ones give the same file."""
    names = sorted(ranges)
    np.savez(path, layers=np.array(names), ranges=np.array([ranges[name] for name in names], np.float32))


def pointwise_layers(
    core: openvino.Core, model: openvino.Model
) -> list[tuple[str, openvino.Node, np.ndarray]]:
    """The convolutions over single pixels: what each is known by, its node, its weights (out, in, 1, 1) float32."""
    import openvino

    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    nodes = [node for node in nodes if list(node.input(1).get_shape())[2:] == [1, 1]]
    # They lie in the file as halves and in another order: a network of nothing else says what they become.
    weights = openvino.Model([node.input_value(1) for node in nodes], [], "weights")
    request = core.compile_model(weights, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    request.infer([])
    held = [request.get_output_tensor(place).data.copy() for place in range(len(nodes))]
    return [(_name(each), node, each) for node, each in zip(nodes, held, strict=True)]


def round_layers(core: openvino.Core, model: openvino.Model, ranges: Ranges) -> int:
    """Tell OpenVINO in place which convolutions to compute in eight bits; says how many."""
    layers = [layer for layer in pointwise_layers(core, model) if layer[0] in ranges]
    for name, node, weights in layers:
        round_convolution(node, weights, *ranges[name])
    model.validate_nodes_and_infer_types()
    return len(layers)


def _name(weights: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(weights).tobytes()).hexdigest()[:_NAME_LENGTH]
