"""Rows as text: a table for people, CSV, JSON, or Markdown."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lf_dagster.hours import iso
from lf_dagster.warehouse.query import Heading, Row

Format = Literal["table", "csv", "json", "markdown"]
FORMATS: tuple[Format, ...] = ("table", "csv", "json", "markdown")

_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL\(.*\)")
# What a row holds was written by anybody: no control character but the end of a line reaches a terminal.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\n")}
_WIDEST = 10_000
_FEW_COLUMNS = 4
_SHORT = 40
_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


class Cut:
    """Lets at most `limit` rows through; `more` tells whether there were others. None: all."""

    def __init__(self, rows: Iterator[Row], limit: int | None) -> None:
        self._rows = rows
        self._limit = limit
        self.more = False

    def __iter__(self) -> Iterator[Row]:
        yield from itertools.islice(self._rows, self._limit)
        if self._limit is not None:
            self.more = next(self._rows, None) is not None


def write_csv(headings: Sequence[Heading], rows: Iterator[Row], to: io.TextIOBase) -> None:
    """RFC 4180 with a header; NULL is empty, nested values are JSON."""
    writer = csv.writer(to)
    writer.writerow([heading.name for heading in headings])
    writer.writerows([_plain(value, null="") for value in row] for row in rows)


def write_json(headings: Sequence[Heading], rows: Iterator[Row], to: io.TextIOBase) -> None:
    """One array with an object per row; columns of the same name get a number."""
    names = _distinct([heading.name for heading in headings])
    kinds = [heading.type for heading in headings]
    to.write("[")
    for number, row in enumerate(rows):
        values = (_json_value(value, kind) for value, kind in zip(row, kinds, strict=True))
        to.write(",\n" if number else "\n")
        to.write(_encode(dict(zip(names, values, strict=True))).decode())
    to.write("\n]\n")


def write_markdown(headings: Sequence[Heading], rows: Iterator[Row], to: io.TextIOBase) -> None:
    """A table as Markdown has it; numbers to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.replace("|", "&#124;").split("\n")) for cell in cells) + " |\n"

    to.write(line([heading.name for heading in headings]))
    to.write("|" + "|".join("---:" if _is_number(heading) else "---" for heading in headings) + "|\n")
    for row in rows:
        to.write(line([_shown(value) for value in row]))


def write_table(headings: Sequence[Heading], rows: Iterator[Row], to: io.TextIOBase, *, width: int | None) -> None:
    """Columns beside each other or, where a terminal of `width` characters is too narrow, one value per line."""
    shown = [[_shown(value) for value in row] for row in rows]
    console = Console(file=to, width=width or _WIDEST, highlight=False, emoji=False)  # type: ignore[arg-type]
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        # Where space is short, texts are folded before names and numbers are.
        is_short = max((len(row[number]) for row in shown), default=0) <= _SHORT
        justify = "right" if _is_number(heading) else "left"
        table.add_column(Text(_safe(heading.name)), justify=justify, overflow="fold", no_wrap=is_short)
    for row in shown:
        table.add_row(*(Text(value, "dim" if value == _NULL else "") for value in row))
    longest = max((sum(map(len, row)) for row in shown), default=0) + 2 * len(headings)
    if width is not None and len(headings) > _FEW_COLUMNS and longest > 2 * width:
        _write_records(headings, shown, to)
    else:
        for line in console.render_lines(table, pad=False):
            to.write("".join(segment.text for segment in line).rstrip() + "\n")


_NULL = "NULL"


def _write_records(headings: Sequence[Heading], rows: Sequence[Sequence[str]], to: io.TextIOBase) -> None:
    widest = max(len(heading.name) for heading in headings)
    for number, row in enumerate(rows, start=1):
        to.write(f"-- row {number}\n")
        for heading, value in zip(headings, row, strict=True):
            to.write(f"{_safe(heading.name):<{widest}}  {value}\n")


def _is_number(heading: Heading) -> bool:
    return _NUMBER.fullmatch(heading.type) is not None


def _shown(value: Any) -> str:
    """For people: numbers without noise, no control characters."""
    if isinstance(value, float):
        return f"{value:.10g}"
    return _safe(_plain(value, null=_NULL))


def _safe(text: str) -> str:
    return text.translate(_CONTROLS)


def _plain(value: Any, *, null: str) -> str:
    """Exact text of a value."""
    if value is None:
        return null
    for kind, as_text in _TEXTS.items():
        if isinstance(value, kind):
            return as_text(value)
    return str(value)


def _decimal(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment(value: datetime) -> str:
    if value.tzinfo is None or value.year in (1, 9999):  # what DuckDB's infinities become
        return value.isoformat(" ")
    return iso(value.astimezone(timezone.utc))


def _nested(value: Any) -> str:
    return _encode(_encodable(value)).decode()


_TEXTS: dict[type, Callable[[Any], str]] = {
    bool: lambda value: str(value).lower(),
    Decimal: _decimal,
    datetime: _moment,
    list: _nested,
    dict: _nested,
    bytes: bytes.hex,
}


def _json_value(value: Any, kind: str) -> Any:
    if kind == "JSON" and isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return _encodable(value)


def _encodable(value: Any) -> Any:
    """The same for the encoder, whose times and trailing zeros are not ours."""
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, Decimal):
        return Decimal(_decimal(value))
    if isinstance(value, dict):
        return {str(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        again = (f"{name}_{number}" for number in itertools.count(1))
        found.append(name if name not in found else next(other for other in again if other not in found))
    return found
