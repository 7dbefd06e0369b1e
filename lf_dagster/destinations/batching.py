"""Request-sized batches as slices of the Arrow buffers of a spool, which is what has to be sent.

Payloads end with the destination's separator, so the bytes of consecutive payloads in Arrow's data buffer ARE the
inner part of a request body: cutting a batch is arithmetic on the offsets and copies nothing.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from lf_dagster.hours import Hour

READ_BYTES = 2_000_000
"""Payload bytes that a read of the spool aims at: several are in memory, as long as a request holds on to them."""
_MOST_READ_BYTES = 64_000_000
_APART = ("hour", "segment", "lane")


@dataclass(frozen=True)
class Batch:
    """Events of one hour and segment that go into one request.

    `rows` has the spool's columns (see `plan.spool_query`). `request_id` stays over retries of the same events,
    `attempt` counts the sends from 1, the next one waits for `delay_seconds`; `second_look` marks events whose fate
    the destination did not tell the first time.
    """

    hour: Hour
    rows: pa.RecordBatch
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    attempt: int = 1
    delay_seconds: float = 0.0
    second_look: bool = False

    def __len__(self) -> int:
        return self.rows.num_rows

    @property
    def body(self) -> memoryview:
        """All payloads, each with its separator, without a copy."""
        data, offsets = _string_buffers(self.rows.column("payload"))
        return data[int(offsets[0]) : int(offsets[-1])]

    @property
    def segment(self) -> int:
        """What the destination's segment expression gave for these events."""
        return self.rows.column("segment")[0].as_py()

    def ids(self) -> list[str]:
        return self.rows.column("event_id").to_pylist()

    def halves(self) -> tuple[Batch, Batch]:
        """Two new requests with the first and the second half of the events."""
        middle = len(self) // 2
        return self._slice(0, middle), self._slice(middle, len(self) - middle)

    def again(
        self, rows: Sequence[int], *, attempt: int = 1, delay_seconds: float = 0.0, second_look: bool = False
    ) -> Batch:
        """The same request with only these rows, as the given attempt."""
        return replace(
            self,
            rows=self.rows.take(pa.array(rows, pa.int64())),
            attempt=attempt,
            delay_seconds=delay_seconds,
            second_look=self.second_look or second_look,
        )

    def _slice(self, start: int, length: int) -> Batch:
        return Batch(self.hour, self.rows.slice(start, length), second_look=self.second_look)


def _string_buffers(column: pa.Array) -> tuple[memoryview, np.ndarray[Any, np.dtype[Any]]]:
    """Data buffer and the offsets of each value in it (one more than there are values)."""
    _, offsets, data = column.buffers()
    width = np.int64 if pa.types.is_large_string(column.type) else np.int32
    ends = np.frombuffer(offsets, dtype=width)[column.offset : column.offset + len(column) + 1]
    return memoryview(data if data is not None else b""), ends


def rows_per_read(*, largest: int, average: int) -> int:
    """Rows per record batch of a spool, so that one holds about `READ_BYTES` and cannot hold much more.

    `largest` and `average` are payload bytes.
    """
    return max(64, min(READ_BYTES // max(average, 1), _MOST_READ_BYTES // max(largest, 1)))


def cut_batches(
    rows: Iterable[pa.RecordBatch], *, events: int, size: int, hours: dict[datetime, Hour]
) -> Iterator[Batch]:
    """The batches of a spool, in its order: at most `events` rows and `size` payload bytes each.

    A larger single payload stands alone. `hours` maps an hour's start to the hour.
    """
    by_micros = {int(start.timestamp()) * 1_000_000: hour for start, hour in hours.items()}
    for part in _fill(rows, events, size):
        yield Batch(by_micros[int(_numbers(part.column("hour"))[0])], part)


def _fill(reads: Iterable[pa.RecordBatch], events: int, size: int) -> Iterator[pa.RecordBatch]:
    """Rows of each request. Only rows of a request that goes over the edge of two reads are copied."""
    open_rows: pa.RecordBatch | None = None
    for read in reads:
        for run in _runs(_payload_apart(read)):
            rest = run
            if open_rows is not None:
                taken = _fitting(run, events - len(open_rows), size - _size(open_rows)) if _alike(open_rows, run) else 0
                joined = pa.concat_batches([open_rows, run.slice(0, taken)])
                rest, open_rows = run.slice(taken), None
                if taken and not len(rest):
                    open_rows = joined
                    continue
                yield joined
            *whole, open_rows = _cut(rest, events, size)
            yield from whole
    if open_rows is not None:
        yield open_rows


def _payload_apart(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows with the small columns copied: what DuckDB hands over is freed as a whole, and receipts outlive the
    payloads by far."""
    small = rows.drop_columns(["payload"])
    copied = pa.ipc.read_record_batch(small.serialize(), small.schema)
    return copied.append_column(rows.schema.field("payload"), rows.column("payload"))


def _cut(rows: pa.RecordBatch, events: int, size: int) -> Iterator[pa.RecordBatch]:
    """Slices of at most `events` rows and `size` bytes; at least one row each."""
    while len(rows):
        taken = max(1, _fitting(rows, events, size))
        yield rows.slice(0, taken)
        rows = rows.slice(taken)


def _fitting(rows: pa.RecordBatch, events: int, size: int) -> int:
    """How many of the first rows fit into `events` and `size` bytes."""
    _, offsets = _string_buffers(rows.column("payload"))
    by_size = int(np.searchsorted(offsets, int(offsets[0]) + size, side="right")) - 1
    return max(0, min(events, by_size, len(rows)))


def _numbers(column: pa.Array) -> np.ndarray[Any, np.dtype[Any]]:
    """A column of 64 bits without NULLs. `to_numpy` would do, but imports pandas: 0.2 seconds and 50 MB."""
    _, data = column.buffers()
    return np.frombuffer(data, np.int64)[column.offset : column.offset + len(column)]


def _size(rows: pa.RecordBatch) -> int:
    _, offsets = _string_buffers(rows.column("payload"))
    return int(offsets[-1]) - int(offsets[0])


def _alike(one: pa.RecordBatch, two: pa.RecordBatch) -> bool:
    return all(one.column(name)[0] == two.column(name)[0] for name in _APART)


def _runs(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Stretches of equal hour, segment and lane."""
    if not len(rows):
        return
    changed = [np.diff(_numbers(rows.column(name))) != 0 for name in _APART]
    edges = [0, *(np.flatnonzero(np.logical_or.reduce(changed)) + 1).tolist(), len(rows)]
    for start, stop in itertools.pairwise(edges):
        yield rows.slice(start, stop - start)
