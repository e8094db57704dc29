"""What a training run is: the YAML of `configs/train/`, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from avatar_stream.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Where samples come from: data set folders, people rendered while training, or both."""

    folders: list[Path] = []
    people: Path | None = None  # rigged people (.glb) that the workers render; needs no disk
    people_share: Share = 0.5  # how often samples come from them where there are folders too
    exclude: list[str] = []  # people never trained on, by the beginning of their file's name
    targets: int = Field(3, ge=1)  # target poses per source
    portrait_share: Share = 0.6
    picture_share: Share = 0.4  # how much of the tracker's error within the picture is taught
    lost_hands: Share = 0.25  # how many of the hands that the tracker loses are lost; 1: one in 16
    looks: int = Field(
        12, ge=0
    )  # among how many further pictures of a person the nearest face and hands are found
    looks_share: Share = 0.5  # how often; else one portrait has to do
    workers: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _gives_data(self) -> DataConfig:
        if not self.folders and self.people is None:
            raise ValueError("give folders, people or both")
        return self


class ModelConfig(_Section):
    """Size of the networks; see `modeling/denoiser.py`."""

    latent_channels: int = 64
    autoencoder_samples: int = 150  # sources whose targets the patch autoencoder is fitted to
    widths: tuple[int, int, int, int] = (64, 80, 160, 256)  # channels at half a patch, one, two and four
    heads: int = 4
    blocks: tuple[int, int] = (1, 1)  # at two patches and four
    start: Literal["source", "noise"] = "source"
    body_px: Literal[256, 512] = 256  # side of the body's view; the frame is 512 px


class LossConfig(_Section):
    """Weights of the terms; RPFM's plain recipe is velocity 1 and the rest 0."""

    velocity: float = 0.0  # mean square of the velocity's error, in the latent
    pixels: float = 1.0  # mean absolute error of the decoded endpoint
    edges: float = 1.0  # the same of its differences between neighbours
    texture: float = 1.0  # of the source's texture: where it lies, how bright it is, where it counts
    near: float = 0.0  # of what a viewer sees: mean absolute error, small shifts forgiven
    detail: float = 0.0  # of the same: how much fine detail there is, wherever within a few pixels
    hand: float = 4.0  # how much more a hand's pixel counts; face likewise
    face: float = 2.0
    background: float = 1.0  # a smear beside the person is seen as much as one on it
    first_step_share: Share = 0.5  # how often t = 0, the only time that one step asks for


class CriticConfig(_Section):
    """The critic of `training/critic.py`; verdict 0 and likeness 0: none."""

    verdict: float = Field(default=0.0, ge=0)  # weight of the hinge loss in the networks' loss
    likeness: float = Field(default=0.0, ge=0)  # weight of the distance of the critic's features
    width: int = Field(default=24, ge=8)
    rows_share: Share = 0.5  # part of the views that it sees of a step
    learning_rate: float = Field(default=4e-4, gt=0)

    @property
    def used(self) -> bool:
        """Whether the critic judges at all."""
        return self.verdict > 0 or self.likeness > 0


class TrainConfig(_Section):
    """One run."""

    output: Path
    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    critic: CriticConfig = CriticConfig()
    sources: int = Field(4, ge=1)  # sources per step
    bodies: int = Field(1, ge=1)  # targets of each source whose body's view is trained too
    learning_rate: float = Field(4e-4, gt=0)
    warmup_steps: int = 200
    cooldown_share: Share = 0.25  # the last part of --max-minutes, in which the rate falls to zero
    weight_decay: float = 0.01
    ema: Share = 0.999
    trained: Literal["all", "texture"] = "all"  # "texture": only what lays it, for a third of the time
    conditioning_dropout: Share = 0.05  # how often a view must do without the warped source
    max_steps: int = 1_000_000
    checkpoint_minutes: float = Field(2.0, gt=0)
    picture_minutes: float = Field(5.0, gt=0)
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    seed: int = 0


def load_train_config(path: Path, overrides: dict[str, object] | None = None) -> TrainConfig:
    """Read and check a run's YAML.

    Raises:
        ConfigError: every mistake at once, each with its key, what was given and what was expected.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings")
    try:
        return TrainConfig.model_validate({**values, **(overrides or {})})
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        count = len(lines)
        raise ConfigError(f"{path} has {count} problem{'s' * (count > 1)}:\n" + "\n".join(lines)) from error
