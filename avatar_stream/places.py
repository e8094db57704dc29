"""Where the bundled files are: beside the package in a source checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

KINDS = ("assets", "models", "configs", "pipelines")


def bundled(kind: str) -> Path:
    """Return the folder of bundled files of one kind.

    Args:
        kind: one of KINDS.

    Returns:
        The folder inside the package (a wheel) or beside it (a checkout). It may be missing or empty.

    Raises:
        ValueError: `kind` is not one of KINDS.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of bundled files {kind!r}: {', '.join(KINDS)}")
    package = Path(__file__).resolve().parent
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind
