"""Write docs/figures.md from the JSON files that benchmarks and evaluations leave in a folder.

avatar-stream bench --input CLIP --seconds 60 --json figures/bench.json
avatar-stream bench engines --json figures/engines.json
avatar-stream evaluate --clips DIR --json figures/clips.json           (also --people: people, --avatars: avatars)
scripts/write_figures.py figures > docs/figures.md
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

HEAD = """# Figures

`scripts/write_figures.py` writes this page; its first lines name the commands that measure. Each table
is of one run on one machine. The keys are explained in [evaluation](evaluation.md).
"""
QUALITY = (
    "frames tolerant_ssim ssim psnr_db sharpness hands_found_of_truth hand_error_of_truth "
    "face_error_of_truth letters_read_of_truth identity flicker ndtwp"
).split()
ENGINES = "first_frame_s first_frame_again_s draw_ms networks_ms paste_ms frame_ms difference_mean".split()


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(HEAD)
    kinds = [kind for kind in ("clips", "people", "avatars") if (folder / f"{kind}.json").is_file()]
    if kinds:
        read = [json.loads((folder / f"{kind}.json").read_text()) for kind in kinds]
        print(f"## Quality, {_day(folder / f'{kinds[0]}.json')}\n")
        print(_table(["measure", *kinds], [[key, *(each.get(key) for each in read)] for key in QUALITY]))
    path = folder / "engines.json"
    if path.is_file():
        report = json.loads(path.read_text())
        print(f"## Engines, {_day(path)}, {report['machine']['processors']} processors\n")
        rows = [
            [f"{each['engine']}, {each['precision']}", *(each[key] for key in ENGINES)]
            for each in report["engines"]
        ]
        print(_table(["engine", *ENGINES], rows))
    path = folder / "bench.json"
    if path.is_file():
        report = json.loads(path.read_text())
        print(f"## A whole pipeline, {_day(path)}\n")
        print(_table(["figure", "value"], list(_flat(report))))


def _flat(report: dict, above: str = ""):
    for key, value in report.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        elif isinstance(value, int | float):
            yield [f"{above}{key}", value]


def _table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(cell: object) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def _day(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%d %B %Y")


if __name__ == "__main__":
    main()
