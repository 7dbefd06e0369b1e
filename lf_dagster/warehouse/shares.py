"""A run's rows in shares of whole traces, so that memory does not grow with the size of an hour.

Wide rows are read out of a share in slices: an expression works on a whole vector of rows and keeps several copies of
their texts, which no limit can put on disk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from lf_dagster.warehouse.database import literal

SHARE_ROWS = 122_880
SHARE_BYTES = 200_000_000
"""Most rows of a share, which are those of a row group of DuckDB, and most bytes of their extracts before compression.
A trace that is larger is still one piece."""

VECTOR_BYTES = 1_500_000
"""Most bytes that a slice is to have of the rows of one vector."""
SLICED_FROM = 4_000_000
"""Bytes of a vector up to which a share is one slice. Each slice reads the extract anew, so wide rows alone are worth
it: 2 KB on the average."""

_VECTOR_ROWS = 2_048
_MOST_SLICES = 64


@dataclass(frozen=True)
class Share:
    """One of `of` shares of a run's traces. A model sees a trace with its scores alone, never two traces together."""

    number: int = 0
    of: int = 1

    def holds(self, trace_id: str = "trace_id") -> str:
        """A condition: a row of this trace, NULL for none, belongs to the share."""
        return "true" if self.of == 1 else f"hash(coalesce({trace_id}, '')) % {self.of} = {self.number}"

    def slices(self, size: Size) -> list[str]:
        """Conditions on `id`, each of which leaves few bytes of every vector of a stream of this size; one holds."""
        vector = size.vector_bytes / self.of
        of = 1 if vector <= SLICED_FROM else min(_MOST_SLICES, math.ceil(vector / VECTOR_BYTES))
        # Not the hash that makes shares: where both are of the same column, slices would be uneven.
        return ["true"] if of == 1 else [f"hash(id, 'slice') % {of} = {number}" for number in range(of)]


@dataclass(frozen=True)
class Size:
    """Rows of some extracts, and bytes of them before compression; `vector_bytes`: those of the widest vector."""

    rows: int
    bytes: int
    vector_bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.rows + other.rows, self.bytes + other.bytes, max(self.vector_bytes, other.vector_bytes))

    @property
    def shares(self) -> list[Share]:
        """The shares in which rows of this size are modelled."""
        of = max(1, -(-self.rows // SHARE_ROWS), -(-self.bytes // SHARE_BYTES))
        return [Share(number, of) for number in range(of)]


def size_of(con: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> Size:
    """The size of some extracts, from their footers."""
    if not paths:
        return Size(0, 0)
    files = ", ".join(literal(path) for path in paths)
    [(rows, size, vector)] = con.execute(
        "SELECT coalesce(sum(rows), 0)::BIGINT, coalesce(sum(bytes), 0)::BIGINT, "
        f"coalesce(max(bytes * least(1, {_VECTOR_ROWS} / rows)), 0)::BIGINT FROM ("
        "SELECT any_value(row_group_num_rows) AS rows, sum(total_uncompressed_size) AS bytes "
        f"FROM parquet_metadata([{files}]) GROUP BY file_name, row_group_id HAVING rows > 0)"
    ).fetchall()
    return Size(rows, size, vector)
