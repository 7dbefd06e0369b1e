"""Rows of a page of v2/observations asked for again, by trace, with more in them than the first time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa

from lf_dagster.hours import iso
from lf_dagster.lake import EXTRACT_SCHEMA
from lf_dagster.source.client import LangfuseClient
from lf_dagster.source.cursors import observation_cursor, place_of, rows_at_last_place
from lf_dagster.source.feeds import Feed
from lf_dagster.source.pages import Page, parse_page
from lf_dagster.source.work import Work

_TRACES_PER_CALL = 150
"""Keeps the URL below the 8 KB that proxies take (contracts: langfuse 4.2)."""
_QUERY_BYTES = 6000
_NEVER = datetime.min.replace(tzinfo=timezone.utc)


def with_rows_read_again(
    client: LangfuseClient, feed: Feed, rows: pa.RecordBatch, wanted: Sequence[int], work: Work, **params: Any
) -> tuple[pa.RecordBatch, frozenset[int]]:
    """The page with the wanted rows (not empty) as the server serves them with these parameters, and which those are.

    A row that is gone by now stays as it was: less of it beats losing it.
    """
    times = [rows.column("event_time")[row].as_py() for row in wanted]
    traces = sorted({rows.column("trace_id")[row].as_py() or "" for row in wanted})
    window = {feed.low: iso(min(times)), feed.high: iso(max(times) + timedelta(milliseconds=1))}
    whole: dict[tuple[str, datetime], _Version] = {}
    for batch in _rows_of_traces(client, feed, traces, work, {**params, **window}):
        for version in map(_Version.of, [batch] * batch.num_rows, range(batch.num_rows)):
            known = whole.get(version.key)
            if known is None or version.updated_at >= known.updated_at:
                whole[version.key] = version
    found = {row: whole.get(_Version.of(rows, row).key) for row in wanted}
    versions = {row: version for row, version in found.items() if version is not None}
    return _replaced(rows, versions), frozenset(versions)


def _rows_of_traces(
    client: LangfuseClient, feed: Feed, trace_ids: Iterable[str], work: Work, given: Mapping[str, Any]
) -> Iterator[pa.RecordBatch]:
    """All observations of the traces, as pages of EXTRACT_SCHEMA; what a page ends with comes again with the next."""
    for chunk in _chunks(trace_ids):
        traces = [{"type": "stringOptions", "column": "traceId", "operator": "any of", "value": chunk}]
        params: dict[str, Any] = {**feed.params, **given, "filter": msgspec.json.encode(traces).decode()}
        while True:
            page: Page = client.read(
                feed.path, params, lambda body: parse_page(body, feed.shape), stats=work.stats, cancelled=work.cancelled
            )
            yield page.rows
            if page.cursor is None or not len(page):
                break
            kept = len(page) - rows_at_last_place(page.rows)
            params["cursor"] = observation_cursor(place_of(page.rows, kept - 1)) if kept else page.cursor


@dataclass(frozen=True)
class _Version:
    key: tuple[str, datetime]
    updated_at: datetime
    json: str

    @classmethod
    def of(cls, rows: pa.RecordBatch, row: int) -> _Version:
        name, time, updated, text = (rows.column(c)[row].as_py() for c in ("id", "event_time", "updated_at", "json"))
        return cls((name, time), updated or _NEVER, text)


def _replaced(rows: pa.RecordBatch, versions: Mapping[int, _Version]) -> pa.RecordBatch:
    if not versions:
        return rows
    names = EXTRACT_SCHEMA.names
    columns = dict(zip(names, rows.columns, strict=True))
    texts, updated = columns["json"].to_pylist(), columns["updated_at"].to_pylist()
    for row, version in versions.items():
        texts[row] = version.json
        updated[row] = None if version.updated_at == _NEVER else version.updated_at
    columns["json"] = pa.array(texts, pa.string())
    columns["updated_at"] = pa.array(updated, columns["updated_at"].type)
    return pa.RecordBatch.from_arrays([columns[name] for name in names], schema=EXTRACT_SCHEMA)


def _chunks(trace_ids: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for trace_id in trace_ids:
        cost = len(quote(trace_id, safe="")) + len("%22%22%2C")
        if chunk and (len(chunk) == _TRACES_PER_CALL or size + cost > _QUERY_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(trace_id)
        size += cost
    if chunk:
        yield chunk
