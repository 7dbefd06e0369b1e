"""Writing one extract: pages in, one sorted, deduplicated Parquet file out, in bounded memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from typing_extensions import Self

from lf_dagster.lake.arrays import moment, numbers
from lf_dagster.lake.broken import UnreadableFile
from lf_dagster.lake.deletions import DeletionRule, check_same_project
from lf_dagster.lake.gone import keep_gone_metadata, without_gone_metadata
from lf_dagster.lake.held import HeldExtract, Missing
from lf_dagster.lake.pages import PageStore
from lf_dagster.lake.schema import EXTRACT_SCHEMA, METADATA_PREFIX
from lf_dagster.lake.versions import in_time_order, outdated_rows
from lf_dagster.lake.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_BUFFER_BYTES = 64 * 1024 * 1024
_ROW_GROUP_ROWS = 100_000
_ROW_GROUP_BYTES = 32 * 1024 * 1024
"""A group is held in memory while it is written."""
_FILE = "extract.tmp"


@dataclass(frozen=True)
class ExtractFile:
    """A committed extract. `rows` are the live ones; `duplicates` counts the older versions that were left out.

    `deleted`: rows marked as no longer returned, `newly_deleted` those marked by this read; `kept_expired`: live rows
    that this read did not return, in an hour past the source's retention. `bytes` is the file's size.
    """

    path: str
    rows: int
    duplicates: int
    deleted: int
    newly_deleted: int
    kept_expired: int
    bytes: int
    max_updated_at: datetime | None


@dataclass(frozen=True)
class _CarriedOver:
    """What comes out of the extract held so far: rows to mark or marked before, and how many stay live."""

    newly_deleted: int = 0
    kept_expired: int = 0
    marked: Iterable[pa.RecordBatch] = ()


class ExtractWriter:
    """Takes pages of rows in any order; `commit` writes them once each, newest version, by `event_time` DESCENDING.

    Descending is what the API serves, so pages need no sorting; rows of one instant keep the order they came in.
    Of several rows with one id stays the one with the newest `updated_at`, then the largest `event_time`, then the
    one added last. `add` is thread-safe. Beyond `buffer_bytes` pages wait in scratch files; made by
    `Lake.open_extract`, which commits.

    Rows of the extract held so far whose ids did not come again go to the end of the file, in row groups of their own,
    with the mark `deleted_seen_at`: newly missing ones first, each kind in the order of the held file. Marked rows are
    not merged into the order of the live ones so that readers of live rows skip them whole. `rule` may let them stay
    live instead; then they are sorted in like rows that were read.

    A held extract whose footer cannot be read is put aside (`put_aside` gives it a further suffix) where the rule lets
    a read take its place.

    With `merge_metadata`, `metadata_gone` keeps what a row's metadata no longer has (`lake.gone`).
    """

    def __init__(
        self,
        workspace: Workspace,
        target: str,
        *,
        facts: dict[str, str],
        held: Callable[[], AbstractContextManager[HeldExtract | None]],
        put_aside: Callable[[str], None],
        rule: DeletionRule,
        merge_metadata: bool = False,
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    ) -> None:
        self._workspace = workspace
        self._target = target
        self._facts: dict[str, str] = dict(facts)
        self._held = held
        self._put_aside = put_aside
        self._rule = rule
        self._merge_metadata = merge_metadata
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
        newest = pc.call_function("max", [page.column("updated_at")])
        with self._lock:
            if newest.is_valid:
                self._max_updated_at = max(moment(newest), self._max_updated_at or moment(newest))
            self._pages.add(ordered)

    def set_facts(self, **facts: Any) -> None:
        """Facts for the file's key-value metadata; None is left out, the rest is written as text."""
        self._facts.update({key: str(value) for key, value in facts.items() if value is not None})

    def commit(self) -> ExtractFile:
        """Write the file and put it in place, with its counts and `max_updated_at` as facts.

        Raises FatalError, and leaves the held extract, when that one is of another project or lost too much;
        RetryableError when it was read later than this one.
        """
        path = self._workspace.path(_FILE)
        with ExitStack() as stack:
            held, broken = self._open_held(stack)
            carried = self._carry_over(held)
            self._pages.finish()
            refs = self._pages.newest_first()
            if held is not None and self._merge_metadata:
                keep_gone_metadata(held, self._pages, refs, scratch=self._workspace.folder)
                self._pages.finish()
            losers = outdated_rows(self._pages, refs, scratch=self._workspace.folder)
            batches = in_time_order(self._pages, refs, losers, scratch=self._workspace.folder)
            file = self._write(path, batches, carried)
        if broken is not None:
            self._put_aside(broken)
        self._workspace.commit(_FILE, self._target)
        self.file = file
        return file

    def _open_held(self, stack: ExitStack) -> tuple[HeldExtract | None, str | None]:
        """The extract held so far, or the name under which it is put aside since it cannot be read."""
        try:
            return stack.enter_context(self._held()), None
        except UnreadableFile as error:
            self._pages.finish()
            self._rule.check_unknown(self._pages.rows, self._facts)
            name = f"unreadable-{self._rule.seen_at:%Y%m%dT%H%M%SZ}"
            log.warning(
                "%s: the extract held so far cannot be read and is put aside as %s.%s; rows deleted and metadata gone "
                "before this read are only there: %s",
                self._target,
                self._target.rpartition("/")[2],
                name,
                error.__cause__,
            )
            self.set_facts(put_aside=name)
            return None, name

    def _carry_over(self, held: HeldExtract | None) -> _CarriedOver:
        """Find what the pages lack; rows that stay live become a page like any other."""
        self._pages.finish()
        if held is None:
            return _CarriedOver()
        check_same_project(held.facts, self._facts)
        self._rule.check_overtaken(held.facts, self._facts)
        read_path = self._facts.get("read_path")
        missing = held.missing_from(self._pages, read_path=read_path, scratch=self._workspace.folder)
        if self._rule.keeps_live(held.facts):
            for page in held.rows(missing.live):
                self.add(page if self._merge_metadata else without_gone_metadata(page))
            return _CarriedOver(kept_expired=len(missing.live), marked=held.rows(missing.marked))
        self._rule.check_loss(len(missing.live), held.live_rows, self._facts)
        return _CarriedOver(newly_deleted=len(missing.live), marked=self._marked(held, missing))

    def _marked(self, held: HeldExtract, missing: Missing) -> Iterator[pa.RecordBatch]:
        yield from held.rows(missing.live, mark=self._rule.seen_at)
        yield from held.rows(missing.marked)

    def _write(self, path: Path, live: Iterator[pa.RecordBatch], carried: _CarriedOver) -> ExtractFile:
        with _parquet_writer(path) as writer:
            rows = _write_groups(writer, live)
            deleted = _write_groups(writer, carried.marked)
            counts = {
                "rows": rows,
                "duplicates": self._pages.rows - rows,
                "deleted": deleted,
                "newly_deleted": carried.newly_deleted,
                "kept_expired": carried.kept_expired,
            }
            newest = self._max_updated_at
            self.set_facts(**counts, distinct_ids=rows, max_updated_at=newest.isoformat() if newest else None)
            writer.add_key_value_metadata({METADATA_PREFIX + key: value for key, value in self._facts.items()})
        return ExtractFile(self._target, **counts, bytes=path.stat().st_size, max_updated_at=newest)


