"""Numbers and times as a reader wants them: short, with unit, and a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from lf_dagster.report.period import Grain

NONE = "–"  # noqa: RUF001 - an en dash is what a table shows for "nothing"

_LONGEST_NAME = 120
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def count(value: float | None) -> str:
    """`0`, `1,234`, `12.3 M`."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) < 1e6 else _short(value)


def short(value: float | None) -> str:
    """For axes: `950`, `1.2k`, `3M`."""
    if value is None:
        return NONE
    for size, unit in _UNITS:
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def usd(value: float | None) -> str:
    """`$0`, `$0.0042`, `$1.23`, `$1,234`: two digits that say something."""
    if value is None:
        return NONE
    if value == 0:
        return "$0"
    if abs(value) >= 1e6:
        return f"${_short(value)}"
    if abs(value) >= 100:
        return f"${value:,.0f}"
    return f"${value:.2f}" if abs(value) >= 1 else f"${_digits(value, 2)}"


def seconds(value: float | None) -> str:
    """`350 ms`, `1.42 s`, `2 min 05 s`."""
    if value is None:
        return NONE
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.3g} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"


def rate(value: float | None) -> str:
    """`12.3`: tokens per second and the like."""
    return NONE if value is None else f"{value:,.1f}"


def share(value: float | None) -> str:
    """`4.2 %`."""
    if value is None:
        return NONE
    return f"{value:.1%}".replace("%", " %")


def mean(value: float | None) -> str:
    """A score: three digits that say something."""
    return NONE if value is None else f"{value:.3g}"


def text(value: Any) -> str:
    """A name from the data, cut where it is longer than any name should be; a dash for none."""
    name = "" if value is None else str(value)
    return (name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…") or NONE


def moment(value: datetime | None) -> str:
    """`2026-11-21 06:00`, UTC."""
    return NONE if value is None else f"{value:%Y-%m-%d %H:%M}"


def bucket(value: datetime | date, grain: Grain) -> str:
    """A step of a chart in a table of numbers."""
    return f"{value:%Y-%m-%d %H:%M}" if grain == "hour" else f"{value:%Y-%m-%d}"


def change(now: float | None, before: float | None) -> str | None:
    """`+12 %`, `±0 %`, or with a minus sign; None where there is nothing to compare with."""
    if not before or now is None:
        return None
    percent = (now - before) / before * 100
    if abs(percent) < 0.5:
        return "±0 %"
    return f"{'+' if percent > 0 else '−'}{abs(percent):,.0f} %"  # noqa: RUF001 - a minus sign


FORMATS: dict[str, Callable[[Any], str]] = {
    "count": count,
    "usd": usd,
    "seconds": seconds,
    "rate": rate,
    "share": share,
    "mean": mean,
    "text": text,
    "moment": moment,
}
"""By the name that a table's column gives."""


def _short(value: float) -> str:
    size, unit = next((size, unit) for size, unit in _UNITS if abs(value) >= size)
    return f"{value / size:.3g} {unit}"


def _digits(value: float, digits: int) -> str:
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{places}f}"
