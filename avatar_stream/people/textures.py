"""Textures on the device."""

from __future__ import annotations

from collections.abc import Callable

import moderngl
import numpy as np


class KeptTexture:
    """The texture that was asked for last."""

    def __init__(self, context: moderngl.Context):
        """Hold nothing yet."""
        self._context, self._name, self._texture = context, None, None

    def keep(self, name: object, make: Callable[[], np.ndarray]) -> None:
        """Hold the texture of this name, and make it where another one is held."""
        if self._texture is None or self._name != name:
            self.release()
            self._name, self._texture = name, upload(self._context, make())

    def use(self, place: int) -> None:
        """Bind it to a texture unit."""
        self._texture.use(place)

    def release(self) -> None:
        """Give it back. May be called twice."""
        if self._texture is not None:
            self._texture.release()
            self._texture = None


def upload(context: moderngl.Context, pixels: np.ndarray) -> moderngl.Texture:
    """(H, W, C) uint8 (read as 0..1) or float16 pixels as a texture with smaller copies for the distance."""
    kind = "f2" if pixels.dtype == np.float16 else "f1"
    texture = context.texture(
        pixels.shape[1::-1], pixels.shape[2], np.ascontiguousarray(pixels).tobytes(), dtype=kind
    )
    texture.build_mipmaps()
    # One level at a time: reading two costs a tenth of the frame on a processor.
    texture.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)
    return texture


def label_texture(context: moderngl.Context, masks: np.ndarray) -> moderngl.Texture:
    """The strongest channel of the part masks at each texel."""
    labels = np.ascontiguousarray(masks.argmax(-1).astype(np.uint8))
    texture = context.texture(labels.shape[::-1], 1, labels.tobytes())
    texture.filter = (moderngl.NEAREST, moderngl.NEAREST)
    return texture
