"""Pipeline files: YAML, checked as a whole, with every mistake told at once; and their JSON Schema."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from avatar_stream import avatars
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.compose import PICTURES, Composer
from avatar_stream.errors import AvatarStreamError, ConfigError
from avatar_stream.places import bundled
from avatar_stream.provenance import Signing
from avatar_stream.retarget import RetargetOptions
from avatar_stream.show.options import MOST_TARGET_DELAY_MS, ShowOptions

ROOMS = {"source": "sources", "tracker": "trackers", "synthesizer": "synthesizers", "output": "sinks"}
DEFAULT_TRACKER = "holistic_fast"
_NOT_IN_FILES = {
    "avatar",
    "server",
    "label",
    "sound",
    "composite",
    "signing",
}  # what the pipeline itself gives a stage
# What pydantic says in the words of Python.
_EXPECTED = {"path_type": "a path", "model_type": "keys with values"}


class ProblemsError(ConfigError):
    """A pipeline file has mistakes: all of them, one line each in `problems`."""

    def __init__(self, place: str, problems: Sequence[str]):
        """Take the file's name and a line for each mistake."""
        self.place, self.problems = place, tuple(problems)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"{place} has {count}:\n" + "\n".join(f"  {line}" for line in problems))


@dataclass(frozen=True)
class StageConfig:
    """Which file of a room, and its options, checked; `optional` and `side_by_side` are for outputs."""

    type: str
    options: dict[str, Any] = field(default_factory=dict)
    optional: bool = False
    side_by_side: bool = False


@dataclass(frozen=True)
class PipelineConfig:
    """A pipeline file that was checked; see pipelines/README.md for what each key means."""

    place: str
    avatar: str
    source: StageConfig
    tracker: StageConfig | None
    synthesizer: StageConfig
    compose: Composer.Options
    outputs: tuple[StageConfig, ...]
    retarget: RetargetOptions = RetargetOptions()
    framing: bool = True
    recordings: Path = Path("recordings")
    server: ServerOptions = ServerOptions()
    show: ShowOptions | None = None
    target_delay_ms: int | None = None
    c2pa: Signing | None = None


class _Rest(BaseModel):
    """The keys that are no stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    avatar: Annotated[str, Field(description="a name that `avatar-stream avatars` shows, or a folder")]
    retarget: Annotated[RetargetOptions, Field(description="how the signer's motion is taken over")] = (
        RetargetOptions()
    )
    framing: Annotated[bool, Field(description="tell when the camera sees the signer badly")] = True
    compose: Annotated[Composer.Options, Field(description="what is behind the person")] = Composer.Options()
    recordings: Annotated[Path, Field(description="the folder of recordings started by a key")] = Path(
        "recordings"
    )
    server: Annotated[ServerOptions, Field(description="the web server of pages, viewers and signers")] = (
        ServerOptions()
    )
    show: Annotated[ShowOptions | None, Field(description="the programme beside which the signer stands")] = (
        None
    )
    target_delay_ms: Annotated[
        int | None,
        Field(ge=0, le=MOST_TARGET_DELAY_MS, description="live, everything leaves so long after its capture"),
    ] = None
    c2pa: Annotated[Signing | None, Field(description="sign MP4 recordings with Content Credentials")] = None


def find_stage(room: str, type_name: str) -> type:
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
        raise ConfigError(f"unknown type{_meant(str(type_name), known)}; known: {', '.join(known)}")
    try:
        return importlib.import_module(f"avatar_stream.{room}.{type_name}").STAGE
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"'{type_name}' needs {error.name}, which is not installed: run `make setup`"
        ) from error


def written_over(
    source: StageConfig, outputs: Sequence[StageConfig], show: ShowOptions | None
) -> Path | None:
    """Return a file that an output would write over the signer's, the programme's or another output's; or None."""
    inputs = (source.options.get("path"), show.path if show is not None else None)
    taken = {os.path.realpath(path) for path in inputs if path is not None}
    for path in filter(None, (output.options.get("path") for output in outputs)):
        if os.path.realpath(path) in taken:
            return path
        taken.add(os.path.realpath(path))
    return None


def stage_names(room: str) -> list[str]:
    """The types of a plug-in room, sorted."""
    folder = Path(__file__).parent / room
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
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the pipeline {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"{path} is no pipeline: it must have keys like avatar, source and outputs")
    for override in overrides:
        apply_override(given, override)
    return check_pipeline(given, str(path))


def check_pipeline(given: dict[str, Any], place: str, outputs_needed: bool = True) -> PipelineConfig:
    """Check what a pipeline file holds; see `load_pipeline`. `place` names it in messages."""
    return _Checker(place, outputs_needed).check(given)


