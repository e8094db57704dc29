"""The learned model: latent flow matching with the avatar's picture encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from avatar_stream import stages
from avatar_stream.errors import ModelError
from avatar_stream.messages import first_line
from avatar_stream.options import look_up
from avatar_stream.places import bundled
from avatar_stream.types import Avatar, Pose

DEFAULT_MODEL = "signer-small"


class FlowSynthesizer(stages.Synthesizer):
    """Makes the avatar's picture with the learned model.

    Attributes:
        quality_levels: what is left away where a machine is too slow, in words; the first is everything.
    """

    quality_levels = ("everything", "hands and face at half their resolution")

    class Options(stages.SynthesizerOptions):
        """Which avatar, which weights, how many steps."""

        model: str = DEFAULT_MODEL
        """The weights: a folder's name under models/, a path, or a hub id."""
        steps: Annotated[int, Field(ge=1, le=50)] = 1
        """Steps of the flow a frame."""
        seed: int | None = None
        """Of the fixed noise; null: the model's own."""
        device: str | None = None
        """`cpu`, `cuda`, `cuda:1`; null: CUDA where there is one, else the CPU."""
        engine: Literal["auto", "eager", "openvino", "openvino-int8"] = "auto"
        """What runs the network, see docs/engines.md."""
        threads: Annotated[int, Field(ge=1)] | None = None
        """Threads of the engine; null: half of the processors, for the tracker needs the rest."""
        windows: bool = True
        """Make hands and face at full resolution, in windows of their own."""

        @field_validator("model")
        @classmethod
        def _is_known(cls, model: str, info: ValidationInfo) -> str:
            look_up(info, find_model, model)
            return model

    options: Options

    def __init__(self, options: Options | None = None, context: stages.Context | None = None):
        """Store the options; `open()` loads."""
        super().__init__(options, context)
        self._signer: Any = None  # a Signer
        self._source: Any = None  # what it has prepared
        self._avatar, self._quality = self.context.avatar, 0

    def open(self) -> None:
        """Load the weights, encode the avatar and make the engine ready, once.

        Raises:
            ModelError: unknown or incomplete weights, an impossible device, engine or number of steps.
        """
        place, avatar = find_model(self.options.model), self._avatar
        if avatar is None:
            raise ModelError("the synthesizer 'flow' was given no avatar: make it with Context(avatar=...)")
        from avatar_stream.modeling.signer import even_steps, open_signer

        options, self._sigmas = self.options, even_steps(self.options.steps)
        try:
            self._signer = open_signer(place, options.engine, options.device, options.threads, options.steps)
            self.set_avatar(avatar)
            self._signer.warm_up(self._source, self.size_px, self._sigmas)
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # the last: what OpenVINO raises
            raise ModelError(f"model '{self.options.model}' cannot be loaded: {first_line(error)}") from error

    def synthesize(self, pose: Pose) -> np.ndarray:
        """Return (size_px, size_px, 4) uint8 RGBA, straight alpha, of the avatar in `pose` (canvas px, all finite)."""
        windows = self.options.windows and self._quality == 0
        how = self._sigmas, self.options.seed
        return self._signer.picture(self._source, pose, windows, self.size_px, *how)

    def set_avatar(self, avatar: Avatar) -> bool:
        """Go on as another person; the weights stay, only the picture is encoded anew."""
        self._avatar = avatar
        self._source = self._signer.prepare(avatar.image, avatar.pose, avatar.looks, self.size_px)
        return True

    def set_quality(self, level: int) -> None:
        """Take a level of `quality_levels`, from the next picture on."""
        self._quality = level

    def close(self) -> None:
        """Give the weights back."""
        self._signer = self._source = None


def describe_engine() -> str:
    """Which engine "auto" is here, and why, in a few words for people."""
    from avatar_stream.modeling.backend import AUTO, EAGER
    from avatar_stream.modeling.signer import choose

    name, reason = choose(AUTO, Path(find_model(DEFAULT_MODEL)))
    if name == EAGER:
        return f"{name} ({reason})"
    from avatar_stream.modeling.openvino_backend import reduced_precision

    return f"{name} in {reduced_precision()} ({reason})"


def find_model(name: str) -> str:
    """A model's folder by its name under `models/` or its path; anything with a slash may be a hub id.

    Raises:
        ModelError: no such model; the message lists those that are here.
    """
    models = bundled("models")
    for place in (models / name, Path(name)):
        if (place / "model_index.json").exists():
            return str(place)
    if "/" in name and not name.startswith((".", "/")):
        return name
    known = sorted(path.parent.name for path in models.glob("*/model_index.json"))
    raise ModelError(
        f"unknown model '{name}'. Here are: {', '.join(known) or 'none'}. A path or a hub id works too."
    )


STAGE = FlowSynthesizer
