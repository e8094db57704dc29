"""The flow from the warped source to the picture: what training and running share.

The path is straight (optimal transport, RPFM): `x_t = (1 - t) x_0 + t x_1` with velocity `x_1 - x_0`; x_1 is the
latent of the true picture. It starts at noise (RPFM) or, as a bridge, at the latent of the source image warped to
the target pose. The noise is fixed, so that a still pose gives a still picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from avatar_stream.modeling.backend import BODY, KINDS, START_SOURCE
from avatar_stream.modeling.denoiser import Memory
from avatar_stream.modeling.detail import Prediction, Transfer
from avatar_stream.modeling.drawing.conditioning import WINDOWS, Views
from avatar_stream.modeling.drawing.finishing import ViewImages
from avatar_stream.modeling.drawing.geometry import Drawing
from avatar_stream.modeling.drawing.rasterizer import NOWHERE
from avatar_stream.modeling.drawing.shading import EMPTY
from avatar_stream.modeling.drawing.texture import CLEAR, OPAQUE
from avatar_stream.types import CANVAS_PX


@dataclass(frozen=True)
class _Tensors:
    """Fields that are all tensors."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)(*(getattr(self, each.name).to(device) for each in fields(self)))


@dataclass(frozen=True)
class ViewBatch(_Tensors):
    """Views of one size, ready for the networks; B counts poses (body) or poses x 3 (windows, pose-major).

    Attributes:
        look: (B, 4, H, W) premultiplied RGBA, 0..1. geometry: (B, 10, H, W). parts: (B, 6, H/16, W/16).
        kinds: (B,) int64.
    """

    look: torch.Tensor
    geometry: torch.Tensor
    parts: torch.Tensor
    kinds: torch.Tensor


class ViewOutputs(NamedTuple):
    """What the networks make of views.

    Attributes:
        pictures: (B, 4, H, W) float32 premultiplied RGBA, about 0..1 (not clipped).
        transfer: how the source's texture is to be laid over them.
    """

    pictures: torch.Tensor
    transfer: Transfer


@dataclass(frozen=True)
class Texture(_Tensors):
    """Where the pixels of some views lie in the looks of their source; for `lay_texture`.

    Attributes:
        flow: (B, 2, H, W) canvas px of the source, x and y; changes: (B, 5, H, W) see `texture.stretch`.
        limb: (B, 1, H, W) uint8, the limb each pixel belongs to.
        look: (B, 1, H, W) uint8, which look of the source each pixel is read from.
        images: (N, L, 4, S, S) uint8 premultiplied RGBA of the sources; each is that of B / N views after another.
        limbs: (N, L, 256, 256) uint8, theirs.
    """

    flow: torch.Tensor
    changes: torch.Tensor
    limb: torch.Tensor
    look: torch.Tensor
    images: torch.Tensor
    limbs: torch.Tensor


class Laid(NamedTuple):
    """The texture, moved.

    Attributes:
        pictures: (B, 4, H, W) premultiplied RGBA with the texture laid over them.
        colour: (B, 3, H, W) the moved texture alone, straight, with its gain.
        seen: (B, 1, H, W) 0..1, where the source shows something that may be taken.
        moved: (B, 2, H, W) canvas px by which places in the source were moved.
    """

    pictures: torch.Tensor
    colour: torch.Tensor
    seen: torch.Tensor
    moved: torch.Tensor


def lay_texture(pictures: torch.Tensor, transfer: Transfer, texture: Texture) -> Laid:
    """Lay the sources' texture over views, with gradients; `texture.lay_texture` is the same for running.

    Args:
        pictures: (B, 4, H, W) premultiplied RGBA.
        transfer: TargetNet's.
        texture: where their pixels lie in the sources.
    """
    size = pictures.shape[-2:]
    displacement, gain = (
        functional.interpolate(each.float(), size=size, mode="bilinear")
        for each in (transfer.displacement, transfer.gain)
    )
    right, down, firm = texture.changes.split((2, 2, 1), dim=1)
    moved = right * displacement[:, :1] + down * displacement[:, 1:]
    place = texture.flow + moved
    read = _read(texture.images, place, texture.look)
    opacity = read[:, 3:]
    seen = ((opacity - CLEAR) / (OPAQUE - CLEAR)).clamp(0, 1) * _allowed(place, texture)
    colour = (read[:, :3] / opacity.clamp_min(CLEAR) * gain).clamp(0, 1)
    share = transfer.share.float() * seen * firm
    laid = pictures[:, :3] + share * (colour * pictures[:, 3:] - pictures[:, :3])
    return Laid(torch.cat([laid, pictures[:, 3:]], dim=1), colour, seen, moved)


