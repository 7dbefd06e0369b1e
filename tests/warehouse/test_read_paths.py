"""The v2 and the legacy read path give equal typed rows, except for the documented columns."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.hours import Hour
from lf_dagster.warehouse import READ_PATH_DIFFERENCES
from tests.warehouse.extracts import DATA, Project, hours_of, recorded, synthetic_row, v2_row

KEYS = {
    "observations": ("trace_id", "observation_id"),
    "traces": ("trace_id",),
    "generations": ("trace_id", "observation_id"),
    "scores": ("score_id",),
}


@lru_cache(maxsize=1)
def samples() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Rows of the same traces on both paths: `recorded` from a real server, `dify` and `librechat` made by hand after
    the source code of those applications. Long inputs and outputs were taken out."""
    return json.loads(gzip.decompress((DATA / "read-paths.json.gz").read_bytes()))


def both_paths(rows: dict[str, list[dict[str, Any]]], folder: Path) -> tuple[Project, Project]:
    hours = sorted(
        {
            *hours_of([*rows["v2_observations"], *rows["legacy_observations"]]),
            *hours_of(rows["legacy_traces"], "traces"),
            *hours_of([*rows["v3_scores"], *rows["legacy_scores"]], "scores"),
        }
    )
    v2, legacy = Project(folder / "v2"), Project(folder / "legacy")
    v2.extract_v2(rows["v2_observations"], hours, rows["v3_scores"])
    legacy.extract_legacy(rows["legacy_traces"], rows["legacy_observations"], hours, rows["legacy_scores"])
    for project in (v2, legacy):
        assert project.run(hours).problems == ()
    return v2, legacy


def by_key(project: Project, table: str) -> dict[tuple[str, ...], dict[str, Any]]:
    rows = project.table(table, without=("ingested_at", "run_id", "read_path"))
    return {tuple(row[key] for key in KEYS[table]): row for row in rows if not row.get("is_synthetic")}


def differing_columns(
    table: str, v2: dict[tuple[str, ...], dict[str, Any]], legacy: dict[tuple[str, ...], dict[str, Any]]
) -> set[str]:
    allowed = READ_PATH_DIFFERENCES[table]
    return {
        column
        for key in v2.keys() & legacy.keys()
        for column in v2[key]
        if v2[key][column] != legacy[key][column]
        and column not in allowed
        # a row belongs to another hour when its trace does
        and not (column == "partition_hour" and table == "traces")
    }


@pytest.mark.parametrize("name", ["recorded", "dify", "librechat"])
def test_both_read_paths_give_equal_rows(name: str, tmp_path: Path) -> None:
    v2, legacy = both_paths(samples()[name], tmp_path)
    for table in ("observations", "generations", "traces"):
        ours, theirs = by_key(v2, table), by_key(legacy, table)
        assert theirs.keys() - ours.keys() == set(), table
        only_v2 = [row for key, row in ours.items() if key not in theirs]
        assert all(table == "traces" and row["is_orphan"] for row in only_v2), table
        assert differing_columns(table, ours, theirs) == set(), table
        assert theirs, table


def test_scores_of_both_generations_give_equal_rows(tmp_path: Path) -> None:
    rows = {**recorded(), "legacy_observations": recorded()["legacy_observations"]}
    v2, legacy = both_paths(rows, tmp_path)
    ours, theirs = by_key(v2, "scores"), by_key(legacy, "scores")
    assert ours.keys() == theirs.keys()
    assert len(ours) == 235
    assert differing_columns("scores", ours, theirs) == set()
    assert {row["data_type"] for key, row in ours.items() if row["value_num"] != theirs[key]["value_num"]} == {
        "CATEGORICAL"
    }


