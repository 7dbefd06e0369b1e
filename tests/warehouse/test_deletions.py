"""Rows that are deleted at the source leave every table but `deletions`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lf_dagster.hours import Hour
from tests.warehouse.extracts import Project, moment, synthetic_row, v2_row, v3_score

H05 = Hour.from_key("2026-11-21-05:00")
H06 = H05.shift(1)

KEPT = [v2_row("kept", "t1", "2026-11-21T05:00:00Z", userId="u1")]
DELETED = [
    synthetic_row("t2", "2026-11-21T05:10:00Z", userId="u2", sessionId="s2"),
    v2_row("call", "t2", "2026-11-21T05:11:00Z", type="GENERATION", parentObservationId="t-t2"),
]
LATER = [v2_row("later", "t2", "2026-11-21T06:01:00Z", parentObservationId="t-t2")]
KEPT_SCORES = [v3_score("score-1", "2026-11-21T05:20:00Z", trace_id="t1")]
DELETED_SCORES = [v3_score("score-2", "2026-11-21T05:21:00Z", trace_id="t2")]


def ids(project: Project, table: str, column: str) -> list[str]:
    return sorted(row[column] for row in project.table(table))


def without_marks(project: Project, stream: str, hour: Hour) -> None:
    """Make an extract what versions wrote that did not mark: without marked rows and without the column."""
    path = project.lake.extract_path("demo", stream, hour)
    rows = pq.ParquetFile(path).read()
    rows = rows.filter(rows.column("deleted_seen_at").is_null()).drop_columns(["deleted_seen_at"])
    with project.lake.replacing(path) as draft:
        pq.write_table(rows, draft)


def test_a_deleted_trace_leaves_every_table_and_is_listed_in_deletions(project: Project) -> None:
    project.extract_v2([*KEPT, *DELETED], [H05], [*KEPT_SCORES, *DELETED_SCORES])
    project.run([H05])
    assert project.table("deletions") == []
    assert ids(project, "traces", "trace_id") == ["t1", "t2"]
    assert ids(project, "generations", "observation_id") == ["call"]

    project.extract_v2(KEPT, [H05], KEPT_SCORES)
    run = project.run([H05])
    assert ids(project, "observations", "observation_id") == ["kept"]
    assert ids(project, "traces", "trace_id") == ["t1"]
    assert ids(project, "scores", "score_id") == ["score-1"]
    assert project.table("generations") == []
    assert project.query("SELECT user_id FROM users") == [{"user_id": "u1"}]
    assert project.query("SELECT session_id FROM sessions") == []
    assert run.rows["deletions"] == {H05: 3}


def test_deletions_say_what_when_and_where(project: Project) -> None:
    project.extract_v2([*KEPT, *DELETED], [H05], DELETED_SCORES)
    project.extract_v2(KEPT, [H05])
    project.run([H05])
    found = project.table("deletions")
    assert all(row.pop("deleted_seen_at") is not None for row in found)
    assert all(row.pop("project_id") == "proj-lf" and row.pop("partition_hour") == H05.start for row in found)
    named = [(row["stream"], row["entity_id"], row["event_time"], row["read_path"]) for row in found]
    assert sorted(named) == [
        ("observations", "call", moment("2026-11-21T05:11:00Z"), "v2"),
        ("observations", "t-t2", moment("2026-11-21T05:10:00Z"), "v2"),
        ("scores", "score-2", moment("2026-11-21T05:21:00Z"), "v2"),
    ]
    assert {row["trace_id"] for row in found if row["stream"] == "observations"} == {"t2"}


def test_a_deleted_legacy_trace_is_listed_too(project: Project) -> None:
    at = "2026-11-21T05:00:00Z"
    trace = {"id": "t2", "timestamp": at, "name": "run", "userId": "u", "updatedAt": at}
    project.extract_legacy([trace], [v2_row("o", "t2", at)], [H05])
    project.run([H05])
    project.extract_legacy([], [v2_row("o", "t2", at)], [H05])
    project.run([H05])
    assert project.table("traces") == []
    assert ids(project, "observations", "observation_id") == ["o"]
    [row] = project.table("deletions")
    assert (row["stream"], row["entity_id"], row["read_path"]) == ("traces", "t2", "legacy")


def test_a_row_that_comes_back_is_no_longer_listed(project: Project) -> None:
    for observations in ([*KEPT, *DELETED], KEPT, [*KEPT, *DELETED]):
        project.extract_v2(observations, [H05])
        project.run([H05])
    assert project.table("deletions") == []
    assert ids(project, "traces", "trace_id") == ["t1", "t2"]


def test_a_deletion_makes_the_other_hours_of_its_trace_stale(project: Project) -> None:
    project.extract_v2([*KEPT, *DELETED, *LATER], [H05, H06])
    project.run([H05, H06])
    project.extract_v2(KEPT, [H05])
    assert project.run([H05]).touched_hours == {H06}
    project.run([H06])
    [later] = [row for row in project.table("traces") if row["trace_id"] == "t2"]
    assert (later["n_observations"], later["user_id"]) == (1, None)


@pytest.mark.parametrize("old", [[H05], [H06], [H05, H06]], ids=["before", "after", "alone"])
def test_extracts_from_before_there_were_marks_hold_live_rows_only(project: Project, old: Sequence[Hour]) -> None:
    hours = [H05, H06]
    gone = [v2_row(f"gone-{hour.hour}", f"t-{hour.hour}", f"2026-11-21T{hour.hour}:40:00Z") for hour in hours]
    project.extract_v2([*KEPT, *LATER, *gone], hours)
    project.extract_v2([*KEPT, *LATER], hours)
    for hour in old:
        for stream in ("observations", "scores"):
            without_marks(project, stream, hour)
    project.run(hours)
    assert ids(project, "observations", "observation_id") == ["kept", "later"]
    assert ids(project, "deletions", "entity_id") == [f"gone-{hour.hour}" for hour in hours if hour not in old]


def test_traces_that_lie_there_from_the_legacy_path_are_not_read_with_v2_rows(tmp_path: Path) -> None:
    at = "2026-11-21T05:00:00Z"
    project, fresh = Project(tmp_path / "both"), Project(tmp_path / "v2")
    trace = {"id": "old", "timestamp": at, "name": "run", "updatedAt": at}
    project.extract_legacy([trace], [], [H05])
    for each in (project, fresh):
        each.extract_v2(KEPT, [H05])
        each.run([H05])
    assert project.table("traces") == fresh.table("traces")
