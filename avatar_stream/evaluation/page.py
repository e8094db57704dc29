"""A plain page of text, tables, plots and pictures in a folder of its own; readable on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from avatar_stream.errors import SinkError

_QUALITY = 92  # of WebP: a tenth of PNG's bytes, and nothing to see of it
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto; padding: 1rem;
  max-width: 76rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th { font-weight: 600; } td.n { text-align: right; }
.met { color: #276749; } .missed { color: #b83210; font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .8rem; }
figure { margin: 0; } figcaption { font-size: .8rem; color: #555; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; background: #e1e1e1; }
.grid img { width: 10rem; max-width: none; } .grid td { padding: .15rem; border: 0; vertical-align: top; }
.grid th { border: 0; font-size: .8rem; }
"""


class Page:
    """Collects sections and writes `index.html` with its pictures beside it."""

    def __init__(self, folder: Path, title: str):
        """Make the folder.

        Raises:
            SinkError: it cannot be made.
        """
        self._folder, self._title = folder, title
        self._parts: list[str] = []
        self._pictures = 0
        try:
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot make the folder {folder}: {error.strerror or error}") from error

    def heading(self, text: str, note: str = "") -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>" + (f"<p>{escape(note)}</p>" if note else ""))

    def note(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table of texts and numbers; `met` and `missed` are coloured."""
        text = "".join(f"<th>{escape(head)}</th>" for head in heads)
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
        self._parts.append(f'<div class="wide"><table><tr>{text}</tr>{body}</table></div>')

    def plots(self, drawings: Iterable[str]) -> None:
        """Add SVG drawings beside each other."""
        self._parts.append('<div class="plots">' + "".join(drawings) + "</div>")

    def targets(self, targets: dict[str, dict]) -> None:
        """Add a section of promised values, each as `Target.as_json` gives it, by name."""
        words = {True: "met", False: "missed", None: "not measured"}
        self.heading("Targets")
        self.table(
            ("", "figure", "measured", "target"),
            [(words[each["met"]], name, each["value"], each["target"]) for name, each in targets.items()],
        )

    def cards(self, pictures: Iterable[tuple[np.ndarray, str]]) -> None:
        """Add pictures, (H, W, 3) uint8 RGB, with captions."""
        cards = [
            f"<figure>{self._picture(image, text)}<figcaption>{escape(text)}</figcaption></figure>"
            for image, text in pictures
        ]
        self._parts.append('<div class="cards">' + "".join(cards) + "</div>")

    def picture_grid(self, heads: Sequence[str], rows: Iterable[Sequence[np.ndarray | str | None]]) -> None:
        """Add rows of pictures, (H, W, 3) uint8 RGB; texts and gaps may stand between them."""
        text = "".join(f"<th>{escape(head)}</th>" for head in heads)
        body = ""
        for row in rows:
            cells = [
                self._picture(cell, head)
                if isinstance(cell, np.ndarray)
                else escape("" if cell is None else cell)
                for cell, head in zip(row, heads, strict=True)
            ]
            body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        self._parts.append(f'<div class="wide grid"><table><tr>{text}</tr>{body}</table></div>')

    def _picture(self, image: np.ndarray, text: str) -> str:
        self._pictures += 1
        name = f"pictures/{self._pictures:04d}.webp"
        try:
            Image.fromarray(image).save(self._folder / name, quality=_QUALITY)
        except OSError as error:
            raise SinkError(f"cannot write {self._folder / name}: {error.strerror or error}") from error
        height_px, width_px = image.shape[:2]
        size = f'width="{width_px}" height="{height_px}"'
        return f'<img src="{name}" {size} alt="{escape(text)}" loading="lazy">'

    def write(self) -> Path:
        """Write `index.html` and return its path.

        Raises:
            SinkError: it cannot be written.
        """
        path = self._folder / "index.html"
        head = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style></head>"
        )
        text = f"{head}<body><h1>{escape(self._title)}</h1>{''.join(self._parts)}</body></html>\n"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror or error}") from error
        return path


def number(value: object) -> str:
    """A figure as text: four digits, a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: object) -> str:
    text = number(value)
    if text in ("met", "missed"):
        return f'<td class="{text}">{text}</td>'
    kind = ' class="n"' if isinstance(value, int | float) else ""
    return f"<td{kind}>{escape(text)}</td>"
