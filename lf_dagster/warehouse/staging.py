"""Temp tables from which the typed models of a share of the run's traces are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from lf_dagster.hours import Hour
from lf_dagster.warehouse.extracts import take_slice
from lf_dagster.warehouse.models import STAGING_ORDER, staging_sql
from lf_dagster.warehouse.shares import Share, Size
from lf_dagster.warehouse.tables import Problem, hours_between, hours_filter

TRACE_WINDOW_HOURS = 48
"""Observations up to this far from an hour take part in its traces (source-apps.md 5.1). Also in trace_context.sql."""

SCORE_LOOKBACK_HOURS = 30 * 24
"""A score finds its trace up to this far back. Also in score_traces.sql."""

_VIEWS = frozenset({"observations_seen"})
"""Staging models that are wide and cost little: what reads them takes the columns that it needs."""


def stage(
    con: duckdb.DuckDBPyConnection, hours: Sequence[Hour], share: Share, sizes: Mapping[str, Size]
) -> tuple[Problem, ...]:
    """Fill the temp tables up to what the typed models read. `raw_*` hold rows of the share alone; `sizes` are those of
    the streams' extracts."""
    problems: list[Problem] = []
    for stream, key in (("observations", "observation_id"), ("traces", "trace_id"), ("scores", "score_id")):
        _read_rows(con, f"staged_{stream}", share.slices(sizes[stream]))
        problems += _take_out_problems(con, stream, key)
    _gather_neighbours(con, hours, share)
    for name in STAGING_ORDER:
        if not name.startswith("staged_"):
            _materialise(con, name)
    return tuple(problems)


def stale_hours(con: duckdb.DuckDBPyConnection) -> frozenset[Hour]:
    """Hours outside the run that the share's traces make stale."""
    return frozenset(Hour.containing(row[0]) for row in con.execute(staging_sql("stale_hours")).fetchall())


def _read_rows(con: duckdb.DuckDBPyConnection, name: str, slices: Sequence[str]) -> None:
    """Fill a temp table slice by slice."""
    # It would gather what is left of vectors into whole ones again.
    con.execute(f"SET enable_caching_operators = {len(slices) == 1}")
    for number, condition in enumerate(slices):
        take_slice(con, condition)
        if number == 0:
            _materialise(con, name)
        else:
            con.execute(f"INSERT INTO {name} {staging_sql(name)}")
    con.execute("SET enable_caching_operators = true")


def _materialise(con: duckdb.DuckDBPyConnection, name: str) -> None:
    if name in _VIEWS:
        con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {staging_sql(name)}")
    else:
        create_temp(con, name, staging_sql(name))


def create_temp(con: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    """Make or replace a temp table."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {select}")


def _take_out_problems(con: duckdb.DuckDBPyConnection, stream: str, key: str) -> list[Problem]:
    """Report rows that could not be read, or that lie outside the hour of their file, and drop what is unreadable."""
    unreadable = "(problem = 'malformed JSON' OR partition_hour NOT IN (SELECT partition_hour FROM run_hours))"
    found = con.execute(
        f"SELECT partition_hour, {key}, coalesce(problem, 'outside the hours of the run'), NOT {unreadable} "
        f"FROM staged_{stream} WHERE problem IS NOT NULL OR {unreadable} ORDER BY ALL"
    ).fetchall()
    if found:
        con.execute(f"DELETE FROM staged_{stream} WHERE coalesce({unreadable}, false)")
    return [Problem(stream, Hour.containing(hour), id_, reason, kept) for hour, id_, reason, kept in found]


def _gather_neighbours(con: duckdb.DuckDBPyConnection, hours: Sequence[Hour], share: Share) -> None:
    """What the warehouse holds, outside the run, for the traces that the run touches (and for its scores' traces).

    Rows up to two windows away are needed to see a neighbour hour with its own full window. Every read is bounded by
    hours, so that its cost does not grow with history.
    """
    first, last = min(hours), max(hours)
    elsewhere = f"NOT {hours_filter('partition_hour', hours)}"
    here = f"{hours_filter('partition_hour', hours)} AND {share.holds()}"
    create_temp(
        con,
        "touched_traces",
        "SELECT DISTINCT trace_id FROM ("
        "SELECT trace_id FROM staged_observations UNION ALL SELECT trace_id FROM staged_traces "
        f"UNION ALL SELECT trace_id FROM observations WHERE {here} UNION ALL SELECT trace_id FROM traces WHERE {here}"
        ") WHERE trace_id <> ''",
    )
    create_temp(con, "held_feedback", f"SELECT * FROM scores WHERE {here} AND name = 'user-feedback'")
    near = hours_between(first.shift(-2 * TRACE_WINDOW_HOURS), last.shift(2 * TRACE_WINDOW_HOURS))
    create_temp(
        con,
        "neighbour_observations",
        f"SELECT * FROM observations WHERE {near} AND {elsewhere} "
        "AND trace_id IN (SELECT trace_id FROM touched_traces)",
    )
    far = SCORE_LOOKBACK_HOURS + TRACE_WINDOW_HOURS
    create_temp(
        con,
        "neighbour_traces",
        f"SELECT * FROM traces WHERE {hours_between(first.shift(-far), last.shift(far))} AND {elsewhere} AND (trace_id "
        "IN (SELECT trace_id FROM touched_traces UNION ALL SELECT trace_id FROM held_feedback WHERE trace_id IS NOT "
        "NULL UNION ALL SELECT trace_id FROM staged_scores WHERE trace_id IS NOT NULL))",
    )
    create_temp(
        con,
        "held_app_traces",
        f"SELECT * FROM traces WHERE {here} AND source_app IN ('dify', 'librechat') "
        "UNION ALL SELECT * FROM neighbour_traces WHERE source_app IN ('dify', 'librechat')",
    )
    scored = hours_between(first.shift(-TRACE_WINDOW_HOURS), last.shift(SCORE_LOOKBACK_HOURS))
    create_temp(
        con,
        "neighbour_scores",
        f"SELECT * FROM scores WHERE {scored} AND {elsewhere} AND trace_id IN (SELECT trace_id FROM touched_traces)",
    )
