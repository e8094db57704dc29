"""What a light sees of a person: the map that says which skin lies in shadow."""

from __future__ import annotations

from collections.abc import Callable

import moderngl
import numpy as np

_HALF_M = 1.1  # a map reaches this far around the middle of the shoulders


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
