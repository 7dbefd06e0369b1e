"""Metadata keys that a row once had and a new read no longer returned.

Langfuse replaces metadata when a row is written again, so a key can vanish. What it said is kept beside the newest
JSON, per key the latest value that was seen. DuckDB finds the rows whose text changed, within its memory limit; only
those are looked at one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from lf_dagster.lake.held import TEXT_SCHEMA, HeldExtract
from lf_dagster.lake.pages import PageRef, PageStore
from lf_dagster.lake.schema import EXTRACT_SCHEMA
from lf_dagster.lake.versions import connect

_GONE = "metadata_gone"
_BATCH_ROWS = 2_000
_RETURNED_COLUMNS = ("id", "read_path", "json")
_RETURNED_SCHEMA = pa.schema(
    [
        *map(EXTRACT_SCHEMA.field, _RETURNED_COLUMNS),
        pa.field("page", pa.int64()),
        pa.field("row", pa.int64()),
    ]
)

# The read paths write metadata differently (contracts: source-apps 1.2): keys of one are not gone from the other.
_CHANGED = """
CREATE TABLE changed AS SELECT position, page, row
FROM (SELECT id, read_path, hash(json) AS text, position, metadata_gone IS NOT NULL AS has_gone FROM held)
JOIN (SELECT id, read_path, hash(json) AS new_text, page, row FROM returned) USING (id, read_path)
WHERE text <> new_text OR has_gone
"""
_TEXTS = """
SELECT page, row, json, deleted_seen_at, metadata_gone
FROM held_texts JOIN changed USING (position) ORDER BY page, row
"""


class _Held(NamedTuple):
    """What the held extract has of a row that was returned again; `row` is its place in the page."""

    page: int
    row: int
    json: str
    deleted_seen_at: Any
    metadata_gone: str | None


class _Row(msgspec.Struct):
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


class _Gone(msgspec.Struct):
    value: msgspec.Raw
    last_seen_at: str | None


_row = msgspec.json.Decoder(_Row).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_gone = msgspec.json.Decoder(dict[str, _Gone]).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def keep_gone_metadata(held: HeldExtract, pages: PageStore, refs: Sequence[PageRef], *, scratch: Path) -> None:
    """Fill `metadata_gone` of the pages' rows from the held extract; rows that it does not have stay as they are."""
    by_number = {ref.number: ref for ref in refs}
    seen_at = held.facts.get("extracted_at")
    for number, found in itertools.groupby(_changed(held, pages, refs, scratch), key=lambda row: row.page):
        page = pages.read(by_number[number])
        texts = page.column("json")
        gone = {row.row: _gone_of(row, texts[row.row].as_py(), seen_at) for row in found}
        if any(gone.values()):
            pages.replace(by_number[number], _with_gone(page, gone))


def without_gone_metadata(page: pa.RecordBatch) -> pa.RecordBatch:
    """The page with nothing kept of earlier reads."""
    return _with_gone(page, {})


def _changed(held: HeldExtract, pages: PageStore, refs: Sequence[PageRef], scratch: Path) -> Iterator[_Held]:
    """Held rows that came again with another text, or of which keys are gone already; by page and row."""
    with connect(scratch) as con:
        con.register("held", pa.RecordBatchReader.from_batches(TEXT_SCHEMA, held.texts()))
        con.register("returned", pa.RecordBatchReader.from_batches(_RETURNED_SCHEMA, _returned(pages, refs)))
        con.execute(_CHANGED)
        if con.execute("SELECT count(*) FROM changed").fetchall() == [(0,)]:
            return
        con.register("held_texts", pa.RecordBatchReader.from_batches(TEXT_SCHEMA, held.texts()))
        for batch in con.execute(_TEXTS).to_arrow_reader(_BATCH_ROWS):
            yield from itertools.starmap(_Held, zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _returned(pages: PageStore, refs: Sequence[PageRef]) -> Iterator[pa.RecordBatch]:
    for ref in refs:
        page = pages.read(ref, _RETURNED_COLUMNS)
        numbers = [pa.repeat(pa.scalar(ref.number, pa.int64()), ref.rows), pa.array(range(ref.rows), pa.int64())]
        columns = [page.column(name) for name in _RETURNED_COLUMNS]
        yield pa.RecordBatch.from_arrays([*columns, *numbers], schema=_RETURNED_SCHEMA)


def _gone_of(held: _Held, text: str, seen_at: str | None) -> str | None:
    """The row's `metadata_gone`: what was gone before or is in the held text, less what the new text has."""
    before, now = _raw_metadata(held.json), _raw_metadata(text)
    if held.metadata_gone is None and before == now:
        return None
    # The last read that returned a marked row is not known; it came before the one that missed it.
    last_seen_at = held.deleted_seen_at.isoformat() if held.deleted_seen_at is not None else seen_at
    gone = {} if held.metadata_gone is None else _gone(held.metadata_gone)
    gone |= {key: _Gone(value, last_seen_at) for key, value in _keys(before).items()}
    left = {key: entry for key, entry in gone.items() if key not in _keys(now)}
    return _encode(left).decode() if left else None


def _raw_metadata(text: str) -> bytes:
    try:
        return bytes(_row(text).metadata)
    except msgspec.DecodeError:
        # The models report such a row; without metadata it neither loses keys nor has any.
        return b"{}"


def _keys(metadata: bytes) -> dict[str, msgspec.Raw]:
    return _object(metadata) if metadata.startswith(b"{") else {}


def _with_gone(page: pa.RecordBatch, gone: Mapping[int, str | None]) -> pa.RecordBatch:
    column = pa.array([gone.get(row) for row in range(page.num_rows)], pa.string())
    return page.set_column(EXTRACT_SCHEMA.get_field_index(_GONE), EXTRACT_SCHEMA.field(_GONE), column)