def test_a_legacy_trace_row_decides_over_its_observations(project: Project) -> None:
    hour = Hour.from_key("2026-11-21-05:00")
    trace = {
        "id": "t1", "timestamp": "2026-11-21T05:10:00Z", "name": "renamed", "userId": "u", "sessionId": None,
        "tags": ["b", "a"], "environment": "default", "metadata": {"$posthog_session_id": "ph"}, "release": None,
    }  # fmt: skip
    observations = [
        {"id": "a", "traceId": "t1", "startTime": "2026-11-21T05:10:01Z", "type": "SPAN", "name": "root"},
        {"id": "b", "traceId": None, "startTime": "2026-11-21T05:10:01Z", "type": "SPAN", "name": "no trace"},
        {"id": "c", "traceId": "unknown", "startTime": "2026-11-21T05:10:01Z", "type": "SPAN", "name": "lost"},
    ]
    project.extract_legacy([trace], observations, [hour])
    project.run([hour])
    [row] = project.table("traces")
    assert (row["trace_name"], row["user_id"], row["tags"], row["n_observations"]) == ("renamed", "u", ["a", "b"], 1)
    assert row["posthog_session_id"] == "ph"
    found = {row["observation_id"]: row for row in project.table("observations")}
    assert (found["a"]["trace_name"], found["a"]["user_id"], found["a"]["own_user_id"]) == ("renamed", "u", None)
    assert (found["b"]["trace_id"], found["b"]["trace_name"]) == ("", None)
    assert (found["c"]["trace_name"], found["c"]["user_id"]) == (None, None)


def test_a_legacy_trace_and_its_observations_meet_across_hours(project: Project) -> None:
    h5, h6 = Hour.from_key("2026-11-21-05:00"), Hour.from_key("2026-11-21-06:00")
    trace = {"id": "t1", "timestamp": "2026-11-21T05:59:00Z", "name": "chat", "userId": "u", "tags": []}
    late = {"id": "a", "traceId": "t1", "startTime": "2026-11-21T06:01:00Z", "type": "SPAN", "name": "x"}
    project.extract_legacy([trace], [], [h5])
    project.extract_legacy([], [late], [h6])
    project.run([h5])
    assert project.run([h6]).touched_hours == {h5}
    project.run([h5])
    [row] = project.table("traces")
    assert (row["n_observations"], row["partition_hour"]) == (1, h5.start)
    [observation] = project.table("observations")
    assert observation["user_id"] == "u"


_LEGACY_CALL = {"id": "a", "traceId": "t1", "startTime": "2026-11-21T06:01:00Z", "type": "SPAN", "name": "x"}
_SYNTHETIC = synthetic_row("t1", "2026-11-21T05:59:00Z", traceName="chat")


def _across_hours(project: Project) -> tuple[Hour, Hour]:
    """A legacy trace whose first observation starts in the hour after its own time."""
    h5, h6 = Hour.from_key("2026-11-21-05:00"), Hour.from_key("2026-11-21-06:00")
    trace = {"id": "t1", "timestamp": "2026-11-21T05:59:00Z", "name": "chat", "userId": "u", "tags": []}
    project.extract_legacy([trace], [_LEGACY_CALL], [h5, h6])
    project.run([h5, h6])
    return h5, h6


def test_a_trace_is_one_while_only_the_hour_of_its_observations_was_read_on_the_new_path(project: Project) -> None:
    h5, h6 = _across_hours(project)
    project.extract_v2([v2_row("a", "t1", "2026-11-21T06:01:00Z", name="x", userId="u")], [h6])
    project.run([h6])
    project.run([h5])
    [row] = project.table("traces")
    assert (row["partition_hour"], row["trace_name"], row["n_observations"]) == (h5.start, "chat", 1)

    project.extract_v2([_SYNTHETIC], [h5])
    assert project.run([h5]).touched_hours == {h6}
    project.run([h6])
    [row] = project.table("traces")
    assert (row["partition_hour"], row["trace_name"], row["n_observations"]) == (h6.start, "chat", 1)


def test_a_trace_stays_while_only_the_hour_of_its_own_time_was_read_on_the_new_path(project: Project) -> None:
    h5, h6 = _across_hours(project)
    project.extract_v2([_SYNTHETIC], [h5])
    assert project.run([h5]).touched_hours == {h6}
    project.run([h6])
    [row] = project.table("traces")
    assert (row["partition_hour"], row["trace_name"], row["n_observations"]) == (h6.start, "chat", 1)
    assert project.run([h5]).touched_hours == set(), "what is made of observations has no say over them"
    assert project.run([h6]).touched_hours == set()
    assert len(project.table("traces")) == 1
