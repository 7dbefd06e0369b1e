"""What Dagster is told of our columns: type, meaning, unit, and where each comes from, from Langfuse's JSON to a
property at a destination.

The open-source UI draws no column lineage, so the description of a column says the same in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg

from lf_dagster.config import ProjectSettings
from lf_dagster.events import Event, Property, load_catalogue
from lf_dagster.lake import EXTRACT_SCHEMA
from lf_dagster.warehouse import Column, Model

SCHEMA = "dagster/column_schema"
LINEAGE = "dagster/column_lineage"

Sources = Sequence[tuple[str, str]]
"""(table, column) pairs."""

_KEYS = ("id", "partition_hour", "read_path")
"""Columns of an extract that choose rows rather than give a value."""
_MOST_NAMED = 6

_RAW_COLUMNS = {
    "id": "Langfuse's id of the observation, score or trace.",
    "trace_id": "The trace that it belongs to, where it has one.",
    "event_time": "Start time (observations) or timestamp (scores, traces), UTC.",
    "updated_at": "Langfuse's last write of the row, UTC.",
    "read_path": "API generation that served the row: v2 or legacy.",
    "json": "The JSON object as the server sent it.",
    "deleted_seen_at": "First read that no longer returned the row, UTC; empty for live rows. Models leave marked rows "
    "out.",
    "metadata_gone": "Metadata keys that earlier reads returned and the JSON no longer has, with value and the time "
    "they were last seen; empty when there are none.",
}
_RAW_FIELDS: dict[str, dict[str, str]] = {
    "observations": {"id": "id", "trace_id": "traceId", "event_time": "startTime", "updated_at": "updatedAt"},
    "scores": {"id": "id", "trace_id": "subject", "event_time": "timestamp", "updated_at": "updatedAt"},
    "traces": {"id": "id", "trace_id": "id", "event_time": "timestamp", "updated_at": "updatedAt"},
}
"""Fields of the API's objects that the columns of an extract are copies of."""


# Extracts


def raw_columns(stream: str, project: str, models: Iterable[Model]) -> dict[str, object]:
    """Schema and lineage of an extract; the fields of its JSON that `models` read are columns of it too."""
    fields = _RAW_FIELDS[stream]
    columns = [
        dg.TableColumn(field.name, str(field.type), _text(_RAW_COLUMNS[field.name], _of_api(stream, field.name)))
        for field in EXTRACT_SCHEMA
    ]
    read = _fields_read(f"raw_{stream}", models)
    columns += [
        dg.TableColumn(name, "JSON field", f"Read into {_listed(found)}.") for name, found in sorted(read.items())
    ]
    deps = {**fields, "json": "*", **{name: name.removeprefix("json.") for name in read}}
    source = dg.AssetKey([project, "langfuse"])
    lineage = {name: [dg.TableColumnDep(source, f"{stream}.{field}")] for name, field in deps.items()}
    return {SCHEMA: dg.TableSchema(columns), LINEAGE: dg.TableColumnLineage(lineage)}


def source_fields(table: str, column: str) -> list[tuple[str, str]]:
    """The field of the API's objects, with its stream, that a column of an extract is a copy of."""
    stream = table.removeprefix("raw_")
    field = _RAW_FIELDS.get(stream, {}).get(column) or column.removeprefix("json.")
    return [(stream, field)] if column.startswith("json.") or field != column or column == "id" else []


def _of_api(stream: str, column: str) -> str:
    field = _RAW_FIELDS[stream].get(column)
    return f"From the API's {field}." if field else ""


def _fields_read(table: str, models: Iterable[Model]) -> dict[str, list[str]]:
    """For each field of the table's JSON the columns that are read from it."""
    found: dict[str, list[str]] = {}
    for model in models:
        for column, sources in model.lineage.items():
            for source, field in sources:
                if source == table and field.startswith("json."):
                    found.setdefault(field, []).append(f"{model.name}.{column}")
    return found


# Tables


def model_columns(model: Model, project: str, known: Iterable[str]) -> dict[str, object]:
    """Schema and lineage of a table or view; `known`: the tables that are assets of the project."""
    return {SCHEMA: column_schema(model), LINEAGE: column_lineage(model, project, known)}


def column_schema(model: Model) -> dg.TableSchema:
    """Dagster's table schema of a model: the name, type, documentation and origin of each column."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column.name, column.type, _text(_documented(column), _origin(model.lineage, column.name)))
            for column in model.columns
        ]
    )


def column_lineage(model: Model, project: str, known: Iterable[str]) -> dg.TableColumnLineage:
    """Dagster's column lineage of a model."""
    tables = set(known)
    deps = {column: _deps(project, sources, tables) for column, sources in model.lineage.items()}
    return dg.TableColumnLineage({column: found for column, found in deps.items() if found})


