"""SourceNet and TargetNet: the twin networks of TruePose (arXiv 2502.03426), made small, convolutional and live.

SourceNet reads the source image's views once per avatar; the keys and values that it returns are the cache.
TargetNet predicts the velocity of the flow (RPFM, arXiv 2505.03562) for one step; its attention reads the cache,
guided by parts (TruePose's HPFA: face to face, hand to hand, clothes to clothes).

Both networks are fully convolutional: the body's view and the windows go through the same weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional

from avatar_stream.modeling.detail import Detail, Prediction


@dataclass
class Memory:
    """What attention reads of the source: one entry per attention layer.

    Attributes:
        keys: (B, heads, N, head_dim + parts): each place's key, and behind it the shares of the parts there.
        values: (B, heads, N, head_dim).
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]


class Block(nn.Module):
    """Residual convolution block, modulated by time and kind of view (scale and shift after the first norm)."""

    def __init__(self, channels: int, embedding_dim: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_dim, 2 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w), (B, E) -> (B, C, h, w)."""
        hidden = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = self.norm2(hidden) * (1 + scale) + shift
        return x + self.conv2(functional.silu(hidden))


class _Blocks(nn.ModuleList):
    """Several blocks one after another."""

    def __init__(self, channels: int, count: int, embedding_dim: int):
        super().__init__(Block(channels, embedding_dim) for _ in range(count))

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        for block in self:
            x = block(x, embedding)
        return x


class SourceAttention(nn.Module):
    """Attention from target places to the source's, guided by parts.

    The score of target place i and source place j gains `P_i^T G P_j`, with P the shares of the parts in each place
    and G a learned table per head that starts at "like to like". Both sums are one: `P_i^T G` stands behind the query
    and P_j behind the key, so that no table of all pairs of places is ever made (it took a third of the time).
    """

    def __init__(self, channels: int, heads: int, parts: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.to_query = nn.Conv2d(channels, channels, 1)
        self.to_out = nn.Conv2d(channels, channels, 1)
        self.guide = nn.Parameter(2.0 * torch.eye(parts).repeat(heads, 1, 1))
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(
        self, x: torch.Tensor, parts: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """(B, C, h, w) features; (B, h*w, P) parts; keys and values of `Memory`."""
        batch, channels, height, width = x.shape
        query = self.to_query(self.norm(x)).flatten(2).transpose(1, 2)
        query = query.unflatten(2, (self.heads, -1)).transpose(1, 2)
        head_dim = query.shape[-1]
        guide = (self.guide * math.sqrt(head_dim)).to(x.dtype)  # the scale below is for the query alone
        query = torch.cat([query, parts.unsqueeze(1) @ guide], dim=-1)
        read = functional.scaled_dot_product_attention(query, keys, values, scale=1 / math.sqrt(head_dim))
        read = read.transpose(1, 2).flatten(2).transpose(1, 2).reshape(batch, channels, height, width)
        return x + self.to_out(read)


def time_embedding(t: torch.Tensor, size: int) -> torch.Tensor:
    """(B,) times 0..1 -> (B, size) sines and cosines."""
    frequencies = torch.exp(torch.arange(size // 2, device=t.device) * (-math.log(1000.0) / (size // 2 - 1)))
    angles = t[:, None].float() * frequencies[None] * 2 * math.pi
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Stem(nn.Module):
    """Latents and geometry maps of one view into features."""

    def __init__(self, latent_channels: int, geometry_channels: int, patch_px: int, width: int):
        super().__init__()
        self.patch_px = patch_px
        self.latents = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.geometry = nn.Conv2d(geometry_channels * patch_px**2, width, 1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, latents: torch.Tensor, geometry: torch.Tensor) -> torch.Tensor:
        # A pointwise convolution of unshuffled patches, written as one with the patch's stride: half the time.
        kernel = self.geometry.weight.view(self.geometry.out_channels, -1, self.patch_px, self.patch_px)
        geometry = functional.conv2d(geometry, kernel, self.geometry.bias, stride=self.patch_px)
        return self.latents(latents) + self.mix(functional.silu(geometry))


class SourceNet(ModelMixin, ConfigMixin):
    """Reads the source image's views into keys and values, once per avatar.

    Args:
        latent_channels: of the autoencoder. geometry_channels: of the conditioning. patch_px: px per latent place.
        widths: channels at full, half and quarter latent resolution; attention works at the two coarser ones.
        heads: of attention. layers: attention layers of TargetNet at (half, quarter) resolution.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 64,
        geometry_channels: int = 10,
        patch_px: int = 8,
        widths: tuple[int, int, int] = (80, 160, 256),
        heads: int = 4,
        layers: tuple[int, int] = (2, 1),
        embedding_dim: int = 128,
    ):
        super().__init__()
        self.view_embedding = nn.Embedding(3, embedding_dim)
        self.stem = _Stem(latent_channels, geometry_channels, patch_px, widths[0])
        self.blocks = nn.ModuleList(Block(width, embedding_dim) for width in widths)
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in widths[1:])
        self.to_keys_values = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(width, 2 * width, 1) for _ in range(count))
            for width, count in zip(widths[1:], layers, strict=True)
        )

    def forward(
        self,
        latents: torch.Tensor,
        geometry: torch.Tensor,
        parts: torch.Tensor,
        kinds: torch.Tensor,
    ) -> Memory:
        """Encode views of one size.

        Args:
            latents: (B, latent_channels, h, w) of the source's views.
            geometry: (B, geometry_channels, 8h, 8w) of the source pose.
            parts: (B, P, h/2, w/2) shares of the parts.
            kinds: (B,) int64, BODY, FACE or HAND.
        """
        embedding = functional.silu(self.view_embedding(kinds))
        hidden = self.blocks[0](self.stem(latents, geometry), embedding)
        memory = Memory([], [])
        for level, (down, block) in enumerate(zip(self.downs, self.blocks[1:], strict=True)):
            hidden = block(down(hidden), embedding)
            if level > 0:
                parts = functional.avg_pool2d(parts, 2)
            places = parts.flatten(2).transpose(1, 2).unsqueeze(1).expand(-1, self.config.heads, -1, -1)
            for to_keys_values in self.to_keys_values[level]:
                both = to_keys_values(self.norms[level](hidden)).flatten(2).transpose(1, 2)
                self._remember(memory, both, places)
        return memory

    def _remember(self, memory: Memory, both: torch.Tensor, places: torch.Tensor) -> None:
        keys, values = both.unflatten(2, (2, self.config.heads, -1)).unbind(2)
        memory.keys.append(torch.cat([keys.transpose(1, 2), places.to(keys.dtype)], dim=-1))
        memory.values.append(values.transpose(1, 2))


