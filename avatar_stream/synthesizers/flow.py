"""The learned model: latent flow matching with the avatar's picture encoded once."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from avatar_stream import stages
from avatar_stream.errors import ModelError
from avatar_stream.options import look_up
from avatar_stream.places import bundled
from avatar_stream.types import Avatar, Pose

if TYPE_CHECKING:
    from avatar_stream.modeling.live import LiveSigner
    from avatar_stream.modeling.pipeline import PreparedSource

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
        engine: Literal["auto", "eager", "compile", "openvino", "openvino-int8", "openvino-float32"] = "auto"
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
        self._signer: Any = None  # LiveSigner, or _AnySigner
        self._source: Any = None  # what that one has prepared
        self._avatar, self._quality = self.context.avatar, 0

    def open(self) -> None:
        """Load the weights, encode the avatar and make the engine ready, once.

        Raises:
            ModelError: unknown or incomplete weights, an impossible device, engine or number of steps.
        """
        place, avatar = find_model(self.options.model), self._avatar
        if avatar is None:
            raise ModelError("the synthesizer 'flow' was given no avatar: make it with Context(avatar=...)")
        try:
            self._signer = _live_signer(place, self.options) or _AnySigner(place, self.options)
            self.set_avatar(avatar)
            self._signer.warm_up(self._source, self.size_px)
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # the last: what OpenVINO raises
            raise ModelError(
                f"model '{self.options.model}' cannot be loaded: {_first_line(error)}"
            ) from error

    def synthesize(self, pose: Pose) -> np.ndarray:
        """Return (size_px, size_px, 4) uint8 RGBA, straight alpha, of the avatar in `pose` (canvas px, all finite)."""
        windows = self.options.windows and self._quality == 0
        return self._signer.picture(self._source, pose, windows, self.size_px)

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


class _AnySigner:
    """`SignerPipeline` with what the options ask for: any device, engine and number of steps.

    Raises:
        ModelError: an impossible device or engine. OSError, ValueError, KeyError: incomplete weights.
    """

    def __init__(self, place: str, options: FlowSynthesizer.Options):
        import torch

        from avatar_stream.modeling.engine import AUTO, COMPILE, EAGER, choose
        from avatar_stream.modeling.pipeline import SignerPipeline, default_device

        try:
            device = torch.device(options.device) if options.device else default_device()
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"device '{options.device}' cannot be used: {_first_line(error)}") from error
        if options.engine not in (EAGER, COMPILE) and choose(AUTO, device)[0] != EAGER:
            # PyTorch then only does small things between the graphs. Its threads would wait for each other, turning in
            # circles, wherever the tracker has taken one of their processors: a frame costs three times as much then.
            torch.set_num_threads(1)
        self._options = options
        self._pipe = SignerPipeline.from_pretrained(
            place, engine=options.engine, threads=options.threads, device=device
        )
        self.prepare = self._pipe.prepare

    def warm_up(self, source: PreparedSource, size_px: int) -> None:
        """Make the engine ready."""
        self._pipe.warm_up(source, self._options.steps, size_px)

    def picture(self, source: PreparedSource, pose: Pose, windows: bool, size_px: int) -> np.ndarray:
        """See `LiveSigner.picture`."""
        steps, seed = self._options.steps, self._options.seed
        made = self._pipe(
            source=source, pose=pose, num_inference_steps=steps, seed=seed, windows=windows, size_px=size_px
        )
        return made.images[0]


def _live_signer(place: str, options: FlowSynthesizer.Options) -> LiveSigner | None:
    """What is ready in a second, where it makes what the options ask for."""
    if importlib.util.find_spec("openvino") is None or not Path(place).is_dir():
        return None
    on_processor = options.device == "cpu" or (options.device is None and not _may_have_gpu())
    if not on_processor or options.steps != 1 or not options.engine.startswith(("auto", "openvino")):
        return None
    from avatar_stream.modeling.live import LiveSigner, fits, read_index

    if not fits(Path(place)) or (
        options.engine == "openvino-int8" and not read_index(Path(place)).get("ranges")
    ):
        return None
    eight_bits = options.engine in ("auto", "openvino-int8")
    return LiveSigner(Path(place), eight_bits, options.engine != "openvino-float32", options.threads)


def _may_have_gpu() -> bool:
    """Whether a driver is there that PyTorch could use: asking PyTorch itself costs the time until it is loaded."""
    for name in ("nvcuda.dll",) if os.name == "nt" else ("libcuda.so.1", "libamdhip64.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def describe_engine() -> str:
    """Which engine "auto" is here, and why, in a few words for people.

    Raises:
        ImportError: PyTorch is missing.
    """
    from avatar_stream.modeling.engine import AUTO, ON_PROCESSORS, choose
    from avatar_stream.modeling.pipeline import default_device

    index = json.loads((Path(find_model(DEFAULT_MODEL)) / "model_index.json").read_text())
    name, reason = choose(AUTO, default_device(), bool(index.get("ranges")))
    if name not in ON_PROCESSORS:
        return f"{name} ({reason})"
    from avatar_stream.modeling.graphs import reduced_precision

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


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


STAGE = FlowSynthesizer
