"""The key figures at the top of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lf_dagster.report import formats
from lf_dagster.report.parts import Figure
from lf_dagster.report.queries import Numbers

_COMPARABLE = 0.05
"""Share by which the hours that the warehouse has of two periods may differ."""


def figures(numbers: Numbers) -> list[Figure]:
    """The figures at the top. They are compared with the period before only when the warehouse has as much of it."""
    now, before = numbers["kpis"]
    if not _is_comparable(numbers):
        before = {}

    def figure(key: str, label: str, form: Callable[[Any], str], note: str = "", *, zero: bool = True) -> Figure:
        value = now.get(key)
        value = 0 if value is None and zero else value
        changed = formats.change(value, before.get(key))
        notes = [note, f"{changed} on the {_span(numbers)} before" if changed else ""]
        return Figure(key, label, value, form(value), [text for text in notes if text])

    without = (now["traces_without_user"] or 0) / now["traces"] if now["traces"] else 0
    error_rate = (now["errors"] or 0) / now["observations"] if now["observations"] else None
    return [
        figure("traces", "Traces", formats.count, f"{formats.share(without)} without user" if without else ""),
        figure("users", "Active users", formats.count),
        figure("sessions", "Sessions", formats.count),
        figure("cost", "Cost", formats.usd),
        figure("generations", "Generations", formats.count),
        figure("tokens", "Tokens", formats.count, "in and out, of generations"),
        figure("latency_p50", "Median latency", formats.seconds, _p90(now["latency_p90"]), zero=False),
        figure("ttft_p50", "Median time to first token", formats.seconds, _p90(now["ttft_p90"]), zero=False),
        Figure(
            "error_rate", "Error rate", error_rate, formats.share(error_rate),
            [f"{formats.count(now['errors'] or 0)} of {formats.count(now['observations'] or 0)} observations"],
        ),
        figure("scores", "Scores", formats.count),
    ]  # fmt: skip


def _p90(value: float | None) -> str:
    return "" if value is None else f"9 of 10 within {formats.seconds(value)}"


def _is_comparable(numbers: Numbers) -> bool:
    return numbers.modelled > 0 and abs(numbers.modelled_before - numbers.modelled) <= _COMPARABLE * numbers.modelled


def _span(numbers: Numbers) -> str:
    days = numbers.period.days
    return "day" if days == 1 else f"{days} days"
