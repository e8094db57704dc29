"""Textures on the device: pictures, labels, and what a light sees of a person."""

from __future__ import annotations

from collections.abc import Callable

import moderngl
import numpy as np

_HALF_M = 1.1  # a map reaches this far around the middle of the shoulders


class KeptTexture:
    """The texture that was asked for last."""

    def __init__(self, context: moderngl.Context):
        """Hold nothing yet."""
        self._context, self._name = context, object()
        self._texture: moderngl.Texture | None = None

    def keep(self, name: object, make: Callable[[], np.ndarray]) -> None:
        """Hold the texture of this name, and make it where another one is held."""
        if self._texture is None or self._name != name:
            self.release()
            self._name, self._texture = name, upload(self._context, make())

    def use(self, place: int) -> None:
        """Bind it to a texture unit."""
        if self._texture is not None:
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
        (pixels.shape[1], pixels.shape[0]),
        pixels.shape[2],
        np.ascontiguousarray(pixels).tobytes(),
        dtype=kind,
    )
    texture.build_mipmaps()
    # One level at a time: reading two costs a tenth of the frame on a processor.
    texture.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)
    return texture


def label_texture(context: moderngl.Context, masks: np.ndarray) -> moderngl.Texture:
    """The strongest channel of the part masks at each texel."""
    labels = np.ascontiguousarray(masks.argmax(-1).astype(np.uint8))
    texture = context.texture((labels.shape[1], labels.shape[0]), 1, labels.tobytes())
    texture.filter = (moderngl.NEAREST, moderngl.NEAREST)
    return texture


class ShadowMap:
    """What a light far away sees, as depth.

    Attributes:
        texture: depth, read by a `sampler2DShadow`.
    """

    def __init__(self, context: moderngl.Context, side_px: int):
        """Make an empty map of `side_px` a side."""
        self._context = context
        self.texture = context.depth_texture((side_px, side_px))
        self.texture.compare_func = "<="
        self.texture.repeat_x = self.texture.repeat_y = False
        self._target = context.framebuffer(depth_attachment=self.texture)

    def draw(
        self, cast: Callable[[], None], program: moderngl.Program, direction: np.ndarray, focus_m: np.ndarray
    ) -> np.ndarray:
        """Draw a person's depth.

        Args:
            cast: draws the person with `program`.
            program: writes no colours; its `clip` is set here.
            direction: (3,) to the light, in model space.
            focus_m: (3,) the middle of what is lit.

        Returns:
            (4, 4) float32 matrix of column vectors from model space to the map's 0..1.
        """
        ahead = direction / np.linalg.norm(direction)
        right = np.cross((0.0, 1.0, 0.0) if abs(ahead[1]) < 0.95 else (0.0, 0.0, -1.0), ahead)
        right /= np.linalg.norm(right)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, np.cross(ahead, right), -ahead]) / _HALF_M
        matrix[:3, 3] = -matrix[:3, :3] @ focus_m
        self._target.use()
        self._target.clear(depth=1.0)
        self._context.enable_only(moderngl.DEPTH_TEST)
        program["clip"].write(matrix.T.astype(np.float32).tobytes())
        cast()
        half = np.diag([0.5, 0.5, 0.5, 1.0])
        half[:3, 3] = 0.5
        return (half @ matrix).astype(np.float32)
