"""Tables of a project's schema: created and reshaped from models, replaced hour by hour."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.warehouse.database import ALIAS, identifier, literal
from lf_dagster.warehouse.models import SCHEMA, Model

if TYPE_CHECKING:
    from lf_dagster.warehouse.first_rows import FirstRows

_UNLIKE = frozenset({"observation_id", "parent_observation_id", "score_id", "entity_id", "langfuse_id", "langfuse_url"})
"""Columns whose texts differ from row to row. DuckDB would gather each into a dictionary that saves nothing: zstd takes
a third to nine tenths of the CPU (links, UUIDs), half the space for links, a tenth to a fifth more for random ids."""


@dataclass(frozen=True)
class Problem:
    """A row of an extract that could not be read as it should. The extract still holds it; `kept` says whether
    the tables do, without what could not be read."""

    stream: str
    hour: Hour
    id: str
    reason: str
    kept: bool = False


@dataclass(frozen=True)
class ModelRun:
    """What one run of a layer did. Durations in seconds.

    `rows`: per table and hour of the run, the rows written. `touched_hours`: hours outside the run whose rows would
    come out differently now (their traces, or the traces of their scores, have observations in the run's hours); they
    are to be rerun. `problems`: rows that were left out, or read in part. `reshaped`: tables whose columns changed
    since the last run; columns that came are NULL in hours that are not rerun. `first_rows`: a glance at each table and
    hour that has rows.
    """

    rows: dict[str, dict[Hour, int]]
    touched_hours: frozenset[Hour]
    duration_seconds: float
    problems: tuple[Problem, ...] = ()
    reshaped: tuple[str, ...] = ()
    first_rows: Mapping[str, Mapping[Hour, FirstRows]] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """Values of the audit columns of one run."""

    project_id: str
    project_name: str
    run_id: str
    now: datetime


@dataclass
class Stopwatch:
    """Seconds since it was made."""

    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection, schema: str) -> Iterator[None]:
    """One transaction over the project's schema, which becomes the current one; rolled back on any error."""
    con.execute("BEGIN TRANSACTION")
    try:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {ALIAS}.{identifier(schema)}")
        con.execute(f"SET search_path = '{ALIAS}.{schema}'")
        yield
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")


def prepare_tables(
    con: duckdb.DuckDBPyConnection, models: Sequence[Model], schema: str, *, without: Sequence[Model] = ()
) -> tuple[str, ...]:
    """Make the schema's tables and views what the models say; returns the tables whose columns changed.

    The views `without` are not wanted, and dropped if they exist.

    New columns are added (NULL in old hours), columns gone are dropped, types changed are converted. Raises
    ConfigError when old values do not convert.
    """
    own = _is_duckdb(con)
    reshaped = tuple(
        model.name for model in models if model.kind == "table" and _prepare_table(con, model, schema, own=own)
    )
    held = {} if reshaped else _view_digests(con, schema)
    for model in models:
        if model.kind == "view" and held.get(model.name) != _digest(model):
            view = _qualified(schema, model.name)
            select = (model.qualified or "").replace(SCHEMA, identifier(schema))
            con.execute(f"CREATE OR REPLACE VIEW {view} AS {select}")
            con.execute(f"COMMENT ON VIEW {view} IS {literal(_digest(model))}")
    for model in without:
        con.execute(f"DROP VIEW IF EXISTS {_qualified(schema, model.name)}")
    return reshaped


def _digest(model: Model) -> str:
    """The comment of a view: what it is, and which text it was made from."""
    return f"{model.description} [{hashlib.sha256(model.sql.encode()).hexdigest()[:16]}]"


def _view_digests(con: duckdb.DuckDBPyConnection, schema: str) -> dict[str, str]:
    """Comments of the views that the schema has. Making one anew takes longer than looking."""
    return dict(
        con.execute(
            f"SELECT view_name, comment FROM duckdb_views() WHERE database_name = {literal(ALIAS)} "
            f"AND schema_name = {literal(schema)}"
        ).fetchall()
    )


def replace_hours(
    con: duckdb.DuckDBPyConnection,
    model: Model,
    schema: str,
    hours: Sequence[Hour],
    audit: Audit,
    *,
    select: str | None = None,
    among: str = "true",
) -> None:
    """Delete the hours' rows for which `among` holds and insert what `select` (the model's SELECT) yields."""
    table = _qualified(schema, model.name)
    con.execute(f"DELETE FROM {table} WHERE {hours_filter('partition_hour', hours)} AND {among}")
    # Literals: the first parameter of a process makes DuckDB import pandas, which takes 0.2 seconds and 50 MB.
    con.execute(
        f"INSERT INTO {table} BY NAME SELECT *, {literal(audit.project_id)} AS project_id, "
        f"{literal(audit.project_name)} AS project_name, {literal(audit.run_id)} AS run_id, "
        f"TIMESTAMPTZ {literal(audit.now.isoformat())} AS ingested_at FROM ({select or model.sql})"
    )


def rows_per_hour(con: duckdb.DuckDBPyConnection, model: Model, schema: str, hours: Sequence[Hour]) -> dict[Hour, int]:
    """How many rows a table has of each of the hours."""
    counted = con.execute(
        f"SELECT epoch(partition_hour)::BIGINT, count(*) FROM {_qualified(schema, model.name)} "
        f"WHERE {hours_filter('partition_hour', hours)} GROUP BY ALL"
    ).fetchall()
    found = dict(counted)
    return {hour: found.get(int(hour.start.timestamp()), 0) for hour in hours}


def hours_filter(column: str, hours: Sequence[Hour]) -> str:
    """A condition that row-group statistics can prune: a range, and the list where hours are missing in it."""
    first, last = min(hours), max(hours)
    condition = f"{column} BETWEEN {timestamp(first)} AND {timestamp(last)}"
    if len(set(hours)) <= (last.start - first.start).total_seconds() / 3600:
        listed = ", ".join(timestamp(hour) for hour in sorted(set(hours)))
        condition += f" AND {column} IN ({listed})"
    return f"({condition})"


def hours_between(first: Hour, last: Hour) -> str:
    """A condition on `partition_hour`, both ends included."""
    return f"partition_hour BETWEEN {timestamp(first)} AND {timestamp(last)}"


def timestamp(hour: Hour) -> str:
    """A TIMESTAMPTZ literal."""
    return f"TIMESTAMPTZ '{hour.start:%Y-%m-%d %H:%M:%S}+00'"


def _qualified(schema: str, table: str) -> str:
    return f"{ALIAS}.{identifier(schema)}.{identifier(table)}"


def _is_duckdb(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the warehouse is a file of DuckDB's own, whose columns may say how they are compressed."""
    query = f"SELECT type FROM duckdb_databases() WHERE database_name = {literal(ALIAS)}"
    return con.execute(query).fetchall() == [("duckdb",)]


def _prepare_table(con: duckdb.DuckDBPyConnection, model: Model, schema: str, *, own: bool) -> bool:
    table = _qualified(schema, model.name)
    wanted = ", ".join(
        f"{identifier(column.name)} {column.type}{' USING COMPRESSION zstd' if own and column.name in _UNLIKE else ''}"
        for column in model.columns
    )
    con.execute(f"CREATE TABLE IF NOT EXISTS {table} ({wanted})")
    existing = {row[0]: row[1] for row in con.execute(f"DESCRIBE {table}").fetchall()}
    changes = list(_changes(existing, model.schema))
    for change in changes:
        try:
            con.execute(f"ALTER TABLE {table} {change}")
        except duckdb.Error as error:
            raise ConfigError(
                f"table {schema}.{model.name} holds rows that do not fit its new shape ({change})",
                hint="Drop the table and rerun its hours; the extracts hold everything.",
            ) from error
    return bool(changes)


def _changes(existing: dict[str, str], wanted: dict[str, str]) -> Iterator[str]:
    for name, kind in wanted.items():
        if name not in existing:
            yield f"ADD COLUMN {identifier(name)} {kind}"
        elif existing[name] != kind:
            yield f"ALTER COLUMN {identifier(name)} SET DATA TYPE {kind}"
    for name in existing:
        if name not in wanted:
            yield f"DROP COLUMN {identifier(name)}"


def schema_of(con: duckdb.DuckDBPyConnection, schema: str) -> set[str]:
    """Names of the tables and views that the project's schema holds."""
    rows = con.execute(
        f"SELECT table_name FROM information_schema.tables WHERE table_catalog = {literal(ALIAS)} "
        f"AND table_schema = {literal(schema)}"
    ).fetchall()
    return {row[0] for row in rows}
