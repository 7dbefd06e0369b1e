"""Running the typed layer: extracts of some hours in, rows of the typed tables out, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import duckdb

from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.lake import STREAMS
from lf_dagster.warehouse.database import Warehouse, literal
from lf_dagster.warehouse.hours import build_ids, mark_stale, record_builds
from lf_dagster.warehouse.models import STAGING_ORDER, Model, load_models, macros_sql, staging_sql
from lf_dagster.warehouse.tables import (
    Audit,
    ModelRun,
    Problem,
    Stopwatch,
    hours_filter,
    prepare_tables,
    replace_hours,
    timestamp,
    transaction,
)

if TYPE_CHECKING:
    from lf_dagster.lake import Lake

TRACE_WINDOW_HOURS = 48
"""Observations up to this far from an hour take part in its traces (source-apps.md 5.1). Also in trace_context.sql."""

SCORE_LOOKBACK_HOURS = 30 * 24
"""A score finds its trace up to this far back. Also in score_traces.sql."""

VISIT_WINDOW_HOURS = 60
"""How far before its closing hour the traces of a visit are looked for. Also in visits.sql."""

VISIT_EVENTS = frozenset({"session", "librechat_conversation"})
"""Kinds of events that tell of a closed visit."""

_NOT_ON_LEGACY_ROWS = "legacy observations do not carry it"
_SERVED = "the server gives other values"
_SYNTHETIC = "only v2 has synthetic rows, which are parents and roots"

READ_PATH_DIFFERENCES: dict[str, dict[str, str]] = {
    "observations": {
        **dict.fromkeys(
            (
                "own_user_id", "own_session_id", "own_trace_name", "own_release", "own_tags",
                "own_mixpanel_session_id", "own_posthog_session_id", "own_source_app", "public", "bookmarked",
            ),
            _NOT_ON_LEGACY_ROWS,
        ),
        "parent_observation_id": _SYNTHETIC,
        "is_root": "a flag on v2, a missing parent on legacy",
        "version": "v2 fills it from the trace for rows of the legacy ingestion API",
        "metadata": "v2 merges the trace's metadata in and flattens keys of OpenTelemetry rows",
        "metadata_gone": "keys of `metadata`",
        "input": "v2 serves text, legacy parsed JSON",
        "output": "v2 serves text, legacy parsed JSON",
        "created_at": _SERVED,
        "updated_at": _SERVED,
    },
    "traces": {
        "root_observation_id": _SYNTHETIC,
        "root_kind": _SYNTHETIC,
        "app_digest": "made from metadata, input and output as served",
        "metadata": "v2 has that of the root, merged and flattened",
        "metadata_gone": "keys of `metadata`",
        "input": "v2 serves text, legacy parsed JSON",
        "output": "v2 serves text, legacy parsed JSON",
        "timestamp": "legacy has the trace's own time; v2 too for synthetic rows, else the first observation's",
        "partition_hour": "hour of the first observation on v2, of the trace's own time on legacy",
    },
    "generations": {},
    "scores": {
        "value_num": "the number of a category is not in v3",
        "created_at": _SERVED,
        "updated_at": _SERVED,
    },
}  # fmt: skip
"""Columns that may differ between the read paths, with the reason. All others are equal for equal data.

