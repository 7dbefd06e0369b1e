"""Gives a warehouse of one hour a past: `python -m bench.history HOURS`.

The hour's rows of every table are copied to each of the hours before it, with times moved and the ids of traces,
observations, scores and sessions made others, in day-sized blocks from the oldest on, as a history would have come in.
"""

from __future__ import annotations

import os
import re
import sys

import duckdb

from lf_dagster.config import load_project
from lf_dagster.lake import Lake
from lf_dagster.warehouse import ALIAS, Warehouse

_OWN_IDS = re.compile(r"(^|_)(trace|observation|score|entity|session)_id$|^(native_)?langfuse_id$")
_BLOCK_HOURS = 24


def add_history(con: duckdb.DuckDBPyConnection, schema: str, hours: int) -> int:
    """Returns how many rows the tables hold in the end."""
    tables = _tables(con, schema)
    for table in tables:
        con.execute(f"CREATE TEMP TABLE {_copy(table)} AS SELECT * FROM {ALIAS}.{schema}.{table}")
    for oldest in range(hours, 0, -_BLOCK_HOURS):
        con.execute("BEGIN TRANSACTION")
        for table, columns in tables.items():
            con.execute(
                f"INSERT INTO {ALIAS}.{schema}.{table} BY NAME SELECT c.* REPLACE ({', '.join(_moved(columns))}) "
                f"FROM {_copy(table)} AS c, generate_series({max(oldest - _BLOCK_HOURS, 0) + 1}, {oldest}) AS s(back) "
                "ORDER BY back DESC"
            )
        con.execute("COMMIT")
    con.execute(f"CHECKPOINT {ALIAS}")
    counts = [con.execute(f"SELECT count(*) FROM {ALIAS}.{schema}.{table}").fetchone() for table in tables]
    return sum(count[0] for count in counts if count)


def _copy(table: str) -> str:
    return f"temp.main.one_hour_of_{table}"


def _tables(con: duckdb.DuckDBPyConnection, schema: str) -> dict[str, dict[str, str]]:
    """Columns and types of each table."""
    found: dict[str, dict[str, str]] = {}
    rows = con.execute(
        "SELECT c.table_name, c.column_name, c.data_type FROM duckdb_columns() AS c JOIN duckdb_tables() AS t "
        "USING (database_name, schema_name, table_name) WHERE c.database_name = ? AND c.schema_name = ?",
        [ALIAS, schema],
    ).fetchall()
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


def _moved(columns: dict[str, str]) -> list[str]:
    times = [
        f'"{name}" - to_hours(back) AS "{name}"' for name, kind in columns.items() if kind == "TIMESTAMP WITH TIME ZONE"
    ]
    ids = [
        f"""("{name}" || '-' || back) AS "{name}\""""
        for name, kind in columns.items()
        if kind == "VARCHAR" and _OWN_IDS.search(name)
    ]
    return times + ids


def main(hours: str) -> None:
    settings = load_project({}, os.environ)
    with Warehouse.of(settings, Lake(settings.data)).connect() as con:
        print(add_history(con, settings.name, int(hours)))


if __name__ == "__main__":
    main(*sys.argv[1:])
