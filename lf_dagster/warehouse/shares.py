"""A run's rows in shares of whole traces, so that memory does not grow with the size of an hour; threads for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from lf_dagster.warehouse.database import literal

SHARE_ROWS = 122_880
SHARE_BYTES = 200_000_000
"""Most rows of a share, which are those of a row group of DuckDB, and most bytes of their extracts before compression.
A trace that is larger is still one piece."""

_ROWS_FOR_TWO_THREADS = 4 * SHARE_ROWS


@dataclass(frozen=True)
class Share:
    """One of `of` shares of a run's traces. A model sees a trace with its scores alone, never two traces together."""

    number: int = 0
    of: int = 1

    def holds(self, trace_id: str = "trace_id") -> str:
        """A condition: a row of this trace, NULL for none, belongs to the share."""
        return "true" if self.of == 1 else f"hash(coalesce({trace_id}, '')) % {self.of} = {self.number}"


@dataclass(frozen=True)
class Size:
    """Rows of some extracts, and bytes of them before compression."""

    rows: int
    bytes: int

    @property
    def shares(self) -> list[Share]:
        """The shares in which rows of this size are modelled."""
        of = max(1, -(-self.rows // SHARE_ROWS), -(-self.bytes // SHARE_BYTES))
        return [Share(number, of) for number in range(of)]


def threads_for(rows: int) -> int:
    """Threads for one pass over so many rows. A second one pays off from several row groups on: below, it waits and
    burns a core. A third one takes memory, of which models are to have little."""
    return min(os.cpu_count() or 1, 2 if rows >= _ROWS_FOR_TWO_THREADS else 1)


def size_of(con: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> Size:
    """The size of some extracts, from their footers."""
    if not paths:
        return Size(0, 0)
    files = ", ".join(literal(path) for path in paths)
    [(rows, size)] = con.execute(
        "SELECT coalesce(sum(num_values) FILTER (path_in_schema = 'id'), 0)::BIGINT, "
        f"coalesce(sum(total_uncompressed_size), 0)::BIGINT FROM parquet_metadata([{files}])"
    ).fetchall()
    return Size(rows, size)
