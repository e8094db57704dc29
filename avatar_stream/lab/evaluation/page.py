"""A plain page of text, tables, plots and pictures in a folder of its own; readable on a phone."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure
from PIL import Image

from avatar_stream.errors import SinkError

_SIZE_IN = (4.8, 2.7)
_STYLE = {
    "axes.edgecolor": "#333",
    "axes.prop_cycle": matplotlib.cycler(color=("#2b6cb0", "#c05621", "#2f855a", "#805ad5")),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 8,
    "grid.color": "#ddd",
    "lines.markersize": 4,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "avatar_stream",  # the same plot is the same text each time
}
_QUALITY = 92  # of WebP: a tenth of PNG's bytes, and nothing to see of it


@dataclass(frozen=True)
class _Shown:
    # A picture that lies beside the page.
    name: str
    width_px: int
    height_px: int
    text: str


class Page:
    """Collects sections and writes `index.html` with its pictures beside it."""

    def __init__(self, folder: Path, title: str):
        """Make the folder.

        Raises:
            SinkError: it cannot be made.
        """
        self._folder, self._title = folder, title
        self._parts: list[dict] = []
        self._pictures = 0
        try:
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot make the folder {folder}: {error.strerror or error}") from error

    def heading(self, text: str, note: str = "") -> None:
        """Begin a section."""
        self._add("heading", text=text)
        if note:
            self.note(note)

    def note(self, text: str) -> None:
        """Add a paragraph."""
        self._add("note", text=text)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table of texts and numbers; `met` and `missed` are coloured."""
        self._add("table", heads=heads, rows=list(rows))

    def plots(self, drawings: Iterable[str]) -> None:
        """Add SVG drawings beside each other."""
        self._add("plots", drawings=list(drawings))

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
        self._add("cards", pictures=[self._picture(image, text) for image, text in pictures])

    def picture_grid(self, heads: Sequence[str], rows: Iterable[Sequence]) -> None:
        """Add rows of pictures, (H, W, 3) uint8 RGB; texts and gaps may stand between them."""
        shown = [
            [
                self._picture(cell, head) if isinstance(cell, np.ndarray) else cell or ""
                for cell, head in zip(row, heads, strict=True)
            ]
            for row in rows
        ]
        self._add("grid", heads=heads, rows=shown)

    def _add(self, kind: str, **content: object) -> None:
        self._parts.append({"kind": kind} | content)

    def _picture(self, image: np.ndarray, text: str) -> _Shown:
        self._pictures += 1
        name = f"pictures/{self._pictures:04d}.webp"
        try:
            Image.fromarray(image).save(self._folder / name, quality=_QUALITY)
        except OSError as error:
            raise SinkError(f"cannot write {self._folder / name}: {error.strerror or error}") from error
        return _Shown(name, image.shape[1], image.shape[0], text)

    def write(self) -> Path:
        """Write `index.html` and return its path.

        Raises:
            SinkError: it cannot be written.
        """
        path = self._folder / "index.html"
        templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
        templates.trim_blocks = templates.lstrip_blocks = True
        templates.filters |= {"number": number, "kind": _kind}
        text = templates.get_template("page.html").render(title=self._title, parts=self._parts)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror or error}") from error
        return path


@dataclass(frozen=True)
class PlotLine:
    """One line of a plot.

    Attributes:
        name: in the legend.
        x, y: the same number of values; where y is NaN or None the line has a gap.
        dots: mark the points.
    """

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float | None] | np.ndarray
    dots: bool = True


def line_plot(
    title: str, x_name: str, lines: Sequence[PlotLine], x_ticks: Sequence[float] | None = None
) -> str:
    """An SVG of lines over one axis.

    Args:
        title: above the plot, with the unit of y.
        x_name: below it.
        lines: at most four.
        x_ticks: marked values of x; None: evenly spaced ones.

    Returns:
        `<svg>` text that scales with its column; a note instead of lines where no value is finite.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(_SIZE_IN, layout="constrained")
        axes = figure.add_subplot(title=title, xlabel=x_name)
        for line in lines:
            axes.plot(line.x, np.asarray(line.y, float), "o-" if line.dots else "-", label=line.name)
        if not any(np.isfinite(drawn.get_ydata()).any() for drawn in axes.lines):
            axes.set_axis_off()
            axes.text(0, 0.5, "nothing measured", transform=axes.transAxes)
        elif len(lines) > 1:
            axes.legend(
                loc="lower right", bbox_to_anchor=(1, 1), ncols=len(lines), frameon=False, borderaxespad=0
            )
        axes.grid(axis="y")
        if x_ticks is not None:
            axes.set_xticks(x_ticks)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def number(value: object) -> str:
    """A figure as text: four digits, a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _kind(value: object) -> str:
    # The class of a table's cell.
    if isinstance(value, int | float):
        return "number"
    return value if value in ("met", "missed") else ""
