"""The avatar's rigged person, posed by the landmarks and drawn by OpenGL: no learned model."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_stream import stages
from avatar_stream.errors import RenderError
from avatar_stream.types import CANVAS_PX, Pose


class RigSynthesizer(stages.Synthesizer):
    """Draws `avatar.rig_path` in the pose: what a user would otherwise use, and the model's baseline."""

    class Options(stages.SynthesizerOptions):
        """Which person, and how large the picture is."""

    options: Options

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Keep the options."""
        super().__init__(options, context)
        self._renderer: Any = None
        self._rig: Any = None
        self._solver: Any = None
        self._camera: Any = None

    def open(self) -> None:
        """Load the person and start OpenGL.

        Raises:
            RenderError: the avatar has no rigged person, its file is broken, or OpenGL is missing.
        """
        avatar = self.context.avatar
        if avatar is None or avatar.rig_path is None:
            name = f"avatar '{avatar.name}' has" if avatar else "there is"
            raise RenderError(
                f"{name} no rigged person: choose an avatar with one, or the 'flow' synthesizer"
            )
        from avatar_stream.people.camera import Camera
        from avatar_stream.people.inverse_kinematics import RigSolver
        from avatar_stream.people.renderer import Renderer
        from avatar_stream.people.rig import Rig

        self._rig = Rig.load(avatar.rig_path)
        self._camera = Camera().place(self._rig.bind_m)
        self._solver = RigSolver(
            self._rig.bind_m,
            metres_per_px=self._camera.side_m / CANVAS_PX,
            neutral=avatar.pose,
            distance_m=self._camera.distance_m,
        )
        self._renderer = Renderer(self.size_px)

    def synthesize(self, pose: Pose) -> np.ndarray:
        """Return (size_px, size_px, 4) uint8 RGBA, straight alpha, of the rigged person in `pose` (canvas px)."""
        return self._renderer.draw(self._rig, self._solver.solve(pose), self._camera).image

    def close(self) -> None:
        """Give OpenGL back. May be called twice."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._rig = self._solver = self._camera = None


STAGE = RigSynthesizer
