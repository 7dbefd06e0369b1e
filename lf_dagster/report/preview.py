"""The picture of a report: the key figures and four charts, for the page of the asset."""

from __future__ import annotations

import io
from typing import Any

from lf_dagster.report.charts import INK, MUTED, Plot, draw, drawing_style
from lf_dagster.report.figures import figures
from lf_dagster.report.plots import error_plot, latency_plot, total_cost_plot, users_plot
from lf_dagster.report.queries import Numbers

_SHOWN = ("traces", "users", "sessions", "cost", "latency_p50", "error_rate", "scores")


def preview_png(project: str, numbers: Numbers) -> bytes:
    """A PNG of 840 by 520 pixels. Nothing that comes from data is written into it but numbers."""
    title = f"{project}: LLM report, {numbers.period} (UTC), by {numbers.period.grain}"
    with drawing_style("preview"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 6.2), dpi=84, facecolor="white")
        figure.text(0.04, 0.945, title, color=INK, size=14, weight="bold")
        _write_figures(figure, numbers)
        grid = figure.add_gridspec(2, 2, left=0.07, right=0.98, top=0.755, bottom=0.06, hspace=0.42, wspace=0.18)
        for at, (heading, plot) in enumerate(_panels(numbers)):
            _panel(figure.add_subplot(grid[divmod(at, 2)]), heading, plot)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()


def _write_figures(figure: Any, numbers: Numbers) -> None:
    shown = {item.key: item for item in figures(numbers)}
    for at, key in enumerate(_SHOWN):
        left = 0.04 + at * 0.94 / len(_SHOWN)
        figure.text(left, 0.89, shown[key].label, color=MUTED, size=9)
        figure.text(left, 0.845, shown[key].shown, color=INK, size=13, weight="bold")


def _panels(numbers: Numbers) -> list[tuple[str, Plot]]:
    return [
        ("Users and sessions", users_plot(numbers)),
        ("Cost (USD)", total_cost_plot(numbers)),
        ("Latency of generations", latency_plot(numbers, "latency")),
        ("Error rate of observations", error_plot(numbers)),
    ]


def _panel(axes: Any, title: str, plot: Plot) -> None:
    axes.set_title(title, loc="left", size=10.5, color=INK, weight="bold")
    if plot.empty:
        axes.set_axis_off()
        axes.text(0, 0.5, "nothing in these days", transform=axes.transAxes, color=MUTED)
        return
    draw(axes, plot)
    if len(plot.series) > 1:
        labels = [line.label for line in plot.series]
        # Beside the title, above the lines.
        axes.legend(
            labels, loc="lower right", bbox_to_anchor=(1.02, 0.98), ncols=3, frameon=False, fontsize=9,
            handlelength=1.6, columnspacing=1.2,
        )  # fmt: skip
