"""The SQL models: one SELECT per file, from which name, columns, types, dependencies and lineage are read.

A model file starts with comments: a description, then one line `-- column [unit]: documentation` per column, for a
view `-- materialized: view`, and for a table of one source app `-- app: <source app>`. Everything else comes out of
the SELECT: types by asking DuckDB to describe it over empty inputs, dependencies and column lineage by parsing it with
sqlglot.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib import resources
from typing import Any, Literal

import duckdb

from lf_dagster.agents import AgentSettings
from lf_dagster.errors import FatalError
from lf_dagster.warehouse.agents import agent_macros
from lf_dagster.warehouse.described import known
from lf_dagster.warehouse.lineage import Lineage, qualified_sql

Layer = Literal["staging", "typed", "apps", "questions", "events"]
"""`apps`: what single source apps (Dify, LibreChat) leave in Langfuse, as views over the typed tables. `questions`:
answers to what is asked most, as views over the typed tables and the delivery ledger, of `warehouse.query` alone."""
Kind = Literal["table", "view"]

AUDIT_COLUMNS: dict[str, tuple[str, str]] = {
    "project_id": ("VARCHAR", "Langfuse project."),
    "project_name": ("VARCHAR", "Name of the Langfuse project when its hour was read; a label, no key."),
    "partition_hour": ("TIMESTAMP WITH TIME ZONE", "UTC hour that the row belongs to; reruns replace whole hours."),
    "ingested_at": ("TIMESTAMP WITH TIME ZONE", "When the row was written here."),
    "run_id": ("VARCHAR", "Run that wrote it."),
    "read_path": ("VARCHAR", "API generation that it was read from: v2 or legacy."),
}
"""Columns that every table has, with type and documentation."""

RAW_COLUMNS = (
    "id VARCHAR, trace_id VARCHAR, event_time TIMESTAMPTZ, updated_at TIMESTAMPTZ, read_path VARCHAR, json VARCHAR, "
    "deleted_seen_at TIMESTAMPTZ, metadata_gone VARCHAR, partition_hour TIMESTAMPTZ"
)
"""What `raw_observations`, `raw_scores` and `raw_traces` look like to a model: live rows only, so that
`deleted_seen_at` is NULL there."""

SCHEMA = "lf_dagster_schema"
"""Stands for the project's schema in what is kept of a view."""

RAW_TABLES = ("raw_observations", "raw_scores", "raw_traces")

LEDGER_COLUMNS = {
    "destination": "VARCHAR",
    "partition_hour": "TIMESTAMPTZ",
    "event": "VARCHAR",
    "event_id": "VARCHAR",
    "kind": "VARCHAR",
    "entity_id": "VARCHAR",
    "time_ms": "BIGINT",
    "distinct_id": "VARCHAR",
    "status": "VARCHAR",
    "reason": "VARCHAR",
    "delivered_at": "TIMESTAMPTZ",
    "gone_at": "TIMESTAMPTZ",
    "payload": "VARCHAR",
    "run_id": "VARCHAR",
    "written_at": "TIMESTAMPTZ",
}
"""What `ledger`, the delivery ledgers of all destinations, looks like to a model."""

RAW_DELETIONS = " UNION ALL ".join(
    f"SELECT '{table.removeprefix('raw_')}' AS stream, id, trace_id, event_time, read_path, deleted_seen_at, "
    f"partition_hour FROM {table}"
    for table in RAW_TABLES
)
"""What `raw_deletions`, the marked rows of all streams, looks like to a model, and where its columns come from."""

# What the run provides beside the extracts, with the columns that models name. The rest of a neighbour row follows
# the staged rows of the same name.
_RUN_INPUTS = {
    "run_hours": "partition_hour TIMESTAMPTZ",
    "near_hours": "partition_hour TIMESTAMPTZ",
    "touched_traces": "trace_id VARCHAR",
    "neighbour_observations": "trace_id VARCHAR, observation_id VARCHAR, parent_observation_id VARCHAR, "
    "is_synthetic BOOLEAN, start_time TIMESTAMPTZ, partition_hour TIMESTAMPTZ, read_path VARCHAR, type VARCHAR, "
    "name VARCHAR, metadata JSON",
    "neighbour_traces": "trace_id VARCHAR, partition_hour TIMESTAMPTZ, read_path VARCHAR",
    "neighbour_scores": "score_id VARCHAR, trace_id VARCHAR, partition_hour TIMESTAMPTZ",
}