class _Checker:
    """Goes through a whole file and keeps the mistakes."""

    def __init__(self, place: str, outputs_needed: bool):
        self._place, self._outputs_needed = place, outputs_needed
        self._problems: list[str] = []

    def check(self, given: dict[str, Any]) -> PipelineConfig:
        stage_keys = ("source", "tracker", "synthesizer", "outputs")
        given = self._find_programme(given)
        rest = self._options(
            _Rest, {key: given[key] for key in given if key not in stage_keys}, "", stage_keys
        )
        source = self._stage("source", given.get("source"), "source")
        default = None if source is not None and source.type == "pose_file" else {"type": DEFAULT_TRACKER}
        wanted = given.get("tracker", default)
        tracker = None if wanted in (None, "none") else self._stage("tracker", wanted, "tracker")
        synthesizer = self._stage("synthesizer", given.get("synthesizer", {"type": "flow"}), "synthesizer")
        outputs = self._outputs(given.get("outputs"))
        self._check_names(given)
        over = None if self._problems else written_over(source, outputs, rest.show)
        if over is not None:
            self._tell("outputs", str(over), "files other than the source, the programme and each other")
        if self._problems:
            raise ProblemsError(self._place, self._problems)
        return PipelineConfig(
            self._place, rest.avatar, source, tracker, synthesizer, rest.compose, tuple(outputs),
            rest.retarget, rest.framing, rest.recordings, rest.server, rest.show, rest.target_delay_ms, rest.c2pa,
        )  # fmt: skip

    def _find_programme(self, given: dict[str, Any]) -> dict[str, Any]:
        show = given.get("show")
        source = show.get("source") if isinstance(show, dict) else None
        if not isinstance(source, str) or "://" in source:
            return given
        path = _find_file(Path(source))
        if not path.exists():
            expected = "a file that exists, the number of a camera, or an address like rtmp://HOST/live"
            self._tell("show.source", source, expected)
        return given | {"show": show | {"source": str(path)}}

    def _outputs(self, given: Any) -> list[StageConfig | None]:
        if given is None and not self._outputs_needed:
            return []
        if not isinstance(given, list) or not given:
            self._tell("outputs", given, "a list of one output or more: [{type: window}]")
            return []
        return [self._stage("output", output, f"outputs.{k}") for k, output in enumerate(given)]

    def _stage(self, kind: str, given: Any, key: str) -> StageConfig | None:
        room = ROOMS[kind]
        if not isinstance(given, dict) or "type" not in given:
            self._tell(key, given, f"keys with a type, one of {', '.join(stage_names(room))}")
            return None
        extras = ("optional", "side_by_side") if kind == "output" else ()
        try:
            model = _file_options(room, given["type"])
        except ConfigError as error:
            self._problems.append(f"{key}.type: given {given['type']!r}; {error}")
            return None
        for name in extras:
            if not isinstance(given.get(name, False), bool):
                self._tell(f"{key}.{name}", given[name], "true or false")
        options = {name: value for name, value in given.items() if name not in ("type", *extras)}
        self._find_files(kind, model, options, key)
        checked = self._options(model, options, f"{key}.", ("type", *extras))
        if checked is None:
            return None
        found = {name: getattr(checked, name) for name in checked.model_fields_set}
        flags = {name: given.get(name, False) for name in extras}
        return StageConfig(given["type"], found, **flags)

    def _options(
        self, model: type[BaseModel], given: dict, key: str, others: Sequence[str]
    ) -> BaseModel | None:
        try:
            return model.model_validate(given)
        except ValidationError as error:
            for problem in error.errors():
                self._translate(problem, key, [*others, *model.model_fields])
            return None

    def _translate(self, problem: dict, key: str, known: list[str]) -> None:
        place = key + ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            name = str(problem["loc"][-1])
            nested = _Rest.model_fields.get(str(problem["loc"][0])) if len(problem["loc"]) > 1 else None
            models = (
                [each for each in _types_of(nested.annotation) if hasattr(each, "model_fields")]
                if nested
                else []
            )
            known = list(models[0].model_fields) if models else known
            line = f"unknown key{_meant(name, known)}; known: {', '.join(known)}"
            self._problems.append(f"{place}: given {problem['input']!r}; {line}")
        elif problem["type"] == "missing":
            self._problems.append(f"{place}: missing")
        else:
            told = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            told = told[:1].lower() + told[1:]
            self._tell(place, problem["input"], _EXPECTED.get(problem["type"], told))

    def _find_files(self, kind: str, model: type[BaseModel], options: dict[str, Any], key: str) -> None:
        # Before the other checks, so that a wrong key beside it does not hide a missing file.
        for name, value in options.items():
            field_info = model.model_fields.get(name)
            if (
                field_info is None
                or not isinstance(value, str)
                or Path not in _types_of(field_info.annotation)
            ):
                continue
            path = Path(value)
            if kind == "output":
                if not path.name:
                    self._tell(f"{key}.{name}", value, "the name of a new file or folder")
                elif not path.parent.is_dir():
                    self._tell(f"{key}.{name}", value, f"a place in a folder that exists: make {path.parent}")
                continue
            options[name] = _find_file(path)
            if not options[name].exists():
                self._tell(f"{key}.{name}", value, f"a file that exists; there is no {path.absolute()}")

    def _check_names(self, given: dict[str, Any]) -> None:
        compose, synthesizer = given.get("compose"), given.get("synthesizer")
        background = compose.get("background") if isinstance(compose, dict) else None
        if isinstance(background, str) and Path(background).suffix.lower() in PICTURES:
            if not Path(background).exists():
                self._tell(
                    "compose.background", background, "a picture that exists, a colour, or transparent"
                )
        if isinstance(given.get("avatar"), str):
            self._try("avatar", avatars.describe_avatar, given["avatar"])
        if isinstance(synthesizer, dict) and isinstance(synthesizer.get("model"), str):
            find_model = importlib.import_module("avatar_stream.synthesizers.flow").find_model
            self._try("synthesizer.model", find_model, synthesizer["model"])

    def _try(self, key: str, look_up: Callable[[str], object], name: str) -> None:
        try:
            look_up(name)
        except AvatarStreamError as error:
            self._problems.append(f"{key}: given {name!r}; {error}")

    def _tell(self, key: str, given: Any, expected: str) -> None:
        what = "missing" if given is None else f"given {given!r}"
        self._problems.append(f"{key}: {what}; expected {expected}")


