"""A glance at the tables that a run has written: the first rows of each hour, without anything that tells who or what.

Cells are text, ready to be shown to anybody who may see that the project runs: no inputs, outputs, metadata or
comments, no user ids, nothing that looks like a key or an e-mail address, and no text of any length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from lf_dagster.glimpse import glimpse
from lf_dagster.hours import Hour
from lf_dagster.warehouse.database import ALIAS, identifier
from lf_dagster.warehouse.models import Model
from lf_dagster.warehouse.tables import hours_filter, timestamp

MOST_ROWS = 5

_OF_EVENTS = ("event_time", "trace_name", "user_id", "environment", "skip_reason", "entity_id")
_SHOWN = {
    "observations": ("start_time", "type", "name", "level", "total_cost", "observation_id"),
    "traces": ("started_at", "trace_name", "user_id", "n_observations", "total_cost", "trace_id"),
    "generations": ("model", "name", "input_tokens", "output_tokens", "cost_total", "observation_id"),
    "scores": ("timestamp", "name", "data_type", "value_num", "source", "score_id"),
    "deletions": ("deleted_seen_at", "stream", "event_time", "entity_id"),
}
"""Columns of the typed tables as they are shown: ids, times, numbers, and names of things; few enough to fit."""
_USER = "user_id"
_FEW_ROWS = 50_000


@dataclass(frozen=True)
class FirstRows:
    """The first rows of one table and hour: names of columns, and cells (None for NULL)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def shown_columns(model: Model) -> tuple[str, ...]:
    """The columns of a table that are shown."""
    wanted = _OF_EVENTS if model.layer == "events" else _SHOWN.get(model.name, ())
    return tuple(name for name in wanted if name in model.schema)


def first_rows(
    con: duckdb.DuckDBPyConnection, models: Sequence[Model], schema: str, counted: Mapping[str, Mapping[Hour, int]]
) -> dict[str, dict[Hour, FirstRows]]:
    """The first rows of each table and hour that has any, by one query per table; `counted`: rows per table and hour.

    A query takes 1 to 5 ms, however many rows there are.
    """
    return {model.name: dict(_of_table(con, model, schema, counted[model.name])) for model in models}


def _of_table(
    con: duckdb.DuckDBPyConnection, model: Model, schema: str, counted: Mapping[Hour, int]
) -> Iterator[tuple[Hour, FirstRows]]:
    names = shown_columns(model)
    hours = [hour for hour, rows in counted.items() if rows]
    if not (names and hours):
        return
    table = f"{ALIAS}.{identifier(schema)}.{identifier(model.name)}"
    user = _USER if _USER in model.schema else "NULL"
    listed = ", ".join(f"{_text(name, model.schema[name])} AS {identifier(name)}" for name in names)
    read = ", ".join(identifier(name) for name in dict.fromkeys((*names, *({_USER} & model.schema.keys()))))
    few = _few_per_hour if len(hours) > 1 and sum(counted.values()) <= _FEW_ROWS else _few_of_each
    query = f"SELECT n, {user} AS who, {listed} FROM ({few(table, read, hours)})"
    found: dict[int, list[tuple[str | None, ...]]] = {}
    for number, who, *cells in con.execute(query).fetchall():
        found.setdefault(number, []).append(tuple(glimpse(cell, who) for cell in cells))
    columns = tuple("user" if name == _USER else name for name in names)
    for number, rows in found.items():
        yield hours[number], FirstRows(columns, tuple(rows))


def _few_per_hour(table: str, read: str, hours: Sequence[Hour]) -> str:
    """The first rows of all hours in one pass over them."""
    numbers = " ".join(f"WHEN {timestamp(hour)} THEN {number}" for number, hour in enumerate(hours))
    return (
        f"SELECT CASE partition_hour {numbers} END AS n, {read} FROM {table} "
        f"WHERE {hours_filter('partition_hour', hours)} "
        f"QUALIFY row_number() OVER (PARTITION BY partition_hour) <= {MOST_ROWS}"
    )


def _few_of_each(table: str, read: str, hours: Sequence[Hour]) -> str:
    """The same hour by hour, each ending at its first rows: dearer per hour, but not per row."""
    return " UNION ALL ".join(
        f"(SELECT {number} AS n, {read} FROM {table} WHERE partition_hour = {timestamp(hour)} LIMIT {MOST_ROWS})"
        for number, hour in enumerate(hours)
    )


def _text(name: str, kind: str) -> str:
    """SQL of a cell: the time of day, six digits of a number, whether there is a user."""
    column = identifier(name)
    if name == _USER:
        return f"CASE WHEN {column} IS NOT NULL THEN 'known' END"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"strftime(timezone('UTC', {column}), '%H:%M:%S')"
    if kind == "DOUBLE" or kind.startswith("DECIMAL"):
        return f"regexp_replace(round({column}::DOUBLE, 6)::VARCHAR, '\\.0$', '')"
    return f"left({column}::VARCHAR, 200)"
