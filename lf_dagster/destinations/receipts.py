"""Ledger rows out of a batch and its outcome, column-wise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from lf_dagster.destinations.base import DELETED, TOMBSTONED, UNVERIFIED, BatchOutcome
from lf_dagster.destinations.batching import Batch
from lf_dagster.destinations.ledger import LEDGER_SCHEMA

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_HELD = ("key", "previous_identity", "previous_hash")
_COPIED = (
    *("event", "event_id", "kind", "entity_id", "time_ms", "distinct_id", "identity", "payload_hash"),
    "gone_at",
)


def receipts(batch: Batch, outcome: BatchOutcome, *, moment: datetime, run_id: str) -> pa.Table:
    """Rows of LEDGER_SCHEMA for the settled events of a batch: delivered ones and rejected ones."""
    always = {"run_id": run_id, "written_at": moment}
    if not (outcome.rejected or outcome.pending):
        return _table(batch.rows, {**always, **_delivered(batch.rows, outcome.notes, range(len(batch)), moment)})
    apart = {*outcome.rejected, *outcome.pending}
    taken = [row for row in range(len(batch)) if row not in apart]
    delivered, rejected = _take(batch, taken), _take(batch, list(outcome.rejected))
    return pa.concat_tables(
        [
            _table(delivered, {**always, **_delivered(delivered, outcome.notes, taken, moment)}),
            _table(rejected, {**always, **_rejected(rejected, list(outcome.rejected.values()))}),
        ]
    )


def _delivered(
    rows: pa.RecordBatch, notes: Mapping[int, str], numbers: Sequence[int], moment: datetime
) -> dict[str, Any]:
    return {
        "status": "delivered",
        "reason": _remarks(rows, notes, numbers),
        "delivered_at": moment,
        "delivered_identity": rows.column("key"),
        "delivered_hash": rows.column("payload_hash"),
        "payload": None,
    }


def _remarks(rows: pa.RecordBatch, notes: Mapping[int, str], numbers: Sequence[int]) -> pa.Array:
    """Of a tombstone that it is one; else the destination's note, before our own remark."""
    remarks = rows.column("remark")
    if not notes:
        return remarks
    told = [
        remark if remark == TOMBSTONED else notes.get(number, remark)
        for number, remark in zip(numbers, remarks.to_pylist(), strict=True)
    ]
    return pa.array(told, pa.string())


def _rejected(rows: pa.RecordBatch, reasons: Sequence[str]) -> dict[str, Any]:
    """What the destination holds stays what it was, except that an unverified event may be there: then by its key.

    A tombstone that is rejected leaves its event deleted and at the destination, to be tried again.
    """
    columns = (rows.column(name).to_pylist() for name in (*_HELD, "remark", "payload"))
    found = [
        {
            "status": "delivered" if remark == TOMBSTONED else "rejected",
            "reason": DELETED if remark == TOMBSTONED else reason,
            "delivered_identity": key if reason.startswith(UNVERIFIED) else before,
            "delivered_hash": None if reason.startswith(UNVERIFIED) else content,
            "payload": None if remark == TOMBSTONED else payload[:-1],
        }
        for reason, key, before, content, remark, payload in zip(reasons, *columns, strict=True)
    ]
    names = ("status", "reason", "delivered_identity", "delivered_hash", "payload")
    values = {name: pa.array([row[name] for row in found], pa.string()) for name in names}
    return {**values, "delivered_at": rows.column("previous_at")}


def _take(batch: Batch, rows: Sequence[int]) -> pa.RecordBatch:
    return batch.rows.take(pa.array(rows, pa.int64()))


def _table(rows: pa.RecordBatch, values: Mapping[str, Any]) -> pa.Table:
    """The ledger's columns: copied from the spool's rows, given as arrays, or one value for all rows."""
    columns = [_column(rows, field, values) for field in LEDGER_SCHEMA]
    return pa.Table.from_arrays(columns, schema=LEDGER_SCHEMA)


def _column(rows: pa.RecordBatch, field: pa.Field, values: Mapping[str, Any]) -> pa.Array:
    if field.name == "partition_hour":
        return rows.column("hour").cast(field.type)
    if field.name in _COPIED:
        return rows.column(field.name).cast(field.type)
    value = values[field.name]
    if isinstance(value, pa.Array):
        return value.cast(field.type)
    return constant(value, field.type, rows.num_rows)


def constant(value: str | datetime | None, kind: pa.DataType, rows: int) -> pa.Array:
    """A string or a time of day and date (microseconds), or NULL, as many times.

    `pa.scalar` would do, but imports pandas: 0.2 seconds and 50 MB.
    """
    if value is None:
        return pa.nulls(rows, kind)
    if isinstance(value, datetime):
        micros = np.full(rows, (value - _EPOCH) // timedelta(microseconds=1), np.int64)
        return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(micros)])
    text = value.encode()
    ends = np.arange(rows + 1, dtype=np.int32) * np.int32(len(text))
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(ends), pa.py_buffer(text * rows)])
