"""Cursors of v2/observations, built here instead of taken from the server (contracts: langfuse 4.3).

The server's cursor names the last row of a page, and what follows is strictly below it. Two stored versions of one
observation share the same place in the order: when a page ends between them, the second one would never be served.
A cursor that names the row above lets the next page begin with every version of the row that was last.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime

import msgspec
import pyarrow as pa

from lf_dagster.hours import iso
from lf_dagster.lake.arrays import moment


@dataclass(frozen=True)
class Place:
    """A row's place in the order of v2/observations; versions of one observation share it."""

    time: datetime
    trace_id: str
    id: str


def observation_cursor(place: Place) -> str:
    """The cursor behind which all rows below this place follow."""
    value = {"lastStartTimeTo": iso(place.time), "lastTraceId": place.trace_id, "lastId": place.id}
    return base64.b64encode(msgspec.json.encode(value)).decode("ascii")


def place_of(rows: pa.RecordBatch, index: int) -> Place:
    """Place of one row of a page."""
    return Place(
        moment(rows.column("event_time")[index]),
        rows.column("trace_id")[index].as_py() or "",
        rows.column("id")[index].as_py(),
    )


def rows_at_last_place(rows: pa.RecordBatch) -> int:
    """How many rows at the end of a page share the last row's place."""
    last = place_of(rows, rows.num_rows - 1)
    count = 1
    while count < rows.num_rows and place_of(rows, rows.num_rows - 1 - count) == last:
        count += 1
    return count
