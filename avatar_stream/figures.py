"""Figures of long runs as JSON: refused before the run where they could not be written after it."""

from __future__ import annotations

import json
from pathlib import Path

from avatar_stream.errors import ConfigError, SinkError


def check_output(path: Path | None) -> None:
    """Refuse before hours of work what could not be written after them; None: nothing is to be.

    Raises:
        ConfigError: the file's folder is missing.
    """
    if path is not None and not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for {path.name}: make it, or name another")


def write_json(path: Path, figures: dict) -> None:
    """Write the figures; the file appears complete or not at all.

    Raises:
        SinkError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror or error}") from error


def tell(figures: dict, path: Path | None) -> None:
    """Print the figures as JSON, and write them to a file where one is named; SinkError where that fails."""
    print(json.dumps(figures, indent=2))
    if path is not None:
        write_json(path, figures)
