"""Small line plots as SVG text, for pages that need no other file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure

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


@dataclass(frozen=True)
class PlotLine:
    """One line of a plot.

    Attributes:
        name: in the legend.
        x, y: the same number of values; where y is NaN or None the line has a gap.
        dots: mark the points.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
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
