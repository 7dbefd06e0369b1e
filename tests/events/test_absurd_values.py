"""Numbers and times that no program means: the hour is made all the same, and what cannot be known is NULL."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_dagster.hours import Hour
from lf_dagster.warehouse import load_models
from lf_dagster.warehouse.query import Questions
from tests.events.events import EventProject
from tests.warehouse.extracts import v2_row, v3_score

HOUR, NEXT = Hour.from_key("2026-11-21-05:00"), Hour.from_key("2026-11-21-06:00")
LARGEST = 2**63 - 1
KINDS = {
    "extra_events": ["session", "agent_run", "dify_workflow_run", "dify_message", "librechat_turn"],
    "observation_events": True,
}

NUMBERS = st.sampled_from(
    [
        0,
        -1,
        7,
        LARGEST,
        -(2**63),
        2**63,
        10**30,
        1.5,
        1e18,
        1e308,
        -1e308,
        1e-300,
        float("inf"),
        float("nan"),
        "7",
        None,
    ]
) | st.integers(-(2**70), 2**70)
TIMES = st.sampled_from(
    [
        *(
            None,
            "2026-11-21T05:30:00Z",
            "infinity",
            "-infinity",
            "epoch",
            "1899-12-31T23:59:59Z",
            "2300-01-01T00:00:00Z",
        ),
        *("9999-12-31T23:59:59Z", "294247-01-10T04:00:54Z", "290309-12-22 (BC) 00:00:00", "0000-00-00T00:00:00Z"),
    ]
)
COUNTS = st.dictionaries(
    st.sampled_from(["input", "output", "total", "input_cached_tokens", "cache_creation", "reasoning"]), NUMBERS
)
DIFY = {"workflow_run_id": "run", "workflow_id": "w", "tenant_id": "tenant"}


@st.composite
def observations(draw: st.DrawFn, number: int) -> dict[str, Any]:
    return v2_row(
        f"o{number}",
        f"t{draw(st.integers(0, 1))}",
        f"2026-11-21T05:{number:02d}:00Z",
        type=draw(st.sampled_from(["GENERATION", "TOOL", "SPAN"])),
        sessionId="s",
        userId="u",
        endTime=draw(TIMES),
        completionStartTime=draw(TIMES),
        createdAt=draw(TIMES),
        usageDetails=draw(COUNTS),
        costDetails=draw(COUNTS),
        latency=draw(NUMBERS),
        timeToFirstToken=draw(NUMBERS),
        promptVersion=draw(NUMBERS),
        metadata=draw(
            st.sampled_from(
                [{}, {**DIFY, "elapsed_time": 1e300, "total_tokens": 2**80}, {**DIFY, "elapsed_time": "NaN"}]
            )
        ),
    )


# Many rows in few hours: making an hour is what takes the time.
ROWS = st.integers(1, 40).flatmap(lambda count: st.tuples(*(observations(number) for number in range(count))))


def project_of(folder: Path, rows: Any, scores: Any = ()) -> EventProject:
    project = EventProject(folder, **KINDS)
    # The updates lie in an extract's own column; these rows may have any text there.
    project.extract_v2([{**row, "updatedAt": None} for row in rows], [HOUR, NEXT], scores)
    return project


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(ROWS, st.lists(NUMBERS, max_size=10))
def test_no_row_fails_its_hour(rows: tuple[dict[str, Any], ...], values: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        scores = [
            v3_score(f"s{number}", f"2026-11-21T06:{number:02d}:00Z", trace_id="t0", value=value)
            for number, value in enumerate(values)
        ]
        project = project_of(Path(folder), rows, scores)
        found = project.run([HOUR, NEXT])
        assert found.rows["observations"][HOUR] == len(rows)
        assert all(problem.kept for problem in found.problems)
        # The other hour, whose visits and contexts look at this one.
        project.run([NEXT])
        project.run_events([HOUR, NEXT])
        for destination, protocol in (("mixpanel", "import"), ("posthog", "v1")):
            events = project.prepared(destination, protocol)
            assert len(events) > len(rows)
            for event in events:
                json.loads(event["payload"], parse_constant=_refuse)
        views = [model.name for layer in ("typed", "apps", "questions") for model in load_models(layer)]
        with Questions(project.settings, project.lake).connect(" ".join(views)) as con:
            for view in views:
                con.execute(f"FROM {view}").fetchall()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def test_tokens_beyond_64_bits_are_unknown_and_take_no_others_along(tmp_path: Path) -> None:
    rows = [
        v2_row("o1", "t1", "2026-11-21T05:01:00Z", type="GENERATION", userId="u", sessionId="s", model="m",
               usageDetails={"input": LARGEST, "output": 1}),
        v2_row("o2", "t1", "2026-11-21T05:02:00Z", type="GENERATION", userId="u", sessionId="s", model="m",
               usageDetails={"input": -LARGEST, "output": 3}),
        v2_row("o3", "t2", "2026-11-21T05:03:00Z", type="GENERATION", userId="u", sessionId="s", model="m",
               usageDetails={"input": LARGEST, "output": 2}),
        v2_row("o4", "t3", "2026-11-21T05:04:00Z", type="GENERATION", userId="v", usageDetails={"input": 5}),
    ]  # fmt: skip
    project = project_of(tmp_path, rows)
    project.run([HOUR, NEXT])
    generations = project.query("SELECT input_tokens, total_tokens FROM generations ORDER BY observation_id")
    assert [tuple(row.values()) for row in generations] == [
        (LARGEST, None),
        (-LARGEST, 3 - LARGEST),
        (LARGEST, None),
        (5, 5),
    ]
    # What is too large for a row alone still counts in the sum of its trace.
    traces = project.query("SELECT input_tokens, output_tokens, total_tokens FROM traces ORDER BY trace_id")
    assert [tuple(row.values()) for row in traces] == [(0, 4, 4), (LARGEST, 2, None), (5, 0, 5)]
    assert project.query("SELECT total_tokens FROM users ORDER BY user_id") == [
        {"total_tokens": 4},
        {"total_tokens": 5},
    ]
    assert project.query("SELECT total_tokens FROM sessions") == [{"total_tokens": 4}]
    rows[3] = {**rows[3], "usageDetails": {"input": LARGEST}, "sessionId": "s"}
    rows[2] = {**rows[2], "usageDetails": {"input": LARGEST}, "userId": "v"}
    project.extract_v2(rows, [HOUR])
    project.run([HOUR])
    assert project.query("SELECT total_tokens FROM users ORDER BY user_id") == [
        {"total_tokens": 4},
        {"total_tokens": None},
    ]
    assert project.query("SELECT total_tokens FROM sessions") == [{"total_tokens": None}]


def test_times_and_durations_that_no_clock_gives_are_unknown(tmp_path: Path) -> None:
    rows = [
        v2_row("o1", "t1", "2026-11-21T05:01:00Z", endTime="infinity", latency=2.5, timeToFirstToken=float("inf")),
        v2_row("o2", "t2", "2026-11-21T05:01:00Z", endTime="290309-12-22 (BC) 00:00:00", latency=1e300),
        v2_row("o3", "t3", "2026-11-21T05:01:00Z", endTime="2026-11-21T05:01:02Z", latency=float("nan")),
    ]
    project = project_of(tmp_path, rows)
    project.run([HOUR, NEXT])
    found = project.query(
        "SELECT end_time IS NULL AS ends, latency_s, ttft_s FROM observations ORDER BY observation_id"
    )
    assert [tuple(row.values()) for row in found] == [(True, 2.5, None), (True, None, None), (False, 2.0, None)]


def test_a_cost_that_does_not_fit_is_told_and_a_score_that_is_no_number_is_none(tmp_path: Path) -> None:
    rows = [
        v2_row("o1", "t1", "2026-11-21T05:01:00Z", costDetails={"total": 1e308}),
        v2_row("o2", "t1", "2026-11-21T05:02:00Z", costDetails={"total": 0.5}),
    ]
    scores = [
        v3_score(f"s{number}", "2026-11-21T05:03:00Z", trace_id="t1", value=value)
        for number, value in enumerate([1e308, 1e308, float("inf"), float("nan")])
    ]
    project = project_of(tmp_path, rows, scores)
    told = [(problem.id, problem.kept) for problem in project.run([HOUR, NEXT]).problems]
    assert told == [("o1", True)]
    assert [float(row["total_cost"]) for row in project.query("SELECT total_cost FROM traces")] == [0.5]
    found = project.query("SELECT value_num FROM scores ORDER BY score_id")
    assert [row["value_num"] for row in found] == [1e308, 1e308, None, None]
