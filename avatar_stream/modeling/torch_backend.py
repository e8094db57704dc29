"""The back end that runs the networks as PyTorch does, operation by operation, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avatar_stream.errors import ModelError
from avatar_stream.messages import first_line
from avatar_stream.modeling import flow
from avatar_stream.modeling.autoencoder import PatchAutoencoder
from avatar_stream.modeling.backend import EAGER, ONE_STEP, START_SOURCE, Backend, read_index
from avatar_stream.modeling.denoiser import Memory, SourceNet, TargetNet
from avatar_stream.modeling.drawing import conditioning
from avatar_stream.modeling.drawing.conditioning import Views
from avatar_stream.modeling.drawing.finishing import ViewImages


class TorchBackend(Backend):
    """Runs networks where they are, in the precision that they have.

    Args:
        autoencoder: in float32.
        source_net, target_net: the twin networks, in eval mode.
        start: "source" or "noise", where the path begins.
        noise_seed: of the fixed noise.
        body_px: side of the body's view.
    """

    name = EAGER

    def __init__(
        self,
        autoencoder: nn.Module,
        source_net: nn.Module,
        target_net: nn.Module,
        start: str = START_SOURCE,
        noise_seed: int = 0,
        body_px: int = conditioning.BODY_PX,
    ):
        self.autoencoder, self.source_net, self.target_net = autoencoder, source_net, target_net
        self.start, self.noise_seed, self.body_px = start, noise_seed, body_px
        weight = next(target_net.parameters())
        self.device, self._dtype = weight.device, weight.dtype
        self.precision = str(weight.dtype).removeprefix("torch.")

    @torch.inference_mode()
    def read_source(self, views: Views, size: str) -> Memory:
        """Encode a source's own views of one size, once."""
        batch = flow.batch_of([views], size, self.device)
        latents = self.autoencoder.encode(batch.look)
        return flow.read_source(self.source_net, self._cast(batch), latents)

    @torch.inference_mode()
    def make(
        self,
        views: Sequence[Views],
        memories: Sequence[Memory],
        size: str,
        sigmas: Sequence[float] = ONE_STEP,
        seed: int | None = None,
    ) -> list[ViewImages]:
        """Make the views of one size of some poses, all at once; see `Backend.make`."""
        batch = self._cast(flow.batch_of(views, size, self.device))
        memory, seed = flow.join_memories(memories), self.noise_seed if seed is None else seed
        made = flow.make_pictures(self.target_net, self.autoencoder, batch, memory, sigmas, self.start, seed)
        return flow.views_of(made, len(views))

    def _cast(self, batch: flow.ViewBatch) -> flow.ViewBatch:
        maps = batch.geometry.to(self._dtype), batch.parts.to(self._dtype)
        return flow.ViewBatch(batch.look, *maps, batch.kinds)


def load_backend(place: Path, device: str | None = None, threads: int | None = None) -> TorchBackend:
    """Load a model's folder.

    Args:
        place: folder written by `save_pipeline`.
        device: see `signer.open_signer`.
        threads: of PyTorch, for the whole process; None: what it is set to.

    Raises:
        ModelError: the device cannot be used. OSError, ValueError, KeyError: the folder is incomplete.
    """
    where = find_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    index = read_index(place)
    settings = {key: index[key] for key in ("start", "noise_seed", "body_px") if key in index}
    nets = load_networks(str(place), default_dtype(where))
    return TorchBackend(*(each.to(where) for each in nets), **settings)


def load_networks(place: str, dtype: torch.dtype, **kwargs: object) -> tuple[Any, Any, Any]:
    """Load a folder's or hub id's networks in eval mode, the twins in `dtype`; `kwargs` as diffusers has them.

    Returns:
        PatchAutoencoder, SourceNet, TargetNet.
    """
    twins: list[Any] = [
        kind.from_pretrained(place, subfolder=name, torch_dtype=dtype, low_cpu_mem_usage=False, **kwargs)
        for name, kind in (("source_net", SourceNet), ("target_net", TargetNet))
    ]
    for network in twins:
        network.eval().to(memory_format=torch.channels_last)
    return PatchAutoencoder.from_pretrained(place, subfolder="autoencoder", **kwargs), *twins


def find_device(name: str | None = None) -> torch.device:
    """A device by its name; None: CUDA when there, CPU else. The one place where this is chosen.

    Raises:
        ModelError: it cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device '{name}' cannot be used: {first_line(error)}") from error
    return device


def default_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device computes in it, float32 else."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16, as far as PyTorch uses it."""
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