def _deps(project: str, sources: Sources, known: set[str]) -> list[dg.TableColumnDep]:
    return [dg.TableColumnDep(dg.AssetKey([project, table]), name) for table, name in sources if table in known]


def _documented(column: Column) -> str:
    return f"{column.description} ({column.unit})" if column.unit else column.description


def _origin(lineage: Mapping[str, Sources], column: str) -> str:
    if column not in lineage:
        return "Set by the run."
    sources = telling(lineage[column])
    return f"From {_by_table(sources)}." if sources else "Computed."


def _by_table(sources: Sources) -> str:
    """`table: column, column; table: column`."""
    tables: dict[str, list[str]] = {}
    for table, name in sources:
        tables.setdefault(table, []).append(name)
    return "; ".join(f"{table}: {_listed(names)}" for table, names in tables.items())


def telling(sources: Sources) -> list[tuple[str, str]]:
    """The sources that give a value, without those that only choose the row that does, where there are others."""
    chosen = [(table, name) for table, name in sources if not (table.startswith("raw_") and name in _KEYS)]
    return chosen or list(sources)


# Destinations

_ENVELOPE: dict[str, dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "mixpanel": {
        "event": ("string", "Name of the event.", ("event_kind",)),
        "time": ("integer", "Time of the event, UTC. (ms)", ("event_time",)),
        "distinct_id": ("string", "The user; empty without one.", ("user_id",)),
        "$user_id": ("string", "The user; left out without one.", ("user_id",)),
        "$insert_id": ("string", "Id of the event; the same whenever it is sent.", ("entity_id",)),
        "session_id": ("string", "The session; left out without one.", ("mixpanel_session_id", "session_id")),
    },
    "posthog": {
        "event": ("string", "Name of the event.", ("event_kind",)),
        "timestamp": ("string", "Time of the event, UTC.", ("event_time",)),
        "distinct_id": ("string", "The user, else the event's own id.", ("user_id", "entity_id")),
        "uuid": ("string", "Id of the event; the same whenever it is sent.", ("entity_id",)),
        "$session_id": ("string", "The session of PostHog; left out without one.", ("posthog_session_id",)),
    },
}
"""What an event has beside its properties: type, meaning, and the columns of the event tables that it is made from."""


def destination_columns(settings: ProjectSettings, destination: str, models: Sequence[Model]) -> dict[str, object]:
    """Schema and lineage of what a destination is sent: a column per property. `models`: its event tables."""
    columns: list[dg.TableColumn] = []
    deps: dict[str, Sources] = {}
    for name, (kind, text, wanted) in _ENVELOPE[destination].items():
        deps[name] = [(model.name, column) for model in models for column in wanted if column in model.schema]
        columns.append(dg.TableColumn(name, kind, _text(text, f"From the event tables' {', '.join(wanted)}.")))
    for name, found in properties_sent(settings, destination).items():
        _, first = found[0]
        deps[name] = [(event.table, item.column(settings.compatibility)) for event, item in found]
        origin = "; ".join(f"{column} of {_listed(tables)}" for column, tables in _by_column(deps[name]).items())
        columns.append(dg.TableColumn(name, first.type, _text(_meaning(first), f"From {origin}.")))
    known = {model.name for model in models}
    lineage = {name: _deps(settings.name, sources, known) for name, sources in deps.items()}
    return {SCHEMA: dg.TableSchema(columns), LINEAGE: dg.TableColumnLineage(lineage)}


def properties_sent(settings: ProjectSettings, destination: str) -> dict[str, list[tuple[Event, Property]]]:
    """Each property that a destination is sent, with the events that have it, in the order of the catalogue."""
    found: dict[str, list[tuple[Event, Property]]] = {}
    for event, item in _sent(settings, destination):
        found.setdefault(item.name, []).append((event, item))
    return found


def _sent(settings: ProjectSettings, destination: str) -> Iterator[tuple[Event, Property]]:
    own, kinds = settings.destinations[destination], settings.kinds_for(destination)
    content = bool(settings.posthog and settings.posthog.llm_content)
    for event in load_catalogue():
        for item in event.sent(settings.compatibility) if event.kind in kinds else ():
            hidden = (item.role == "user_url" and own.hash_user_ids_env) or (item.content and not content)
            listed = own.properties is None or item.name in own.properties
            if item.required or (listed and item.name not in own.exclude_properties and not hidden):
                yield event, item


def _meaning(item: Property) -> str:
    return f"{item.doc.strip()} ({item.unit})" if item.unit else item.doc.strip()


def _by_column(sources: Sources) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for table, name in sources:
        columns.setdefault(name, []).append(table)
    return columns


# Words


def _text(meaning: str, origin: str) -> str:
    return f"{meaning} {origin}".strip()


def _listed(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - _MOST_NAMED} more" if len(every) > _MOST_NAMED else ""
    return ", ".join(every[:_MOST_NAMED]) + more
