"""Metadata values beyond 200 characters, read again where they matter.

v2/observations cuts each metadata value to 200 code points unless asked for all of them, which is slow
(contracts: langfuse 4.4, 4.5). Two keys feed event properties; where one of them has exactly 200 characters, the rows
of its trace are asked for again, whole.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa

from lf_dagster.hours import iso
from lf_dagster.http import HttpStats
from lf_dagster.lake import EXTRACT_SCHEMA
from lf_dagster.source.client import LangfuseClient
from lf_dagster.source.feeds import SESSION_KEYS, Feed
from lf_dagster.source.pages import Page, parse_page
from lf_dagster.source.work import Work

CUT_LENGTH = 200
_TRACES_PER_CALL = 150
"""Keeps the URL below the 8 KB that proxies take (contracts: langfuse 4.2)."""
_QUERY_BYTES = 6000
_ROWS_PER_CALL = 200


def reread_full_metadata(
    client: LangfuseClient,
    feed: Feed,
    trace_ids: Sequence[str],
    *,
    low: datetime,
    high: datetime,
    stats: HttpStats | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[pa.RecordBatch]:
    """All observations of the traces with start time in [low, high), metadata whole, as pages of EXTRACT_SCHEMA."""
    for chunk in _chunks(trace_ids):
        traces = [{"type": "stringOptions", "column": "traceId", "operator": "any of", "value": chunk}]
        params: dict[str, Any] = {
            **feed.params,
            "expandMetadata": ",".join(SESSION_KEYS),
            "filter": msgspec.json.encode(traces).decode(),
            "limit": _ROWS_PER_CALL,
            feed.low: iso(low),
            feed.high: iso(high),
        }
        while True:
            page: Page = client.read(
                feed.path, params, lambda body: parse_page(body, feed.shape), stats=stats, cancelled=cancelled
            )
            yield page.rows
            if page.cursor is None or not len(page):
                break
            params["cursor"] = page.cursor


def with_full_session_ids(client: LangfuseClient, feed: Feed, rows: pa.RecordBatch, work: Work) -> pa.RecordBatch:
    """The rows, with the whole JSON object where a session id was cut."""
    suspects = _rows_with_cut_session_id(rows)
    if not suspects:
        return rows
    traces = sorted({rows.column("trace_id")[row].as_py() or "" for row in suspects})
    times = rows.column("event_time")
    whole: dict[tuple[str, datetime], _Version] = {}
    for batch in reread_full_metadata(
        client,
        feed,
        traces,
        low=times[-1].as_py(),
        high=times[0].as_py() + timedelta(milliseconds=1),
        stats=work.stats,
        cancelled=work.cancelled,
    ):
        for version in map(_Version.of, [batch] * batch.num_rows, range(batch.num_rows)):
            known = whole.get(version.key)
            if known is None or version.updated_at >= known.updated_at:
                whole[version.key] = version
    wanted = {row: whole.get(_Version.of(rows, row).key) for row in suspects}
    # A row that is gone by now stays as it was: a cut session id beats a lost event.
    return _replaced(rows, {row: version for row, version in wanted.items() if version is not None})


_NEVER = datetime.min.replace(tzinfo=timezone.utc)


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


# A value of 200 code points takes at least 200 bytes or escapes: a cheap look at the bytes of a whole page.
_LONG_TEXT = rb'(?:[^"\\]|\\.){%d}' % CUT_LENGTH


def _rows_with_cut_session_id(rows: pa.RecordBatch) -> list[int]:
    """Rows whose metadata has a session key with exactly 200 characters."""
    texts = rows.column("json")
    return [row for row in _rows_with_long_value(texts) if _has_cut_value(texts[row].as_py())]


def _rows_with_long_value(texts: pa.Array) -> list[int]:
    _, offset_buffer, data = texts.buffers()
    if offset_buffer is None or data is None:
        return []
    offsets = memoryview(offset_buffer).cast("i")[texts.offset : texts.offset + len(texts) + 1]
    page = bytes(memoryview(data)[offsets[0] : offsets[-1]])
    rows = set[int]()
    for key in SESSION_KEYS:
        start = f'"{key}":"'.encode()
        if start in page:
            pattern = re.compile(re.escape(start) + _LONG_TEXT, re.DOTALL)
            rows.update(bisect.bisect_right(offsets, at.start() + offsets[0]) - 1 for at in pattern.finditer(page))
    return sorted(rows)


class _Metadata(msgspec.Struct):
    metadata: Any = None


_metadata = msgspec.json.Decoder(_Metadata).decode


def _has_cut_value(text: str) -> bool:
    found = _metadata(text).metadata
    if not isinstance(found, dict):
        return False
    return any(isinstance(value := found.get(key), str) and len(value) == CUT_LENGTH for key in SESSION_KEYS)


def _chunks(trace_ids: Sequence[str]) -> Iterator[list[str]]:
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
