"""The engine for processors: OpenVINO graphs of fixed shapes, traced from the PyTorch modules, kept on disk.

With one step everything from the warped source to the picture is one graph: the time's embedding becomes a
constant, and the autoencoder's two products cost next to nothing. With more steps the graph is one velocity.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import nn

from avatar_stream.modeling import flow
from avatar_stream.modeling.autoencoder import PatchAutoencoder
from avatar_stream.modeling.denoiser import Memory, SourceNet, TargetNet
from avatar_stream.modeling.detail import Prediction, Transfer
from avatar_stream.modeling.engine import OPENVINO, OPENVINO_FLOAT32, OPENVINO_INT8, Engine
from avatar_stream.modeling.graphs import FRAME, SOURCE, VELOCITY, Graphs, Ranges


class _Velocity(nn.Module):
    """TargetNet with everything that a graph takes as flat inputs; the kinds of view are constants."""

    def __init__(self, target_net: nn.Module, kinds: Sequence[int]):
        super().__init__()
        self.target_net = target_net
        self.register_buffer("kinds", torch.tensor(kinds), persistent=False)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        velocity, transfer = self.target_net(*inputs[:5], self.kinds, _memory(inputs[5:]))
        return velocity, *transfer


class _Frame(nn.Module):
    """`flow.make_pictures` of one step, as `finishing.MadeViews` has it: pixel by pixel, as they lie in memory."""

    def __init__(
        self, target_net: nn.Module, autoencoder: nn.Module, kinds: Sequence[int], sigmas: Sequence[float]
    ):
        super().__init__()
        self.target_net, self.autoencoder, self.sigmas = target_net, autoencoder, list(sigmas)
        self.register_buffer("kinds", torch.tensor(kinds), persistent=False)

    def forward(
        self, look: torch.Tensor, geometry: torch.Tensor, parts: torch.Tensor, *memory: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        batch = flow.ViewBatch(look.permute(0, 3, 1, 2), geometry, parts, self.kinds)
        made = flow.make_pictures(self.target_net, self.autoencoder, batch, _memory(memory), self.sigmas)
        displacement, gain, share = made.transfer
        moves = torch.cat([displacement, gain], dim=1)
        return made.pictures.permute(0, 2, 3, 1), moves.permute(0, 2, 3, 1), share[:, 0]


class _Source(nn.Module):
    """What `flow.read_source` asks the network: keys before values, each window's own.

    Joining windows is left to the caller: OpenVINO 2026.4 writes beyond its memory where the graph does it.
    """

    def __init__(self, source_net: nn.Module, autoencoder: nn.Module, kinds: Sequence[int]):
        super().__init__()
        self.source_net, self.autoencoder = source_net, autoencoder
        self.register_buffer("kinds", torch.tensor(kinds), persistent=False)

    def forward(
        self, look: torch.Tensor, geometry: torch.Tensor, parts: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        latents = self.autoencoder.encode(look.permute(0, 3, 1, 2))
        memory = self.source_net(latents, geometry, parts, self.kinds)
        return (*memory.keys, *memory.values)


def _memory(entries: Sequence[torch.Tensor]) -> Memory:
    half = len(entries) // 2
    return Memory(list(entries[:half]), list(entries[half:]))


class OpenVinoEngine(Engine):
    """Runs the networks on the processor by OpenVINO, in bfloat16 where the processor computes in it.

    With a model's ranges, the convolutions of a one-step frame are computed in eight bits.

    A graph is compiled at the first frame of its shape (body, windows, each number of poses at once), which takes
    seconds, and read from the user's cache folder at the next start.

    Args:
        target_net: TargetNet in any precision. It is copied: later changes of its weights are not seen.
        autoencoder: what goes with it, in float32.
        threads: None: half of the processors that this process may use, at least one.
        reduced: False computes in float32 everywhere.
        cache: folder of compiled graphs; None: the user's.
        ranges: of the activations, see `quantization.py`; None: no eight bits.
    """

    def __init__(
        self,
        target_net: nn.Module,
        autoencoder: nn.Module,
        threads: int | None = None,
        reduced: bool = True,
        cache: Path | None = None,
        ranges: Ranges | None = None,
    ):
        super().__init__(copy.deepcopy(target_net).float().eval().requires_grad_(False), autoencoder)
        self.name = OPENVINO_INT8 if ranges else OPENVINO if reduced else OPENVINO_FLOAT32
        digest = _digest((*self.target_net.state_dict().values(), *autoencoder.state_dict().values()))
        self._graphs = Graphs(digest, threads, reduced, cache, ranges)
        self.precision = self._graphs.precision

    def predict(self, *inputs: torch.Tensor | Memory) -> Prediction:
        """Velocity at one time and transfer; arguments and result are `TargetNet.forward`'s, in float32."""
        *views, kinds, memory = inputs
        flat = (*views, *memory.keys, *memory.values)
        velocity, *transfer = self._run(
            lambda kinds: _Velocity(self.target_net, kinds), (VELOCITY,), kinds, flat
        )
        return Prediction(velocity, Transfer(*transfer))

    def make(
        self,
        batch: flow.ViewBatch,
        memory: Memory,
        sigmas: Sequence[float],
        start: str = flow.START_SOURCE,
        seed: int = 0,
    ) -> flow.Made:
        """Make the pictures of views of one size; see `Engine.make`."""
        in_one = len(sigmas) == 2 and start == flow.START_SOURCE
        if not in_one or not isinstance(self.autoencoder, PatchAutoencoder):
            return super().make(batch, memory, sigmas, start, seed)
        inputs = (batch.look.permute(0, 2, 3, 1), batch.geometry, batch.parts, *memory.keys, *memory.values)

        def graph(kinds: Sequence[int]) -> nn.Module:
            return _Frame(self.target_net, self.autoencoder, kinds, sigmas)

        pictures, moves, share = self._run(graph, (FRAME, *sigmas), batch.kinds, inputs)
        moves = moves.permute(0, 3, 1, 2)
        return flow.Made(pictures.permute(0, 3, 1, 2), Transfer(moves[:, :2], moves[:, 2:], share[:, None]))

    def _run(
        self, graph, name: tuple, kinds: torch.Tensor, inputs: tuple[torch.Tensor, ...]
    ) -> list[torch.Tensor]:
        arrays, places = [each.float().contiguous().numpy() for each in inputs], kinds.tolist()
        made = self._graphs.run(name, places, arrays, lambda: _convert(graph(places), arrays))
        return [torch.from_numpy(each.copy()) for each in made]


