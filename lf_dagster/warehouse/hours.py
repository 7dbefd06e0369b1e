"""Which build of each layer an hour has, and which hours another hour's run made stale.

One bookkeeping table per project schema, written in the same transaction as the rows that it speaks of: what it says is
true after a kill at any instruction. Readers compare it with the extracts and the ledgers; nothing else decides what
has to be rerun.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import duckdb

from lf_dagster.hours import Hour
from lf_dagster.warehouse.database import ALIAS, Warehouse, identifier, literal
from lf_dagster.warehouse.tables import Audit, hours_filter, schema_of, timestamp

BuildLayer = Literal["typed", "events"]

_TABLE = "model_hours"
_COLUMNS = (
    "layer VARCHAR, partition_hour TIMESTAMPTZ, build_id VARCHAR, inputs VARCHAR, built_at TIMESTAMPTZ, "
    "run_id VARCHAR, stale_since TIMESTAMPTZ"
)


@dataclass(frozen=True)
class Build:
    """One layer's newest build of one hour.

    `inputs` names what it was made from: the extracts (typed) or the typed build (events). `stale_since`: when a run
    of another hour changed what this hour's typed rows should say, or (events) the columns of its tables; None when
    nothing did.
    """

    layer: BuildLayer
    hour: Hour
    build_id: str
    inputs: str
    built_at: datetime
    stale_since: datetime | None


def record_builds(
    con: duckdb.DuckDBPyConnection, schema: str, layer: BuildLayer, inputs: Mapping[Hour, str], audit: Audit
) -> str:
    """Replace the hours' rows of a layer, inside the caller's transaction; returns the id that the builds share."""
    _prepare(con, schema)
    build_id = uuid.uuid4().hex
    hours = list(inputs)
    con.execute(f"DELETE FROM {_table(schema)} WHERE layer = {literal(layer)} AND {_among(hours)}")
    rows = ", ".join(f"({timestamp(hour)}, {literal(text)})" for hour, text in inputs.items())
    con.execute(
        f"INSERT INTO {_table(schema)} BY NAME SELECT {literal(layer)} AS layer, partition_hour, "
        f"{literal(build_id)} AS build_id, inputs, TIMESTAMPTZ {literal(audit.now.isoformat())} AS built_at, "
        f"{literal(audit.run_id)} AS run_id FROM (VALUES {rows}) AS built(partition_hour, inputs)"
    )
    return build_id


def mark_stale(con: duckdb.DuckDBPyConnection, schema: str, hours: Iterable[Hour], now: datetime) -> None:
    """Mark typed builds as outdated, inside the caller's transaction; an earlier mark stays."""
    wanted = sorted(set(hours))
    if wanted:
        con.execute(
            f"UPDATE {_table(schema)} SET stale_since = coalesce(stale_since, TIMESTAMPTZ {literal(now.isoformat())}) "
            f"WHERE layer = 'typed' AND {_among(wanted)}"
        )


def mark_reshaped(con: duckdb.DuckDBPyConnection, schema: str, now: datetime) -> None:
    """Mark all event builds as made before the event tables got other columns, inside the caller's transaction."""
    _prepare(con, schema)
    con.execute(
        f"UPDATE {_table(schema)} SET stale_since = coalesce(stale_since, TIMESTAMPTZ {literal(now.isoformat())}) "
        "WHERE layer = 'events'"
    )


def build_ids(con: duckdb.DuckDBPyConnection, schema: str, layer: BuildLayer, hours: Sequence[Hour]) -> dict[Hour, str]:
    """The newest build of each hour that has one."""
    return {build.hour: build.build_id for build in _read(con, schema, f"layer = {literal(layer)} AND {_among(hours)}")}


def builds_since(con: duckdb.DuckDBPyConnection, schema: str, first: Hour, others: Sequence[Hour] = ()) -> list[Build]:
    """Builds of all hours from `first` on, of `others`, and of any older hour that is stale or behind.

    Behind: its events were made from an earlier typed build than the one there is.
    """
    also = f" OR {_among(others)}" if others else ""
    behind = (
        "partition_hour IN (SELECT partition_hour FROM "
        f"(SELECT t.partition_hour, t.stale_since, t.build_id, e.inputs FROM {_table(schema)} AS t "
        f"LEFT JOIN {_table(schema)} AS e ON e.layer = 'events' AND e.partition_hour = t.partition_hour "
        "WHERE t.layer = 'typed') WHERE stale_since IS NOT NULL OR inputs IS DISTINCT FROM build_id)"
    )
    return _read(con, schema, f"partition_hour >= {timestamp(first)}{also} OR {behind}")


def numbers_by_hour(warehouse: Warehouse, schema: str, hours: Sequence[Hour]) -> dict[Hour, dict[str, float]]:
    """What the typed tables count per hour, under the names that `source.v2_numbers` gives to the same things."""
    with warehouse.connect(read_only=True) as con:
        if not {"observations", "scores"} <= schema_of(con, schema):
            return {}
        found: dict[Hour, dict[str, float]] = {hour: {} for hour in hours}
        for query in (_OBSERVATION_NUMBERS, _SCORE_NUMBERS):
            result = con.execute(query.format(schema=f"{ALIAS}.{identifier(schema)}", hours=_among(hours)))
            names = [column[0] for column in result.description or ()]
            for hour, *values in result.fetchall():
                numbers = dict(zip(names[1:], (float(value) for value in values), strict=True))
                found.get(Hour(hour), {}).update(numbers)
        return found


_OBSERVATION_NUMBERS = """
SELECT partition_hour, count(*) AS observations, coalesce(sum(total_cost), 0) AS cost,
    coalesce(sum(map_extract_value(usage, 'total')), 0) AS tokens
FROM {schema}.observations WHERE {hours} GROUP BY partition_hour
"""
_SCORE_NUMBERS = """
SELECT partition_hour,
    count(*) FILTER (data_type = 'NUMERIC') AS numeric_scores,
    coalesce(sum(value_num) FILTER (data_type = 'NUMERIC'), 0) AS numeric_values,
    count(*) FILTER (data_type = 'BOOLEAN') AS boolean_scores,
    coalesce(sum(value_num) FILTER (data_type = 'BOOLEAN'), 0) AS boolean_values,
    count(*) FILTER (data_type = 'CATEGORICAL') AS categorical_scores
FROM {schema}.scores WHERE {hours} GROUP BY partition_hour
"""


def _read(con: duckdb.DuckDBPyConnection, schema: str, where: str) -> list[Build]:
    if _TABLE not in schema_of(con, schema):
        return []
    rows = con.execute(
        f"SELECT layer, partition_hour, build_id, inputs, built_at, stale_since FROM {_table(schema)} "
        f"WHERE {where} ORDER BY partition_hour, layer"
    ).fetchall()
    return [Build(layer, Hour(hour), *rest) for layer, hour, *rest in rows]


def _prepare(con: duckdb.DuckDBPyConnection, schema: str) -> None:
    con.execute(f"CREATE TABLE IF NOT EXISTS {_table(schema)} ({_COLUMNS})")


def _table(schema: str) -> str:
    return f"{ALIAS}.{identifier(schema)}.{identifier(_TABLE)}"


def _among(hours: Sequence[Hour]) -> str:
    return hours_filter("partition_hour", hours) if hours else "false"
