"""A picture of hours: a row per day, a column per hour of the day, a colour per state."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

from lf_dagster.accounting import State
from lf_dagster.hours import Hour

COLOURS: dict[State, str] = {
    "settled": "#4caf78",
    "stale": "#f0b429",
    "undelivered": "#5b8def",
    "missing": "#d64545",
}
_UNKNOWN = "#f2f4f7"
_MOST_DAYS = 45


def heat_map(states: Mapping[Hour, State]) -> str:
    """A Markdown image (PNG inside) of the newest 45 days; days run down, hours of the day (UTC) to the right."""
    return f"![hours by state](data:image/png;base64,{base64.b64encode(heat_map_png(states)).decode()})"


def heat_map_png(states: Mapping[Hour, State]) -> bytes:
    """The same as PNG bytes."""
    # Heavy, and only an audit draws.
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    days = sorted({hour.date for hour in states})[-_MOST_DAYS:]
    names = list(COLOURS)
    grid = [[0] * 24 for _ in days]
    for hour, state in states.items():
        if hour.date in days:
            grid[days.index(hour.date)][int(hour.hour)] = 1 + names.index(state)
    figure = Figure(figsize=(7.2, 1.1 + 0.26 * len(days)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.pcolormesh(
        grid, cmap=ListedColormap([_UNKNOWN, *COLOURS.values()]), vmin=0, vmax=len(names), edgecolors="white", lw=1
    )
    axes.invert_yaxis()
    axes.set_xticks([hour + 0.5 for hour in range(0, 24, 3)], [f"{hour:02d}" for hour in range(0, 24, 3)])
    axes.set_yticks([row + 0.5 for row in range(len(days))], days)
    axes.tick_params(length=0, labelsize=8)
    axes.set_xlabel("hour of the day, UTC", fontsize=8)
    axes.spines[:].set_visible(False)
    legend = [Patch(color=colour, label=state) for state, colour in COLOURS.items()]
    figure.legend(handles=legend, loc="outside upper right", ncols=len(legend), fontsize=8, frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()