class TargetNet(ModelMixin, ConfigMixin):
    """Predicts the velocity of the flow for views of a target pose.

    Args: see SourceNet; `widths` has one more, the first: channels at half a patch. `blocks` is the number of residual
        blocks at half and quarter latent resolution.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 64,
        geometry_channels: int = 10,
        patch_px: int = 8,
        widths: tuple[int, int, int, int] = (64, 80, 160, 256),
        heads: int = 4,
        parts: int = 6,
        blocks: tuple[int, int] = (1, 1),
        embedding_dim: int = 128,
    ):
        super().__init__()
        _, full, half, quarter = widths
        self.view_embedding = nn.Embedding(3, embedding_dim)
        self.time = nn.Sequential(
            nn.Linear(64, embedding_dim), nn.SiLU(), nn.Linear(embedding_dim, embedding_dim)
        )
        self.detail = Detail(latent_channels, geometry_channels, patch_px, (widths[0], widths[1]))
        self.to_half = nn.Conv2d(full, half, 2, stride=2)
        self.half_in = _Blocks(half, blocks[0], embedding_dim)
        self.to_quarter = nn.Conv2d(half, quarter, 2, stride=2)
        self.quarter_in = _Blocks(quarter, blocks[1], embedding_dim)
        # Half resolution on the way down and up, quarter resolution in the middle.
        self.attentions = nn.ModuleList(
            SourceAttention(width, heads, parts) for width in (half, half, quarter)
        )
        self.middle = Block(quarter, embedding_dim)
        self.from_quarter = nn.Conv2d(quarter, 4 * half, 1)
        self.half_out = _Blocks(half, blocks[0], embedding_dim)
        self.from_half = nn.Conv2d(half, 4 * full, 1)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        look: torch.Tensor,
        geometry: torch.Tensor,
        parts: torch.Tensor,
        kinds: torch.Tensor,
        memory: Memory,
    ) -> Prediction:
        """Velocity at one time, and the transfer of the texture.

        Args:
            sample: (B, latent_channels, h, w), the point on the path.
            timestep: (B,) 0 at the start of the path, 1 at the picture.
            look: (B, latent_channels, h, w), latents of the source image warped to the target pose.
            geometry: (B, geometry_channels, 8h, 8w) of the target pose.
            parts: (B, P, h/2, w/2) shares of the parts.
            kinds: (B,) int64, BODY, FACE or HAND.
            memory: from SourceNet, for the same batch.

        Returns:
            The velocity, and what lays the texture over the picture at the end of the path.
        """
        embedding = self.time(time_embedding(timestep, 64).to(sample.dtype)) + self.view_embedding(kinds)
        embedding = functional.silu(embedding)
        half_parts = parts.flatten(2).transpose(1, 2)
        quarter_parts = functional.avg_pool2d(parts, 2).flatten(2).transpose(1, 2)

        def attend(layer: int, hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            return self.attentions[layer](hidden, places, memory.keys[layer], memory.values[layer])

        fine, full = self.detail.read(sample, look, geometry)
        half = attend(0, self.half_in(self.to_half(full), embedding), half_parts)
        hidden = attend(2, self.quarter_in(self.to_quarter(half), embedding), quarter_parts)
        hidden = half + functional.pixel_shuffle(self.from_quarter(self.middle(hidden, embedding)), 2)
        hidden = self.half_out(attend(1, hidden, half_parts), embedding)
        hidden = full + functional.pixel_shuffle(self.from_half(hidden), 2)
        return self.detail.write(fine, hidden, look, geometry)
