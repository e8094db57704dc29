"""Eight-bit convolutions for OpenVINO: ranges measured once, when a model is published, and put into its graphs.

Weights are rounded channel by channel, activations by one range a layer and size of view. What reads or writes pixels
stays as it was. Why not NNCF: the graphs that it makes of this network are not compiled by OpenVINO 2026.4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import openvino
import torch
from torch import nn

from avatar_stream.compiled import round_convolution

_PIXEL_LAYERS = ("detail.unfold", "detail.fold")
_FEWEST_CHANNELS = 32  # geometry's ten would hardly be faster, and carry edges


class RangeMeter:
    """Collects what goes into a network's convolutions.

    with meter.watching(target_net): ...run it on frames...
    """

    def __init__(self):
        self._seen: dict[str, list[tuple[float, float]]] = defaultdict(list)

    @contextmanager
    def watching(self, target_net: nn.Module) -> Iterator[None]:
        """Note every layer's lowest and highest input of each call inside the block."""
        hooks = [
            layer.register_forward_pre_hook(self._hook(name))
            for name, layer in target_net.named_modules()
            if isinstance(layer, nn.Conv2d)
            and name not in _PIXEL_LAYERS
            and layer.in_channels >= _FEWEST_CHANNELS
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Each layer's range: the mean of its extremes, so that one odd frame does not coarsen all others."""
        return {name: tuple(np.mean(seen, axis=0).tolist()) for name, seen in self._seen.items()}

    def _hook(self, name: str):
        def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self._seen[name].append((min(float(inputs[0].min()), 0.0), float(inputs[0].max())))

        return note


def quantise(model: openvino.Model, ranges: Mapping[str, tuple[float, float]]) -> int:
    """Tell OpenVINO in place which convolutions of a traced TargetNet to compute in eight bits; says how many.

    Args:
        model: float32, from the frontend: a layer's name stands in its nodes' names.
        ranges: by `RangeMeter.ranges`.
    """
    count = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        layer = node.get_friendly_name().split("/")[0].rpartition("target_net.")[2]
        weights = node.input_value(1).get_node()
        if layer not in ranges or weights.get_type_name() != "Constant":
            continue
        round_convolution(node, weights.get_data(), *ranges[layer])
        count += 1
    model.validate_nodes_and_infer_types()
    return count
