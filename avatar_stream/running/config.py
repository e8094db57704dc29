"""Pipeline files: YAML, checked as a whole, with every mistake told at once."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar

import yaml
from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.errors import ConfigError
from avatar_stream.images.compose import Composer
from avatar_stream.options import FROM_FILE, Options, look_up, mistake, mistakes, suggest
from avatar_stream.provenance import Signing
from avatar_stream.retarget import RetargetOptions
from avatar_stream.running import avatars
from avatar_stream.running.show.options import MOST_TARGET_DELAY_MS, ShowOptions
from avatar_stream.stages import Context, Sink, Source, Stage, Synthesizer, Tracker

DEFAULT_TRACKER, DEFAULT_SYNTHESIZER = "holistic_fast", "flow"
AnyStage = TypeVar("AnyStage", bound=Stage)


class ProblemsError(ConfigError):
    """A pipeline file has mistakes: all of them, one line each in `problems`."""

    def __init__(self, place: str, problems: Sequence[str]):
        """Take the file's name and a line for each mistake."""
        self.place, self.problems = place, tuple(problems)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"{place} has {count}:\n" + "\n".join(f"  {line}" for line in problems))


@dataclass(frozen=True)
class StageConfig(Generic[AnyStage]):
    """Which file of a room (its name is the `type`), its class, and the options for it, checked."""

    type_name: str
    stage: type[AnyStage]
    options: Any  # of the class `stage.Options`

    def make(self, context: Context | None = None) -> AnyStage:
        """Make the stage; nothing is open yet."""
        return self.stage(self.options, context or Context())


def choose(room: str, type_name: str, **options: object) -> StageConfig[Any]:
    """Return a stage with options that code gives, not a file.

    Raises:
        ConfigError: there is no such stage, or an option is wrong.
    """
    stage = find_stage(room, type_name)
    try:
        return StageConfig(type_name, stage, stage.Options(**options))
    except ValidationError as error:
        raise ConfigError(f"{type_name}: {'; '.join(mistakes(error))}") from error


@dataclass(frozen=True)
class _StageOf:
    """Lets pydantic check a stage's section by the options of the type that it names, and describe it."""

    room: str
    may_lack: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        variants = [self._variant(name, handler) for name in stage_names(self.room)]
        return {"oneOf": variants + ([{"enum": ["none", None]}] if self.may_lack else [])}

    def _variant(self, name: str, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        options = find_stage(self.room, name).Options.__pydantic_core_schema__
        variant = dict(handler.resolve_ref_schema(handler(options)))
        return variant | {
            "title": name,
            "properties": {"type": {"const": name}} | variant.get("properties", {}),
            "required": ["type", *variant.get("required", [])],
        }

    def _check(self, section: Any, info: ValidationInfo) -> StageConfig[Any] | None:
        if self.may_lack and (section is None or section == "none"):
            return None
        if isinstance(section, StageConfig):
            return section
        if not isinstance(section, dict) or "type" not in section:
            raise ValueError(f"keys with a type, one of {', '.join(stage_names(self.room))}")
        name = section["type"]
        try:
            stage = find_stage(self.room, name)
        except ConfigError as error:
            raise mistake(["type"], name, f"given {name!r}; {error}") from error
        options = {key: value for key, value in section.items() if key != "type"}
        return StageConfig(name, stage, stage.Options.model_validate(options, context=info.context))


def _default_tracker(checked: dict[str, Any]) -> StageConfig[Tracker] | None:
    source = checked.get("source")
    return None if source is None or source.type_name == "pose_file" else choose("trackers", DEFAULT_TRACKER)


class PipelineConfig(Options):
    """What a pipeline is made of; see pipelines/README.md for how the keys work together."""

    avatar: str
    """A name that `avatar-stream avatars` shows, or a folder."""
    source: Annotated[StageConfig[Source], _StageOf("sources")]
    """Where frames come from: `{type: webcam}`."""
    tracker: Annotated[StageConfig[Tracker] | None, _StageOf("trackers", may_lack=True)] = Field(
        default_factory=_default_tracker
    )
    """What finds the signer's pose: `{type: holistic_fast}`, or `none` where the source brings poses."""
    synthesizer: Annotated[StageConfig[Synthesizer], _StageOf("synthesizers")] = Field(
        default_factory=lambda: choose("synthesizers", DEFAULT_SYNTHESIZER)
    )
    """What makes the avatar's picture: `{type: flow}`."""
    outputs: tuple[Annotated[StageConfig[Sink], _StageOf("sinks")], ...] = ()
    """Any number of outputs at once."""
    retarget: RetargetOptions = RetargetOptions()
    """How the signer's motion is taken over."""
    framing: bool = True
    """Tell when the camera sees the signer badly."""
    compose: Composer.Options = Composer.Options()
    """What is behind the person, where it stands, the label."""
    recordings: Path = Path("recordings")
    """The folder of recordings started by a key."""
    server: ServerOptions = ServerOptions()
    """The web server of pages, viewers and signers."""
    show: ShowOptions | None = None
    """The programme beside which the signer stands."""
    target_delay_ms: Annotated[int, Field(ge=0, le=MOST_TARGET_DELAY_MS)] | None = None
    """Live, everything leaves so long after its capture; beside a show 1000 unless it says otherwise."""
    c2pa: Signing | None = None
    """Sign MP4 recordings with Content Credentials."""

    @field_validator("avatar")
    @classmethod
    def _is_known(cls, avatar: str, info: ValidationInfo) -> str:
        look_up(info, avatars.describe_avatar, avatar)
        return avatar

    @model_validator(mode="after")
    def _overwrites_nothing(self) -> Self:
        inputs = (self.source.options.file, self.show.path if self.show else None)
        taken = {os.path.realpath(path) for path in inputs if path is not None}
        for path in (output.options.file for output in self.outputs):
            if path is not None and os.path.realpath(path) in taken:
                expected = "files other than the source, the programme and each other"
                raise mistake(["outputs"], path, f"given {str(path)!r}; expected {expected}")
            taken |= {os.path.realpath(path)} if path is not None else set()
        return self

    @model_validator(mode="after")
    def _show_fits_source(self) -> Self:
        show, place = self.show, ("show", "source")
        if show is None:
            return self
        if show.path is None and not self.source.make().live:
            text = f"{show.name} is live, the signer is not: set source.own_pace, or take a camera"
            raise mistake(place, show.name, text)
        camera = self.source.options.index if self.source.type_name == "webcam" else None
        if camera is not None and show.camera == camera:
            advice = 'give show.source or source.index another one ("avatar-stream doctor" lists them)'
            raise mistake(place, camera, f"camera {camera} is the signer's and the programme's: {advice}")
        return self


class PipelineFile(PipelineConfig):
    """A pipeline file. Code may leave the outputs to somebody else; a file names them."""

    outputs: Annotated[tuple[Annotated[StageConfig[Sink], _StageOf("sinks")], ...], Field(min_length=1)]
    """A list of one output or more: `[{type: window}]`."""


def find_stage(room: str, type_name: str) -> type[Any]:
    """Import the one file of a plug-in room that a type names; nothing else of the room is loaded.

    Args:
        room: `sources`, `trackers`, `synthesizers` or `sinks`.
        type_name: the file's name without `.py`.

    Returns:
        Its `STAGE`.

    Raises:
        ConfigError: there is no such file (the message lists them), or a library that it needs is missing.
    """
    known = stage_names(room)
    if type_name not in known:
        raise ConfigError(f"unknown type{suggest(str(type_name), known)}; known: {', '.join(known)}")
    try:
        stage: type[Any] = importlib.import_module(f"avatar_stream.{room}.{type_name}").STAGE
        return stage
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"'{type_name}' needs {error.name}, which is not installed: run `make setup`"
        ) from error


