"""What is evaluated: the learned model, or the rigged person posed from landmarks, behind one verb."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from avatar_stream.errors import ModelError
from avatar_stream.messages import first_line
from avatar_stream.modeling.backend import AUTO, EAGER
from avatar_stream.modeling.drawing import conditioning, finishing
from avatar_stream.modeling.signer import PreparedSource, Signer, even_steps, open_signer
from avatar_stream.stages import Context
from avatar_stream.synthesizers.flow import find_model
from avatar_stream.types import Avatar, Pose


class Painter:
    """Makes pictures of one person after another.

    Attributes:
        name: of the synthesizer.
        takes_steps: False: the number of steps means nothing to it.
    """

    name: str
    takes_steps: bool

    def meet(self, avatar: Avatar) -> None:
        """Take the source picture of the person to paint from now on."""
        raise NotImplementedError

    def paint(self, pose: Pose, steps: int) -> np.ndarray:
        """(512, 512, 4) uint8 RGBA, straight alpha, for a pose in canvas px."""
        raise NotImplementedError

    def start_picture(self, pose: Pose) -> np.ndarray | None:
        """The source picture warped to the pose, which the model starts from; like `paint`'s, or None."""

    def close(self) -> None:
        """Give everything back."""


class FlowPainter(Painter):
    """The learned model, its weights loaded once for all people."""

    name = "flow"
    takes_steps = True

    def __init__(self, model: str, device: str | None = None):
        """Load the weights.

        Args:
            model: a folder's name under `models/`, a path, or a hub id.
            device: for instance cuda:1; None: CUDA where there is one, else the processor.

        Raises:
            ModelError: unknown or incomplete weights, or an impossible device.
        """
        self._model, self._device = find_model(model), device
        self._live = self._open(AUTO)
        self._exact: Signer | None = None
        self._avatar: Any = None  # whom `meet` was given
        self._sources: dict[Signer, PreparedSource] = {}

    def _open(self, engine: str) -> Signer:
        try:
            return open_signer(self._model, engine, self._device)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"the model in {self._model} cannot be loaded: {first_line(error)}") from error

    def meet(self, avatar: Avatar) -> None:
        """Encode the source picture, once."""
        self._avatar, self._sources = avatar, {}
        self._source(self._live)

    def paint(self, pose: Pose, steps: int) -> np.ndarray:
        """Return (512, 512, 4) uint8 RGBA, straight alpha, for a pose in canvas px; more than one step by PyTorch."""
        signer = self._live
        if steps != 1 and signer.backend.name != EAGER:
            signer = self._exact = self._exact or self._open(EAGER)
        return signer.picture(self._source(signer), pose, sigmas=even_steps(steps))

    def _source(self, signer: Signer) -> PreparedSource:
        if signer not in self._sources:
            avatar = self._avatar
            self._sources[signer] = signer.prepare(avatar.image, avatar.pose, avatar.looks)
        return self._sources[signer]

    def start_picture(self, pose: Pose) -> np.ndarray:
        """The source picture warped to the pose: (512, 512, 4) uint8 RGBA, straight alpha."""
        picture = self._source(self._live).picture
        views = conditioning.draw_views(picture, pose.points)
        body, windows = (
            finishing.ViewImages(each.look.astype(np.float32) / 255)
            for each in (views.body, views.windows)
            if each
        )
        return finishing.paste_views(body, windows, views, picture)

    def close(self) -> None:
        """Give the weights back."""
        self._exact = None
        self._sources = {}


class RigPainter(Painter):
    """The rigged person, posed from the landmarks by inverse kinematics: the baseline."""

    name = "rig"
    takes_steps = False

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._synthesizer: Any = None

    def meet(self, avatar: Avatar) -> None:
        """Load the person's rigged file.

        Raises:
            RenderError: OpenGL or the file cannot be used.
        """
        from avatar_stream.synthesizers.rig import RigSynthesizer

        self.close()
        self._synthesizer = RigSynthesizer(context=Context(avatar=avatar))
        self._synthesizer.open()

    def paint(self, pose: Pose, steps: int) -> np.ndarray:
        """See `Painter.paint`."""
        return self._synthesizer.synthesize(pose)

    def close(self) -> None:
        """Give OpenGL back."""
        if self._synthesizer is not None:
            self._synthesizer.close()
            self._synthesizer = None


def open_painter(arguments: argparse.Namespace) -> Painter:
    """What the arguments ask to be evaluated."""
    return RigPainter() if arguments.synthesizer == "rig" else FlowPainter(arguments.model, arguments.device)
