"""What events of sessions and source apps are read from, made for the hours of one run.

Such an event says things of a whole trace or session, whose rows lie in several hours. The views of the warehouse
would look at all of history for it; here they are made over the rows of the traces in question alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from importlib import resources

import duckdb

from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour
from lf_dagster.warehouse import SCORE_LOOKBACK_HOURS, TRACE_WINDOW_HOURS, VISIT_EVENTS, Model, wanted_apps
from lf_dagster.warehouse.tables import hours_filter, timestamp

_WINDOWED = ("observations", "traces", "scores")


@functools.cache
def run_tables() -> dict[str, str]:
    """Name -> SELECT of what exists during a run alone; run_macros_sql has the functions that they call."""
    folder = resources.files("lf_dagster.events")
    return {name: (folder / f"{name}.sql").read_text(encoding="utf-8") for name in ("visits", "conversations")}


def run_macros_sql(hours: Sequence[Hour], session_idle_hours: int) -> str:
    """The hours of the run, and the pause that ends a visit, as functions."""
    return (
        f"CREATE OR REPLACE TEMP MACRO first_hour() AS {timestamp(min(hours))};"
        f"CREATE OR REPLACE TEMP MACRO last_hour() AS {timestamp(max(hours))};"
        f"CREATE OR REPLACE TEMP MACRO session_idle_hours() AS {session_idle_hours};"
    )


def open_inputs(con: duckdb.DuckDBPyConnection, settings: ProjectSettings, hours: Sequence[Hour]) -> None:
    """Make what the project's extra events are read from, as temporary tables and views that hide the warehouse's own.

    The search path has to lead to the project's schema. Does nothing without such events.
    """
    kinds = set(settings.extra_events)
    apps = tuple(app for app in settings.source_apps if any(kind.startswith(f"{app}_") for kind in kinds))
    if kinds & VISIT_EVENTS:
        visits = f"SELECT * FROM ({run_tables()['visits']}) WHERE {hours_filter('partition_hour', hours)}"
        con.execute(f"CREATE TEMP TABLE visits AS {visits}")
    if apps:
        _open_app_tables(con, settings, apps, hours, with_visits="librechat_conversation" in kinds)
    if "librechat_conversation" in kinds:
        con.execute(f"CREATE TEMP TABLE conversations AS {run_tables()['conversations']}")


def _open_app_tables(
    con: duckdb.DuckDBPyConnection,
    settings: ProjectSettings,
    apps: Sequence[str],
    hours: Sequence[Hour],
    *,
    with_visits: bool,
) -> None:
    _gather_traces(con, apps, hours, with_visits=with_visits)
    for model in wanted_apps(settings):
        if model.app in apps:
            con.execute(f"CREATE TEMP VIEW {model.name} AS {_over_window(model)}")


def _gather_traces(
    con: duckdb.DuckDBPyConnection, apps: Sequence[str], hours: Sequence[Hour], *, with_visits: bool
) -> None:
    """Temp tables `window_<table>`: all rows of the source apps' traces that have any row in the hours."""
    here = hours_filter("partition_hour", hours)
    listed = ", ".join(f"'{app}'" for app in apps)
    before, after = min(hours).shift(-SCORE_LOOKBACK_HOURS), max(hours).shift(TRACE_WINDOW_HOURS)
    visited = "UNION SELECT unnest(trace_ids) FROM visits" if with_visits else ""
    con.execute(
        "CREATE TEMP TABLE window_traces AS SELECT * FROM traces "
        f"WHERE {_between(before, after)} AND source_app IN ({listed}) AND trace_id IN ("
        f"SELECT trace_id FROM observations WHERE {here} AND source_app IN ({listed}) "
        f"UNION SELECT trace_id FROM traces WHERE {here} UNION SELECT trace_id FROM scores WHERE {here} {visited})"
    )
    lie = [
        Hour.containing(row[0]) for row in con.execute("SELECT DISTINCT partition_hour FROM window_traces").fetchall()
    ]
    near = " OR ".join(_between(first, last) for first, last in _spans([*lie, *hours])) or "false"
    con.execute(
        f"CREATE TEMP TABLE window_observations AS SELECT * FROM observations WHERE ({near}) "
        f"AND source_app IN ({listed}) AND (trace_id IN (SELECT trace_id FROM window_traces) OR {here})"
    )
    con.execute(
        "CREATE TEMP TABLE window_scores AS SELECT * FROM scores "
        f"WHERE {_between(before, max(hours).shift(SCORE_LOOKBACK_HOURS))} "
        "AND trace_id IN (SELECT trace_id FROM window_traces)"
    )


def _spans(hours: Iterable[Hour]) -> list[tuple[Hour, Hour]]:
    """The windows of traces around these hours, those that meet joined."""
    spans: list[tuple[Hour, Hour]] = []
    for hour in sorted(set(hours)):
        first, last = hour.shift(-TRACE_WINDOW_HOURS), hour.shift(TRACE_WINDOW_HOURS)
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return spans


def _over_window(model: Model) -> str:
    """The view's SELECT over the window's rows instead of all."""
    tables = ", ".join(f"{name} AS (SELECT * FROM window_{name})" for name in _WINDOWED)
    return f"WITH {tables} SELECT * FROM ({model.sql})"


def _between(first: Hour, last: Hour) -> str:
    return f"partition_hour BETWEEN {timestamp(first)} AND {timestamp(last)}"
