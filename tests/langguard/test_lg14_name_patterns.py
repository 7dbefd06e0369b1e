"""LG-14: an agent by the pattern of a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lf_dagster.hours import Hour
from tests.automation.rows import Life
from tests.langguard.readpaths import both_read_paths, legacy_trace, query, read
from tests.warehouse.extracts import Project, v2_row

HOUR = Hour.from_key("2026-11-20-09:00")
AT = "2026-11-20T09:10:00Z"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LibreChat Agent: Travel Helper", "invoke_agent Travel Helper"])
@both_read_paths
def test_lg14_the_default_patterns_find_the_agent(name: str, mode: str, tmp_path: Path) -> None:
    life = Life()
    life.span("o1", "07T10:10", trace="t1", name="root", traceName=name)
    legacy_trace(life, "t1", "07T10:10", name=name)
    with read(tmp_path, life, mode) as shop:
        [row] = query(shop, "SELECT agent_name, agent_source FROM traces")
        assert tuple(row.values()) == ("Travel Helper", "name_pattern")


def agent_of(folder: Path, names: list[str], **agents: Any) -> tuple[Any, ...]:
    """The agent of a trace whose observations have these names, the first one its own."""
    project = Project(folder, agents=agents)
    rows = [
        v2_row(f"o{number}", "t1", AT, name=name, traceName=names[0], parentObservationId="o0" if number else None)
        for number, name in enumerate(names)
    ]
    project.extract_v2(rows, [HOUR])
    project.run([HOUR])
    [row] = project.query("SELECT agent_name, agent_source FROM traces")
    return tuple(row.values())


def test_lg14_a_pattern_that_is_off_by_default_finds_nothing(tmp_path: Path) -> None:
    assert agent_of(tmp_path, ["Planner run"]) == (None, None)


def test_lg14_a_pattern_of_the_user_does(tmp_path: Path) -> None:
    patterns = [r"(v\d+/)?(?P<agent>.+) run"]
    assert agent_of(tmp_path, ["v2/Planner run"], name_patterns=patterns) == ("Planner", "name_pattern")


def test_lg14_a_pattern_is_for_the_whole_name(tmp_path: Path) -> None:
    assert agent_of(tmp_path, ["please invoke_agent x"]) == (None, None)


def test_lg14_observations_are_asked_where_the_trace_name_tells_nothing(tmp_path: Path) -> None:
    assert agent_of(tmp_path, ["POST /chat", "invoke_agent Planner", "invoke_agent Writer"]) == (
        "Planner",
        "name_pattern",
    )


def test_lg14_keys_of_the_user_are_read(tmp_path: Path) -> None:
    project = Project(tmp_path, agents={"metadata_keys": ["bot.title"]})
    rows = [
        v2_row("a", "t1", AT, metadata={"bot.title": "Flat"}),
        v2_row("b", "t2", AT, metadata={"bot": {"title": "Deep"}}),
        v2_row("c", "t3", AT, metadata={"agent_name": "Nobody"}),
    ]
    project.extract_v2(rows, [HOUR])
    project.run([HOUR])
    found = project.query("SELECT agent_name FROM traces ORDER BY trace_id")
    assert [row["agent_name"] for row in found] == ["Flat", "Deep", None]
