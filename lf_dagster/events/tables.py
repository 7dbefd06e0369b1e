"""Event tables: one row per event that a destination may get, generated from the property catalogue.

A table holds every property in the documented form and, in columns prefixed `native_`, the form of Langfuse's own
integration where that differs. So the tables depend on the typed tables and the project alone; settings of a
destination change what `prepared_sql` makes of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

import duckdb

from lf_dagster.config import ProjectSettings
from lf_dagster.events import described
from lf_dagster.events.catalogue import CONTEXT_COLUMNS, NATIVE_PREFIX, Event, load_catalogue
from lf_dagster.events.inputs import open_inputs, run_macros_sql, run_tables
from lf_dagster.events.llm import llm_macros_sql
from lf_dagster.hours import Hour
from lf_dagster.kinds import LLM_EVENTS, EventKind
from lf_dagster.warehouse import Model, ModelRun, Warehouse, load_models
from lf_dagster.warehouse.database import literal
from lf_dagster.warehouse.first_rows import first_rows
from lf_dagster.warehouse.hours import build_ids, mark_reshaped, record_builds
from lf_dagster.warehouse.lineage import Lineage
from lf_dagster.warehouse.models import AUDIT_COLUMNS, Column, macros_sql
from lf_dagster.warehouse.tables import (
    Audit,
    Stopwatch,
    hours_filter,
    prepare_tables,
    replace_hours,
    rows_per_hour,
    transaction,
)

SKIP_COLUMNS = {
    "skip_reason": "Why the event is not sent, whatever the filters say; NULL when it is.",
    "native_skip_reason": "The same for compatibility native.",
}


def event_models(settings: ProjectSettings, destination: str | None = None) -> list[Model]:
    """The event tables of a project's settings, in catalogue order: all, or those that a destination is sent."""
    return list(_models(settings.kinds_for(destination) if destination else settings.event_kinds))


def run_events(
    warehouse: Warehouse,
    settings: ProjectSettings,
    *,
    project_id: str,
    project_name: str,
    host: str,
    hours: Sequence[Hour],
    run_id: str,
    now: datetime,
) -> ModelRun:
    """Rebuild the event rows of these hours from the typed tables, all tables in one transaction.

    `host` is the origin of Langfuse for links. An event's row depends on typed rows of its own hour alone, so no other
    hour is ever touched. Raises WarehouseLocked when the database stays locked.
    """
    watch = Stopwatch()
    hours = sorted(set(hours))
    models = _models(settings.event_kinds)
    audit = Audit(project_id, project_name, run_id, now.astimezone(timezone.utc))

    def replace(con: duckdb.DuckDBPyConnection) -> ModelRun:
        con.execute(macros_sql())
        con.execute(_project_macros(project_id, project_name, host))
        con.execute(run_macros_sql(hours, settings.session_idle_hours))
        if set(LLM_EVENTS) & set(settings.event_kinds):
            con.execute(llm_macros_sql(content=bool(settings.posthog and settings.posthog.llm_content)))
        with transaction(con, settings.name):
            prepare_tables(con, [model for model in load_models("typed") if model.kind == "table"], settings.name)
            reshaped = prepare_tables(con, models, settings.name)
            if reshaped:
                mark_reshaped(con, settings.name, audit.now)
            # A second thread hardly shortens the wait, and takes half as much CPU again.
            warehouse.use_threads(con, 1)
            open_inputs(con, settings, hours)
            for model in models:
                _replace(con, model, settings.name, hours, audit)
            rows = {model.name: rows_per_hour(con, model, settings.name, hours) for model in models}
            typed = build_ids(con, settings.name, "typed", hours)
            record_builds(con, settings.name, "events", {hour: typed.get(hour, "-") for hour in hours}, audit)
            shown = first_rows(con, models, settings.name, rows)
        return ModelRun(rows, frozenset(), watch.seconds, reshaped=reshaped, first_rows=shown)

    return warehouse.in_little_memory(replace)


def _replace(con: duckdb.DuckDBPyConnection, model: Model, schema: str, hours: Sequence[Hour], audit: Audit) -> None:
    restricted = f"SELECT * FROM ({model.sql}) WHERE {hours_filter('partition_hour', hours)}"
    replace_hours(con, model, schema, hours, audit, select=restricted)


@functools.cache
def _models(kinds: tuple[EventKind, ...]) -> tuple[Model, ...]:
    held = described.known() or describe_events()
    return tuple(model for kind, model in held.items() if kind in kinds)


def describe_events() -> dict[str, Model]:
    """Every kind's table in catalogue order, found out from the catalogue whatever `described.json` says."""
    events = load_catalogue()
    read = {model.name: model.schema for model in (*load_models("typed"), *load_models("apps"))}
    queries = {event.table: event_sql(event) for event in events}
    schemas = _describe(queries, read, run_tables())
    lineage = Lineage({**run_tables(), **queries}, {**read, **schemas}, run_tables())
    return {event.kind: _model(event, queries[event.table], schemas[event.table], lineage) for event in events}