STAGING_ORDER = (
    "staged_observations",
    "staged_traces",
    "staged_scores",
    "observations_seen",
    "trace_parts",
    "trace_context",
    "observation_depths",
    "score_traces",
)
"""Staging models in the order in which a run needs them; `stale_hours` compares and feeds no table."""

_HEADER = re.compile(r"--\s?(.*)")
_DIRECTIVES = ("materialized", "app")
_COLUMN_DOC = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(?: \[(?P<unit>[^\]]+)\])?: (?P<text>.+)")


@dataclass(frozen=True)
class Column:
    """One documented column; `type` as DuckDB writes it, `unit` such as `s`, `USD`, `tokens`."""

    name: str
    type: str
    description: str
    unit: str | None = None


@dataclass(frozen=True)
class Model:
    """One SELECT. `depends_on`: tables outside the run's own staging; `lineage`: what each column is computed from;
    `app`: the source app that it belongs to, None for the general ones."""

    name: str
    layer: Layer
    sql: str
    description: str
    columns: tuple[Column, ...]
    depends_on: tuple[str, ...]
    lineage: dict[str, list[tuple[str, str]]]
    kind: Kind = "table"
    app: str | None = None
    qualified: str | None = None
    """Of a view: its SELECT with SCHEMA before each table, so that it works from anywhere in the database."""

    @property
    def schema(self) -> dict[str, str]:
        """Column name to DuckDB type."""
        return {column.name: column.type for column in self.columns}

    @property
    def described(self) -> dict[str, Any]:
        """Everything but the SELECT, as JSON values; `of` makes the model of it again."""
        facts = dataclasses.asdict(self)
        return {name: facts[name] for name in facts if name not in ("layer", "sql")}

    @classmethod
    def of(cls, layer: Layer, facts: Mapping[str, Any]) -> Model:
        """The model of a layer that is described by `facts`."""
        return cls(
            **{
                **facts,
                "layer": layer,
                "sql": facts.get("sql") or _source(layer, facts["name"]).sql,
                "columns": tuple(Column(**column) for column in facts["columns"]),
                "depends_on": tuple(facts["depends_on"]),
                "lineage": {
                    name: [(table, column) for table, column in found] for name, found in facts["lineage"].items()
                },
            }
        )


@dataclass(frozen=True)
class Source:
    """A model file as written: SELECT, description and column documentation."""

    name: str
    sql: str
    description: str
    documented: dict[str, tuple[str | None, str]]
    is_view: bool
    app: str | None = None


def macros_sql(agents: AgentSettings | None = None) -> str:
    """The functions that the models share, as one script; `agents` says how agents are recognised."""
    return _text("macros.sql") + agent_macros(agents or AgentSettings())


@functools.cache
def staging_sql(name: str) -> str:
    """The SELECT of one staging model."""
    return _source("staging", name).sql


@functools.cache
def load_models(layer: Layer = "typed") -> list[Model]:
    """The layer's models in dependency order. Raises FatalError when a column and its documentation do not match."""
    held = known(layer)
    return describe_models(layer) if held is None else [Model.of(layer, facts) for facts in held]


def describe_models(layer: Layer) -> list[Model]:
    """The same, found out from the model files whatever `described.json` says."""
    if layer in ("apps", "questions"):
        return _describe_views(layer)
    staging = [_source("staging", name) for name in STAGING_ORDER]
    wanted = staging if layer == "staging" else _typed_sources()
    schemas = _describe(staging, wanted if layer == "typed" else [])
    every = {source.name: source.sql for source in [*staging, *wanted]}
    through = () if layer == "staging" else (*STAGING_ORDER, *_RUN_INPUTS, "raw_deletions")
    inputs = {**dict.fromkeys(_RUN_INPUTS, "SELECT NULL"), "raw_deletions": RAW_DELETIONS}
    lineage = Lineage({**every, **inputs}, schemas, through)
    models = [_model(source, layer, schemas[source.name], lineage) for source in wanted]
    if layer == "typed":
        _check_documented(wanted, schemas)
    return models