def stage_names(room: str) -> list[str]:
    """The types of a plug-in room, sorted."""
    folder = Path(__file__).parents[1] / room
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def load_pipeline(path: Path | str, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read and check a pipeline file.

    Args:
        path: the file; paths in it count from the current folder, `assets/...` also from the bundled files.
        overrides: `key.key=value` each, the value in YAML; checked like the rest. `outputs.0.path=x.mp4`.

    Raises:
        ProblemsError: every mistake with its key, what was given, and what is expected.
        ConfigError: the file cannot be read, or an override has another form.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the pipeline {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is no pipeline: it must have keys like avatar, source and outputs")
    for override in overrides:
        apply_override(values, override)
    return check_pipeline(values, str(path))


def check_pipeline(values: dict[str, Any], place: str, outputs_needed: bool = True) -> PipelineConfig:
    """Check what a pipeline file holds; see `load_pipeline`. `place` names it in messages."""
    model = PipelineFile if outputs_needed else PipelineConfig
    return _checked(model, values, place, FROM_FILE)


def make_config(place: str, **values: Any) -> PipelineConfig:
    """Make the config of a pipeline that no file describes. Its stages come from `choose`.

    Raises:
        ProblemsError: see `load_pipeline`; `place` names it in messages.
    """
    return _checked(PipelineConfig, values, place, None)


def _checked(
    model: type[PipelineConfig], values: dict[str, Any], place: str, context: str | None
) -> PipelineConfig:
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        raise ProblemsError(place, mistakes(error)) from error


def apply_override(values: dict[str, Any], override: str) -> None:
    """Change one value of what a file holds, in place; `override` is `key.key=value`. ConfigError where it cannot."""
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, for instance source.index=1")
    try:
        # A colour, which in a file would be a comment.
        value = text if text.startswith("#") else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error
    *outer_keys, last_key = (int(part) if part.isdigit() else part for part in key.split("."))
    target: Any = values
    for depth, part in enumerate((*outer_keys, last_key)):
        inside = isinstance(target, list) and isinstance(part, int) and part < len(target)
        if not inside and not isinstance(target, dict):
            raise ConfigError(f"--set {override}: there is no place {key}")
        if depth == len(outer_keys):
            target[part] = value
        else:
            target = target[part] if inside else target.setdefault(part, {})
