"""A signer before a camera, a photographic avatar signing the same.

`SignerPipeline`, `SourceNet`, `TargetNet` and `PatchAutoencoder` are loaded when first asked for: importing this
package loads neither torch nor mediapipe.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_LAZY = {
    "PatchAutoencoder": "avatar_stream.modeling.autoencoder",
    "SignerPipeline": "avatar_stream.modeling.pipeline",
    "SourceNet": "avatar_stream.modeling.denoiser",
    "TargetNet": "avatar_stream.modeling.denoiser",
}

__all__ = ["PatchAutoencoder", "SignerPipeline", "SourceNet", "TargetNet", "__version__"]


def __getattr__(name: str) -> object:
    """Load a public class when it is first asked for (PEP 562)."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
