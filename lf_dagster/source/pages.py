"""A page of a list endpoint as Arrow rows, each with the untouched text of its JSON object.

Two passes of msgspec over the body, no Python per row: one cuts the body into the objects' own bytes, one reads the
few fields that an extract promotes.
"""

from __future__ import annotations

import array
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lf_dagster.lake import EXTRACT_SCHEMA
from lf_dagster.lake.arrays import moment, texts


class _Observation(msgspec.Struct, rename="camel", gc=False):
    id: str
    start_time: str
    trace_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class _Timed(msgspec.Struct, rename="camel", gc=False):
    id: str
    timestamp: str
    trace_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class _Subject(msgspec.Struct, rename="camel", gc=False):
    kind: str
    id: str
    trace_id: str | None = None


class _Score(msgspec.Struct, rename="camel", gc=False):
    id: str
    timestamp: str
    subject: _Subject | None = None
    created_at: str | None = None
    updated_at: str | None = None


class _Meta(msgspec.Struct, rename="camel"):
    cursor: str | None = None
    total_items: int | None = None


class _Objects(msgspec.Struct):
    data: list[msgspec.Raw]
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Observations(msgspec.Struct):
    data: list[_Observation]


class _Timeds(msgspec.Struct):
    data: list[_Timed]


class _Scores(msgspec.Struct):
    data: list[_Score]


def _score_traces(scores: Sequence[_Score]) -> Iterator[str | None]:
    # Scores come at most 100 to a request; their trace depends on the kind of subject (contracts: langfuse 5).
    for score in scores:
        subject = score.subject
        yield None if subject is None else subject.id if subject.kind == "trace" else subject.trace_id


@dataclass(frozen=True)
class RowShape:
    """Where a list endpoint's rows keep their event time and trace id."""

    read_path: str
    decode: Callable[[bytes], Any]
    time: str
    traces: Callable[[Sequence[Any]], Iterator[str | None]]


def _attributes(name: str) -> Callable[[Sequence[Any]], Iterator[Any]]:
    getter = attrgetter(name)
    return lambda rows: map(getter, rows)


_observations = msgspec.json.Decoder(_Observations).decode
_timeds = msgspec.json.Decoder(_Timeds).decode

V2_OBSERVATIONS = RowShape("v2", _observations, "start_time", _attributes("trace_id"))
V3_SCORES = RowShape("v2", msgspec.json.Decoder(_Scores).decode, "timestamp", _score_traces)
LEGACY_OBSERVATIONS = RowShape("legacy", _observations, "start_time", _attributes("trace_id"))
LEGACY_SCORES = RowShape("legacy", _timeds, "timestamp", _attributes("trace_id"))
LEGACY_TRACES = RowShape("legacy", _timeds, "timestamp", _attributes("id"))


@dataclass(frozen=True)
class Page:
    """One answer. `rows` (EXTRACT_SCHEMA) are in the server's order; `max_lateness` is max(createdAt - event time)."""

    rows: pa.RecordBatch
    cursor: str | None
    total_items: int | None
    max_lateness: timedelta | None

    def __len__(self) -> int:
        return self.rows.num_rows

    @property
    def first_time(self) -> datetime:
        return moment(self.rows.column("event_time")[0])

    @property
    def last_time(self) -> datetime:
        return moment(self.rows.column("event_time")[-1])

    @property
    def is_newest_first(self) -> bool:
        times = self.rows.column("event_time")
        descending = pc.call_function("greater_equal", [times[:-1], times[1:]])
        return pc.call_function("all", [descending]).as_py() is not False


_cut = msgspec.json.Decoder(_Objects).decode


def parse_page(body: bytes, shape: RowShape) -> Page:
    """Split a body `{"data": [...], "meta": {...}}`.

    Raises msgspec.DecodeError when it is no JSON and its subclass ValidationError when it has another shape, also for
    a time that is none.
    """
    try:
        return _parse(body, shape)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        repaired = without_lone_surrogates(body)
        if repaired == body:
            raise
        return _parse(repaired, shape)


def _parse(body: bytes, shape: RowShape) -> Page:
    objects = _cut(body)
    rows = shape.decode(body).data
    times = _times(rows, shape.time)
    created = _times(rows, "created_at")
    batch = pa.RecordBatch.from_arrays(
        [
            texts([row.id for row in rows]),
            texts(list(shape.traces(rows))),
            times,
            _times(rows, "updated_at"),
            texts([shape.read_path] * len(rows)),
            _bodies(objects.data),
            pa.nulls(len(rows), pa.timestamp("us", tz="UTC")),
            pa.nulls(len(rows), pa.string()),
        ],
        schema=EXTRACT_SCHEMA,
    )
    return Page(batch, objects.meta.cursor or None, objects.meta.total_items, _max_lateness(created, times))


def _times(rows: Sequence[Any], name: str) -> pa.Array:
    try:
        return texts(list(map(attrgetter(name), rows))).cast(pa.timestamp("us", tz="UTC"))
    except pa.ArrowInvalid as error:
        raise msgspec.ValidationError(f"not a time in `{name}`: {error}") from None


def _bodies(objects: Sequence[msgspec.Raw]) -> pa.StringArray:
    """The objects' bytes as one Arrow array: joined once, cut by offsets."""
    offsets = array.array("i", accumulate(map(len, objects), initial=0))
    joined = b"".join(objects)
    bodies = pa.StringArray.from_buffers(len(objects), pa.py_buffer(offsets), pa.py_buffer(joined))
    try:
        bodies.validate(full=True)
    except pa.ArrowInvalid as error:
        raise msgspec.DecodeError(str(error)) from None
    return bodies


def _max_lateness(created: pa.Array, times: pa.Array) -> timedelta | None:
    late = pc.call_function("subtract", [created, times]).cast(pa.int64())
    micros: int | None = pc.call_function("max", [late]).as_py()
    return None if micros is None else timedelta(microseconds=micros)


_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def without_lone_surrogates(body: bytes) -> bytes:
    r"""JSON with `\ufffd` for each half of a surrogate pair that stands alone.

    Such a half comes from a text that some client cut in the middle of an emoji. It is no character: no UTF-8 text
    can hold it, and neither msgspec nor DuckDB nor a destination takes it.
    """

    def replaced(match: re.Match[bytes]) -> bytes:
        return rb"\ufffd" if match.group(1) else match.group(0)

    return _ESCAPES.sub(replaced, body)
