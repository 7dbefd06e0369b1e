"""Which rows of an extract are outdated versions, and the pages' rows in time order without them.

Pages in memory are sorted by Arrow in milliseconds. Once pages are on disk an hour may be of any size: then DuckDB
sorts, within its memory limit, spilling to the scratch folder.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lf_dagster.lake.arrays import numbers, repeated
from lf_dagster.lake.pages import PageRef, PageStore
from lf_dagster.lake.schema import EXTRACT_SCHEMA

if TYPE_CHECKING:
    import duckdb

_VERSION_COLUMNS = ("id", "event_time", "updated_at")
_VERSION_SCHEMA = pa.schema(
    [
        *(EXTRACT_SCHEMA.field(name) for name in _VERSION_COLUMNS),
        pa.field("page", pa.int64()),
        pa.field("row", pa.int64()),
    ]
)
_ORDERED_SCHEMA = pa.schema([*EXTRACT_SCHEMA, pa.field("page", pa.int64()), pa.field("row", pa.int64())])
_MEMORY = "256MB"
_BATCH_ROWS = 2_000

_OUTDATED = """
SELECT page, row FROM (
    SELECT page, row, row_number() OVER (
        PARTITION BY id ORDER BY updated_at DESC NULLS LAST, event_time DESC, page DESC, row DESC
    ) AS age
    FROM versions SEMI JOIN (SELECT id FROM versions GROUP BY id HAVING count(*) > 1) AS repeated USING (id)
) WHERE age > 1
"""

Outdated = Mapping[int, Sequence[int]]
"""Rows to leave out, by page number."""


def outdated_rows(pages: PageStore, refs: Sequence[PageRef], *, scratch: Path) -> Outdated:
    """Rows that are not the newest version of their id."""
    if pages.ids_differ():
        return {}
    outdated = _outdated_by_duckdb(pages, refs, scratch) if pages.is_spilled else _outdated_by_arrow(pages, refs)
    found: dict[int, list[int]] = {}
    for page, row in outdated:
        found.setdefault(page, []).append(row)
    return found


def in_time_order(
    pages: PageStore, refs: Sequence[PageRef], outdated: Outdated, *, scratch: Path
) -> Iterator[pa.RecordBatch]:
    """All rows but the outdated ones, event_time descending."""
    kept = ((ref, _without(pages.read(ref), outdated.get(ref.number, ()))) for ref in refs)
    if all(above.oldest >= below.newest for above, below in itertools.pairwise(refs)):
        return (page for _, page in kept)
    numbered = (
        pa.RecordBatch.from_arrays([*page.columns, *_numbers(ref, page)], schema=_ORDERED_SCHEMA) for ref, page in kept
    )
    return _sorted_by_duckdb(numbered, scratch) if pages.is_spilled else _sorted_by_arrow(numbered)


def _outdated_by_arrow(pages: PageStore, refs: Sequence[PageRef]) -> list[tuple[int, int]]:
    table = pa.Table.from_batches(_versions(pages, refs), _VERSION_SCHEMA)
    newest_first = [(name, "descending") for name in ("updated_at", "event_time", "page", "row")]
    ordered = table.sort_by([("id", "ascending"), *newest_first]).combine_chunks()
    ids = ordered.column("id")
    repeated = pc.call_function("equal", [ids[1:], ids[:-1]])
    outdated = ordered.slice(1).filter(repeated)
    return list(zip(outdated.column("page").to_pylist(), outdated.column("row").to_pylist(), strict=True))


def _outdated_by_duckdb(pages: PageStore, refs: Sequence[PageRef], scratch: Path) -> list[tuple[int, int]]:
    """Few ids repeat: a pass over 8 bytes of each finds them, and only these are looked at whole."""
    with connect(scratch) as con:
        con.register("incoming", pa.RecordBatchReader.from_batches(_VERSION_SCHEMA, _versions(pages, refs)))
        con.execute("CREATE TABLE twice AS SELECT hash(id) AS key FROM incoming GROUP BY key HAVING count(*) > 1")
        con.register("incoming", pa.RecordBatchReader.from_batches(_VERSION_SCHEMA, _versions(pages, refs)))
        con.execute("CREATE TABLE versions AS SELECT * FROM incoming WHERE hash(id) IN (SELECT key FROM twice)")
        return con.execute(_OUTDATED).fetchall()


def _versions(pages: PageStore, refs: Iterable[PageRef]) -> Iterator[pa.RecordBatch]:
    for ref in refs:
        page = pages.read(ref, _VERSION_COLUMNS)
        columns = [page.column(name) for name in _VERSION_COLUMNS]
        yield pa.RecordBatch.from_arrays([*columns, *_numbers(ref, page)], schema=_VERSION_SCHEMA)


def _numbers(ref: PageRef, page: pa.RecordBatch) -> list[pa.Array]:
    return [repeated(ref.number, page.num_rows), numbers(range(page.num_rows))]


def _without(page: pa.RecordBatch, rows: Sequence[int]) -> pa.RecordBatch:
    if not rows:
        return page
    left_out = set(rows)
    return page.take(numbers([row for row in range(page.num_rows) if row not in left_out]))


def _sorted_by_arrow(numbered: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    table = pa.Table.from_batches(numbered, _ORDERED_SCHEMA)
    ordered = table.sort_by([("event_time", "descending"), ("page", "ascending"), ("row", "ascending")])
    yield from ordered.select(EXTRACT_SCHEMA.names).to_batches(max_chunksize=_BATCH_ROWS)


def _sorted_by_duckdb(numbered: Iterable[pa.RecordBatch], scratch: Path) -> Iterator[pa.RecordBatch]:
    with connect(scratch) as con:
        con.register("incoming", pa.RecordBatchReader.from_batches(_ORDERED_SCHEMA, numbered))
        names = ", ".join(EXTRACT_SCHEMA.names)
        result = con.execute(f"SELECT {names} FROM incoming ORDER BY event_time DESC, page, row")
        for batch in result.to_arrow_reader(_BATCH_ROWS):
            yield batch.cast(EXTRACT_SCHEMA)


def connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    """A database in memory for what may be of any size: beyond its limit it uses the scratch folder."""
    import duckdb

    settings = {
        "memory_limit": _MEMORY,
        "threads": 1,
        "temp_directory": str(scratch / "duckdb"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    con = duckdb.connect(":memory:", config=settings)
    con.execute("SET enable_progress_bar = false")
    return con
