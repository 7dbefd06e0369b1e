"""The view `agents`: who took part in which traces."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from tests.warehouse.apps.samples import READ_PATHS, both, loaded, merged, sample
from tests.warehouse.extracts import Project, moment, v2_row

HOUR = Hour.from_key("2026-11-20-09:00")
AT = "2026-11-20T09:00:00Z"


def agents(project: Project) -> dict[str, tuple[str, str | None, str, int]]:
    """Name, id, source and number of traces by key."""
    return {
        row["agent_key"]: (row["agent_name"], row["agent_id"], row["detection_source"], row["n_traces"])
        for row in project.query("SELECT * FROM agents")
    }


def test_agents_of_librechat_and_dify(tmp_path: Path) -> None:
    for project in both(tmp_path, merged(sample("librechat"), sample("dify"))).values():
        found = agents(project)
        # two turns, one that failed and the title, which tells the name alone
        assert found["agent_Zk3vQx7LmN2pR8sT"] == ("Travel Helper", "agent_Zk3vQx7LmN2pR8sT", "metadata", 4)
        handed_to = "agent_Rev13werZx8Cv6Bn"
        assert found[handed_to] == (handed_to, handed_to, "librechat", 1)
        assert found["openAI__gpt-4o-mini___GPT-4o mini"][0] == "GPT-4o mini"
        invoices = "6e405293-bd41-403e-8e67-30428dafc104"
        assert found[invoices] == ("Invoice Extractor", invoices, "dify_app", 3)
        [row] = project.query("SELECT * FROM agents WHERE agent_name = 'Travel Helper'")
        assert (row["n_errors"], row["total_cost"]) == (2, Decimal("0.00027870"))
        assert (row["first_seen"], row["source_app"]) == (moment("2026-11-20T09:14:03.120Z"), "librechat")


def test_an_id_names_an_agent_through_its_renames(project: Project) -> None:
    rows = [
        v2_row("a", "t1", AT, metadata={"agent_id": "7", "agent_name": "Old", "agent_version": "1"}),
        v2_row("b", "t2", "2026-11-20T09:30:00Z", metadata={"agent_id": 7, "agent_name": "New", "agent_version": 2}),
        v2_row("c", "t3", AT, tags=["agent:New"]),
        v2_row("d", "t4", AT, metadata={"agent_id": "8"}),
    ]
    project.extract_v2(rows, [HOUR])
    project.run([HOUR])
    assert agents(project) == {"7": ("New", "7", "metadata", 3), "8": ("8", "8", "metadata", 1)}
    [row] = project.query("SELECT agent_version FROM agents WHERE agent_key = '7'")
    assert row["agent_version"] == "2"


def test_two_agents_of_one_name_stay_two(project: Project) -> None:
    rows = [
        v2_row("a", "t1", AT, metadata={"agent_id": "x", "agent_name": "Bot"}),
        v2_row("b", "t2", AT, metadata={"agent_id": "y", "agent_name": "Bot"}),
        v2_row("c", "t3", AT, tags=["agent:Bot"]),
    ]
    project.extract_v2(rows, [HOUR])
    project.run([HOUR])
    assert agents(project).keys() == {"x", "y", "Bot"}


def test_a_tag_that_metadata_gives_an_id_is_no_agent_beside_it(project: Project) -> None:
    rows = [
        v2_row("a", "t1", AT, tags=["agent:Bot"], metadata={"agent_id": "x", "agent_name": "Bot"}),
        v2_row("b", "t2", AT, metadata={"agent_id": "y", "agent_name": "Bot"}),
    ]
    project.extract_v2(rows, [HOUR])
    project.run([HOUR])
    assert agents(project) == {"x": ("Bot", "x", "tag", 1), "y": ("Bot", "y", "metadata", 1)}


def test_an_agent_that_changes_in_another_hour_makes_the_trace_hour_stale(project: Project) -> None:
    later = Hour.from_key("2026-11-20-10:00")
    for name, version in (("First", "1"), ("First", "2"), ("Second", "2")):
        told = v2_row("b", "t1", "2026-11-20T10:00:00Z", parentObservationId="a")
        told["metadata"] = {"agent_name": name, "agent_version": version}
        project.extract_v2([v2_row("a", "t1", AT), told], [HOUR, later])
        if (name, version) == ("First", "1"):
            project.run([HOUR, later])
            continue
        assert project.run([later]).touched_hours == {HOUR}
        project.run([HOUR])
        [row] = project.query("SELECT agent_name, agent_version FROM traces")
        assert tuple(row.values()) == (name, version)


def test_the_type_agent_is_the_last_resort(project: Project) -> None:
    rows = [v2_row("a", "t1", AT, type="AGENT", name="Router"), v2_row("b", "t2", AT, name="chat")]
    project.extract_v2(rows, [HOUR])
    project.run([HOUR])
    assert agents(project) == {"Router": ("Router", None, "observation_type", 1)}


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_librechat_without_names_tells_agents_by_its_graph(read_path: str, tmp_path: Path) -> None:
    rows = sample("librechat", "agent_run_ephemeral")
    for stream in ("v2_observations", "legacy_observations", "legacy_traces"):
        for row in rows[stream]:
            row["metadata"] = {key: value for key, value in row["metadata"].items() if "gent" not in key}
    [row] = loaded(tmp_path, rows, read_path).query("SELECT agent_name, agent_id, agent_source FROM traces")
    assert tuple(row.values()) == ("GPT-4o mini", "openAI__gpt-4o-mini___GPT-4o mini", "librechat")


@pytest.mark.parametrize(
    ("agents", "text"),
    [
        ({"name_patterns": ["(.+) run"]}, "no group named agent"),
        ({"name_patterns": ["(?P<agent>.+"]}, "not a regular expression"),
        ({"name_patterns": ["(?<=x)(?P<agent>.+)"]}, "not a regular expression of RE2"),
        ({"metadata_keys": [""]}, "metadata keys"),
        ({"metadata_keys": ['a"b']}, "metadata keys"),
    ],
)
def test_settings_that_cannot_work_fail_when_they_are_read(
    agents: dict[str, list[str]], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=text):
        Project(tmp_path, agents=agents)


def test_odd_metadata_and_no_rules_at_all(tmp_path: Path) -> None:
    project = Project(tmp_path, agents={"metadata_keys": [], "name_patterns": []})
    rows = [
        v2_row("a", "t1", AT, name="invoke_agent x", metadata={"agent_name": "x"}),
        v2_row("b", "t2", AT, metadata={"agent_id": {"deep": 1}, "agentId": [2], "agent_version": None, "agent": "x"}),
        v2_row("c", "t3", AT, metadata=["agent"]),
    ]
    project.extract_v2(rows, [HOUR])
    assert project.run([HOUR]).problems == ()
    assert agents(project) == {}
