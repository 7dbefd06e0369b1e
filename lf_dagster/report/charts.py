"""Charts over time, drawn by Matplotlib: as SVG for the page, and as panels of the preview picture.

Names that come from data (models, users, scores) never get into a drawing: legends and tables of the page have them.
In the SVG every colour is a CSS variable, so that the page's light and dark themes hold for it too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from lf_dagster.report import formats
from lf_dagster.report.period import Grain

INK, MUTED, GRID = "#1b2330", "#5d6778", "#dfe4ec"
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8a93a3")
"""Okabe and Ito's colours, which all kinds of sight tell apart; the last, a grey, is for "all others"."""
ALARM = "#d55e00"

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    ALARM: "--alarm",
    **{colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)},
}
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_SIZE = (4.4, 2.25)  # inches of 72 points; the page scales it to the width of a card
_TICKS = 6
_DOTS_UP_TO = 31
_TOO_LARGE = 1e15

Unit = Literal["count", "usd", "seconds", "share", "mean", "rate"]
_AXIS = {
    "count": formats.short,
    "usd": lambda value: f"${formats.short(value)}",
    "seconds": lambda value: f"{formats.short(value)} s",
    "share": lambda value: f"{100 * value:.3g} %",
    "mean": formats.short,
    "rate": formats.short,
}


@dataclass(frozen=True)
class Line:
    """One series: a value per step, None where there is none. `colour`: index into SERIES, -1 is ALARM."""

    label: str
    values: Sequence[float | None]
    colour: int = 0

    @property
    def drawn(self) -> list[float | None]:
        """The values without those that are too large for any axis, which only broken data has."""
        return [None if value is None or not abs(value) < _TOO_LARGE else value for value in self.values]

    @property
    def hex(self) -> str:
        return ALARM if self.colour < 0 else SERIES[self.colour]


@dataclass(frozen=True)
class Plot:
    """What a chart draws: lines beside each other, or bars on top of each other. `unit` formats the axis."""

    kind: Literal["lines", "bars"]
    steps: Sequence[datetime]
    series: Sequence[Line]
    unit: Unit
    grain: Grain

    @property
    def empty(self) -> bool:
        """Whether there is nothing to see: no value, or nothing but 0 in bars."""
        values = [value for line in self.series for value in line.drawn if value is not None]
        return not any(values) if self.kind == "bars" else not values


def svg(plot: Plot, name: str) -> str:
    """An `<svg>` element; `name` keeps its ids apart from those of other charts of a page."""
    with drawing_style(name):
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        figure = Figure(figsize=_SIZE, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
        draw(figure.add_subplot(), plot)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(drawn.getvalue(), name)


def css_variable(colour: str) -> str:
    """`var(--series-1)` for a colour of this module."""
    return f"var({_VARIABLES[colour]})"


def draw(axes: Any, plot: Plot) -> None:
    """Draw into axes of Matplotlib."""
    positions = range(len(plot.steps))
    if plot.kind == "bars":
        _draw_bars(axes, plot, positions)
    else:
        _draw_lines(axes, plot, positions)
    axes.set_xlim(-0.6, len(plot.steps) - 0.4)
    marks = _marks(plot.steps, plot.grain)
    axes.set_xticks([position for position, _ in marks], [label for _, label in marks])
    axes.yaxis.set_major_formatter(lambda value, _: _AXIS[plot.unit](value))
    axes.yaxis.get_major_locator().set_params(nbins=5, integer=plot.unit == "count")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=MUTED)
    axes.tick_params(axis="x", pad=7)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=GRID)


def _draw_bars(axes: Any, plot: Plot, positions: range) -> None:
    floor = [0.0] * len(positions)
    for line in plot.series:
        heights = [value or 0.0 for value in line.drawn]
        axes.bar(positions, heights, bottom=floor, width=0.82, color=line.hex, linewidth=0)
        floor = [below + height for below, height in zip(floor, heights, strict=True)]
    axes.set_ylim(0, max(floor) * 1.08 or 1)


def _draw_lines(axes: Any, plot: Plot, positions: range) -> None:
    nan = float("nan")
    for number, line in enumerate(plot.series):
        values = [nan if value is None else value for value in line.drawn]
        dotted = _dotted(line)
        dots = {"marker": "o", "markersize": 3.2, "markevery": dotted} if dotted else {}
        # Told apart by dashes too, for those who print it in black.
        style = _DASHES[number % len(_DASHES)]
        axes.plot(positions, values, color=line.hex, linewidth=1.7, linestyle=style, **dots)
    known = [value for line in plot.series for value in line.drawn if value is not None]
    if known and min(known) >= 0:
        axes.set_ylim(0, max(known) * 1.08 or 1)


def _dotted(line: Line) -> list[int]:
    """Positions that get a dot: all of a short line, else values without neighbours, which no line would show."""
    known = [value is not None for value in (None, *line.drawn, None)]
    alone = [at for at in range(len(line.values)) if known[at : at + 3] == [False, True, False]]
    return list(range(len(line.values))) if len(line.values) <= _DOTS_UP_TO else alone


def _marks(steps: Sequence[datetime], grain: Grain) -> list[tuple[int, str]]:
    """Positions and labels below the axis: midnights where steps are hours of several days, else evenly spaced."""
    if grain == "hour" and len(steps) > 24:
        return [(at, f"{step.day} {step:%b}") for at, step in enumerate(steps) if step.hour == 0]
    every = max(1, -(-len(steps) // _TICKS))
    form = "{0:%H:%M}" if grain == "hour" else "{0.day} {0:%b}"
    return [(at, form.format(step)) for at, step in enumerate(steps) if at % every == 0]


@contextmanager
def drawing_style(name: str) -> Iterator[None]:
    """Matplotlib's settings for everything that is drawn here."""
    import matplotlib as mpl

    settings: dict[str, Any] = {
        "svg.fonttype": "none",  # text stays text: it can be selected, read out, and takes the page's font
        "svg.hashsalt": name,  # the same chart gives the same text
        "text.parse_math": False,
        "font.size": 10,
        "font.family": "DejaVu Sans",
    }
    with mpl.rc_context(settings):
        yield


def _for_page(text: str, name: str) -> str:
    """The bare element with ids of its own, colours as CSS variables, and no size, which the page decides."""
    element = text[text.index("<svg") :]
    head, rest = element.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', head)
    element = f'<svg {view_box[0] if view_box else ""} aria-hidden="true" focusable="false">{rest}'
    element = re.sub(r"<(metadata|style)\b.*?</\1>", "", element, flags=re.DOTALL)
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'href="#', f'href="#{name}-', element)
    element = element.replace("url(#", f"url(#{name}-")
    element = element.replace("font-family: 'DejaVu Sans'; ", "")
    for colour in _VARIABLES:
        element = element.replace(colour, css_variable(colour))
    return element.strip()
