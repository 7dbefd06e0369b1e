"""Where LibreChat's data misleads a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lf_dagster.hours import Hour
from tests.warehouse.apps.chats import AT, MESSAGE, TURN, chat, feedback, trace_id_of
from tests.warehouse.apps.samples import AUDIT, READ_PATHS, both, by_key, extract, hours, merged, sample
from tests.warehouse.extracts import Project

each_path = pytest.mark.parametrize("read_path", READ_PATHS)


def test_trap_07_a_step_label_is_a_second_root_without_user(tmp_path: Path) -> None:
    for project in both(tmp_path, sample("librechat", "agent_run_tool")).values():
        [message] = project.table("librechat_messages")
        assert (message["resumed"], message["user_id"]) == (False, "665f1c2e9b3e4a0012ab34cd")
        [trace] = project.table("traces")
        assert (trace["trace_name"], trace["root_observation_id"]) == ("AgentRun", "b14e310e366223a6")
        [label] = project.query("SELECT * FROM observations WHERE name = 'StepLabel'")
        assert (label["own_user_id"], label["user_id"]) == (None, "665f1c2e9b3e4a0012ab34cd")


def test_trap_08_rows_of_the_second_agent_are_told_by_the_node(tmp_path: Path) -> None:
    rows = sample("librechat", "agent_run_multi_agent")
    tool = {
        "langgraph_node": "tools=agent_Rev13werZx8Cv6Bn", "agentId": "agent_Pl4nn3rQw9Er7Ty5",
        "activeAgentId": "agent_Pl4nn3rQw9Er7Ty5",
    }  # fmt: skip
    for stream in ("v2_observations", "legacy_observations"):
        for row in rows[stream]:
            if row["id"] == "bb310354a3944107":
                row.update(type="TOOL", name="lookup", metadata={**row["metadata"], **tool})
    for project in both(tmp_path, rows).values():
        [call] = project.table("librechat_tool_calls")
        assert (call["agent_id"], call["round"]) == ("agent_Rev13werZx8Cv6Bn", 1)
        [message] = project.table("librechat_messages")
        assert (message["agent_id"], message["n_agents"]) == ("agent_Pl4nn3rQw9Er7Ty5", 2)
        agents = by_key(project, "agents", "agent_key", without=("last_seen",))
        assert agents.keys() == {"agent_Pl4nn3rQw9Er7Ty5", "agent_Rev13werZx8Cv6Bn"}
        assert agents["agent_Rev13werZx8Cv6Bn"]["detection_source"] == "librechat"


def test_trap_09_one_failed_call_marks_six_rows_and_is_one_error(tmp_path: Path) -> None:
    rows = merged(sample("librechat", "agent_run_error"), sample("librechat", "agent_run_tool_error"))
    for project in both(tmp_path, rows).values():
        [trace] = project.query("SELECT n_errors FROM traces WHERE trace_id = 'a0312a182f6fc9fca7f72ec6247cef98'")
        assert trace["n_errors"] == 6
        found = by_key(project, "librechat_conversations", "conversation_id")
        assert found["c8a7d3e1-4a68-4b1f-8e7c-3a2a6a1a7b22"]["n_errors"] == 1
        # a tool that failed is a failed tool call
        assert found["eac9f503-6c8a-4d31-909e-5c4c8c3c9d44"]["n_errors"] == 0


def test_trap_09_two_failed_calls_in_one_run_are_two_errors(tmp_path: Path) -> None:
    failed: dict[str, Any] = {"level": "ERROR", "statusMessage": "429"}
    rows = chat(
        trace_id_of(MESSAGE),
        {"id": "r", "type": "AGENT", "name": "AgentGraph", **failed},
        {"id": "a", "type": "AGENT", "name": "agent", "parentObservationId": "r", **failed},
        {"id": "l1", "type": "GENERATION", "name": "llm", "parentObservationId": "a", **failed},
        {"id": "l2", "type": "GENERATION", "name": "llm", "parentObservationId": "a", **failed},
        {"id": "t", "type": "TOOL", "name": "search", "parentObservationId": "a", **failed},
    )
    for project in both(tmp_path, rows).values():
        [conversation] = project.table("librechat_conversations")
        assert conversation["n_errors"] == 2


@pytest.mark.slow
@each_path
def test_trap_10_feedback_flipped_then_cleared(read_path: str, tmp_path: Path) -> None:
    trace_id, at = trace_id_of(MESSAGE), "2026-11-20T09:30:00Z"
    turn = chat(trace_id, {"id": "r", "type": "AGENT", "name": "AgentGraph"})
    project, wanted = Project(tmp_path), hours(turn)

    def thumb(*scores: Any) -> tuple[bool | None, str | None]:
        extract(project, merged(turn, *scores), read_path, wanted)
        project.run(wanted)
        [row] = project.table("librechat_messages")
        [conversation] = project.table("librechat_conversations")
        assert (conversation["thumbs_up"], conversation["thumbs_down"]) == (
            row["feedback"] is True,
            row["feedback"] is False,
        )
        return row["feedback"], row["feedback_tag"]

    assert thumb() == (None, None)
    assert thumb(feedback(trace_id, at, up=True, tag="accurate_reliable")) == (True, "accurate_reliable")
    assert thumb(feedback(trace_id, at, up=False, updated="2026-11-20T09:40:00Z", tag="")) == (False, None)
    assert thumb() == (None, None)


@each_path
def test_trap_10_the_newest_of_two_thumbs_counts(read_path: str, tmp_path: Path) -> None:
    """An old version stays in the warehouse until its hour is read again."""
    trace_id = trace_id_of(MESSAGE)
    turn = chat(trace_id, {"id": "r", "type": "AGENT", "name": "AgentGraph"})
    up = feedback(trace_id, "2026-11-20T09:30:00Z", up=True)
    down = feedback(trace_id, "2026-11-20T11:30:00Z", up=False)
    project = Project(tmp_path)
    wanted = hours(merged(turn, down))
    extract(project, merged(turn, up, down), read_path, wanted)
    project.run(wanted)
    [row] = project.table("librechat_messages")
    assert row["feedback"] is False


def test_trap_13_a_title_run_is_no_turn(tmp_path: Path) -> None:
    rows = sample("librechat", "agent_run_tool", "title_run")
    for project in both(tmp_path, rows).values():
        assert [row["message_id"] for row in project.table("librechat_messages")] == [
            "0d7b6f7e-5a63-4c3b-8a53-6f2c8d1e9a01"
        ]
        [conversation] = project.table("librechat_conversations")
        assert (conversation["n_turns"], conversation["n_titles"]) == (1, 1)


def test_trap_13_a_title_run_without_name_and_tags_is_told_by_its_message_id(tmp_path: Path) -> None:
    metadata = {**TURN, "messageId": f"title-{MESSAGE}"}
    rows = chat("9" * 32, {"id": "r", "name": "x"}, name="LibreChat Title: Helper", tags=(), metadata=metadata)
    for project in both(tmp_path, rows).values():
        assert project.table("librechat_messages") == []
        [conversation] = project.table("librechat_conversations")
        assert conversation["n_titles"] == 1


def test_trap_14_a_message_is_equal_on_both_read_paths(tmp_path: Path) -> None:
    tables = ("librechat_conversations", "librechat_messages", "librechat_tool_calls", "librechat_aux_calls")
    projects = both(tmp_path, sample("librechat"))
    for table in tables:
        v2, legacy = (projects[path].table(table, without=AUDIT) for path in READ_PATHS)
        assert v2 == legacy
        assert v2


@each_path
def test_trap_15_feedback_on_a_trace_of_long_ago(read_path: str, tmp_path: Path) -> None:
    trace_id, late = trace_id_of(MESSAGE), "2027-02-01T10:00:00Z"
    turn = chat(trace_id, {"id": "r", "type": "AGENT", "name": "AgentGraph", "at": AT.format(1)})
    project = Project(tmp_path)
    extract(project, turn, read_path, hours(turn))
    project.run(hours(turn))
    thumb = feedback(trace_id, late, up=True)
    extract(project, thumb, read_path, hours(thumb))
    assert hours(thumb) == [Hour.from_key("2027-02-01-10:00")]
    project.run(hours(thumb))
    [row] = project.table("librechat_messages")
    assert row["feedback"] is True
