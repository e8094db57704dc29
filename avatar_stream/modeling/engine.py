"""Engines: what runs TargetNet. One interface, and the choice of the best one that a machine has.

Whichever runs, the way of a frame is `flow.make_pictures`, which training uses too; an engine gives it what TargetNet
says, or compiles all of it. Measured figures are in docs/engines.md.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from avatar_stream.errors import ModelError
from avatar_stream.modeling import flow
from avatar_stream.modeling.denoiser import Memory
from avatar_stream.modeling.detail import Prediction

if TYPE_CHECKING:
    from avatar_stream.modeling.graphs import Ranges

_log = logging.getLogger(__name__)

AUTO, EAGER, COMPILE = "auto", "eager", "compile"
OPENVINO, OPENVINO_INT8, OPENVINO_FLOAT32 = "openvino", "openvino-int8", "openvino-float32"
ENGINES = (AUTO, EAGER, COMPILE, OPENVINO, OPENVINO_INT8, OPENVINO_FLOAT32)
ON_PROCESSORS = (OPENVINO, OPENVINO_INT8, OPENVINO_FLOAT32)


class Engine:
    """Runs the networks as PyTorch does, operation by operation; base of the others. For one thread at a time.

    Args:
        target_net: TargetNet, in eval mode, in the precision and on the device in which it shall run.
        autoencoder: what goes with it, in float32 on the same device.
    """

    name = EAGER

    def __init__(self, target_net: nn.Module, autoencoder: nn.Module):
        self.target_net, self.autoencoder = target_net, autoencoder

    def predict(self, *inputs: torch.Tensor | Memory) -> Prediction:
        """Velocity at one time and transfer; arguments and result are `TargetNet.forward`'s."""
        return self.target_net(*inputs)

    def make(
        self,
        batch: flow.ViewBatch,
        memory: Memory,
        sigmas: Sequence[float],
        start: str = flow.START_SOURCE,
        seed: int = 0,
    ) -> flow.Made:
        """Make the pictures of views of one size.

        Args:
            batch: B views of any number of poses and avatars, float32.
            memory: what SourceNet gave for the same rows.
            sigmas: falling from 1 to 0, one more than steps.
            start: "source" or "noise", where the path begins.
            seed: of the fixed noise.

        Returns:
            The pictures, and how the source's texture is laid over them.
        """
        batch = self._cast(batch)
        return flow.make_pictures(self.predict, self.autoencoder, batch, memory, sigmas, start, seed)

    def _cast(self, batch: flow.ViewBatch) -> flow.ViewBatch:
        dtype = next(self.target_net.parameters()).dtype
        return flow.ViewBatch(batch.look, batch.geometry.to(dtype), batch.parts.to(dtype), batch.kinds)


class CompiledEngine(Engine):
    """TargetNet through `torch.compile`, on CUDA with CUDA graphs; what cannot be compiled runs eager, with a warning.

    Compiles for each new shape (body, windows, each number of poses at once) at its first frame.
    """

    name = COMPILE

    def __init__(self, target_net: nn.Module, autoencoder: nn.Module):
        super().__init__(target_net, autoencoder)
        self._on_cuda = next(target_net.parameters()).device.type == "cuda"
        # "reduce-overhead" replays CUDA graphs: a small network's cost on a GPU is the starting of its kernels.
        mode = "reduce-overhead" if self._on_cuda else None
        self._compiled = torch.compile(target_net, mode=mode, dynamic=False)

    def predict(self, *inputs: torch.Tensor | Memory) -> Prediction:
        """Velocity at one time and transfer; arguments and result are `TargetNet.forward`'s."""
        if self._compiled is None:
            return self.target_net(*inputs)
        if self._on_cuda:
            torch.compiler.cudagraph_mark_step_begin()  # the last replay's output was used up by the Euler step
        try:
            return self._compiled(*inputs)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            _log.warning("torch.compile does not work here (%s): going on with engine 'eager'", reason)
            self._compiled = None
            return self.target_net(*inputs)


def choose(name: str, device: torch.device, has_ranges: bool = False) -> tuple[str, str]:
    """Say which engine runs where `name` is asked for.

    Args:
        name: one of ENGINES.
        device: where the networks are.
        has_ranges: the model brings the ranges that eight bits need.

    Returns:
        The engine's name, never "auto", and the reason in a few words.

    Raises:
        ModelError: no such engine, it cannot run on this device, or its library is missing.
    """
    if name not in ENGINES:
        raise ModelError(f"unknown engine '{name}': choose one of {', '.join(ENGINES)}")
    has_openvino = importlib.util.find_spec("openvino") is not None
    if name in ON_PROCESSORS:
        if device.type != "cpu":
            raise ModelError(
                f"engine '{name}' runs on the processor, not on '{device}': use eager or compile"
            )
        if not has_openvino:
            raise ModelError(f"engine '{name}' needs openvino: pip install openvino, or use engine eager")
    if name == OPENVINO_INT8 and not has_ranges:
        raise ModelError(f"engine '{name}' needs a model published with ranges: use engine {OPENVINO}")
    if name != AUTO:
        return name, "asked for"
    if device.type != "cpu":
        return EAGER, f"on {device.type}; 'compile' is an option there"
    if has_openvino:
        return OPENVINO_INT8 if has_ranges else OPENVINO, "fastest on a processor"
    return EAGER, "openvino, which is faster, is not installed: pip install openvino"


def create(
    name: str,
    target_net: nn.Module,
    autoencoder: nn.Module,
    threads: int | None = None,
    cache: Path | None = None,
    ranges: Ranges | None = None,
) -> Engine:
    """Make an engine for networks that are where they shall run.

    Args:
        name: one of ENGINES; "auto" is told in one line of the log where something faster is missing.
        target_net: TargetNet, on its device.
        autoencoder: see `Engine`.
        threads: of the processor; None: half of those that this process may use, for the tracker needs the rest
            (eager and compile: what PyTorch is set to). PyTorch's are set for the whole process.
        cache: folder of OpenVINO's compiled graphs; None: the user's.
        ranges: of the activations, where the model brings them; see `quantization.py`.

    Raises:
        ModelError: see `choose`; or `threads` is below 1.
    """
    if threads is not None and threads < 1:
        raise ModelError(f"threads must be 1 or more, got {threads}")
    device = next(target_net.parameters()).device
    chosen, reason = choose(name, device, bool(ranges))
    if name == AUTO and chosen == EAGER and device.type == "cpu":
        _log.warning("engine 'eager' is used: %s", reason)
    if chosen in ON_PROCESSORS:
        from avatar_stream.modeling.openvino_engine import OpenVinoEngine

        eight_bits = ranges if chosen == OPENVINO_INT8 else None
        return OpenVinoEngine(target_net, autoencoder, threads, chosen != OPENVINO_FLOAT32, cache, eight_bits)
    if threads is not None:
        torch.set_num_threads(threads)
    return (CompiledEngine if chosen == COMPILE else Engine)(target_net, autoencoder)
