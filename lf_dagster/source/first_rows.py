"""A glance at the rows of an extract, without anything that tells who or what: the JSON itself is not for showing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pyarrow as pa

from lf_dagster.glimpse import glimpse

MOST_ROWS = 5
COLUMNS = ("event_time", "updated_at", "type", "name", "id")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_COPIED = ("id", "event_time", "updated_at", "json")


class _Row(msgspec.Struct, rename="camel"):
    """What is looked at of an object of any stream; everything else is passed over."""

    type: Any = None
    data_type: Any = None
    name: Any = None
    user_id: Any = None
    author_user_id: Any = None


def first_rows(rows: pa.RecordBatch) -> tuple[tuple[str | None, ...], ...]:
    """Up to 5 rows of an extract (EXTRACT_SCHEMA) as COLUMNS."""
    few = rows.slice(0, MOST_ROWS)
    # Times go by way of numbers: as they are, pyarrow loads a library of time zones.
    columns = [few.column(name) for name in _COPIED]
    plain = [item.cast(pa.int64()) if pa.types.is_timestamp(item.type) else item for item in columns]
    return tuple(_shown(*row) for row in zip(*(item.to_pylist() for item in plain), strict=True))


def _shown(row_id: str, event_time: int, updated_at: int | None, text: str) -> tuple[str | None, ...]:
    try:
        row = msgspec.json.decode(text.encode("utf-8", "replace"), type=_Row)
    except msgspec.DecodeError:
        row = _Row()  # what cannot be read is reported when it is modelled
    user = next((str(item) for item in (row.user_id, row.author_user_id) if item), None)
    told = (row.type or row.data_type, row.name, row_id)
    return (_time(event_time), _time(updated_at), *(glimpse(str(item), user) if item else None for item in told))


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else f"{_EPOCH + timedelta(microseconds=microseconds):%H:%M:%S}"