def _read(images: torch.Tensor, place: torch.Tensor, look: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) 0..1 of (N, L, C, S, S) uint8 images at (B, 2, H, W) canvas px, the views of one source at once.

    Its looks stand one below the other; half a pixel within their edges, no place reads its neighbour.
    """
    sources, looks, _, side = images.shape[:4]
    half = 0.5 * CANVAS_PX / side
    x, y = place.clamp(half, CANVAS_PX - half).split(1, dim=1)
    grid = torch.cat([x, (y + look * float(CANVAS_PX)) / looks], dim=1) * (2.0 / CANVAS_PX) - 1.0
    height, width = place.shape[-2:]
    grid = grid.permute(0, 2, 3, 1).reshape(sources, -1, width, 2)
    column = images.transpose(1, 2).flatten(2, 3).float() / 255.0
    read = functional.grid_sample(column, grid.float(), align_corners=False)
    return read.unflatten(2, (-1, height)).transpose(1, 2).flatten(0, 1)


def _allowed(place: torch.Tensor, texture: Texture) -> torch.Tensor:
    """(B, 1, H, W) float: 1 where a place in the source is known and belongs to no other limb."""
    side = texture.limbs.shape[-1]
    cell = (place.detach() * (side / CANVAS_PX)).long().clamp(0, side - 1)
    index = (texture.look[:, 0].long() * side + cell[:, 1]) * side + cell[:, 0]
    limb = texture.limbs.flatten(1).gather(1, index.reshape(len(texture.limbs), -1)).view_as(texture.limb)
    free = (limb == 0) | (limb == texture.limb)
    return ((limb != EMPTY) & free & (texture.flow[:, :1] > NOWHERE / 2)).float()


def batch_of(views: Sequence[Views], size: str, device: torch.device | str = "cpu") -> ViewBatch:
    """Batch the "body" or the "windows" of several poses, the three windows of one pose beside each other."""
    drawn: list[Drawing] = [getattr(each, size) for each in views]
    look, maps, parts = (
        torch.from_numpy(_joined([getattr(each, name) for each in drawn])).to(device)
        for name in ("look", "maps", "parts")
    )
    kinds = torch.tensor(KINDS[size] * len(views), device=device)
    return ViewBatch(look.permute(0, 3, 1, 2).float() / 255.0, maps, parts, kinds)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def read_source(source_net: nn.Module, batch: ViewBatch, latents: torch.Tensor) -> Memory:
    """Encode source views into TargetNet's memory, once per avatar; windows read all windows of their person.

    Args:
        source_net: SourceNet.
        batch: the source's own views.
        latents: (B, C, h, w) of `batch.look`.
    """
    memory = source_net(latents.to(batch.geometry.dtype), batch.geometry, batch.parts, batch.kinds)
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
    target_net: Callable[..., Prediction],
    autoencoder: nn.Module,
    batch: ViewBatch,
    memory: Memory,
    sigmas: Sequence[float],
    start: str = START_SOURCE,
    seed: int = 0,
) -> ViewOutputs:
    """A frame's whole way through the networks: warped source to latent, along the flow, to pictures.

    Args:
        target_net: TargetNet, or what stands for it .
        autoencoder: see `autoencoder.py`; works in float32.
        batch: the target's views, `geometry` and `parts` in the network's precision.
        memory: what `read_source` gave, for the same rows.
        sigmas: falling from 1 to 0, one more than steps.
        start: "source" or "noise", where the path begins.
        seed: of the fixed noise.

    Returns:
        The pictures without texture, and the transfer that the last step says.
    """
    look = autoencoder.encode(batch.look)
    x_0 = start_of_path(look, start, seed)
    x_1, transfer = integrate(target_net, x_0, look, batch, memory, sigmas)
    return ViewOutputs(autoencoder.decode(x_1), transfer)


def views_of(made: ViewOutputs, poses: int) -> list[ViewImages]:
    """What the networks made, pose by pose, as `finishing.paste_views` takes it."""
    displacement, gain, share = made.transfer
    moves = torch.cat([displacement, gain], dim=1).permute(0, 2, 3, 1)
    arrays = [
        each.float().contiguous().cpu().numpy()
        for each in (made.pictures.permute(0, 2, 3, 1), moves, share[:, 0])
    ]
    return [ViewImages(*each) for each in zip(*(np.split(array, poses) for array in arrays), strict=True)]


def integrate(
    target_net: Callable[..., Prediction],
    x: torch.Tensor,
    look: torch.Tensor,
    batch: ViewBatch,
    memory: Memory,
    sigmas: Sequence[float],
) -> tuple[torch.Tensor, Transfer]:
    """Follow the velocity from the start of the path to its end with Euler steps; the last step's transfer beside it.

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
        velocity, transfer = target_net(
            x.to(dtype), t, look.to(dtype), batch.geometry, batch.parts, batch.kinds, memory
        )
        x = x + (sigma - next_sigma) * velocity.to(x.dtype)  # the path itself stays in the latents' precision
    return x, transfer
