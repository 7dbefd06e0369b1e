"""LG-13: an agent by metadata, after tags and before name patterns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.automation.rows import Life
from tests.langguard.readpaths import both_read_paths, legacy_trace, query, read

AT = "07T10:10"
COLUMNS = "agent_name, agent_id, agent_version, agent_source"


def agent_of(
    folder: Path, mode: str, metadata: dict[str, Any], *, name: str = "chat", tag: str = ""
) -> tuple[Any, ...]:
    """What a trace with this metadata, this name and this tag tells about its agent."""
    folder.mkdir(exist_ok=True)
    columns: dict[str, Any] = {"name": name, "tags": [tag] if tag else [], "metadata": metadata}
    life = Life()
    life.span("o1", AT, trace="t1", traceName=name, **columns)
    legacy_trace(life, "t1", AT, **columns)
    with read(folder, life, mode) as shop:
        [row] = query(shop, f"SELECT {COLUMNS} FROM traces")
    return tuple(row.values())


@pytest.mark.slow
@pytest.mark.parametrize("key", ["agent_name", "agentName", "agent.name", "gen_ai.agent.name"])
@both_read_paths
def test_lg13_each_key_names_the_agent(key: str, mode: str, tmp_path: Path) -> None:
    assert agent_of(tmp_path, mode, {key: " Helper "}) == ("Helper", None, None, "metadata")


@both_read_paths
def test_lg13_the_keys_have_an_order_and_the_version_is_kept(mode: str, tmp_path: Path) -> None:
    metadata = {"agentName": "Second", "agent_name": "First", "agent_version": "2.1.0", "agentId": "a-1"}
    assert agent_of(tmp_path, mode, metadata) == ("First", "a-1", "2.1.0", "metadata")


@both_read_paths
def test_lg13_an_id_is_an_id_only(mode: str, tmp_path: Path) -> None:
    found = agent_of(tmp_path, mode, {"agent_id": "a-1"}, name="invoke_agent Helper")
    assert found == ("Helper", "a-1", None, "name_pattern")


@pytest.mark.slow
@both_read_paths
def test_lg13_a_tag_wins_over_metadata_and_metadata_over_a_name(mode: str, tmp_path: Path) -> None:
    named = {"agent_name": "Meta", "agent_id": "a-1", "agent_version": "3"}
    everything = agent_of(tmp_path / "a", mode, named, name="invoke_agent Pattern", tag="agent:Tag")
    # id and version are those of the agent that the metadata names, which is another one
    assert everything == ("Tag", None, None, "tag")
    assert agent_of(tmp_path / "b", mode, named, tag="agent:Meta") == ("Meta", "a-1", "3", "tag")
    untagged = agent_of(tmp_path / "c", mode, named, name="invoke_agent Pattern")
    assert untagged == ("Meta", "a-1", "3", "metadata")


@pytest.mark.slow
@both_read_paths
def test_lg13_metadata_of_an_inner_observation_counts_where_the_trace_has_none(mode: str, tmp_path: Path) -> None:
    life = Life()
    life.span("o1", AT, trace="t1", metadata={"agent_id": "outer"})
    life.span("o2", "07T10:11", trace="t1", parentObservationId="o1", metadata={"agent_name": "Inner"})
    life.span("o3", "07T10:12", trace="t1", parentObservationId="o1", metadata={"agent_name": "Later"})
    legacy_trace(life, "t1", AT)
    with read(tmp_path, life, mode) as shop:
        [row] = query(shop, f"SELECT {COLUMNS} FROM traces")
    assert tuple(row.values()) == ("Inner", None, None, "metadata")
