"""Which hours of closed visits a run makes stale. A session's traces lie in several shares: both ends of a run look."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from lf_dagster.hours import Hour
from lf_dagster.warehouse.hours import build_ids
from lf_dagster.warehouse.models import staging_sql
from lf_dagster.warehouse.staging import SCORE_LOOKBACK_HOURS, create_temp
from lf_dagster.warehouse.tables import hours_between, hours_filter

VISIT_WINDOW_HOURS = 60
"""How far before its closing hour the traces of a visit are looked for. Also in visits.sql."""

VISIT_EVENTS = frozenset({"session", "librechat_conversation"})
"""Kinds of events that tell of a closed visit."""

_TRACE = (
    "trace_id, partition_hour, session_id, user_id, trace_name, environment, tags, started_at, ended_at, total_cost, "
    "total_tokens, n_errors, n_tool_calls, source_app, app_digest, mixpanel_session_id, posthog_session_id"
)
_FEEDBACK = "SELECT score_id, trace_id, value_bool FROM scores WHERE name = 'user-feedback'"


def hold_visits(con: duckdb.DuckDBPyConnection, hours: Sequence[Hour]) -> None:
    """Keep what visits are made of, before the run replaces it."""
    here = hours_filter("partition_hour", hours)
    create_temp(con, "held_visit_traces", f"SELECT {_TRACE} FROM traces WHERE {here} AND session_id IS NOT NULL")
    create_temp(con, "held_visit_feedback", f"{_FEEDBACK} AND {here}")


def stale_visits(
    con: duckdb.DuckDBPyConnection, schema: str, session_idle_hours: int, hours: Sequence[Hour]
) -> frozenset[Hour]:
    """Hours outside the run whose visits it has changed, after it has replaced its rows."""
    here = hours_filter("partition_hour", hours)
    create_temp(con, "made_visit_traces", f"SELECT {_TRACE} FROM traces WHERE {here}")
    create_temp(con, "made_visit_feedback", f"{_FEEDBACK} AND {here}")
    # Feedback may be about a trace that lies far back.
    far = con.execute("FROM held_visit_feedback UNION ALL FROM made_visit_feedback LIMIT 1").fetchone()
    back = VISIT_WINDOW_HOURS if far is None else SCORE_LOOKBACK_HOURS + VISIT_WINDOW_HOURS
    window = hours_between(min(hours).shift(-back), max(hours).shift(VISIT_WINDOW_HOURS))
    create_temp(
        con,
        "visit_traces",
        f"FROM held_visit_traces UNION ALL "
        f"SELECT {_TRACE} FROM traces WHERE {window} AND NOT {here} AND session_id IS NOT NULL",
    )
    con.execute(f"CREATE OR REPLACE TEMP MACRO session_idle_hours() AS {session_idle_hours}")
    closing = [Hour.containing(row[0]) for row in con.execute(staging_sql("stale_visits")).fetchall()]
    # Most hours in which visits will close are still to come.
    return frozenset(build_ids(con, schema, "typed", closing)).difference(hours) if closing else frozenset()
