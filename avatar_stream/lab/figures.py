"""Figures of long runs as JSON: refused before the run where they could not be written after it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
from pathlib import Path

import numpy as np

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


def percentiles(values: np.ndarray, unit: str = "") -> dict[str, float]:
    """Median and 95th percentile, by `p50` and `p95` with the unit behind."""
    return {f"p{part}{unit}": round(float(np.percentile(values, part)), 1) for part in (50, 95)}


def machine(*packages: str) -> dict[str, object]:
    """What was measured on: cores, load, and the versions of packages that are installed."""
    versions = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"processors": os.cpu_count(), "load": load, **versions}


def machine_name() -> str:
    """The processor and its cores."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def print_figures(figures: dict) -> None:
    """Print keys, values and intervals, regions, then the targets."""
    intervals = figures.get("intervals", {})
    for key, value in figures.items():
        if isinstance(value, dict | list):
            continue
        print(f"{key}: {_text(value)}{_between(intervals.get(key))}")
    if figures.get("cross"):
        for key, value in figures["cross"].items():
            if not isinstance(value, dict | list):
                print(f"cross {key}: {_text(value)}{_between(figures['cross']['intervals'].get(key))}")
    for region, measures in figures.get("by_region", {}).items():
        captions = [
            f"{name} {_text(measure['value'])}{_between(measure['interval'])}"
            for name, measure in measures.items()
        ]
        print(f"{region}: {', '.join(captions)}")
    for name, target in figures["targets"].items():
        word = {True: "met", False: "MISSED", None: "not measured"}[target["met"]]
        print(f"target {name}: {_text(target['value'])} ({target['target']}) {word}")


def _between(interval: list[float] | None) -> str:
    return f" [{_text(interval[0])}, {_text(interval[1])}]" if interval else ""


def _text(value: object) -> str:
    if value is None:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def keep_or_make(folder: Path, settings: dict) -> bool:
    """Keep what an earlier run with the same settings left in a folder (True), or make the folder anew (False)."""
    path, wanted = folder / "settings.json", json.dumps(settings)
    if path.exists() and path.read_text() == wanted:
        return True
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    path.write_text(wanted)
    return False
