"""Tokens of a stock image encoder for the source's views: what TruePose's CLIP-guided alignment (CAA) reads.

TruePose (arXiv 2502.03426) lets attention see CLIP's tokens beside the source's features, so that face and clothes
stay the same under any pose. Here SourceNet makes keys and values of them, once per avatar: frames cost nothing more.
An option (`pip install avatar-stream[caa]`); signer-small does without.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from avatar_stream.errors import ModelError

# CLIP's own normalisation of colours (openai/CLIP).
_MEAN, _SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_BACKGROUND = 0.5


def load_image_encoder(place: str, **kwargs: object) -> nn.Module:
    """Load a CLIP vision model from a folder or hub id, frozen.

    Raises:
        ModelError: transformers is not installed, or there is no such model.
    """
    try:
        from transformers import CLIPVisionModel
    except ImportError as error:
        raise ModelError("an image encoder needs transformers: pip install avatar-stream[caa]") from error
    try:
        return CLIPVisionModel.from_pretrained(place, **kwargs).eval().requires_grad_(False)
    except (OSError, ValueError) as error:
        raise ModelError(f"image encoder '{place}' cannot be loaded: {error}") from error


@torch.no_grad()
def image_tokens(encoder: nn.Module, look: torch.Tensor) -> torch.Tensor:
    """Encode views.

    Args:
        encoder: from `load_image_encoder`.
        look: (B, 4, H, W) premultiplied RGBA, 0..1.

    Returns:
        (B, N, D): the encoder's last hidden state.
    """
    size = encoder.config.image_size
    picture = look[:, :3] + (1 - look[:, 3:]) * _BACKGROUND
    picture = functional.interpolate(picture, (size, size), mode="bilinear", antialias=True)
    mean, spread = (torch.tensor(each, device=look.device).view(1, 3, 1, 1) for each in (_MEAN, _SPREAD))
    picture = ((picture - mean) / spread).to(next(encoder.parameters()).dtype)
    return encoder(pixel_values=picture).last_hidden_state
