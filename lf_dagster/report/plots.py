"""What the charts of a report draw, from its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lf_dagster.report import formats
from lf_dagster.report.charts import Line, Plot
from lf_dagster.report.queries import Numbers, Row

OTHERS = "all others"
NO_MODEL = "no model named"


def series(rows: Sequence[Row], *columns: tuple[str, str, int]) -> list[Line]:
    """Lines of columns: (column, label, colour)."""
    return [Line(label, [row[key] for row in rows], colour) for key, label, colour in columns]


def steps(rows: Sequence[Row]) -> list[Any]:
    """The steps that rows are of."""
    return [row["bucket"] for row in rows]


def traces_plot(numbers: Numbers) -> Plot:
    """Traces per step."""
    rows = numbers["adoption"]
    return Plot("bars", steps(rows), series(rows, ("traces", "traces", 0)), "count", numbers.period.grain)


def users_plot(numbers: Numbers) -> Plot:
    """Active users and sessions per step."""
    rows = numbers["adoption"]
    lines = series(rows, ("users", "active users", 0), ("sessions", "sessions", 1))
    return Plot("lines", steps(rows), lines, "count", numbers.period.grain)


def latency_plot(numbers: Numbers, what: str) -> Plot:
    """`what`: latency or ttft; median, 90th and 99th percentile per step."""
    rows = numbers["latency"]
    lines = series(rows, (f"{what}_p50", "p50", 0), (f"{what}_p90", "p90", 1), (f"{what}_p99", "p99", 3))
    return Plot("lines", steps(rows), lines, "seconds", numbers.period.grain)


def error_plot(numbers: Numbers) -> Plot:
    """Share of observations with level ERROR per step."""
    rows = numbers["errors_over_time"]
    return Plot("lines", steps(rows), series(rows, ("rate", "error rate", -1)), "share", numbers.period.grain)


def cost_plot(numbers: Numbers) -> Plot:
    """Cost per step, of the five most expensive models and all others."""
    known = {row["bucket"]: row["traces"] is not None for row in numbers["adoption"]}
    costs: dict[int, dict[Any, float]] = {}
    labels: dict[int, str] = {}
    for row in numbers["cost_over_time"]:
        rank = row["rank"]
        costs.setdefault(rank, {})[row["bucket"]] = row["cost"]
        labels[rank] = OTHERS if rank > 5 else formats.text(row["model"] or NO_MODEL)
    lines = [
        Line(labels[rank], [by.get(step, 0.0) if known[step] else None for step in known], rank - 1)
        for rank, by in sorted(costs.items())
    ]
    return Plot("bars", list(known), lines, "usd", numbers.period.grain)


def total_cost_plot(numbers: Numbers) -> Plot:
    """Cost per step, of all models together."""
    cost = cost_plot(numbers)
    totals = [sum(value or 0.0 for value in each) for each in zip(*(line.values for line in cost.series), strict=True)]
    return Plot("bars", cost.steps, [Line("cost", totals)] if totals else [], "usd", numbers.period.grain)


def cost_per_trace_plot(numbers: Numbers) -> Plot:
    """Cost of all observations per trace and step; none where no trace began."""
    total = total_cost_plot(numbers)
    traces = [row["traces"] for row in numbers["adoption"]]
    lines = [
        Line(
            "cost per trace",
            [(cost or 0.0) / count if count else None for cost, count in zip(line.values, traces, strict=True)],
        )
        for line in total.series
    ]
    return Plot("lines", total.steps, lines, "usd", numbers.period.grain)


def new_users_plot(numbers: Numbers) -> Plot:
    """Users never seen before, per step."""
    rows = numbers["adoption"]
    return Plot("bars", steps(rows), series(rows, ("new_users", "new users", 2)), "count", numbers.period.grain)


def speed_plot(numbers: Numbers) -> Plot:
    """Median output tokens per second, per step."""
    rows = numbers["latency"]
    return Plot("lines", steps(rows), series(rows, ("tokens_per_s_p50", "median", 2)), "rate", numbers.period.grain)