def _describe_views(layer: Layer) -> list[Model]:
    typed = {model.name: model.schema for model in describe_models("typed")}
    sources = _in_order([_source(layer, name) for name in sorted(_names(layer))])
    schemas: dict[str, dict[str, str]] = {}
    # Without the macros, which exist in runs alone: whoever opens the warehouse reads these views.
    with _empty_database() as con:
        for name, columns in {**typed, "ledger": LEDGER_COLUMNS}.items():
            con.execute(f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
        for source in sources:
            con.execute(f"CREATE VIEW {source.name} AS {source.sql}")
            schemas[source.name] = _columns(con, source.name)
    lineage = Lineage({source.name: source.sql for source in sources}, {**typed, "ledger": LEDGER_COLUMNS, **schemas})
    _check_documented(sources, schemas)
    return [_model(source, layer, schemas[source.name], lineage) for source in sources]


def _in_order(sources: list[Source]) -> list[Source]:
    """Sources after those that they read."""
    by_name = {source.name: source for source in sources}
    reads = {name: by_name.keys() & set(re.findall(r"\w+", source.sql)) - {name} for name, source in by_name.items()}
    return [by_name[name] for name in TopologicalSorter(reads).static_order()]


def _typed_sources() -> list[Source]:
    names = sorted(_names("typed"))
    sources = [_source("typed", name) for name in names]
    return sorted(sources, key=lambda source: source.is_view)


def _model(source: Source, layer: Layer, schema: dict[str, str], lineage: Lineage) -> Model:
    columns = [
        Column(name, kind, source.documented.get(name, (None, ""))[1], source.documented.get(name, (None, ""))[0])
        for name, kind in schema.items()
        if name not in AUDIT_COLUMNS
    ]
    audit = [
        Column(name, kind, text) for name, (kind, text) in AUDIT_COLUMNS.items() if name in schema or not source.is_view
    ]
    return Model(
        name=source.name,
        layer=layer,
        sql=source.sql,
        description=source.description,
        columns=(*columns, *audit),
        depends_on=tuple(lineage.tables(source.name)),
        lineage={column.name: lineage.column(source.name, column.name) for column in columns},
        kind="view" if source.is_view else "table",
        app=source.app,
        qualified=qualified_sql(source.sql, SCHEMA) if source.is_view else None,
    )


def _check_documented(sources: list[Source], schemas: dict[str, dict[str, str]]) -> None:
    for source in sources:
        columns = {name for name in schemas[source.name] if name not in AUDIT_COLUMNS}
        if wrong := columns ^ source.documented.keys():
            raise FatalError(
                f"model {source.name}: columns and their documentation differ: {', '.join(sorted(wrong))}",
                hint="Each column of the SELECT needs one line `-- column: documentation` at the head of the file.",
            )


def _describe(staging: list[Source], typed: list[Source]) -> dict[str, dict[str, str]]:
    """Column types of every model, by running it over empty inputs."""
    schemas: dict[str, dict[str, str]] = {}
    with _empty_database() as con:
        con.execute(macros_sql())
        inputs = {**dict.fromkeys(RAW_TABLES, RAW_COLUMNS), **_RUN_INPUTS}
        for name, columns in inputs.items():
            con.execute(f"CREATE TABLE {name} ({columns})")
            schemas[name] = _columns(con, name)
        con.execute(f"CREATE VIEW raw_deletions AS {RAW_DELETIONS}")
        schemas["raw_deletions"] = _columns(con, "raw_deletions")
        for source in [*staging, *typed]:
            con.execute(f"CREATE TABLE {source.name} AS {source.sql}")
            schemas[source.name] = _columns(con, source.name)
    return schemas


@contextmanager
def _empty_database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        yield con


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return {row[0]: row[1] for row in con.execute(f"DESCRIBE {table}").fetchall()}


def _source(layer: Layer, name: str) -> Source:
    text = _text(f"{layer}/{name}.sql")
    head: list[str] = []
    lines = text.splitlines()
    while lines and (match := _HEADER.fullmatch(lines[0])):
        head.append(match[1])
        lines.pop(0)
    prose: list[str] = []
    documented: dict[str, tuple[str | None, str]] = {}
    for line in head:
        found = _COLUMN_DOC.fullmatch(line)
        if found is None:
            prose.append(line)
        elif found["name"] not in _DIRECTIVES:
            documented[found["name"]] = (found["unit"], found["text"])
    return Source(
        name=name,
        sql="\n".join(lines).strip(),
        description=" ".join(prose),
        documented=documented,
        is_view="materialized: view" in head,
        app=next((line.removeprefix("app: ") for line in head if line.startswith("app: ")), None),
    )


def _names(layer: Layer) -> list[str]:
    folder = resources.files("lf_dagster.warehouse") / "models" / layer
    return [entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql")]


def _text(relative: str) -> str:
    path = resources.files("lf_dagster.warehouse") / "models"
    for part in relative.split("/"):
        path = path / part
    return path.read_text(encoding="utf-8")