Rows differ too: synthetic observations, and traces of which only inner observations are known, exist on v2 alone."""

log = logging.getLogger(__name__)


def run_typed(
    warehouse: Warehouse,
    lake: Lake,
    settings: ProjectSettings,
    *,
    project_id: str,
    project_name: str,
    hours: Sequence[Hour],
    run_id: str,
    now: datetime,
) -> ModelRun:
    """Rebuild the typed rows of these hours from their extracts, all tables in one transaction.

    Rows are a function of the extracts and of the neighbouring hours that the warehouse holds. Raises ConfigError for
    an hour without extracts, WarehouseLocked when the database stays locked.
    """
    watch = Stopwatch()
    hours = sorted(set(hours))
    models = load_models("typed")
    audit = Audit(project_id, project_name, run_id, now.astimezone(timezone.utc))
    # Before they are read: what changes meanwhile leaves this build behind, and it is rerun.
    inputs = {hour: extract_identity(lake, settings.name, hour) for hour in hours}
    with warehouse.connect() as con:
        lake.register(con)
        con.execute(macros_sql(settings.agents))
        _open_extracts(con, lake, settings.name, hours)
        with transaction(con, settings.name):
            reshaped = prepare_tables(
                con, [*models, *wanted_apps(settings)], settings.name, without=unwanted_apps(settings)
            )
            problems = _stage(con, hours)
            touched = _stale_hours(con)
            if VISIT_EVENTS & set(settings.extra_events):
                touched |= _stale_visits(con, settings, hours)
            rows = {
                model.name: replace_hours(con, model, settings.name, hours, audit)
                for model in models
                if model.kind == "table"
            }
            record_builds(con, settings.name, "typed", inputs, audit)
            mark_stale(con, settings.name, touched - set(hours), audit.now)
    for problem in problems:
        log.warning("%s %s of %s: %s", problem.stream, problem.id, problem.hour.key, problem.reason)
    return ModelRun(rows, touched, watch.seconds, problems, reshaped)


def wanted_apps(settings: ProjectSettings) -> list[Model]:
    """Views of the source apps that the project asks for."""
    return [model for model in load_models("apps") if model.app in settings.source_apps]


def unwanted_apps(settings: ProjectSettings) -> list[Model]:
    """Views of the other source apps."""
    return [model for model in load_models("apps") if model.app not in settings.source_apps]


def extract_identity(lake: Lake, project: str, hour: Hour) -> str:
    """Names the extracts that an hour has now: it differs after each read of any of its streams."""
    found = {stream: lake.extract_facts(project, stream, hour) for stream in STREAMS}
    return extract_identity_of({stream: facts for stream, facts in found.items() if facts is not None})


def extract_identity_of(extracts: Mapping[str, Mapping[str, str]]) -> str:
    """The same from the facts of the extracts that exist, by stream."""
    return " ".join(
        f"{extracts[stream].get('extracted_at')}/{extracts[stream].get('run_id')}" if stream in extracts else "-"
        for stream in STREAMS
    )


def _open_extracts(con: duckdb.DuckDBPyConnection, lake: Lake, project: str, hours: Sequence[Hour]) -> None:
    """Temp views `raw_<stream>` over the hours' extracts, with their hour; ConfigError when one is missing."""
    listed = ", ".join(f"({timestamp(hour)})" for hour in hours)
    con.execute(f"CREATE TEMP TABLE run_hours AS SELECT * FROM (VALUES {listed}) AS t(partition_hour)")
    window = f"{timestamp(hours[0].shift(-TRACE_WINDOW_HOURS))}, {timestamp(hours[-1].shift(TRACE_WINDOW_HOURS))}"
    con.execute(
        f"CREATE TEMP TABLE near_hours AS SELECT unnest(generate_series({window}, INTERVAL 1 HOUR)) AS partition_hour"
    )
    extracts: dict[str, list[str]] = {}
    for stream in STREAMS:
        # What an hour that is v2 now was on the legacy path before may still lie there.
        required = [hour for hour in hours if stream != "traces" or _is_legacy(lake, project, hour)]
        extracts[stream] = lake.extract_paths(project, stream, required)
        if len(extracts[stream]) < len(required):
            missing = [hour.key for hour in required if not lake.extract_exists(project, stream, hour)]
            raise ConfigError(
                f"no extract of {stream} for {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}",
                hint=f"Materialise raw_{stream} for these hours first.",
                project=project,
            )
        con.execute(f"CREATE TEMP VIEW raw_{stream} AS {_extract_select(extracts[stream], marked=False)}")
    con.execute(f"CREATE TEMP VIEW raw_deletions AS {_deletions_select(extracts)}")


def _is_legacy(lake: Lake, project: str, hour: Hour) -> bool:
    return (lake.extract_facts(project, "observations", hour) or {}).get("read_path") == "legacy"


_EXTRACT_COLUMNS = {
    "id": "VARCHAR",
    "trace_id": "VARCHAR",
    "event_time": "TIMESTAMPTZ",
    "updated_at": "TIMESTAMPTZ",
    "read_path": "VARCHAR",
    "json": "VARCHAR",
    "deleted_seen_at": "TIMESTAMPTZ",
    "metadata_gone": "VARCHAR",
}


def _extract_select(paths: Sequence[str], *, marked: bool) -> str:
    """The live or the marked rows of extracts, with their hour; those without the mark's column hold live rows only."""
    nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _EXTRACT_COLUMNS.items())
    rows = f"SELECT {nothing} WHERE false"
    if paths:
        files = ", ".join(literal(path) for path in paths)
        # The empty SELECT gives the column its place when no file has it.
        rows += f" UNION ALL BY NAME FROM read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
    return (
        f"SELECT {', '.join(_EXTRACT_COLUMNS)}, date_trunc('hour', event_time) AS partition_hour "
        f"FROM ({rows}) WHERE deleted_seen_at IS {'NOT NULL' if marked else 'NULL'}"
    )


def _deletions_select(extracts: Mapping[str, Sequence[str]]) -> str:
    return " UNION ALL ".join(
        f"SELECT {literal(stream)} AS stream, * EXCLUDE (updated_at, json, metadata_gone) "
        f"FROM ({_extract_select(paths, marked=True)})"
        for stream, paths in extracts.items()
    )


