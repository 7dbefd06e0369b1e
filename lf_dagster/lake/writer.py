"""Writing one extract: pages in, one sorted, deduplicated Parquet file out, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from typing_extensions import Self

from lf_dagster.lake.pages import PageStore
from lf_dagster.lake.schema import EXTRACT_SCHEMA, METADATA_PREFIX
from lf_dagster.lake.versions import in_time_order, outdated_rows
from lf_dagster.lake.workspace import Workspace

DEFAULT_BUFFER_BYTES = 64 * 1024 * 1024
_ROW_GROUP_ROWS = 100_000
_ROW_GROUP_BYTES = 32 * 1024 * 1024
"""A group is held in memory while it is written."""
_FILE = "extract.tmp"


@dataclass(frozen=True)
class ExtractFile:
    """A committed extract. `duplicates` counts the older versions that were left out; `bytes` is the file's size."""

    path: str
    rows: int
    duplicates: int
    bytes: int
    max_updated_at: datetime | None


class ExtractWriter:
    """Takes pages of rows in any order; `commit` writes them once each, newest version, by `event_time` DESCENDING.

    Descending is what the API serves, so pages need no sorting; rows of one instant keep the order they came in.
    Of several rows with one id stays the one with the newest `updated_at`, then the largest `event_time`, then the
    one added last. `add` is thread-safe. Beyond `buffer_bytes` pages wait in scratch files; made by
    `Lake.open_extract`, which commits.
    """

    def __init__(
        self, workspace: Workspace, target: str, *, facts: dict[str, str], buffer_bytes: int = DEFAULT_BUFFER_BYTES
    ) -> None:
        self._workspace = workspace
        self._target = target
        self._facts: dict[str, str] = dict(facts)
        self._pages = PageStore(workspace.folder, buffer_bytes=buffer_bytes)
        self._lock = threading.Lock()
        self._max_updated_at: datetime | None = None
        self.file: ExtractFile | None = None
        """What was written; None before the commit."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._pages.close()

    def add(self, page: pa.RecordBatch) -> None:
        """Take one page of rows (EXTRACT_SCHEMA); raises pa.ArrowInvalid for another schema."""
        if not page.schema.equals(EXTRACT_SCHEMA):
            raise pa.ArrowInvalid(f"not a page of an extract: {page.schema}")
        if page.num_rows == 0:
            return
        ordered = _newest_first(page)
        newest: datetime | None = pc.call_function("max", [page.column("updated_at")]).as_py()
        with self._lock:
            if newest is not None:
                self._max_updated_at = max(newest, self._max_updated_at or newest)
            self._pages.add(ordered)

    def set_facts(self, **facts: Any) -> None:
        """Facts for the file's key-value metadata; None is left out, the rest is written as text."""
        self._facts.update({key: str(value) for key, value in facts.items() if value is not None})

    def commit(self) -> ExtractFile:
        """Write the file and put it in place, with `rows`, `distinct_ids`, `duplicates`, `max_updated_at` as facts."""
        self._pages.finish()
        refs = self._pages.newest_first()
        losers = outdated_rows(self._pages, refs, scratch=self._workspace.folder)
        batches = in_time_order(self._pages, refs, losers, scratch=self._workspace.folder)
        path = self._workspace.path(_FILE)
        rows = self._write(path, batches, duplicates=sum(map(len, losers.values())))
        size = path.stat().st_size
        self._workspace.commit(_FILE, self._target)
        duplicates = self._pages.rows - rows
        self.file = ExtractFile(self._target, rows, duplicates, size, self._max_updated_at)
        return self.file

    def _write(self, path: Path, batches: Iterator[pa.RecordBatch], *, duplicates: int) -> int:
        rows = 0
        with _parquet_writer(path) as writer:
            for group in _row_groups(batches):
                writer.write_table(group, row_group_size=_ROW_GROUP_ROWS)
                rows += group.num_rows
            self.set_facts(
                rows=rows,
                distinct_ids=rows,
                duplicates=duplicates,
                max_updated_at=self._max_updated_at.isoformat() if self._max_updated_at else None,
            )
            writer.add_key_value_metadata({METADATA_PREFIX + key: value for key, value in self._facts.items()})
        return rows


def _newest_first(page: pa.RecordBatch) -> pa.RecordBatch:
    times = page.column("event_time")
    descending = pc.call_function("greater_equal", [times[:-1], times[1:]])
    if pc.call_function("all", [descending]).as_py():
        return page
    numbered = pa.table({"time": times, "row": pa.array(range(page.num_rows), pa.int64())})
    return page.take(numbered.sort_by([("time", "descending"), ("row", "ascending")]).column("row").combine_chunks())


def _parquet_writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        EXTRACT_SCHEMA,
        compression="zstd",
        # Ids and texts hardly repeat: a dictionary of them costs time and space for nothing.
        use_dictionary=["trace_id", "read_path"],  # pyright: ignore[reportArgumentType]
        write_statistics=["id", "event_time", "updated_at"],  # pyright: ignore[reportArgumentType]
    )


def _row_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            yield pa.Table.from_batches(pending, EXTRACT_SCHEMA)
            pending, rows, size = [], 0, 0
    if pending:
        yield pa.Table.from_batches(pending, EXTRACT_SCHEMA)
