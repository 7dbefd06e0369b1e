"""What is deleted at the source: seen by the next read of the hour, told apart from expiry and from a wrong answer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lf_dagster.clock import CLOCK_VARIABLE
from lf_dagster.errors import FatalError
from lf_dagster.lake import Lake
from lf_dagster.simulators.langfuse import Project
from tests.source.conftest import HOUR, Connect, Standin, World, deleted, extract, rows


def world_of(count: int, *, project: Project | None = None) -> World:
    world = World()
    if project is not None:
        world.store.project = project
    for number in range(count):
        world.observation(f"o-{number}", number, projectId=(project or world.store.project).id)
    return world.score("s", 5)


def set_clock(monkeypatch: pytest.MonkeyPatch, folder: Path, *, days: float) -> None:
    """It is now so many days after the start of `HOUR`."""
    file = folder / "now"
    file.write_text((HOUR.start + timedelta(days=days)).isoformat())
    monkeypatch.setenv(CLOCK_VARIABLE, str(file))


@pytest.mark.parametrize(("mode", "read_path"), [("v4-dual", "v2"), ("v3-legacy", "legacy")])
def test_a_deleted_row_is_marked_with_the_moment_of_the_read(
    standin: Standin,
    connect: Connect,
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    read_path: str,
):
    world = world_of(3).trace("t", 1)
    standin.use(world, mode=mode)
    set_clock(monkeypatch, tmp_path, days=1)
    extract(connect(), lake)
    world.gone("o-1")
    set_clock(monkeypatch, tmp_path, days=2)
    [observations, scores, *_] = extract(connect(), lake)
    assert observations.read_path == read_path
    assert (observations.deleted, observations.newly_deleted) == (1, 1)
    assert observations.rows == observations.distinct_ids == len(rows(lake, "observations"))
    assert {row["id"] for row in rows(lake, "observations")} >= {"o-0", "o-2"}
    assert deleted(lake, "observations") == {"o-1": HOUR.start + timedelta(days=2)}
    assert (lake.extract_facts("p", "observations", HOUR) or {})["extracted_at"].startswith("2025-08-23T06:00")
    assert (scores.rows, scores.deleted) == (1, 0)


@pytest.mark.parametrize("retention", [29, 30, 31, 32, 0])
def test_rows_past_the_retention_have_expired_and_stay(
    standin: Standin,
    connect: Connect,
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    retention: int,
):
    standin.use(world_of(60, project=Project(retention_days=retention)))
    extract(connect(), lake)
    set_clock(monkeypatch, tmp_path, days=30.5)
    standin.use(world_of(0, project=Project(retention_days=retention)))
    client = connect(max_lost_share=1.0)
    assert client.describe().project.retention_days == (retention or None)
    [observations, _] = extract(client, lake)
    # A day of margin: what will expire tomorrow may have expired already.
    if 0 < retention < 31.5:
        assert (observations.rows, observations.kept_expired, observations.deleted) == (60, 60, 0)
        assert len(rows(lake, "observations")) == 60
    else:
        assert (observations.rows, observations.kept_expired, observations.deleted) == (0, 0, 60)


def test_an_answer_that_lost_most_rows_is_refused_unless_it_is_accepted(standin: Standin, connect: Connect, lake: Lake):
    standin.use(world_of(60))
    extract(connect(), lake)
    standin.use(world_of(5))
    with pytest.raises(FatalError, match="no longer returned 55 of 60 rows") as caught:
        extract(connect(), lake)
    where = {"project": "p", "stream": "observations", "hour": HOUR.key}
    assert where.items() <= caught.value.context.items()
    assert len(rows(lake, "observations")) == 60
    assert deleted(lake, "observations") == {}

    [observations, _] = extract(connect(), lake, accept_deletions=True)
    assert (observations.rows, observations.newly_deleted) == (5, 55)
    assert len(deleted(lake, "observations")) == 55
    extracted_at = (lake.extract_facts("p", "observations", HOUR) or {})["extracted_at"]
    assert {moment.isoformat() for moment in deleted(lake, "observations").values()} == {extracted_at}


def test_the_share_that_may_be_lost_is_a_setting(standin: Standin, connect: Connect, lake: Lake):
    standin.use(world_of(100))
    extract(connect(), lake)
    standin.use(world_of(45))
    with pytest.raises(FatalError, match="55 of 100"):
        extract(connect(), lake)
    [observations, _] = extract(connect(max_lost_share=0.55), lake)
    assert observations.newly_deleted == 55


def test_keys_of_another_project_overwrite_nothing(standin: Standin, connect: Connect, lake: Lake):
    standin.use(world_of(3))
    extract(connect(), lake)
    standin.use(world_of(3, project=Project(id="proj-other", name="Other")))
    with pytest.raises(FatalError, match=r"proj-lf \(LF Project\), the keys open proj-other \(Other\)"):
        extract(connect(), lake, accept_deletions=True)
    assert len(rows(lake, "observations")) == 3
