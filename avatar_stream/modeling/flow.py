"""The flow from the warped source to the picture: what training and running share.

The path is straight (optimal transport, RPFM): `x_t = (1 - t) x_0 + t x_1` with velocity `x_1 - x_0`; x_1 is the
latent of the true picture. It starts at noise (RPFM) or, as a bridge, at the latent of the source image warped to
the target pose. The noise is fixed, so that a still pose gives a still picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import nn

from avatar_stream.modeling.conditioning import FACE_WINDOW, WINDOWS, Drawn, Views
from avatar_stream.modeling.denoiser import BODY, FACE, HAND, Memory
from avatar_stream.modeling.image_tokens import image_tokens

START_SOURCE, START_NOISE = "source", "noise"


@dataclass(frozen=True)
class ViewBatch:
    """Views of one size, ready for the networks; B counts poses (body) or poses x 3 (windows, pose-major).

    Attributes:
        look: (B, 4, H, W) premultiplied RGBA, 0..1. geometry: (B, 10, H, W). parts: (B, 6, H/16, W/16).
        kinds: (B,) int64.
    """

    look: torch.Tensor
    geometry: torch.Tensor
    parts: torch.Tensor
    kinds: torch.Tensor

    def to(self, device: torch.device | str) -> ViewBatch:
        """The same on another device."""
        return ViewBatch(*(getattr(self, each.name).to(device) for each in fields(self)))


def body_batch(views: Sequence[Views], device: torch.device | str = "cpu") -> ViewBatch:
    """Batch the body views of several poses."""
    return _batch([each.body for each in views], [BODY] * len(views), device)


def window_batch(views: Sequence[Views], device: torch.device | str = "cpu") -> ViewBatch:
    """Batch the windows of several poses, the three of one pose beside each other."""
    kinds = [FACE if window == FACE_WINDOW else HAND for window in range(WINDOWS)]
    return _batch([each.windows for each in views], kinds * len(views), device)


def _batch(drawn: Sequence[Drawn], kinds: list[int], device: torch.device | str) -> ViewBatch:
    look, maps, parts = (
        torch.from_numpy(_joined([getattr(each, name) for each in drawn])).to(device)
        for name in ("look", "maps", "parts")
    )
    return ViewBatch(
        look.permute(0, 3, 1, 2).float() / 255.0, maps, parts, torch.tensor(kinds, device=device)
    )


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def read_source(
    source_net: nn.Module, batch: ViewBatch, latents: torch.Tensor, image_encoder: nn.Module | None = None
) -> Memory:
    """Encode source views into TargetNet's memory, once per avatar; windows read all windows of their person.

    Args:
        source_net: SourceNet.
        batch: the source's own views.
        latents: (B, C, h, w) of `batch.look`.
        image_encoder: whose tokens the network reads too (CAA), where it was trained with one.
    """
    tokens = None if image_encoder is None else image_tokens(image_encoder, batch.look)
    memory = source_net(latents.to(batch.geometry.dtype), batch.geometry, batch.parts, batch.kinds, tokens)
    if int(batch.kinds[0]) == BODY:
        return memory
    return Memory(*([_join_windows(x) for x in entries] for entries in (memory.keys, memory.values)))


def _join_windows(x: torch.Tensor) -> torch.Tensor:
    """(3 B, ..., N, d) -> (3 B, ..., 3 N, d): every window of a person sees the places of all three."""
    per_person = x.unflatten(0, (-1, WINDOWS))
    joined = torch.cat(per_person.unbind(1), dim=-2)
    return joined.unsqueeze(1).expand(-1, WINDOWS, *joined.shape[1:]).flatten(0, 1)


def join_memories(memories: Sequence[Memory]) -> Memory:
    """Put the memories of several sources behind each other, one batch of all their rows."""
    if len(memories) == 1:
        return memories[0]
    keys = [torch.cat(entries) for entries in zip(*(each.keys for each in memories), strict=True)]
    values = [torch.cat(entries) for entries in zip(*(each.values for each in memories), strict=True)]
    return Memory(keys, values)


def repeat_memory(memory: Memory, times: int, group: int = 1) -> Memory:
    """Repeat each person's memory for several target poses; `group` rows (3 for windows) belong together."""

    def repeated(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(0, (-1, group)).repeat_interleave(times, dim=0).flatten(0, 1)

    return Memory(*([repeated(x) for x in entries] for entries in (memory.keys, memory.values)))


def start_of_path(look: torch.Tensor, start: str, seed: int) -> torch.Tensor:
    """x_0 for latents of the warped source (B, C, h, w): the latents themselves, or fixed noise of their shape."""
    if start == START_SOURCE:
        return look
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(look.shape[1:], generator=generator)
    return noise.to(look).expand_as(look)


def straight_path(x_0: torch.Tensor, x_1: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """x_t on the straight path; t: (B,)."""
    t = t.view(-1, 1, 1, 1).to(x_0)
    return (1 - t) * x_0 + t * x_1


def endpoint(x_t: torch.Tensor, velocity: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Where the path would end if the velocity stayed: the network's estimate of x_1."""
    return x_t + (1 - t.view(-1, 1, 1, 1).to(x_t)) * velocity


def make_pictures(
    velocity: Callable[..., torch.Tensor],
    autoencoder: nn.Module,
    batch: ViewBatch,
    memory: Memory,
    sigmas: Sequence[float],
    start: str = START_SOURCE,
    seed: int = 0,
) -> torch.Tensor:
    """A frame's whole way through the networks: warped source to latent, along the flow, to pictures.

    Args:
        velocity: TargetNet, or what stands for it (`engine.Engine.velocity`).
        autoencoder: see `autoencoder.py`; works in float32.
        batch: the target's views, `geometry` and `parts` in the network's precision.
        memory: what `read_source` gave, for the same rows.
        sigmas: falling from 1 to 0, one more than steps.
        start: "source" or "noise", where the path begins.
        seed: of the fixed noise.

    Returns:
        (B, 4, H, W) float32 premultiplied RGBA, about 0..1 (not clipped).
    """
    look = autoencoder.encode(batch.look)
    x_0 = start_of_path(look, start, seed)
    return autoencoder.decode(integrate(velocity, x_0, look, batch, memory, sigmas))


def integrate(
    target_net: Callable[..., torch.Tensor],
    x: torch.Tensor,
    look: torch.Tensor,
    batch: ViewBatch,
    memory: Memory,
    sigmas: Sequence[float],
) -> torch.Tensor:
    """Follow the velocity from the start of the path to its end with Euler steps.

    Equal to diffusers' FlowMatchEulerDiscreteScheduler with the same sigmas (there t = 1 - sigma and the velocity has
    the other sign); a test holds the two together.

    Args:
        target_net: TargetNet, or what stands for it.
        x: (B, C, h, w) start of the path.
        look: (B, C, h, w) latents of the warped source.
        batch: the target's views.
        memory: what `read_source` gave, for the same rows.
        sigmas: falling from 1 to 0, one more than steps.
    """
    for sigma, next_sigma in zip(sigmas[:-1], sigmas[1:], strict=True):
        t = torch.full((x.shape[0],), 1.0 - sigma, device=x.device)
        dtype = batch.geometry.dtype
        velocity = target_net(
            x.to(dtype), t, look.to(dtype), batch.geometry, batch.parts, batch.kinds, memory
        )
        x = x + (sigma - next_sigma) * velocity.to(x.dtype)  # the path itself stays in the latents' precision
    return x
