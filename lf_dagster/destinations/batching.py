"""Request-sized batches as slices of the Arrow buffers that a spool file is read into.

Payloads end with the destination's separator, so the bytes of consecutive payloads in Arrow's data buffer ARE the
inner part of a request body: cutting a batch is arithmetic on the offsets and copies nothing.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lf_dagster.hours import Hour

READ_BYTES = 16_000_000
"""Payload bytes that the reader aims to hold at a time; a batch never needs more than one such piece plus one."""
_MOST_READ_BYTES = 128_000_000


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


def cut(rows: pa.RecordBatch, *, events: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """`(start, stop, full)` of each batch within rows of one hour and segment.

    A batch has at most `events` rows and `size` payload bytes (a larger single payload stands alone). `full` says
    that the next row did not fit, so that only a last, not full batch may grow with rows still to be read.
    """
    _, offsets = _string_buffers(rows.column("payload"))
    start, total = 0, rows.num_rows
    while start < total:
        by_size = int(np.searchsorted(offsets, int(offsets[start]) + size, side="right")) - 1
        stop = max(start + 1, min(start + events, by_size, total))
        yield start, stop, stop < total or stop - start == events
        start = stop


def read_batches(
    spool: Path, *, events: int, size: int, largest: int, average: int, hours: dict[datetime, Hour]
) -> Iterator[Batch]:
    """The batches of a spool file, in its order.

    `largest` and `average` payload bytes of the file bound what is in memory at a time. `hours` maps an hour's
    start to the hour.
    """
    wanted = min(READ_BYTES // max(average, 1), _MOST_READ_BYTES // max(largest, 1))
    with pq.ParquetFile(spool) as file:
        carried: pa.RecordBatch | None = None
        for read in file.iter_batches(batch_size=max(64, wanted)):
            piece = read if carried is None else pa.concat_batches([carried, read])
            carried = None
            runs = list(_runs(piece))
            for position, run in enumerate(runs):
                for start, stop, full in cut(run, events=events, size=size):
                    if full or position < len(runs) - 1:
                        yield _batch(run.slice(start, stop - start), hours)
                    else:
                        carried = run.slice(start, stop - start)
        if carried is not None:
            yield _batch(carried, hours)


def _batch(rows: pa.RecordBatch, hours: dict[datetime, Hour]) -> Batch:
    return Batch(hours[rows.column("hour")[0].as_py()], rows)


def _runs(piece: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Stretches of equal hour, segment and lane."""
    if piece.num_rows == 0:
        return
    keys = (piece.column("hour").cast(pa.int64()), piece.column("segment"), piece.column("lane"))
    changed = [np.diff(key.to_numpy()) != 0 for key in keys]
    changes = np.flatnonzero(np.logical_or.reduce(changed)) + 1
    edges = [0, *changes.tolist(), piece.num_rows]
    for start, stop in itertools.pairwise(edges):
        yield piece.slice(start, stop - start)
