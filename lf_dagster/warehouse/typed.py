"""Running the typed layer: extracts of some hours in, rows of the typed tables out, in one transaction."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import duckdb

from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour
from lf_dagster.warehouse.database import Warehouse
from lf_dagster.warehouse.extracts import extract_identity, find_extracts, open_extracts
from lf_dagster.warehouse.first_rows import first_rows
from lf_dagster.warehouse.hours import mark_stale, record_builds
from lf_dagster.warehouse.models import Model, load_models, macros_sql
from lf_dagster.warehouse.shares import Size, size_of
from lf_dagster.warehouse.staging import TRACE_WINDOW_HOURS, create_temp, stage, stale_hours
from lf_dagster.warehouse.tables import (
    Audit,
    ModelRun,
    Problem,
    Stopwatch,
    prepare_tables,
    replace_hours,
    rows_per_hour,
    timestamp,
    transaction,
)
from lf_dagster.warehouse.visits import VISIT_EVENTS, hold_visits, stale_visits

if TYPE_CHECKING:
    from lf_dagster.lake import Lake

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


@dataclass(frozen=True)
class _Run:
    hours: Sequence[Hour]
    audit: Audit


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
    audit = Audit(project_id, project_name, run_id, now.astimezone(timezone.utc))
    # Before they are read: what changes meanwhile leaves this build behind, and it is rerun.
    inputs = {hour: extract_identity(lake, settings.name, hour) for hour in hours}
    extracts = find_extracts(lake, settings.name, hours)

    def replace(con: duckdb.DuckDBPyConnection) -> ModelRun:
        lake.register(con)
        sizes = {stream: size_of(con, paths) for stream, paths in extracts.items()}
        # A share is a row group: a second thread would find little to do, and takes as much memory as the first.
        warehouse.use_threads(con, 1)
        con.execute(macros_sql(settings.agents))
        _list_hours(con, hours)
        with transaction(con, settings.name):
            made = _replace(con, settings, extracts, sizes, _Run(hours, audit))
            record_builds(con, settings.name, "typed", inputs, audit)
            mark_stale(con, settings.name, made.touched_hours - set(hours), audit.now)
        return made

    made = warehouse.in_little_memory(replace)
    for problem in made.problems:
        # The run's log names the first of them at a higher level.
        log.debug("%s %s of %s: %s", problem.stream, problem.id, problem.hour.key, problem.reason)
    return dataclasses.replace(made, duration_seconds=watch.seconds)


def wanted_apps(settings: ProjectSettings) -> list[Model]:
    """Views of the source apps that the project asks for."""
    return [model for model in load_models("apps") if model.app in settings.source_apps]


def unwanted_apps(settings: ProjectSettings) -> list[Model]:
    """Views of the other source apps."""
    return [model for model in load_models("apps") if model.app not in settings.source_apps]


def _list_hours(con: duckdb.DuckDBPyConnection, hours: Sequence[Hour]) -> None:
    """Temp tables `run_hours`, and `near_hours` with those that the run's traces can reach."""
    listed = ", ".join(f"({timestamp(hour)})" for hour in hours)
    create_temp(con, "run_hours", f"SELECT * FROM (VALUES {listed}) AS t(partition_hour)")
    window = f"{timestamp(hours[0].shift(-TRACE_WINDOW_HOURS))}, {timestamp(hours[-1].shift(TRACE_WINDOW_HOURS))}"
    create_temp(con, "near_hours", f"SELECT unnest(generate_series({window}, INTERVAL 1 HOUR)) AS partition_hour")


def _replace(
    con: duckdb.DuckDBPyConnection,
    settings: ProjectSettings,
    extracts: Mapping[str, Sequence[str]],
    sizes: Mapping[str, Size],
    run: _Run,
) -> ModelRun:
    """Replace the hours' rows inside the caller's transaction, share by share."""
    hours = run.hours
    models = load_models("typed")
    tables = [model for model in models if model.kind == "table"]
    reshaped = prepare_tables(con, [*models, *wanted_apps(settings)], settings.name, without=unwanted_apps(settings))
    with_visits = bool(VISIT_EVENTS & set(settings.extra_events))
    if with_visits:
        hold_visits(con, hours)
    problems: list[Problem] = []
    touched: set[Hour] = set()
    for share in sum(sizes.values(), Size(0, 0)).shares:
        open_extracts(con, extracts, share)
        problems += stage(con, hours, share, sizes)
        touched |= stale_hours(con)
        for model in tables:
            replace_hours(con, model, settings.name, hours, run.audit, among=share.holds())
    if with_visits:
        touched |= stale_visits(con, settings.name, settings.session_idle_hours, hours)
    rows = {model.name: rows_per_hour(con, model, settings.name, hours) for model in tables}
    shown = first_rows(con, tables, settings.name, rows)
    return ModelRun(rows, frozenset(touched), 0.0, tuple(problems), reshaped, shown)
