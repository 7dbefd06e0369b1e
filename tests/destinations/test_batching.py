"""Batches: every event once, in order, within the limits, whatever the sizes."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import igzip

from lf_dagster.destinations import batching
from lf_dagster.destinations.batching import cut_batches
from lf_dagster.destinations.envelope import gzip_body
from tests.destinations.world import HOUR

STARTS = [HOUR.start, HOUR.shift(1).start]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 1), st.text(max_size=40)), max_size=300
    ),
    limit=st.integers(1, 70),
    size=st.integers(1, 400),
    piece=st.integers(1, 120),
)
def test_batches_hold_every_event_once_in_order_within_the_limits(
    rows: list[tuple[int, int, int, str]], limit: int, size: int, piece: int
) -> None:
    rows = sorted(rows, key=lambda row: row[:3])
    payloads = [text + "\n" for _, _, _, text in rows]
    table = pa.table(
        {
            "hour": pa.array([STARTS[hour] for hour, _, _, _ in rows], pa.timestamp("us", tz="UTC")),
            "segment": pa.array([segment for _, segment, _, _ in rows], pa.int64()),
            "lane": pa.array([lane for _, _, lane, _ in rows], pa.int64()),
            "payload": pa.array(payloads, pa.string()),
        }
    )
    hours = {start: HOUR.shift(number) for number, start in enumerate(STARTS)}
    batches = list(cut_batches(table.to_batches(max_chunksize=piece), events=limit, size=size, hours=hours))
    assert b"".join(bytes(batch.body) for batch in batches) == "".join(payloads).encode()
    for batch in batches:
        keys = {
            tuple(row)
            for row in zip(*(batch.rows.column(name).to_pylist() for name in ("hour", "segment", "lane")), strict=True)
        }
        assert len(keys) == 1
        assert len(batch) <= limit
        assert len(batch.body) <= size or len(batch) == 1
        assert batch.hour.start == batch.rows.column("hour")[0].as_py().astimezone(timezone.utc)
    _check_greedy(batches, limit, size)


def _check_greedy(batches: list[batching.Batch], limit: int, size: int) -> None:
    """No two neighbours of one hour, segment and lane would have fitted into one request."""
    for one, two in itertools.pairwise(batches):
        if all(one.rows.column(name)[0] == two.rows.column(name)[0] for name in ("hour", "segment", "lane")):
            first = two.rows.slice(0, 1).column("payload")[0].as_py().encode()
            assert len(one) + 1 > limit or len(one.body) + len(first) > size


def test_a_body_is_a_slice_of_the_arrow_buffer() -> None:
    rows = pa.record_batch({"payload": pa.array(["aa,", "b,", "cccc,"]), "event_id": pa.array(["1", "2", "3"])})
    batch = batching.Batch(HOUR, rows)
    assert bytes(batch.body) == b"aa,b,cccc,"
    first, second = batch.halves()
    assert (bytes(first.body), bytes(second.body)) == (b"aa,", b"b,cccc,")
    assert bytes(batch.again([0, 2]).body) == b"aa,cccc,"
    assert second.body.obj is not None
    assert batch.again([1]).request_id == batch.request_id != first.request_id


def test_an_envelope_is_compressed_around_the_payloads_without_the_last_separator() -> None:
    assert igzip.decompress(gzip_body('{"batch":[', memoryview(b'{"a":1},{"b":2},'))) == b'{"batch":[{"a":1},{"b":2}]}'
    assert igzip.decompress(gzip_body('{"batch":[', memoryview(b""))) == b'{"batch":[]}'
    assert datetime.now(timezone.utc) > HOUR.start
