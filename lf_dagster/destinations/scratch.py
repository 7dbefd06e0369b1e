"""A database of its own for a delivery's bookkeeping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from lf_dagster.lake import Workspace

_MEMORY = "192MB"


@contextmanager
def scratch_database(workspace: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB (UTC, one thread) that spills into the workspace."""
    spill = str(workspace.path("spill"))
    con = duckdb.connect(":memory:", config={"temp_directory": spill, "memory_limit": _MEMORY, "threads": 1})
    try:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET enable_progress_bar = false")
        yield con
    finally:
        con.close()
