"""RGBA pictures to latents and back.

`PatchAutoencoder` is linear: each 8x8 patch of premultiplied RGBA becomes 64 numbers, the principal components of
patches of rendered people with hands and face weighted up. Its decoder is one matrix product. At the training that
can be had here it beat every convolutional autoencoder that was tried (docs/experiments.md).
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch.nn import functional


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Linear patch autoencoder of premultiplied RGBA.

    Args:
        patch_px: side of a patch; one latent place per patch.
        latent_channels: components kept.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, patch_px: int = 8, latent_channels: int = 64):
        super().__init__()
        size = 4 * patch_px * patch_px
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(latent_channels, size))  # orthonormal rows
        self.register_buffer("scale", torch.ones(latent_channels))  # standard deviation of each component

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 4, H, W) premultiplied RGBA, 0..1 -> (B, latent_channels, H/8, W/8), about unit variance."""
        patch_px = self.config.patch_px
        weight, _, mean = self.linear_maps()
        # With the patch's stride, for a third of the time that unshuffling and a pointwise convolution take.
        kernel = weight.view(-1, 4, patch_px, patch_px)
        return functional.conv2d(
            image, kernel.to(image.dtype), -(weight @ mean).to(image.dtype), stride=patch_px
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, latent_channels, h, w) -> (B, 4, 8h, 8w) premultiplied RGBA, about 0..1 (not clipped)."""
        _, weight, mean = self.linear_maps()
        patches = functional.conv2d(
            latents, weight[:, :, None, None].to(latents.dtype), mean.to(latents.dtype)
        )
        return functional.pixel_shuffle(patches, self.config.patch_px)

    def linear_maps(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Both ways as matrices: encode (C, 4 px px), decode (4 px px, C) and the mean patch (4 px px,)."""
        return self.basis / self.scale[:, None], (self.basis * self.scale[:, None]).T, self.mean

    @torch.no_grad()
    def fit(self, patches: torch.Tensor, weights: torch.Tensor) -> float:
        """Set the components from data (weighted principal component analysis).

        Args:
            patches: (N, 4 * patch_px**2) float32, laid out as `pixel_unshuffle` does.
            weights: (N,) float32, how much each patch counts (hands and face more).

        Returns:
            Share of the weighted variance that the components keep.
        """
        weights = (weights / weights.sum()).double()
        patches = patches.double()
        mean = (weights[:, None] * patches).sum(0)
        centred = patches - mean
        covariance = (centred * weights[:, None]).T @ centred
        values, vectors = torch.linalg.eigh(covariance)
        kept = torch.arange(len(values) - 1, len(values) - 1 - self.config.latent_channels, -1)
        self.mean.copy_(mean)
        self.basis.copy_(vectors[:, kept].T)
        # A component that hardly occurs must not blow up what lies outside the data.
        self.scale.copy_(values[kept].clamp_min(1e-3).sqrt())
        return float(values[kept].sum() / values.sum())