def _file_options(room: str, type_name: str) -> type[BaseModel]:
    # A stage's options as a file gives them: without what the pipeline itself gives.
    options = find_stage(room, type_name).Options
    fields = {
        name: (info.annotation, info)
        for name, info in options.model_fields.items()
        if name not in _NOT_IN_FILES
    }
    settings = ConfigDict(extra="forbid", frozen=True)
    return create_model(f"{type_name} of {room}", __config__=settings, **fields)


def _types_of(annotation: Any) -> tuple:
    return get_args(annotation) or (annotation,)


def _find_file(path: Path) -> Path:
    # `assets/clips/signer.mp4` in a file that ships works from any folder.
    if not path.exists() and not path.is_absolute() and path.parts[0] == "assets":
        inside = bundled("assets").joinpath(*path.parts[1:])
        return inside if inside.exists() else path
    return path


def apply_override(given: dict[str, Any], override: str) -> None:
    """Change one value of what a file holds, in place; `override` is `key.key=value`. ConfigError where it cannot."""
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, for instance source.index=1")
    try:
        # A colour, which in a file would be a comment.
        value = text if text.startswith("#") else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error
    *way, last = (int(part) if part.isdigit() else part for part in key.split("."))
    target: Any = given
    for place, part in enumerate((*way, last)):
        inside = isinstance(target, list) and isinstance(part, int) and part < len(target)
        if not inside and not isinstance(target, dict):
            raise ConfigError(f"--set {override}: there is no place {key}")
        if place == len(way):
            target[part] = value
        else:
            target = target[part] if inside else target.setdefault(part, {})


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of pipeline files, for editors; made from the options of every stage there is."""
    schema = _Rest.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for kind, room in ROOMS.items():
        variants = []
        for name in stage_names(room):
            variant = _file_options(room, name).model_json_schema()
            definitions.update(variant.pop("$defs", {}))
            extras = {"type": {"const": name}}
            if kind == "output":
                extras |= {key: {"type": "boolean", "default": False} for key in ("optional", "side_by_side")}
            variant["properties"] = extras | variant.get("properties", {})
            variant["required"] = ["type", *variant.get("required", [])]
            variants.append(variant)
        definitions[kind] = {"oneOf": variants}
    schema["properties"] |= {kind: {"$ref": f"#/$defs/{kind}"} for kind in ("source", "synthesizer")}
    schema["properties"]["tracker"] = {"anyOf": [{"$ref": "#/$defs/tracker"}, {"enum": ["none", None]}]}
    outputs = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/output"}}
    schema["properties"]["outputs"] = outputs
    schema["required"] = ["avatar", "source", "outputs"]
    schema["title"] = "avatar_stream pipeline"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
