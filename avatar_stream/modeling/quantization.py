"""Eight-bit convolutions for OpenVINO: ranges measured once, when a model is published, and put into its graph.

Weights are rounded channel by channel, activations by one range a layer and size of view. What reads or writes pixels
stays as it was. Why not NNCF: the graphs that it makes of this network are not compiled by OpenVINO 2026.4.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import openvino

from avatar_stream.compiled import round_convolution


def quantise(model: openvino.Model, ranges: Mapping[str, tuple[float, float]]) -> int:
    """Tell OpenVINO in place which convolutions of a frame's graph to compute in eight bits; says how many.

    Args:
        model: from `export.export_graphs`: a layer's name stands in its nodes' names.
        ranges: lowest and highest input by layer; see `lab/training/ranges.py`.
    """
    count = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        layer = node.get_friendly_name().split("/")[0].rpartition("target_net.")[2]
        weights = _constant(node.input_value(1).get_node())
        if layer not in ranges or weights is None:
            continue
        round_convolution(node, weights, *ranges[layer])
        count += 1
    model.validate_nodes_and_infer_types()
    return count


def _constant(node: openvino.Node) -> np.ndarray | None:
    """A constant's numbers as float32, also where it is kept in bfloat16; None: it is none."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    if node.get_element_type() == openvino.Type.bf16:
        halves = np.frombuffer(node.get_data().tobytes(), np.uint16).reshape(node.get_output_shape(0))
        return (halves.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(node.get_data(), np.float32)
