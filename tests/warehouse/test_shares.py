"""Large hours are modelled in shares of whole traces, in little memory; the rows are those of one piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from lf_dagster.hours import Hour
from lf_dagster.warehouse import database, shares
from lf_dagster.warehouse.shares import Share, Size
from tests.warehouse.extracts import Project, hours_of, recorded, v2_row, v3_score

FIRST = Hour.from_key("2026-11-21-00:00")
TABLES = ("observations", "traces", "generations", "scores", "deletions")
VISITS = {"extra_events": ["session"]}


@pytest.fixture
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "SHARE_ROWS", 20)


def test_shares_grow_with_rows_and_with_bytes_and_hold_each_trace_once() -> None:
    assert len(Size(0, 0).shares) == 1
    assert len(Size(shares.SHARE_ROWS, shares.SHARE_BYTES).shares) == 1
    assert len(Size(3 * shares.SHARE_ROWS, 1).shares) == 3
    assert len(Size(1, 2 * shares.SHARE_BYTES + 1).shares) == 3
    found = Size(3 * shares.SHARE_ROWS, 1).shares
    traces = "(SELECT 'trace-' || range AS trace_id FROM range(1000) UNION ALL SELECT NULL)"
    ids = [duckdb.execute(f"SELECT trace_id FROM {traces} WHERE {share.holds()}").fetchall() for share in found]
    assert sorted(map(len, ids))[0] > 250
    assert sum(map(len, ids)) == len({row for some in ids for row in some}) == 1001
    assert Share().holds() == "true"


@pytest.mark.slow
def test_shares_give_the_rows_of_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, scores = recorded()["v2_observations"], recorded()["v3_scores"]
    hours = hours_of(rows)
    outcomes = []
    for name, most in (("whole", 1_000_000), ("shares", len(rows) // 3)):
        monkeypatch.setattr(shares, "SHARE_ROWS", most)
        project = Project(tmp_path / name, **VISITS)
        project.extract_v2(rows, hours, [*scores, v3_score("of-session", rows[0]["startTime"], trace_id=None)])
        runs = [project.run(hours), project.run(hours)]
        outcomes.append(([(run.rows, run.touched_hours) for run in runs], [project.table(table) for table in TABLES]))
    assert outcomes[1] == outcomes[0]


@pytest.mark.usefixtures("small_shares")
def test_what_a_shared_run_no_longer_has_is_gone_and_what_it_touches_is_told(project: Project) -> None:
    hours = [FIRST, FIRST.shift(1)]
    rows = [
        v2_row(f"o{number}", f"t{number}", f"2026-11-21T0{number % 2}:10:{number % 60:02d}Z") for number in range(100)
    ]
    score = v3_score("s", "2026-11-21T00:30:00Z", trace_id="t4")
    project.extract_v2(rows, hours, [score])
    project.run(hours)
    # Every second trace of the first hour goes, one gets a row in the other hour.
    kept = [row for number, row in enumerate(rows) if number % 4 != 2]
    late = v2_row("late", "t1", "2026-11-21T00:50:00Z", userId="u")
    project.extract_v2([row for row in [*kept, late] if row["startTime"] < "2026-11-21T01"], [FIRST], [score])
    assert project.run([FIRST]).touched_hours == {FIRST.shift(1)}
    assert {row["observation_id"] for row in project.table("observations")} == {row["id"] for row in [*kept, late]}
    assert {row["entity_id"] for row in project.table("deletions")} == {f"o{number}" for number in range(2, 100, 4)}
    # A share does not take rows that the others hold for gone.
    project.run([FIRST.shift(1)])
    assert project.run([FIRST]).touched_hours == frozenset()


@pytest.mark.slow
@pytest.mark.usefixtures("small_shares")
def test_visits_over_traces_of_several_shares_become_stale(tmp_path: Path) -> None:
    project = Project(tmp_path / "data", **VISITS)
    later = FIRST.shift(4)
    rows = [v2_row(f"o{number}", f"t{number}", "2026-11-21T00:10:00Z", sessionId="s") for number in range(60)]
    project.extract_v2(rows, [FIRST])
    project.extract_v2([], [later])
    project.run([FIRST])
    project.run([later])
    assert project.run([FIRST]).touched_hours == frozenset()
    changed = {**rows[7], "endTime": "2026-11-21T00:20:00Z", "userId": "u"}
    project.extract_v2([*rows[:7], changed, *rows[8:]], [FIRST])
    # The session pauses for 4 hours by default, so its visit closes at 04:20.
    assert project.settings.session_idle_hours == 4
    assert project.run([FIRST]).touched_hours == {later}
    # The hours of a run are no hours that are left to be rerun.
    project.extract_v2(rows, [FIRST])
    assert project.run([FIRST, later]).touched_hours == frozenset()


def test_wide_rows_make_slices_that_hold_each_row_of_a_share_once() -> None:
    narrow = Size(100_000, 150_000_000, shares.SLICED_FROM)
    assert Share().slices(narrow) == ["true"]
    wide = Size(20_000, 190_000_000, 10 * shares.VECTOR_BYTES)
    assert len(Share().slices(wide)) == 10
    assert len(Share(1, 2).slices(wide)) == 5, "a share has a part of every vector already"
    assert len(Share().slices(Size(1, 10**12, 10**12))) == 64
    # Also where a share goes by the same column.
    ids = "(SELECT 'trace-' || range AS id FROM range(4000))"
    share = Share(1, 2)
    found = [
        {row for (row,) in duckdb.execute(f"SELECT id FROM {ids} WHERE {share.holds('id')} AND {part}").fetchall()}
        for part in share.slices(wide)
    ]
    assert min(map(len, found)) > 250
    whole = duckdb.execute(f"SELECT id FROM {ids} WHERE {share.holds('id')}").fetchall()
    assert sum(map(len, found)) == len(set().union(*found)) == len(whole)


def test_the_size_of_an_hour_tells_its_widest_vector(project: Project) -> None:
    narrow = [v2_row(f"o{number}", f"t{number}", "2026-11-21T00:10:00Z") for number in range(3000)]
    wide = [v2_row(f"w{number}", "w", "2026-11-21T01:10:00Z", metadata={"text": "x" * 100_000}) for number in range(20)]
    project.extract_v2([*narrow, *wide], [FIRST, FIRST.shift(1)])
    with project.warehouse.connect() as con:
        paths = project.lake.extract_paths("demo", "observations", [FIRST, FIRST.shift(1)])
        [first, second] = [shares.size_of(con, [path]) for path in paths]
        both = shares.size_of(con, paths)
    assert (first.rows, second.rows, both.rows) == (3000, 20, 3020)
    assert first.bytes * 2048 // 3000 == pytest.approx(first.vector_bytes, abs=1)
    assert second.vector_bytes == second.bytes > 2_000_000, "fewer rows than a vector has"
    assert both.vector_bytes == second.vector_bytes
    assert both == first + second


@pytest.mark.slow
def test_slices_give_the_rows_of_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, scores = recorded()["v2_observations"], recorded()["v3_scores"]
    broken = ["no JSON", '{"id":null}']
    hours = hours_of(rows)
    outcomes = []
    for name, sliced_from in (("whole", 10**9), ("slices", 10_000)):
        monkeypatch.setattr(shares, "SLICED_FROM", sliced_from)
        monkeypatch.setattr(shares, "VECTOR_BYTES", 50_000)
        project = Project(tmp_path / name, **VISITS)
        project.extract_v2([*rows, *broken], hours, scores)
        runs = [project.run(hours), project.run(hours)]
        told = [(run.rows, run.touched_hours, sorted(map(str, run.problems))) for run in runs]
        outcomes.append((told, [project.table(table) for table in TABLES]))
    assert outcomes[1] == outcomes[0]


@pytest.mark.slow
def test_wide_rows_take_little_memory(tmp_path: Path) -> None:
    """7 KB of metadata on each of 20,000 rows, in the memory that narrow rows have."""
    metadata = {f"document_{number:02d}": "The quick brown fox jumps over the lazy dog. " * 4 for number in range(40)}
    rows = (
        v2_row(f"o{number}", f"t{number // 6}", "2026-11-21T00:10:00Z", metadata={**metadata, "number": number})
        for number in range(20_000)
    )
    project = Project(tmp_path)
    project.extract_v2(rows, [FIRST])
    limits: list[Any] = []
    connect = project.warehouse.connect

    def counting(**options: Any) -> Any:
        limits.append(options.get("memory_limit"))
        return connect(**options)

    project.warehouse.connect = counting  # pyright: ignore[reportAttributeAccessIssue]
    assert project.run([FIRST]).rows["observations"][FIRST] == 20_000
    assert limits == [database.MODEL_MEMORY], "it was not done again with more"


def test_work_that_needs_more_memory_is_done_again_with_more(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[str] = []

    def work(con: duckdb.DuckDBPyConnection) -> str:
        [(limit,)] = con.execute("SELECT current_setting('memory_limit')").fetchall()
        limits.append(limit)
        if len(limits) == 1:
            con.execute("SELECT list(range) FROM range(100_000_000)")
        return "done"

    monkeypatch.setattr(database, "MODEL_MEMORY", "64MB")
    assert project.warehouse.in_little_memory(work) == "done"
    assert limits == ["61.0 MiB", "953.6 MiB"]


def test_the_root_says_the_name_of_its_trace_whatever_neighbours_hold(project: Project) -> None:
    rows: list[dict[str, Any]] = [
        v2_row("root", "t1", "2026-11-21T00:10:00Z", traceName="chat", isRootObservation=True),
        v2_row("early", "t1", "2026-11-21T00:09:00Z", traceName="other", parentObservationId="root"),
    ]
    project.extract_v2(rows, [FIRST])
    project.run([FIRST])
    [trace] = project.table("traces")
    assert (trace["root_observation_id"], trace["trace_name"]) == ("root", "chat")
