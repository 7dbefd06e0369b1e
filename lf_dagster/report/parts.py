"""What a page is made of: figures, charts, tables, and words where there is nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lf_dagster.report import formats
from lf_dagster.report.charts import Line, Plot


@dataclass(frozen=True)
class Figure:
    """A figure at the top. `value` is the number itself, `shown` what is read, `notes` short lines below."""

    key: str
    label: str
    value: float | None
    shown: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Column:
    """A column of a table: `key` in its rows, `format` a name in `formats.FORMATS`; `bar`: also drawn as a bar."""

    key: str
    label: str
    format: str = "count"
    bar: bool = False

    @property
    def is_number(self) -> bool:
        return self.format not in ("text", "moment")

    def shown(self, value: Any) -> str:
        return formats.FORMATS[self.format](value)


@dataclass(frozen=True)
class Table:
    """A card with a table. `size`: how many of the page's three columns a card takes."""

    key: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[dict[str, Any]]
    note: str = ""
    size: int = 1

    def percent(self, column: Column, row: dict[str, Any]) -> float:
        """Length of the cell's bar, 0 to 100, beside the largest of its column."""
        largest = max((each[column.key] or 0 for each in self.rows), default=0)
        return round(100 * max(row[column.key] or 0, 0) / largest, 1) if largest > 0 else 0.0


@dataclass(frozen=True)
class Cell:
    """`shade`: 0 to 1, the darkest; `count`: of how many, in small print."""

    text: str
    shade: float
    count: str = ""


@dataclass(frozen=True)
class Heat:
    """A card with shaded cells. A row is its name and its cells; None is an empty one."""

    key: str
    title: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]
    note: str = ""
    size: int = 1


@dataclass(frozen=True)
class Chart:
    """A card with a chart, its legend, and the numbers that it was drawn from."""

    key: str
    title: str
    plot: Plot
    svg: str
    note: str = ""
    size: int = 1

    @property
    def legend(self) -> list[tuple[str, Line]]:
        """CSS class and series; none for a single one, which the title names."""
        if len(self.plot.series) < 2:
            return []
        names = ("solid", "dashed", "dotted")
        lines = self.plot.kind == "lines"
        return [(names[at % 3] if lines else "block", line) for at, line in enumerate(self.plot.series)]

    @property
    def numbers(self) -> list[tuple[str, list[str]]]:
        """The steps with the values of each series, as text."""
        column = Column("", "", self.plot.unit)
        return [
            (formats.bucket(step, self.plot.grain), [column.shown(line.values[at]) for line in self.plot.series])
            for at, step in enumerate(self.plot.steps)
        ]


@dataclass(frozen=True)
class Nothing:
    """A card that says why there is nothing."""

    key: str
    title: str
    why: str
    size: int = 1


Part = Chart | Table | Heat | Nothing


@dataclass(frozen=True)
class Section:
    """A view: what it answers, and its cards."""

    key: str
    title: str
    about: str
    parts: Sequence[Part]
