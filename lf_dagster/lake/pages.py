"""Pages of rows held in memory up to a bound, beyond that in Arrow files of a scratch folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from lf_dagster.lake.arrays import moment
from lf_dagster.lake.schema import EXTRACT_SCHEMA


@dataclass(frozen=True)
class PageRef:
    """A page: `number` counts arrivals, `newest` and `oldest` are its first and last event time."""

    number: int
    rows: int
    newest: datetime
    oldest: datetime


class PageStore:
    """Pages by arrival number. Scratch files hold one page per record batch, so that each can be read alone."""

    def __init__(self, folder: Path, *, buffer_bytes: int) -> None:
        self._folder = folder
        self._limit = buffer_bytes
        self._memory: dict[int, pa.RecordBatch] = {}
        self._memory_bytes = 0
        self._spilled: dict[int, tuple[int, int]] = {}
        self._files: list[pa.OSFile] = []
        self._readers: dict[tuple[int, tuple[str, ...] | None], pa.ipc.RecordBatchFileReader] = {}
        self._paths: list[Path] = []
        self._refs: list[PageRef] = []
        self._ids: list[np.ndarray] = []
        self.rows = 0

    @property
    def is_spilled(self) -> bool:
        return bool(self._paths)

    def add(self, page: pa.RecordBatch) -> None:
        """Take a page that is sorted by event_time descending and has rows."""
        times = page.column("event_time")
        number = len(self._refs)
        self._refs.append(PageRef(number, page.num_rows, moment(times[0]), moment(times[-1])))
        self._ids.append(np.fromiter(map(hash, page.column("id").to_pylist()), np.int64, page.num_rows))
        self.rows += page.num_rows
        self._memory[number] = page
        self._memory_bytes += page.nbytes
        if self._memory_bytes > self._limit:
            self._spill()

    def ids_differ(self) -> bool:
        """Whether no two rows have the same id. Judged by hashes: yes is certain, no may rarely be wrong."""
        hashes = np.sort(np.concatenate(self._ids)) if self._ids else np.empty(0, np.int64)
        return not bool(np.any(hashes[1:] == hashes[:-1]))

    def replace(self, ref: PageRef, page: pa.RecordBatch) -> None:
        """Put other rows in the place of a page, of the same ids and times. `finish` comes after it again."""
        old = self._memory.pop(ref.number, None)
        self._memory_bytes += page.nbytes - (0 if old is None else old.nbytes)
        self._memory[ref.number] = page
        if self._memory_bytes > self._limit:
            self._spill()

    def finish(self) -> None:
        """No more pages: once some are on disk, the rest goes there too, which frees the memory for the merge."""
        if self.is_spilled and self._memory:
            self._spill()

    def close(self) -> None:
        self._readers.clear()
        for file in self._files:
            file.close()
        self._files.clear()
        self._memory.clear()

    def newest_first(self) -> list[PageRef]:
        """All pages by event time, newest first; pages of the same times by arrival."""
        return sorted(self._refs, key=lambda ref: (ref.newest, ref.oldest), reverse=True)

    def read(self, ref: PageRef, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """One page, or some columns of it."""
        page = self._memory.get(ref.number)
        if page is not None:
            return page if columns is None else page.select(list(columns))
        part, index = self._spilled[ref.number]
        return self._reader(part, None if columns is None else tuple(columns)).get_batch(index)

    def column(self, name: str) -> Iterator[pa.Array]:
        """One column of all pages, by arrival."""
        return (self.read(ref, (name,)).column(name) for ref in self._refs)

    def _reader(self, part: int, columns: tuple[str, ...] | None) -> pa.ipc.RecordBatchFileReader:
        reader = self._readers.get((part, columns))
        if reader is None:
            wanted = None if columns is None else sorted(map(EXTRACT_SCHEMA.get_field_index, columns))
            options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
            reader = self._readers[part, columns] = pa.ipc.open_file(self._files[part], options=options)
        return reader

    def _spill(self) -> None:
        path = self._folder / f"part-{len(self._paths):05d}.arrow"
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        with pa.ipc.new_file(str(path), EXTRACT_SCHEMA, options=options) as writer:
            for index, (number, page) in enumerate(self._memory.items()):
                writer.write_batch(page)
                self._spilled[number] = (len(self._paths), index)
        self._paths.append(path)
        self._files.append(pa.OSFile(str(path)))
        self._memory = {}
        self._memory_bytes = 0