def _newest_first(page: pa.RecordBatch) -> pa.RecordBatch:
    times = page.column("event_time")
    descending = pc.call_function("greater_equal", [times[:-1], times[1:]])
    if pc.call_function("all", [descending]).as_py():
        return page
    numbered = pa.table({"time": times, "row": numbers(range(page.num_rows))})
    return page.take(numbered.sort_by([("time", "descending"), ("row", "ascending")]).column("row").combine_chunks())


def _parquet_writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        EXTRACT_SCHEMA,
        compression="zstd",
        # Ids and texts hardly repeat: a dictionary of them costs time and space for nothing.
        use_dictionary=["trace_id", "read_path"],  # pyright: ignore[reportArgumentType]
        # Those of `deleted_seen_at` let a reader of live rows skip the row groups of marked ones.
        write_statistics=["id", "event_time", "updated_at", "deleted_seen_at"],  # pyright: ignore[reportArgumentType]
    )


def _write_groups(writer: pq.ParquetWriter, batches: Iterable[pa.RecordBatch]) -> int:
    rows = 0
    for group in _row_groups(batches):
        writer.write_table(group, row_group_size=_ROW_GROUP_ROWS)
        rows += group.num_rows
        del group  # Else it would be held until the next one is complete.
    return rows


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
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
