"""Small line and bar plots as SVG text, for pages that need no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5")
_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 34, 40
_INK, _GRID = "#333", "#ddd"
_TICKS = 4


@dataclass(frozen=True)
class Line:
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


def line_plot(title: str, x_name: str, lines: Sequence[Line], x_ticks: Sequence[float] | None = None) -> str:
    """An SVG of lines over one axis.

    Args:
        title: above the plot, with the unit of y.
        x_name: below it.
        lines: at most four.
        x_ticks: marked values of x; None: evenly spaced ones.

    Returns:
        `<svg>` text that scales with its column; a note instead of lines where no value is finite.
    """
    values = [np.array([np.nan if v is None else v for v in line.y], float) for line in lines]
    known = np.concatenate([value[np.isfinite(value)] for value in values]) if values else np.zeros(0)
    body = [_text(_LEFT, 18, title, 14, bold=True)]
    if not known.size:
        return _svg([*body, _text(_LEFT, _HEIGHT / 2, "nothing measured", 13)])
    x_all = np.concatenate([np.asarray(line.x, float) for line in lines])
    x_range, y_range = _padded(x_all, 0.04), _padded(known, 0.1)
    ticks = _round_numbers(x_range) if x_ticks is None else x_ticks
    body += _axes(x_range, y_range, ticks, x_name)
    for place, (line, value) in enumerate(zip(lines, values, strict=True)):
        colour = COLOURS[place % len(COLOURS)]
        body += _polyline(_across(np.asarray(line.x, float), x_range), _up(value, y_range), colour, line.dots)
        if len(lines) > 1:
            right = _WIDTH - _RIGHT - 72 * (len(lines) - 1 - place)
            body.append(_text(right, 18, line.name, 12, anchor="end", colour=colour))
    return _svg(body)


def _padded(values: np.ndarray, part: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = part * (high - low) or max(abs(high), 1.0) * part
    return low - room, high + room


def _round_numbers(limits: tuple[float, float]) -> np.ndarray:
    """About `_TICKS` values between the limits that are easy to read."""
    rough = (limits[1] - limits[0]) / _TICKS
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda part: abs(part * power - rough))
    first, last = np.ceil(limits[0] / step), np.floor(limits[1] / step)
    return np.arange(first, last + 1) * step + 0.0  # + 0: no minus before zero


def _across(x: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return _LEFT + (x - limits[0]) / (limits[1] - limits[0]) * (_WIDTH - _LEFT - _RIGHT)


def _up(y: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return _HEIGHT - _BOTTOM - (y - limits[0]) / (limits[1] - limits[0]) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(x_range: tuple, y_range: tuple, x_ticks: Sequence[float], x_name: str) -> list[str]:
    parts = []
    steps = _round_numbers(y_range)
    for value, y in zip(steps, _up(steps, y_range), strict=True):
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.6g}", 11, anchor="end"))
    for value, x in zip(x_ticks, _across(np.asarray(x_ticks, float), x_range), strict=True):
        parts.append(_text(x, _HEIGHT - _BOTTOM + 16, f"{value:.3g}", 11, anchor="middle"))
    base = _HEIGHT - _BOTTOM
    parts.append(f'<path d="M{_LEFT} {_TOP}V{base}H{_WIDTH - _RIGHT}" fill="none" stroke="{_INK}"/>')
    return [*parts, _text((_LEFT + _WIDTH) / 2, _HEIGHT - 6, x_name, 12, anchor="middle")]


def _polyline(x: np.ndarray, y: np.ndarray, colour: str, dots: bool) -> list[str]:
    path, pen_down = "", False
    for a, b in zip(x, y, strict=True):
        if not np.isfinite(b):
            pen_down = False
            continue
        path += f"{'L' if pen_down else 'M'}{a:.1f} {b:.1f}"
        pen_down = True
    parts = [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>']
    if dots:
        ends = [(a, b) for a, b in zip(x, y, strict=True) if np.isfinite(b)]
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in ends]
    return parts


def _text(
    x: float, y: float, text: str, size: int, anchor: str = "start", colour: str = _INK, bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}>'
        f"{escape(text)}</text>"
    )


def _svg(parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg" role="img">'
    return head + "".join(parts) + "</svg>"
