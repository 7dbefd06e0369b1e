"""The extract that a new one is going to replace: which of its rows a read did not return, and those rows."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lf_dagster.lake.arrays import numbers
from lf_dagster.lake.broken import is_broken, unreadable_extract
from lf_dagster.lake.pages import PageStore
from lf_dagster.lake.schema import EXTRACT_SCHEMA, facts_of
from lf_dagster.lake.versions import connect

_MARK = "deleted_seen_at"
_KEYS_AT_ONCE = 65_536
_ROWS_AT_ONCE = 2_000
_KEY_SCHEMA = pa.schema([("id", pa.string()), ("position", pa.int64()), ("marked", pa.bool_())])
_MISSING_SCHEMA = pa.schema([_KEY_SCHEMA.field("position"), _KEY_SCHEMA.field("marked")])
_TEXT_COLUMNS = ("id", "read_path", "json", "deleted_seen_at", "metadata_gone")
_TEXTS_AT_ONCE = 10_000
TEXT_SCHEMA = pa.schema([*map(EXTRACT_SCHEMA.field, _TEXT_COLUMNS), _KEY_SCHEMA.field("position")])
_ID_SCHEMA = pa.schema([_KEY_SCHEMA.field("id")])


@dataclass(frozen=True)
class Missing:
    """Rows of a held extract that a read did not return, by their position (int64, ascending) in its file.

    `live` were returned by the read before, `marked` were missing then already.
    """

    live: pa.ChunkedArray
    marked: pa.ChunkedArray


class HeldExtract:
    """One extract, open for reading; on a local lake it stays readable when it is replaced meanwhile."""

    def __init__(self, file: pq.ParquetFile, path: str) -> None:
        self._file = file
        self._path = path
        self._columns = [name for name in EXTRACT_SCHEMA.names if name in file.schema_arrow.names]
        self.facts = facts_of(file.metadata.metadata)

    @property
    def live_rows(self) -> int:
        return self._file.metadata.num_rows - int(self.facts.get("deleted", 0))

    def missing_from(self, pages: PageStore, *, read_path: str | None, scratch: Path) -> Missing:
        """Rows whose id is not in the pages, by a look at ids and marks alone.

        Ids of pages in memory are looked up there; once pages are on disk DuckDB does it, within its memory limit.
        `read_path` is the one that the pages came by.
        """
        find = _missing_by_duckdb if pages.is_spilled else _missing_by_arrow
        found = find(self._keys(read_path), pages.column("id"), scratch)
        marked = found.column("marked")
        return Missing(
            found.filter(pc.call_function("invert", [marked])).column("position"),
            found.filter(marked).column("position"),
        )

    def rows(self, positions: pa.ChunkedArray, *, mark: datetime | None = None) -> Iterator[pa.RecordBatch]:
        """The rows at these positions, in their order, as pages of EXTRACT_SCHEMA; with `mark` as their mark if given.

        Row groups without any of them are not read.
        """
        begin = 0
        for group in range(self._file.num_row_groups):
            end = begin + self._file.metadata.row_group(group).num_rows
            if len(_between(positions, begin, end)):
                yield from self._rows_of(group, begin, positions, mark)
            begin = end

    def _rows_of(
        self, group: int, begin: int, positions: pa.ChunkedArray, mark: datetime | None
    ) -> Iterator[pa.RecordBatch]:
        for batch in self._batches(_ROWS_AT_ONCE, row_groups=[group], columns=self._columns):
            wanted = _between(positions, begin, begin + batch.num_rows)
            if len(wanted):
                places = pc.call_function("subtract", [wanted, pa.scalar(begin, pa.int64())])
                yield _as_page(batch.take(places.combine_chunks()), mark)
            begin += batch.num_rows

    def texts(self) -> Iterator[pa.RecordBatch]:
        """JSON text, mark and gone metadata of every row with its position, as batches of TEXT_SCHEMA."""
        known = [name for name in _TEXT_COLUMNS if name in self._columns]
        position = 0
        for batch in self._batches(_TEXTS_AT_ONCE, columns=known):
            positions = numbers(range(position, position + batch.num_rows))
            columns = [_column(batch, name) for name in _TEXT_COLUMNS]
            yield pa.RecordBatch.from_arrays([*columns, positions], schema=TEXT_SCHEMA)
            position += batch.num_rows

    def _batches(self, most_rows: int, **which: Any) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._file.iter_batches(most_rows, **which)
        except (pa.ArrowInvalid, OSError) as error:
            if is_broken(error):
                raise unreadable_extract(self._path, error, is_opened=True) from error
            raise

    def _keys(self, read_path: str | None) -> Iterator[pa.RecordBatch]:
        """id, position and whether it is marked, of every row that this read path could return or that is marked."""
        # Only v2 serves a row for each trace, `t-<trace_id>`: a legacy read says nothing about it.
        other_path = read_path == "legacy" and self.facts.get("read_path") == "v2"
        wanted = [name for name in ("id", *(["trace_id"] if other_path else []), _MARK) if name in self._columns]
        position = 0
        for batch in self._batches(_KEYS_AT_ONCE, columns=wanted):
            rows, ids = batch.num_rows, batch.column("id")
            marked = batch.column(_MARK).is_valid() if _MARK in wanted else pa.repeat(pa.scalar(False), rows)
            positions = numbers(range(position, position + rows))
            keys = pa.RecordBatch.from_arrays([ids, positions, marked], schema=_KEY_SCHEMA)
            yield keys.filter(_comparable(keys, batch.column("trace_id"))) if other_path else keys
            position += rows


@contextmanager
def open_held(path: str, filesystem: Any) -> Iterator[HeldExtract]:
    """Opens an extract that exists; UnreadableFile when it is no Parquet file that can be read."""
    try:
        file = pq.ParquetFile(path, filesystem=filesystem)
    except (pa.ArrowInvalid, OSError) as error:
        if is_broken(error):
            raise unreadable_extract(path, error) from error
        raise
    with file:
        yield HeldExtract(file, path)


def _missing_by_arrow(keys: Iterable[pa.RecordBatch], ids: Iterable[pa.Array], _scratch: Path) -> pa.Table:
    returned = pc.SetLookupOptions(pa.chunked_array(ids, pa.string()).combine_chunks())
    missing = []
    for batch in keys:
        found = pc.call_function("is_in", [batch.column("id")], returned)
        left = batch.filter(pc.call_function("invert", [found]))
        missing.append(left.select(_MISSING_SCHEMA.names))
    return pa.Table.from_batches(missing, _MISSING_SCHEMA)


def _missing_by_duckdb(keys: Iterable[pa.RecordBatch], ids: Iterable[pa.Array], scratch: Path) -> pa.Table:
    returned = (pa.RecordBatch.from_arrays([array], schema=_ID_SCHEMA) for array in ids)
    with connect(scratch) as con:
        con.register("returned", pa.RecordBatchReader.from_batches(_ID_SCHEMA, returned))
        con.register("held", pa.RecordBatchReader.from_batches(_KEY_SCHEMA, keys))
        found = con.execute("SELECT position, marked FROM held ANTI JOIN returned USING (id) ORDER BY position")
        return found.to_arrow_table().cast(_MISSING_SCHEMA)


def _comparable(keys: pa.RecordBatch, traces: pa.Array) -> pa.Array:
    synthetic = pc.call_function("binary_join_element_wise", [pa.scalar("t"), traces, pa.scalar("-")])
    differs = pc.call_function("not_equal", [keys.column("id"), synthetic])
    comparable = pc.call_function("or_kleene", [differs, keys.column("marked")])
    return pc.call_function("coalesce", [comparable, pa.scalar(True)])


def _between(positions: pa.ChunkedArray, begin: int, end: int) -> pa.ChunkedArray:
    low, high = (bisect.bisect_left(positions, bound, key=_value) for bound in (begin, end))
    return positions.slice(low, high - low)


def _value(scalar: Any) -> int:
    return scalar.as_py()


def _as_page(rows: pa.RecordBatch, mark: datetime | None) -> pa.RecordBatch:
    """Rows of a held extract in today's shape: with the mark given, or with their own where the file has marks."""
    columns = {name: _column(rows, name) for name in EXTRACT_SCHEMA.names}
    if mark is not None:
        columns[_MARK] = pa.repeat(pa.scalar(mark, columns[_MARK].type), rows.num_rows)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=EXTRACT_SCHEMA)


def _column(rows: pa.RecordBatch, name: str) -> pa.Array:
    """A column of a held extract, NULL where its file is older than the column."""
    if name in rows.schema.names:
        return rows.column(name)
    return pa.nulls(rows.num_rows, EXTRACT_SCHEMA.field(name).type)
