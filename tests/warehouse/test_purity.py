"""Typed rows are a function of the extracts (invariant I3), and what a run makes stale is said (touched hours)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lf_dagster.hours import Hour
from lf_dagster.warehouse import TRACE_WINDOW_HOURS
from tests.warehouse.extracts import NOW, Project, hours_of, moment, recorded, synthetic_row, v2_row, v3_score

TABLES = ("observations", "traces", "generations", "scores")
FIRST = Hour.from_key("2026-11-21-00:00")


def tables(project: Project) -> dict[str, list[dict[str, Any]]]:
    return {name: project.table(name) for name in TABLES}


def run_until_settled(project: Project, hours: Iterable[Hour], *, limit: int = 50) -> int:
    """Run the hours one by one, then what became stale, as a reconciler would; returns the number of runs."""
    waiting = list(hours)
    runs = 0
    while waiting:
        hour = waiting.pop(0)
        runs += 1
        assert runs < limit, "does not settle"
        for stale in sorted(project.run([hour]).touched_hours):
            if project.lake.extract_exists(project.settings.name, "observations", stale) and stale not in waiting:
                waiting.append(stale)
    return runs


def test_a_rerun_gives_equal_rows_and_new_audit_columns(project: Project) -> None:
    rows = recorded()["v2_observations"]
    hours = hours_of(rows)
    project.extract_v2(rows, hours, recorded()["v3_scores"])
    project.run(hours)
    before = tables(project)
    again = project.run(hours, run_id="second", now=NOW + timedelta(hours=1))
    assert tables(project) == before
    assert again.touched_hours == frozenset()
    [audit] = project.query("SELECT DISTINCT run_id, ingested_at FROM traces")
    assert audit == {"run_id": "second", "ingested_at": NOW + timedelta(hours=1)}


@pytest.mark.slow
def test_hours_in_any_order_or_grouping_end_in_equal_rows(tmp_path: Path) -> None:
    rows, scores = recorded()["v2_observations"], recorded()["v3_scores"]
    hours = hours_of(rows)
    outcomes = []
    for number, batches in enumerate([[hours], [hours[::2], hours[1::2]], [hours[4:], hours[2:4], hours[:2]]]):
        project = Project(tmp_path / str(number))
        project.extract_v2(rows, hours, scores)
        touched = {hour for batch in batches for hour in project.run(batch).touched_hours}
        run_until_settled(project, sorted(touched))
        outcomes.append(tables(project))
    assert outcomes[1] == outcomes[0]
    assert outcomes[2] == outcomes[0]


def test_a_changed_extract_replaces_the_hour_and_nothing_else(project: Project) -> None:
    hours = [FIRST, FIRST.shift(1)]
    project.extract_v2([v2_row("a", "t1", "2026-11-21T00:10:00Z"), v2_row("b", "t2", "2026-11-21T01:10:00Z")], hours)
    project.run(hours)
    project.extract_v2([v2_row("c", "t3", "2026-11-21T00:20:00Z")], [FIRST])
    assert project.run([FIRST]).touched_hours == frozenset()
    assert {row["observation_id"] for row in project.table("observations")} == {"b", "c"}
    assert {row["trace_id"] for row in project.table("traces")} == {"t2", "t3"}


def test_late_rows_make_the_hours_of_their_traces_and_scores_stale(project: Project) -> None:
    h0, h1, h5 = FIRST, FIRST.shift(1), FIRST.shift(5)
    scored = FIRST.shift(24 * 7)
    project.extract_v2([v2_row("child", "t1", "2026-11-21T01:10:00Z", parentObservationId="root")], [h1])
    project.extract_v2([], [h0, h5])
    project.extract_v2([], [scored], [v3_score("s", scored.start.isoformat())])
    for hour in (h0, h1, h5, scored):
        project.run([hour])
    # the root comes late: it gives the trace a user, a name and an earlier hour
    project.extract_v2([v2_row("root", "t1", "2026-11-21T00:50:00Z", userId="u", traceName="chat")], [h0])
    assert project.run([h0]).touched_hours == {h1, scored}
    run_until_settled(project, [h1, scored])
    [trace] = project.table("traces")
    assert (trace["partition_hour"], trace["n_observations"], trace["user_id"]) == (h0.start, 2, "u")
    [score] = project.table("scores")
    assert (score["trace_name"], score["trace_user_id"]) == ("chat", "u")
    # one more row in an hour between changes the trace's row, but not what its other rows say
    project.extract_v2([v2_row("more", "t1", "2026-11-21T05:00:00Z", parentObservationId="root")], [h5])
    assert project.run([h5]).touched_hours == {h0}
    # and its going away does so again
    project.run([h0])
    project.extract_v2([], [h5])
    assert project.run([h5]).touched_hours == {h0}


def test_a_change_of_a_trace_s_user_makes_the_hours_of_its_other_rows_stale(project: Project) -> None:
    h0, h1 = FIRST, FIRST.shift(1)
    root = v2_row("root", "t1", "2026-11-21T00:50:00Z", traceName="chat")
    child = v2_row("child", "t1", "2026-11-21T01:10:00Z", parentObservationId="root")
    project.extract_v2([root, child], [h0, h1])
    project.run([h0, h1])
    project.extract_v2([{**root, "userId": "u"}], [h0])
    assert project.run([h0]).touched_hours == {h1}
    assert project.run([h1]).touched_hours == frozenset()
    users = project.query("SELECT DISTINCT user_id FROM observations")
    assert users == [{"user_id": "u"}]


def test_a_trace_moves_when_its_first_hour_empties(project: Project) -> None:
    h0, h1 = FIRST, FIRST.shift(1)
    project.extract_v2([v2_row("a", "t1", "2026-11-21T00:50:00Z"), v2_row("b", "t1", "2026-11-21T01:10:00Z")], [h0, h1])
    project.run([h0, h1])
    project.extract_v2([], [h0])
    assert project.run([h0]).touched_hours == {h1}
    project.run([h1])
    [trace] = project.table("traces")
    assert (trace["partition_hour"], trace["n_observations"]) == (h1.start, 1)


def test_observations_beyond_the_window_do_not_join_a_trace(project: Project) -> None:
    near, far = FIRST.shift(TRACE_WINDOW_HOURS), FIRST.shift(TRACE_WINDOW_HOURS + 1)
    rows = [v2_row(f"o{number}", "t1", hour.start.isoformat()) for number, hour in enumerate([FIRST, near])]
    project.extract_v2([*rows, v2_row("o3", "t1", far.start.isoformat())], [FIRST, near, far])
    project.run([FIRST, near, far])
    [first] = project.query(f"SELECT * FROM traces WHERE partition_hour = TIMESTAMPTZ '{FIRST.start.isoformat()}'")
    assert first["n_observations"] == 2


def test_runs_do_not_read_old_history(project: Project) -> None:
    """Cost must not grow with history: what is read of the tables is bounded by hours."""
    project.extract_v2([v2_row("a", "t1", "2026-11-21T00:50:00Z")], [FIRST])
    project.run([FIRST])
    old = FIRST.shift(-24 * 400)
    with project.warehouse.connect() as con:
        con.execute(f"SET search_path = 'warehouse.{project.settings.name}'")
        con.execute(f"UPDATE observations SET partition_hour = TIMESTAMPTZ '{old.start.isoformat()}'")
        con.execute(f"UPDATE traces SET partition_hour = TIMESTAMPTZ '{old.start.isoformat()}'")
    project.extract_v2([v2_row("b", "t1", "2026-11-21T00:55:00Z")], [FIRST])
    assert project.run([FIRST]).touched_hours == frozenset()
    [trace] = project.query("SELECT n_observations FROM traces WHERE partition_hour > TIMESTAMPTZ '2026-01-01'")
    assert trace["n_observations"] == 1


ROWS = st.lists(
    st.builds(
        lambda number, trace, hour, minute, user, synthetic, parent: (
            synthetic_row(f"t{trace}", at(hour, minute), userId=user, name="trace")
            if synthetic
            else v2_row(
                f"o{number}", f"t{trace}", at(hour, minute), userId=user, parentObservationId=parent,
                costDetails={"total": number / 1000}, tags=[f"tag-{number % 3}"],
            )
        ),
        number=st.integers(0, 30),
        trace=st.integers(0, 3),
        hour=st.integers(0, 3),
        minute=st.integers(0, 59),
        user=st.sampled_from(["", "u1", "u2"]),
        synthetic=st.booleans(),
        parent=st.sampled_from([None, "o1", "o2", "gone"]),
    ),
    max_size=14,
    unique_by=lambda row: row["id"],
)  # fmt: skip


def at(hour: int, minute: int) -> str:
    return f"2026-11-21T{hour:02d}:{minute:02d}:00.000Z"


@pytest.mark.slow
@given(rows=ROWS, order=st.permutations(range(4)))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_in_any_order_of_hours_settle_to_what_one_run_gives(
    tmp_path_factory: pytest.TempPathFactory, rows: Sequence[dict[str, Any]], order: Sequence[int]
) -> None:
    hours = [FIRST.shift(number) for number in range(4)]
    scores = [v3_score(f"s{trace}", at(3, trace), trace_id=f"t{trace}") for trace in range(4)]
    together, apart = (Project(tmp_path_factory.mktemp("purity")) for _ in range(2))
    for project in (together, apart):
        project.extract_v2(rows, hours, scores)
    together.run(hours)
    run_until_settled(apart, [hours[number] for number in order])
    assert tables(apart) == tables(together)
    owners = [row["trace_id"] for row in together.table("traces")]
    assert sorted(owners) == sorted({row["traceId"] for row in rows})
    assert all(moment(row["startTime"]) for row in rows)