def _stage(con: duckdb.DuckDBPyConnection, hours: Sequence[Hour]) -> tuple[Problem, ...]:
    """Fill the run's temp tables up to what the typed models read."""
    problems: list[Problem] = []
    for stream, key in (("observations", "observation_id"), ("traces", "trace_id"), ("scores", "score_id")):
        _materialise(con, f"staged_{stream}")
        problems += _take_out_problems(con, stream, key)
    _gather_neighbours(con, hours)
    for name in STAGING_ORDER:
        if not name.startswith("staged_"):
            _materialise(con, name)
    return tuple(problems)


def _materialise(con: duckdb.DuckDBPyConnection, name: str) -> None:
    con.execute(f"CREATE TEMP TABLE {name} AS {staging_sql(name)}")


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


def _gather_neighbours(con: duckdb.DuckDBPyConnection, hours: Sequence[Hour]) -> None:
    """What the warehouse holds, outside the run, for the traces that the run touches (and for its scores' traces).

    Rows up to two windows away are needed to see a neighbour hour with its own full window. Every read is bounded by
    hours, so that its cost does not grow with history.
    """
    first, last = min(hours), max(hours)
    here, elsewhere = hours_filter("partition_hour", hours), f"NOT {hours_filter('partition_hour', hours)}"
    con.execute(
        "CREATE TEMP TABLE touched_traces AS SELECT DISTINCT trace_id FROM ("
        "SELECT trace_id FROM staged_observations UNION ALL SELECT trace_id FROM staged_traces "
        f"UNION ALL SELECT trace_id FROM observations WHERE {here} UNION ALL SELECT trace_id FROM traces WHERE {here}"
        ") WHERE trace_id <> ''"
    )
    con.execute(f"CREATE TEMP TABLE held_feedback AS SELECT * FROM scores WHERE {here} AND name = 'user-feedback'")
    near = _between(first.shift(-2 * TRACE_WINDOW_HOURS), last.shift(2 * TRACE_WINDOW_HOURS))
    con.execute(
        "CREATE TEMP TABLE neighbour_observations AS SELECT * FROM observations "
        f"WHERE {near} AND {elsewhere} AND trace_id IN (SELECT trace_id FROM touched_traces)"
    )
    far = SCORE_LOOKBACK_HOURS + TRACE_WINDOW_HOURS
    con.execute(
        f"CREATE TEMP TABLE neighbour_traces AS SELECT * FROM traces "
        f"WHERE {_between(first.shift(-far), last.shift(far))} AND {elsewhere} AND (trace_id IN "
        "(SELECT trace_id FROM touched_traces UNION ALL SELECT trace_id FROM held_feedback WHERE trace_id IS NOT NULL "
        "UNION ALL SELECT trace_id FROM staged_scores WHERE trace_id IS NOT NULL))"
    )
    con.execute(
        "CREATE TEMP TABLE held_app_traces AS "
        f"SELECT * FROM traces WHERE {here} AND source_app IN ('dify', 'librechat') "
        "UNION ALL SELECT * FROM neighbour_traces WHERE source_app IN ('dify', 'librechat')"
    )
    con.execute(
        "CREATE TEMP TABLE neighbour_scores AS SELECT * FROM scores "
        f"WHERE {_between(first.shift(-TRACE_WINDOW_HOURS), last.shift(SCORE_LOOKBACK_HOURS))} AND {elsewhere} "
        "AND trace_id IN (SELECT trace_id FROM touched_traces)"
    )


def _between(first: Hour, last: Hour) -> str:
    return f"partition_hour BETWEEN {timestamp(first)} AND {timestamp(last)}"


def _stale_visits(con: duckdb.DuckDBPyConnection, settings: ProjectSettings, hours: Sequence[Hour]) -> frozenset[Hour]:
    # Feedback may be about a trace that lies far back.
    far = con.execute("FROM held_feedback UNION ALL BY NAME SELECT * FROM staged_scores WHERE name = 'user-feedback'")
    back = VISIT_WINDOW_HOURS if far.fetchone() is None else SCORE_LOOKBACK_HOURS + VISIT_WINDOW_HOURS
    window = _between(min(hours).shift(-back), max(hours).shift(VISIT_WINDOW_HOURS))
    con.execute(f"CREATE TEMP TABLE visit_traces AS SELECT * FROM traces WHERE {window} AND session_id IS NOT NULL")
    con.execute(f"CREATE OR REPLACE TEMP MACRO session_idle_hours() AS {settings.session_idle_hours}")
    closing = [Hour.containing(row[0]) for row in con.execute(staging_sql("stale_visits")).fetchall()]
    # Most hours in which visits will close are still to come.
    return frozenset(build_ids(con, settings.name, "typed", closing)) if closing else frozenset()


def _stale_hours(con: duckdb.DuckDBPyConnection) -> frozenset[Hour]:
    return frozenset(Hour.containing(row[0]) for row in con.execute(staging_sql("stale_hours")).fetchall())