def trace_folder(
    place: Path, name: str, kinds: Sequence[int], arrays: Sequence[np.ndarray]
) -> openvino.Model:
    """Trace a graph of a model's folder.

    Args:
        place: folder written by `save_pipeline`.
        name: FRAME, one step from the source's latent to the picture, or SOURCE, what TargetNet reads of an avatar.
        kinds: of its views.
        arrays: inputs, for their shapes.

    Raises:
        OSError, ValueError, KeyError: the folder is incomplete.
    """
    autoencoder = PatchAutoencoder.from_pretrained(str(place), subfolder="autoencoder")
    kind, folder = (SourceNet, "source_net") if name == SOURCE else (TargetNet, "target_net")
    net = kind.from_pretrained(
        str(place), subfolder=folder, torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    if name == SOURCE:
        return _convert(_Source(net, autoencoder, kinds), arrays)
    return _convert(_Frame(net, autoencoder, kinds, (1.0, 0.0)), arrays)


def _convert(module: nn.Module, arrays: Sequence[np.ndarray]) -> openvino.Model:
    """Trace a module into a model of fixed shapes; inputs of bytes become 0..1 within it.

    By the frontend that `openvino.convert_model` is built on: that function itself reports each use to its maker, over
    the network and without asking, from a process that it forks.
    """
    # Out of the frames' inference mode, whose tensors a trace cannot hold.
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer says of every size that it becomes a constant: it shall
        examples = tuple(torch.zeros(each.shape) for each in arrays)
        traced = torch.jit.trace(module.eval(), examples, check_trace=False)
        # Not sharing weights: a graph must not read memory that PyTorch has given back.
        decoder = TorchScriptPythonDecoder(traced, shared_memory=False)
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    for parameter in model.get_parameters():
        parameter.set_element_type(openvino.Type.f32)
    model.reshape({place: list(each.shape) for place, each in enumerate(arrays)})
    return _from_bytes(model, [place for place, each in enumerate(arrays) if each.dtype == np.uint8])


def _from_bytes(model: openvino.Model, places: Sequence[int]) -> openvino.Model:
    steps = openvino.preprocess.PrePostProcessor(model)
    for place in places:
        steps.input(place).tensor().set_element_type(openvino.Type.u8)
        steps.input(place).preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    return steps.build()


def _digest(tensors: Iterable[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()
