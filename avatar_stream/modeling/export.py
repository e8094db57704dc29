"""The networks as OpenVINO graphs, written beside the weights, so that running them needs no PyTorch.

One graph makes a frame in one step, from the warped source to the picture; one reads a source. Both take views of any
size and kind. Weights are kept in bfloat16 where that loses nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
import torch
from openvino import opset13
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import nn

from avatar_stream.modeling import flow
from avatar_stream.modeling.backend import KINDS, ONE_STEP, Graph, graph_file
from avatar_stream.modeling.denoiser import Memory, SourceNet, TargetNet

_EXAMPLE_PX = 256
_FEWEST_WEIGHTS = 256  # of a constant that is worth two bytes less a number


class _Frame(nn.Module):
    """`flow.make_pictures` of one step, as `finishing.ViewImages` has it: pixel by pixel, as they lie in memory."""

    def __init__(self, target_net: nn.Module, autoencoder: nn.Module):
        super().__init__()
        self.target_net, self.autoencoder = target_net, autoencoder

    def forward(
        self,
        look: torch.Tensor,
        geometry: torch.Tensor,
        parts: torch.Tensor,
        kinds: torch.Tensor,
        *memory: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        batch = flow.ViewBatch(look.permute(0, 3, 1, 2), geometry, parts, kinds)
        half = len(memory) // 2
        read = Memory(list(memory[:half]), list(memory[half:]))
        made = flow.make_pictures(self.target_net, self.autoencoder, batch, read, ONE_STEP)
        displacement, gain, share = made.transfer
        moves = torch.cat([displacement, gain], dim=1)
        return made.pictures.permute(0, 2, 3, 1), moves.permute(0, 2, 3, 1), share[:, 0]


class _Source(nn.Module):
    """What `flow.read_source` asks the network: keys before values, each window's own.

    Joining windows is left to the caller: OpenVINO 2026.4 writes beyond its memory where the graph does it.
    """

    def __init__(self, source_net: nn.Module, autoencoder: nn.Module):
        super().__init__()
        self.source_net, self.autoencoder = source_net, autoencoder

    def forward(
        self, look: torch.Tensor, geometry: torch.Tensor, parts: torch.Tensor, kinds: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        latents = self.autoencoder.encode(look.permute(0, 3, 1, 2))
        memory = self.source_net(latents, geometry, parts, kinds)
        return (*memory.keys, *memory.values)


def export_graphs(autoencoder: nn.Module, source_net: SourceNet, target_net: TargetNet, place: Path) -> None:
    """Write both graphs of a model that begins at the source.

    Args:
        autoencoder: as the others in any precision, on any device; they stay as they are.
        source_net: which reads a source.
        target_net: which makes a frame.
        place: the model's folder.

    Raises:
        OSError: they cannot be written.
    """
    nets = [_exact(each) for each in (autoencoder, source_net, target_net)]
    channels = target_net.config.geometry_channels
    parts = target_net.attentions[0].guide.shape[-1]
    views = (
        torch.zeros(1, _EXAMPLE_PX, _EXAMPLE_PX, 4),
        torch.zeros(1, channels, _EXAMPLE_PX, _EXAMPLE_PX),
        torch.zeros(1, parts, _EXAMPLE_PX // 16, _EXAMPLE_PX // 16),
        torch.tensor(KINDS["body"]),
    )
    # Out of a caller's inference mode, whose tensors a trace cannot hold.
    with torch.inference_mode(False), torch.no_grad():
        source = _Source(nets[1], nets[0])
        memory = source(*views)
        for name, module, inputs in (
            (Graph.SOURCE, source, views),
            (Graph.FRAME, _Frame(nets[2], nets[0]), (*views, *memory)),
        ):
            path = graph_file(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            openvino.save_model(_trace(module, inputs), str(path), compress_to_fp16=False)


def _exact(network: nn.Module) -> nn.Module:
    """A copy in float32 on the processor."""
    copy = type(network).from_config(network.config)
    copy.load_state_dict(network.state_dict())
    return copy.float().cpu().eval().requires_grad_(False)


def _trace(module: nn.Module, inputs: Sequence[torch.Tensor]) -> openvino.Model:
    """Trace a module into a model of any shape.

    By the frontend that `openvino.convert_model` is built on: that function itself reports each use to its maker, over
    the network and without asking, from a process that it forks.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracer's, of sizes that might become constants; a test runs other sizes
        traced = torch.jit.trace(module.eval(), tuple(inputs), check_trace=False)
    # Not sharing weights: a graph must not read memory that PyTorch has given back.
    decoder = TorchScriptPythonDecoder(traced, shared_memory=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    for parameter, example in zip(model.get_parameters(), inputs, strict=True):
        whole = example.dtype == torch.int64
        parameter.set_element_type(openvino.Type.i64 if whole else openvino.Type.f32)
    _halve(model)
    return model


def _halve(model: openvino.Model) -> None:
    """Keep weights that are bfloat16 anyway in two bytes each."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        bits = np.ascontiguousarray(node.get_data()).view(np.uint32)
        if bits.size < _FEWEST_WEIGHTS or (bits & 0xFFFF).any():
            continue
        half = openvino.Tensor(openvino.Type.bf16, list(bits.shape))
        half.data.view(np.uint16)[...] = bits >> 16
        whole = opset13.convert(openvino.op.Constant(half), "f32")
        whole.set_friendly_name(node.get_friendly_name())
        for target in list(node.output(0).get_target_inputs()):
            target.replace_source_output(whole.output(0))
    model.validate_nodes_and_infer_types()
