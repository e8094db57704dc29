"""Options of stages and of sections of a pipeline file: each is a field, described once, by the text below it.

Editors (the JSON Schema), `docs/options.md` and messages about mistakes have everything from there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from avatar_stream.errors import AvatarStreamError
from avatar_stream.places import bundled

# Pydantic's context of values that a file gives: only there names and paths are looked up before anything is opened.
FROM_FILE = "from a file"
_EXPLAINED = "explained"
# What pydantic says in the words of Python.
_EXPECTED = {
    "path_type": "a path",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "tuple_type": "a list",
    "too_short": "one or more",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


class Options(BaseModel):
    """Base of all options: unknown keys are refused, values do not change, mistakes are explained."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @property
    def file(self) -> Path | None:
        """The file or folder that they name as `path`; None: they name none."""
        return getattr(self, "path", None)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            raise ValidationError.from_exception_data(cls.__name__, _explained(cls, error)) from None


def mistake(place: Sequence[int | str], value: Any, text: str) -> ValidationError:
    """Return the error of one value, for validators to raise.

    Args:
        place: keys from the model that is checked to the value.
        value: what was given.
        text: the whole message without the place.
    """
    problem = PydanticCustomError(_EXPLAINED, "{text}", {"text": text})
    return ValidationError.from_exception_data(
        "", [InitErrorDetails(type=problem, loc=tuple(place), input=value)]
    )


def mistakes(error: ValidationError) -> list[str]:
    """Return a line for each mistake: its key, what was given, what is expected."""
    lines = []
    for problem in _explained(None, error):
        place, text = ".".join(map(str, problem["loc"])), str(problem["type"])
        lines.append(f"{place}: {text}" if place else text)
    return lines


def look_up(info: ValidationInfo, find: Callable[[str], object], name: str) -> None:
    """Let `find` look for what a file names; where it fails, its words are the message."""
    if info.context != FROM_FILE:
        return
    try:
        find(name)
    except AvatarStreamError as error:
        raise mistake((), name, f"given {name!r}; {error}") from error


def find_input(path: Path, info: ValidationInfo) -> Path:
    """Return the place of a file that a pipeline file names; `assets/...` works from any folder.

    Raises:
        ValueError: there is no such file.
    """
    if info.context != FROM_FILE:
        return path
    if not path.exists() and path.parts[0] == "assets":
        inside = bundled("assets").joinpath(*path.parts[1:])
        path = inside if inside.exists() else path
    if not path.exists():
        raise ValueError(f"a file that exists; there is no {path.absolute()}")
    return path


def _check_output(path: Path, info: ValidationInfo) -> Path:
    if info.context == FROM_FILE and not path.name:
        raise ValueError("the name of a new file or folder")
    if info.context == FROM_FILE and not path.parent.is_dir():
        raise ValueError(f"a place in a folder that exists: make {path.parent}")
    return path


InputPath = Annotated[Path, AfterValidator(find_input)]
OutputPath = Annotated[Path, AfterValidator(_check_output)]


def suggest(name: str, known: Sequence[str]) -> str:
    """Return "did you mean" and the most similar of the known names, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _explained(model: type[BaseModel] | None, error: ValidationError) -> list[InitErrorDetails]:
    problems: dict[tuple[int | str, ...], InitErrorDetails] = {}
    for problem in error.errors():
        place, text = problem["loc"], problem["msg"]
        if problem["type"] == "default_factory_not_called":
            continue  # it waits for another value, whose mistake is in the list
        if problem["type"] != _EXPLAINED:
            # Between them pydantic names the types of a union, which nobody has written.
            place = place[:1] + tuple(part for part in place[1:] if isinstance(part, int))
            text = _message(model, problem["type"], place, text, problem["input"])
            if place in problems:  # another type of the union
                text = f"{problems[place]['type']} or {text.partition('expected ')[2]}"
        explained = PydanticCustomError(_EXPLAINED, "{text}", {"text": text})
        problems[place] = InitErrorDetails(type=explained, loc=place, input=problem["input"])
    # Of a list and of what is in it, only the latter: that is where to look.
    outer = {place[:depth] for place in problems for depth in range(len(place))}
    return [problem for place, problem in problems.items() if place not in outer]


def _message(
    model: type[BaseModel] | None, kind: str, place: tuple[int | str, ...], text: str, value: Any
) -> str:
    fields = model.model_fields if model is not None else {}
    if kind == "extra_forbidden":
        known = list(fields)
        return f"given {value!r}; unknown key{suggest(str(place[-1]), known)}; known: {', '.join(known)}"
    if kind == "missing":
        info = fields.get(str(place[-1]))
        what = " ".join((info.description or "").split()).rstrip(".") if info is not None else ""
        return f"missing; expected {_uncapitalized(what)}" if what else "missing"
    text = text.removeprefix("Input should be ").removeprefix("Value error, ")
    if kind == "value_error" and isinstance(value, dict | BaseModel):
        return text  # of several keys together
    return f"given {value!r}; expected {_EXPECTED.get(kind, _uncapitalized(text))}"


def _uncapitalized(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
