"""LG-09: each trace becomes a trace with all ten fields, whichever API it is read by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.automation.rows import Life, moment
from tests.langguard.readpaths import both_read_paths, legacy_trace, query, read

CONTENT = {"input": '{"question":"why?"}', "output": '"because"'}
TRACE = {"userId": "ada", "sessionId": "s-1", "tags": ["beta", "agent:Guide"]}


def life() -> Life:
    """A trace of 90 seconds whose root never ended, so that no row has a latency of the whole."""
    found = Life()
    found.span("root", "07T10:05", traceName="customer_query", metadata={"plan": "pro"}, **CONTENT, **TRACE)
    (root,) = found.store.observations.of_id("root")
    root.data["endTime"] = None
    found.span("step", "07T10:05:30", minutes=1, parentObservationId="root", traceName="customer_query", **TRACE)
    legacy_trace(found, "t", "07T10:05", name="customer_query", metadata={"plan": "pro"}, **CONTENT, **TRACE)
    return found


@both_read_paths
def test_lg09_all_ten_fields_of_a_trace_are_there(tmp_path: Path, mode: str) -> None:
    with read(tmp_path, life(), mode, content=True) as shop:
        (row,) = query(
            shop,
            "SELECT trace_id, trace_name, timestamp, duration_s, input, output, metadata, user_id, session_id, tags "
            "FROM traces",
        )
    assert {**row, "input": json.loads(row["input"]), "metadata": json.loads(row["metadata"])} == {
        "trace_id": "t",
        "trace_name": "customer_query",
        "timestamp": moment("07T10:05"),
        "duration_s": 90.0,
        "input": {"question": "why?"},
        "output": row["output"],
        "metadata": {"plan": "pro"},
        "user_id": "ada",
        "session_id": "s-1",
        "tags": ["agent:Guide", "beta"],
    }
    # v2 serves the stored text, legacy what it parses to.
    assert row["output"].strip('"') == "because"


@pytest.mark.slow
@both_read_paths
def test_lg09_a_trace_whose_rows_have_no_end_still_has_a_duration(tmp_path: Path, mode: str) -> None:
    found = Life().span("first", "07T10:05").span("second", "07T10:07", parentObservationId="first")
    for name in ("first", "second"):
        (version,) = found.store.observations.of_id(name)
        version.data["endTime"] = None
    legacy_trace(found, "t", "07T10:05")
    with read(tmp_path, found, mode) as shop:
        (row,) = query(shop, "SELECT duration_s FROM traces")
        latencies = query(shop, "SELECT DISTINCT latency_s FROM observations")
    assert latencies == [{"latency_s": None}]
    assert row == {"duration_s": 120.0}
