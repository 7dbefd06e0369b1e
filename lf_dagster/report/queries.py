"""All numbers of a report: one SQL file per view, over one read-only look at the warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import duckdb

from lf_dagster.config import LANGFUSE_INTERNAL_ENVIRONMENTS
from lf_dagster.errors import ConfigError
from lf_dagster.events.nobody import MIXPANEL_DENIED_IDS, bare
from lf_dagster.hours import Hour
from lf_dagster.report.period import Period
from lf_dagster.warehouse import ALIAS, Warehouse, build_ids
from lf_dagster.warehouse.database import identifier, literal
from lf_dagster.warehouse.tables import schema_of, timestamp

Row = dict[str, Any]

QUERIES = (
    "kpis",
    "adoption",
    "cost_over_time",
    "cost_by_model",
    "cost_by_user",
    "latency",
    "performance_by_model",
    "scores",
    "scores_over_time",
    "scores_by_model",
    "retention",
    "errors_over_time",
    "errors_by_name",
    "top_sessions",
    "top_users",
    "top_agents",
)
"""Names of the queries, each a file in `sql/`; `sql/views.sql` is what they read."""

_TABLES = {"traces", "observations", "generations", "scores"}
# No user either: an id that Mixpanel refuses, and a blank one.
_NOBODY = ("", *MIXPANEL_DENIED_IDS)


@dataclass(frozen=True)
class Numbers:
    """The rows of each query. `modelled` and `modelled_before`: how many hours of the period, and of the one before it,
    the warehouse has. `project_name`: the Langfuse project's, as its newest row has it."""

    period: Period
    rows: dict[str, list[Row]]
    modelled: int
    modelled_before: int
    project_name: str | None

    def __getitem__(self, query: str) -> list[Row]:
        return self.rows[query]


def read_numbers(warehouse: Warehouse, project: str, period: Period) -> Numbers:
    """Run all queries for a project (the schema of its name); the warehouse is closed when this returns.

    Raises ConfigError when nothing of the project was ever modelled, WarehouseLocked.
    """
    with warehouse.connect(read_only=True) as con:
        if not schema_of(con, project) >= _TABLES:
            raise ConfigError(
                f"the warehouse {warehouse.location} has no tables of {project} yet",
                hint="Run hours of it first, with `lf-dagster sync` or in Dagster.",
            )
        modelled, before = (build_ids(con, project, "typed", each.hours) for each in (period, period.previous))
        starts = [hour.start for hour in modelled]
        con.execute("CREATE TEMP TABLE modelled_hours AS SELECT unnest(?::TIMESTAMPTZ[]) AS hour", [starts])
        con.execute(_sql("views", project, period))
        rows = {name: _rows(con, _sql(name, project, period)) for name in QUERIES}
        return Numbers(period, rows, len(modelled), len(before), _project_name(con, project))


def _sql(name: str, project: str, period: Period) -> str:
    text = resources.files("lf_dagster.report").joinpath(f"sql/{name}.sql").read_text()
    return text.format(
        schema=f"{ALIAS}.{identifier(project)}",
        first=timestamp(Hour(period.start)),
        stop=timestamp(Hour(period.stop)),
        before=timestamp(Hour(period.previous.start)),
        grain=period.grain,
        cohort=period.cohort,
        internal=_list(LANGFUSE_INTERNAL_ENVIRONMENTS),
        nobody=_list(_NOBODY),
        bare_user=bare("user_id"),
    )


def _list(values: Sequence[str]) -> str:
    return ", ".join(map(literal, values))


def _rows(con: duckdb.DuckDBPyConnection, sql: str) -> list[Row]:
    result = con.execute(sql)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _project_name(con: duckdb.DuckDBPyConnection, project: str) -> str | None:
    table = f"{ALIAS}.{identifier(project)}.traces"
    found = con.execute(f"SELECT arg_max(project_name, partition_hour) FROM {table}").fetchone()
    return found[0] if found else None
