"""Both ends of TargetNet, at half a patch: what it reads, and what it says of every pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from avatar_stream.modeling.drawing.texture import DISPLACEMENT_PX, MOVES

_MOST_LOG_GAIN = 0.7  # twice as bright, or half


class Transfer(NamedTuple):
    """How the source's texture reaches the picture at full resolution; see `texture.py`.

    Attributes:
        displacement: (B, 2, 2h, 2w), px of the view by which places in the source are moved, x and y.
        gain: (B, 3, 2h, 2w), how much brighter the texture is in this pose, of red, green and blue.
        share: (B, 1, 8h, 8w), 0..1, how much of the texture counts, for each pixel of the view.
    """

    displacement: torch.Tensor
    gain: torch.Tensor
    share: torch.Tensor


class Prediction(NamedTuple):
    """What TargetNet says: the velocity, (B, latent_channels, h, w), and how the texture is laid over the picture."""

    velocity: torch.Tensor
    transfer: Transfer


class FineBlock(nn.Module):
    """Residual convolution without norm or modulation, for the two finest levels, where every pass is dear."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return x + self.conv(functional.silu(x))


class Detail(nn.Module):
    """Both ends of TargetNet: from latents and geometry to features, and from features to the velocity.

    Works at half a patch, 4 px. A patch of geometry is 640 numbers: squeezed into one place of 80 features, the edge of
    a finger is lost before the network begins. Convolutions of stride 2 lead down and up, for moving channels to
    places (pixel_shuffle) costs as much as computing with them.

    Beside the velocity it says how the source's texture is laid over the picture (`Transfer`); nothing moves at first.

    The velocity has two parts, both zero at first: one is computed; the other takes pixels of the warped source away.
    Most of these are right as they are, and whatever passes through features only becomes blurred: so the look stays
    where the path began, and the network says which of its pixels do not belong to the target.
    """

    def __init__(self, latent_channels: int, geometry_channels: int, patch_px: int, widths: tuple[int, int]):
        super().__init__()
        fine, coarse = widths
        self.patch_px = patch_px
        self.look = nn.ConvTranspose2d(latent_channels, fine, 2, stride=2)
        self.geometry = nn.Conv2d(geometry_channels, fine, patch_px // 2, stride=patch_px // 2)
        self.fine_in = FineBlock(fine)
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.sample = nn.Conv2d(latent_channels, coarse, 1)
        self.coarse_in, self.coarse_out = FineBlock(coarse), FineBlock(coarse)
        self.up = nn.ConvTranspose2d(coarse, fine, 2, stride=2)
        self.fine_out = nn.Sequential(FineBlock(fine), FineBlock(fine))
        self.to_velocity = nn.Conv2d(fine, latent_channels, 2, stride=2)
        self.to_share = nn.Conv2d(fine, patch_px**2, 2, stride=2)
        self.geometry_to_share = nn.Conv2d(geometry_channels, patch_px**2, patch_px, stride=patch_px)
        self.unfold = nn.Conv2d(latent_channels, 4 * patch_px**2, 1)  # latents to pixels
        self.fold = nn.Conv2d(4 * patch_px**2, latent_channels, 1, bias=False)  # pixels to latents
        self.texture = FineBlock(fine)
        self.to_moves = nn.Conv2d(fine, MOVES, 1)
        self.to_texture = nn.Conv2d(fine, patch_px**2, 2, stride=2)
        self.geometry_to_texture = nn.Conv2d(geometry_channels, patch_px**2, patch_px, stride=patch_px)
        for layer in (
            self.to_velocity, self.to_share, self.geometry_to_share,
            self.to_moves, self.to_texture, self.geometry_to_texture,
        ):  # fmt: skip
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def texture_layers(self) -> tuple[nn.Module, ...]:
        """What only the transfer depends on."""
        return self.texture, self.to_moves, self.to_texture, self.geometry_to_texture

    @torch.no_grad()
    def start_from(self, encode: torch.Tensor, decode: torch.Tensor, mean: torch.Tensor) -> None:
        """Begin with a linear autoencoder's own way: encode (C, 4 px px), decode (4 px px, C), mean (4 px px,)."""
        self.fold.weight.copy_(encode[:, :, None, None])
        self.unfold.weight.copy_(decode[:, :, None, None])
        self.unfold.bias.copy_(mean)

    def read(
        self, sample: torch.Tensor, look: torch.Tensor, geometry: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features at half a patch, (B, fine, 2h, 2w), and at a patch, (B, coarse, h, w)."""
        fine = self.fine_in(self.look(look) + self.geometry(geometry))
        return fine, self.coarse_in(self.down(fine) + self.sample(sample))

    def write(
        self, fine: torch.Tensor, coarse: torch.Tensor, look: torch.Tensor, geometry: torch.Tensor
    ) -> Prediction:
        """The velocity and the transfer of the texture."""
        hidden = functional.silu(self.fine_out(fine + self.up(self.coarse_out(coarse))))
        share = torch.tanh(self.to_share(hidden) + self.geometry_to_share(geometry))
        # Colour by colour, as pixel_unshuffle orders them.
        wrong = self.fold(self.unfold(look) * share.repeat(1, 4, 1, 1))
        return Prediction(self.to_velocity(hidden) - wrong, self._transfer(hidden, geometry))

    def _transfer(self, hidden: torch.Tensor, geometry: torch.Tensor) -> Transfer:
        hidden = functional.silu(self.texture(hidden))
        # Even neighbours differ by a third of what they say: unsmoothed, hair and outlines would be serrated.
        moves = functional.avg_pool2d(torch.tanh(self.to_moves(hidden)), 3, 1, 1, count_include_pad=False)
        share = torch.sigmoid(self.to_texture(hidden) + self.geometry_to_texture(geometry))
        share = functional.pixel_shuffle(share, self.patch_px)
        return Transfer(DISPLACEMENT_PX * moves[:, :2], torch.exp(_MOST_LOG_GAIN * moves[:, 2:]), share)