def _model(event: Event, sql: str, schema: dict[str, str], lineage: Lineage) -> Model:
    documented = {name: (text, unit) for name, text, unit in _documentation(event)}
    columns = tuple(Column(name, kind, *documented[name]) for name, kind in schema.items() if name in documented)
    audit = tuple(Column(name, kind, text) for name, (kind, text) in AUDIT_COLUMNS.items())
    return Model(
        name=event.table,
        layer="events",
        sql=sql,
        description=event.description,
        columns=(*columns, *audit),
        depends_on=tuple(lineage.tables(event.table)),
        lineage={column.name: lineage.column(event.table, column.name) for column in columns},
    )


def _documentation(event: Event) -> Iterator[tuple[str, str, str | None]]:
    yield "event_kind", "Kind of event.", None
    for name, text in CONTEXT_COLUMNS.items():
        yield name, text, None
        yield NATIVE_PREFIX + name, f"{text} As Langfuse's own integration has it.", None
    for item in event.properties:
        yield item.column("documented"), item.doc, item.unit
        if item.native:
            yield item.column("native"), f"{item.doc} The native form.", None
    for name, text in SKIP_COLUMNS.items():
        yield name, text, None


def event_sql(event: Event) -> str:
    """The SELECT behind an event table: context, properties, their native forms, skip reasons, partition."""
    columns = [f"{literal(event.kind)} AS event_kind"]
    columns += [f"{event.context[name]} AS {name}" for name in CONTEXT_COLUMNS]
    columns += [f"{expression} AS {NATIVE_PREFIX}{name}" for name, expression in event.native_context.items()]
    for item in event.properties:
        columns.append(f"{item.expression} AS {item.column('documented')}")
        if item.native:
            columns.append(f"{item.native} AS {item.column('native')}")
    columns.append(f"{_skip_sql(event, 'documented')} AS skip_reason")
    columns.append(f"{_skip_sql(event, 'native')} AS native_skip_reason")
    main = f"{event.main}." if event.main else ""
    columns += [f"{main}read_path", "partition_hour"]
    listed = ",\n    ".join(columns)
    # Keys of source apps are not Langfuse's: what writers do with them must not stop a delivery.
    once = "QUALIFY row_number() OVER (PARTITION BY entity_id, partition_hour ORDER BY event_time, trace_id) = 1"
    return f"SELECT\n    {listed}\nFROM {event.source}" + (f"\n{once}" if event.is_extra else "")


def _skip_sql(event: Event, compatibility: str) -> str:
    rules = [rule for rule in event.skip if rule.only in (None, compatibility)]
    if not rules:
        return "NULL::VARCHAR"
    cases = " ".join(f"WHEN {rule.when} THEN {literal(rule.reason)}" for rule in rules)
    return f"CASE {cases} END"


def _describe(
    queries: dict[str, str], read: dict[str, dict[str, str]], during_run: dict[str, str]
) -> dict[str, dict[str, str]]:
    """Column types of every query, by running it over empty inputs."""
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(macros_sql())
        con.execute(_project_macros("", "", ""))
        con.execute(run_macros_sql([Hour.containing(datetime.now(timezone.utc))], 1))
        con.execute(llm_macros_sql(content=True))
        for table, columns in read.items():
            con.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
        for name, sql in during_run.items():
            con.execute(f"CREATE TABLE {name} AS {sql}")
        every = {**{name: f"FROM {name}" for name in during_run}, **queries}
        return {
            name: {row[0]: row[1] for row in con.execute(f"DESCRIBE {sql}").fetchall()} for name, sql in every.items()
        }


def _project_macros(project_id: str, project_name: str, host: str) -> str:
    """What expressions of the catalogue may call: the project, and links as Langfuse forms them (langfuse.md 12.4).

    `encode_uri` is JavaScript's encodeURIComponent, which leaves `!*'()` alone.
    """
    base = literal(f"{host.rstrip('/')}/project/{project_id}")
    return f"""
        CREATE OR REPLACE TEMP MACRO langfuse_project_id() AS {literal(project_id)};
        CREATE OR REPLACE TEMP MACRO langfuse_project_name() AS {literal(project_name)};
        CREATE OR REPLACE TEMP MACRO encode_uri(text) AS
            CASE WHEN contains(url_encode(text), '%2') THEN replace(replace(replace(replace(replace(
                url_encode(text), '%21', '!'), '%27', ''''), '%28', '('), '%29', ')'), '%2A', '*')
            ELSE url_encode(text) END;
        CREATE OR REPLACE TEMP MACRO langfuse_trace_url(trace_id) AS {base} || '/traces/' || encode_uri(trace_id);
        CREATE OR REPLACE TEMP MACRO langfuse_observation_url(trace_id, observation_id) AS
            {base} || '/traces/' || encode_uri(trace_id) || '?observation=' || encode_uri(observation_id);
        CREATE OR REPLACE TEMP MACRO langfuse_user_url(user_id) AS {base} || '/users/' || encode_uri(user_id);
    """
