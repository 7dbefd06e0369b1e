"""LibreChat's tables: what each sample trace must give, read by hand, on both read paths."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.warehouse.apps.chats import CONVERSATION, MESSAGE, TURN, chat, trace_id_of
from tests.warehouse.apps.samples import (
    AUDIT,
    READ_PATHS,
    Rows,
    both,
    by_key,
    counts,
    loaded,
    merged,
    picked,
    real,
    sample,
    without_content,
)
from tests.warehouse.extracts import Project, moment

TABLES = ("librechat_conversations", "librechat_messages", "librechat_tool_calls", "librechat_aux_calls")
Both = Mapping[str, Project]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return both(tmp_path_factory.mktemp("librechat"), merged(sample("librechat"), sample("dify")))


def no_legacy_scores(rows: Rows) -> Rows:
    return {**rows, "v3_scores": [], "legacy_scores": []}


each_path = pytest.mark.parametrize("read_path", READ_PATHS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("agent_run_tool", (1, 1, 1, 1)),
        ("title_run", (1, 0, 0, 1)),
        ("agent_run_ephemeral", (1, 1, 0, 0)),
        ("agent_run_error", (1, 1, 0, 0)),
        ("agent_run_anthropic", (1, 1, 0, 0)),
        ("agent_run_tool_error", (1, 1, 1, 0)),
        ("agent_run_multi_agent", (1, 1, 0, 0)),
    ],
)
@each_path
def test_every_kind_lands_in_its_own_tables(
    kind: str, expected: tuple[int, ...], read_path: str, tmp_path: Path
) -> None:
    project = loaded(tmp_path, sample("librechat", kind), read_path)
    assert tuple(counts(project, TABLES).values()) == expected
    assert sum(counts(project, dify_tables(project)).values()) == 0


@each_path
def test_rows_of_dify_land_in_none_of_its_tables(read_path: str, tmp_path: Path) -> None:
    project = loaded(tmp_path, sample("dify"), read_path)
    assert counts(project, TABLES) == dict.fromkeys(TABLES, 0)


def dify_tables(project: Project) -> list[str]:
    found = project.query("SELECT DISTINCT view_name FROM duckdb_views() WHERE view_name LIKE 'dify\\_%' ESCAPE '\\'")
    return [row["view_name"] for row in found]


TRAVEL_HELPER = {
    "agent_id": "agent_Zk3vQx7LmN2pR8sT", "agent_name": "Travel Helper", "is_ephemeral_agent": False,
    "endpoint": "agents", "provider": "openAI",
}  # fmt: skip
MESSAGES: dict[str, dict[str, Any]] = {
    # 412 + 84 + 384 cached; 18 + 23; the label's tokens and cost are apart
    "0d7b6f7e-5a63-4c3b-8a53-6f2c8d1e9a01": {
        **TRAVEL_HELPER,
        "trace_id": "4c4a12ba7baba6eb62ae91c0b8a21f8b",
        "conversation_id": "b7f6c2d0-3f57-4a0e-9d6b-2f1f5f0f6a11",
        "parent_message_id": "00000000-0000-0000-0000-000000000000",
        "user_id": "665f1c2e9b3e4a0012ab34cd", "tenant_id": "acme",
        "model_requested": "gpt-4o-mini", "model": "gpt-4o-mini-2024-07-18",
        "question": "What is the weather in Paris?", "answer": "It is 21 °C and sunny in Paris right now.",
        "n_rounds": 2, "n_tool_calls": 1, "n_agents": 1,
        "input_tokens": 880, "output_tokens": 41, "cache_read_tokens": 384, "total_cost": Decimal("0.0001278"),
        "status": "ok", "error": None,
        "started_at": moment("2026-11-20T09:14:03.120Z"), "ended_at": moment("2026-11-20T09:14:19.952Z"),
        "duration_s": 16.832, "ttft_s": 14.679,
        "feedback": True, "feedback_tag": "accurate_reliable", "resumed": False, "id_scheme": "sha256",
        "partition_hour": moment("2026-11-20T09:00:00Z"),
    },
    "1e8c7a8f-6b74-4d4c-9b64-7a3d9e2fab02": {
        "agent_id": "openAI__gpt-4o-mini___GPT-4o mini", "agent_name": "GPT-4o mini", "is_ephemeral_agent": True,
        "endpoint": "openAI", "parent_message_id": "0d7b6f7e-5a63-4c3b-8a53-6f2c8d1e9a01",
        "conversation_id": "b7f6c2d0-3f57-4a0e-9d6b-2f1f5f0f6a11", "model": "gpt-4o-mini-2024-07-18",
        "n_rounds": 1, "n_tool_calls": 0, "input_tokens": 468, "output_tokens": 23, "feedback": None,
    },
    "2f9d8b90-7c85-4e5d-8c75-8b4eaf30bc03": {
        **TRAVEL_HELPER, "status": "error", "model": "gpt-4o", "model_requested": "gpt-4o", "answer": None,
        "input_tokens": None, "output_tokens": None, "total_cost": None, "ttft_s": None, "n_rounds": 1,
        "ended_at": moment("2026-11-20T09:58:58.493Z"), "duration_s": 0.853,
    },
    "30ae9ca1-8d96-4f6e-9d86-9c5fb041cd04": {
        "agent_name": "Claude", "is_ephemeral_agent": True, "endpoint": "anthropic", "provider": "anthropic",
        "model": "claude-sonnet-4-5", "input_tokens": 1548, "output_tokens": 14, "cache_read_tokens": 1536,
        "total_cost": Decimal("0.0007068"), "user_id": "665f1c2e9b3e4a0012ab34ce",
    },
    "41bfadb2-9ea7-4a7f-8e97-ad60c152de05": {
        **TRAVEL_HELPER, "status": "ok", "error": None, "n_tool_calls": 1, "n_rounds": 2,
        "feedback": False, "feedback_tag": "not_helpful",
    },
    "52c0bec3-afb8-4b80-8fa8-be71d263ef06": {
        "agent_id": "agent_Pl4nn3rQw9Er7Ty5", "agent_name": "Trip Planner", "n_agents": 2, "n_rounds": 2,
        "input_tokens": 936, "output_tokens": 46,
    },
}  # fmt: skip


@each_path
def test_messages(samples: Both, read_path: str) -> None:
    found = by_key(samples[read_path], "librechat_messages", "message_id")
    assert found.keys() == MESSAGES.keys()
    for message_id, expected in MESSAGES.items():
        assert picked(found[message_id], expected) == expected, message_id
    assert found["2f9d8b90-7c85-4e5d-8c75-8b4eaf30bc03"]["error"].startswith("RateLimitCapacityError: 429 Rate limit")


@each_path
def test_conversations(samples: Both, read_path: str) -> None:
    found = by_key(samples[read_path], "librechat_conversations", "conversation_id")
    assert len(found) == 5
    # 430 + 491 of the first turn, 491 of the second, 65 each of title and label
    paris = {
        "user_id": "665f1c2e9b3e4a0012ab34cd", "tenant_id": "acme",
        "first_message_at": moment("2026-11-20T09:14:03.120Z"), "last_message_at": moment("2026-11-20T09:15:44.005Z"),
        "n_turns": 2, "n_titles": 1, "title": "Paris Weather Check", "agents": ["GPT-4o mini", "Travel Helper"],
        "models": ["gpt-4o-mini-2024-07-18"], "providers": ["openAI"], "n_errors": 0, "n_tool_calls": 1,
        "total_tokens": 1542, "total_cost": Decimal("0.0002061"), "thumbs_up": 1, "thumbs_down": 0,
    }  # fmt: skip
    assert picked(found["b7f6c2d0-3f57-4a0e-9d6b-2f1f5f0f6a11"], paris) == paris
    rome = {"n_turns": 1, "n_titles": 0, "title": None, "n_errors": 0, "n_tool_calls": 1, "thumbs_down": 1}
    assert picked(found["eac9f503-6c8a-4d31-909e-5c4c8c3c9d44"], rome) == rome
    planned = found["fbd0a614-7d9b-4e42-81af-6d5d9d4dae55"]
    assert planned["agents"] == ["Trip Planner", "agent_Rev13werZx8Cv6Bn"]


@each_path
def test_tool_calls(samples: Both, read_path: str) -> None:
    found = by_key(samples[read_path], "librechat_tool_calls", "observation_id")
    assert found.keys() == {"dc64f6752fb868f0", "ceb3522b451d5aa1"}
    paris = {
        "trace_id": "4c4a12ba7baba6eb62ae91c0b8a21f8b", "message_id": "0d7b6f7e-5a63-4c3b-8a53-6f2c8d1e9a01",
        "conversation_id": "b7f6c2d0-3f57-4a0e-9d6b-2f1f5f0f6a11", "agent_id": "agent_Zk3vQx7LmN2pR8sT",
        "tool_name": "get_weather", "tool_call_id": "call_9VtQ2", "args": '{"city":"Paris"}',
        "output": "Paris: 21 °C, sunny", "is_error": False, "error": None, "redacted": False, "round": 1,
        "started_at": moment("2026-11-20T09:14:18.520Z"), "latency_s": 0.05,
    }  # fmt: skip
    assert picked(found["dc64f6752fb868f0"], paris) == paris
    rome = {"is_error": True, "error": "Error: upstream 503", "output": None, "tool_call_id": None, "round": 1}
    assert picked(found["ceb3522b451d5aa1"], rome) == rome


@each_path
def test_calls_beside_the_answers(samples: Both, read_path: str) -> None:
    found = by_key(samples[read_path], "librechat_aux_calls", "observation_id")
    same = {
        "message_id": "0d7b6f7e-5a63-4c3b-8a53-6f2c8d1e9a01", "model": "gpt-4o-mini-2024-07-18", "input_tokens": 61,
        "output_tokens": 4, "total_cost": Decimal("0.00001155"),
    }  # fmt: skip
    expected = {
        "d1a78e43fa4b526f": {**same, "kind": "step_label", "output": "Checked Paris weather"},
        "bce3467063002099": {**same, "kind": "title", "output": "Paris Weather Check"},
    }
    assert {key: picked(found[key], expected[key]) for key in found} == expected


@pytest.mark.parametrize("table", TABLES)
def test_rows_of_a_real_server_are_equal_on_both_paths(table: str, real_rows: Both) -> None:
    v2, legacy = (real_rows[path].table(table, without=AUDIT) for path in READ_PATHS)
    assert v2 == legacy
    assert v2


@pytest.fixture(scope="module")
def real_rows(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return both(tmp_path_factory.mktemp("real"), no_legacy_scores(real()))


CONTENT = ("question", "answer", "title", "args", "output", "tool_call_id", "redacted")


@each_path
def test_without_content_everything_else_is_the_same(samples: Both, read_path: str, tmp_path: Path) -> None:
    bare = loaded(tmp_path, without_content(sample("librechat")), read_path)
    for table in TABLES:
        key = {"librechat_conversations": "conversation_id", "librechat_messages": "message_id"}.get(
            table, "observation_id"
        )
        ours, full = by_key(bare, table, key), by_key(samples[read_path], table, key)
        assert ours.keys() == full.keys()
        for name, row in ours.items():
            assert all(not row[column] for column in CONTENT if column in row)
            kept = {column: value for column, value in row.items() if column not in CONTENT}
            assert kept == picked(full[name], kept), (table, name)


def test_a_turn_from_before_there_were_tags(tmp_path: Path) -> None:
    messages = '[{"role":"user","content":"Hi"},{"role":"user","content":[{"type":"text","text":"Weather?"}]}]'
    rows = chat(
        "a" * 32,
        {"id": "g", "name": "LangGraph", "input": messages, "output": '{"messages":[{"content":"Sunny."}]}'},
        {"id": "m", "name": "ChatOpenAI", "type": "GENERATION", "parentObservationId": "g", "model": "gpt-4o",
         "usageDetails": {"input": 5, "output": 2, "total": 7},
         "own": {"ls_provider": "openai", "ls_model_name": "gpt-4o"}},
        tags=(),
        metadata={"messageId": MESSAGE, "conversationId": CONVERSATION, "parentMessageId": "p0"},
        session="run-1",
    )  # fmt: skip
    expected = {
        "message_id": MESSAGE, "conversation_id": CONVERSATION, "id_scheme": "random", "question": "Weather?",
        "answer": "Sunny.", "n_rounds": 1, "n_agents": 0, "agent_id": None, "is_ephemeral_agent": None,
        "provider": "openai", "input_tokens": 5, "status": "ok",
    }  # fmt: skip
    for project in both(tmp_path, rows).values():
        [row] = project.table("librechat_messages")
        assert picked(row, expected) == expected


def test_a_run_that_was_resumed_is_one_message(tmp_path: Path) -> None:
    same_trace = chat(
        trace_id_of(MESSAGE),
        {"id": "r1", "type": "AGENT", "name": "AgentGraph", "level": "ERROR", "statusMessage": "stopped",
         "input": "Buy it"},
        {"id": "r2", "type": "AGENT", "name": "AgentGraph", "output": "Done", "at": "2026-11-20T11:00:00Z",
         "end": "2026-11-20T11:00:02Z"},
    )  # fmt: skip
    again = {**TURN, "messageId": "m2"}
    random_ids = merged(
        chat("b" * 32, {"id": "s1", "name": "AgentRun", "input": "Sell it", "end": None}, metadata=again),
        chat("c" * 32, {"id": "s2", "name": "AgentRun", "output": "Sold", "at": "2026-11-20T10:00:00Z",
                        "end": "2026-11-20T10:00:01Z"}, metadata=again),
    )  # fmt: skip
    for project in both(tmp_path, merged(same_trace, random_ids)).values():
        found = by_key(project, "librechat_messages", "message_id")
        for message_id, seconds, texts in ((MESSAGE, 7202.0, ("Buy it", "Done")), ("m2", 3601.0, ("Sell it", "Sold"))):
            row = found[message_id]
            assert (row["resumed"], row["status"], row["error"]) == (True, "ok", None)
            assert (row["duration_s"], row["question"], row["answer"]) == (seconds, *texts)
        assert found["m2"]["trace_id"] == "b" * 32
        [conversation] = project.table("librechat_conversations")
        assert conversation["n_turns"] == 2


def test_a_run_without_end_is_unfinished(tmp_path: Path) -> None:
    rows = chat(trace_id_of(MESSAGE), {"id": "r", "type": "AGENT", "name": "AgentGraph", "end": None})
    for project in both(tmp_path, rows).values():
        [row] = project.table("librechat_messages")
        assert (row["status"], row["ended_at"], row["duration_s"]) == ("unfinished", None, None)


def generation(id_: str, parent: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "id": id_, "type": "GENERATION", "name": "llm", "parentObservationId": parent, "model": "m",
        "usageDetails": {"input": 3, "input_cache_read": 4, "output": 1, "output_reasoning": 2, "total": 10},
        "costDetails": {"total": 0.5}, "output": '{"content":"words","role":"assistant"}', **changes,
    }  # fmt: skip


def test_memory_and_labels_in_traces_of_their_own_are_no_turns(tmp_path: Path) -> None:
    def label(operation: str) -> dict[str, Any]:
        return {"librechat.sdk.operation": operation, "responseId": MESSAGE, "sourceRunId": "run"}

    rows = merged(
        chat("1" * 32, {"id": "m0", "name": "MemoryRun"}, generation("m1", "m0"), name="MemoryRun"),
        chat(
            "2" * 32, generation("l1", None, own=label("StepLabel")), name="LibreChat Activity Label",
            tags=("librechat", "activity-label"), metadata=label("StepLabel"),
        ),
        chat(
            "3" * 32, generation("l2", None, own=label("ReasoningLabel")), name="LibreChat Reasoning Label",
            tags=("librechat", "reasoning-label"), metadata=label("ReasoningLabel"),
        ),
        chat(
            "4" * 32, {"id": "l0", "type": "CHAIN", "name": "MultiStepLabel"},
            generation("l3", "l0", own=label("MultiStepLabelGeneration")),
            name="LibreChat Activity Phase", tags=("librechat", "activity-phase", "agent"), metadata={},
        ),
    )  # fmt: skip
    for project in both(tmp_path, rows).values():
        assert counts(project, TABLES) == dict(zip(TABLES, (1, 0, 0, 4), strict=True))
        found = by_key(project, "librechat_aux_calls", "observation_id")
        assert {key: row["kind"] for key, row in found.items()} == {
            "m1": "memory", "l1": "step_label", "l2": "reasoning_label", "l3": "run_summary",
        }  # fmt: skip
        assert {(row["message_id"], row["input_tokens"], row["output_tokens"]) for row in found.values()} == {
            (MESSAGE, 7, 3)
        }
        [conversation] = project.table("librechat_conversations")
        assert (conversation["n_turns"], conversation["total_cost"]) == (0, Decimal(2))


def test_tools_that_answer_with_an_error_and_outputs_that_are_hidden(tmp_path: Path) -> None:
    def call(id_: str, round_: int, content: str, status: str) -> list[dict[str, Any]]:
        answer = f'{{"lc":1,"kwargs":{{"status":"{status}","content":"{content}","tool_call_id":"c-{id_}"}}}}'
        step = {"langgraph_node": "agent=a1"}
        return [
            {"id": f"round-{id_}", "type": "AGENT", "name": "agent", "parentObservationId": "r", "own": step},
            {"id": id_, "type": "TOOL", "name": "search", "parentObservationId": "r", "output": answer,
             "own": {"langgraph_node": "tools=a1"}, "input": "not json"},
        ]  # fmt: skip

    rows = chat(
        trace_id_of(MESSAGE),
        {"id": "r", "type": "AGENT", "name": "AgentGraph", "end": AT_END},
        *call("t1", 1, "no such page", "error"),
        *call("t2", 2, "[tool output redacted]", "success"),
    )
    for project in both(tmp_path, rows).values():
        found = by_key(project, "librechat_tool_calls", "observation_id")
        first, second = found["t1"], found["t2"]
        assert (first["is_error"], first["error"], first["round"], first["args"]) == (True, "no such page", 1, None)
        assert (second["is_error"], second["redacted"], second["round"]) == (False, True, 2)
        assert (first["redacted"], second["tool_call_id"]) == (False, "c-t2")


AT_END = "2026-11-20T09:00:30Z"
