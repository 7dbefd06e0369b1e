"""Dify's traps: what its rows look like is not what they are."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.hours import Hour
from tests.warehouse.apps.dify_rows import (
    DAY,
    MESSAGE,
    NODE,
    RUN,
    TENANT,
    UUID,
    at,
    llm,
    message_trace,
    moderation,
    node,
    run_metadata,
    run_span,
    run_trace,
    suggestion,
    tool,
)
from tests.warehouse.apps.samples import READ_PATHS, Rows, both, by_key, extract, kinds, loaded, merged, sample, sent
from tests.warehouse.extracts import Project

on_both_paths = pytest.mark.parametrize("read_path", READ_PATHS)
EIGHT, NINE = Hour.from_key("2026-11-20-08:00"), Hour.from_key("2026-11-20-09:00")


def only(project: Project, table: str) -> dict[str, Any]:
    [row] = project.table(table)
    return row


@pytest.mark.slow
@on_both_paths
@pytest.mark.parametrize("order", list(permutations([EIGHT, NINE])), ids=["nodes first", "trace first"])
def test_trap_01_a_run_is_one_row_when_its_trace_comes_an_hour_later(
    order: tuple[Hour, ...], read_path: str, tmp_path: Path
) -> None:
    late = node(startTime=f"{DAY}08:59:58Z", endTime=f"{DAY}08:59:59Z")
    project = Project(tmp_path)
    extract(project, sent(run_trace(), late), read_path, [EIGHT, NINE])
    for hour in order:
        project.run([hour])
        assert len(project.table("dify_workflow_runs")) == 1
    project.run([order[0]])
    expected = {
        "workflow_run_id": RUN, "status": "succeeded", "n_nodes": 1, "started_at": at("08:59:58"), "user_id": "u",
        # v2 has the hour of the first observation, legacy that of the trace
        "partition_hour": at("08:00:00") if read_path == "v2" else at("09:00:00"),
    }  # fmt: skip
    found = only(project, "dify_workflow_runs")
    assert {column: found[column] for column in expected} == expected


@on_both_paths
def test_trap_02_a_message_without_generation_has_its_tokens_from_the_trace(read_path: str, tmp_path: Path) -> None:
    project = loaded(tmp_path, sample("dify", "chat_message_no_generation"), read_path)
    expected = {
        "message_id": "86e8a52b-61a0-5232-bea0-1a900f8e154b", "generation_missing": True, "prompt_tokens": 402,
        "answer_tokens": 14, "total_tokens": 416, "latency_s": 1.9, "status": "normal", "error": None,
        "started_at": at("10:05:00"), "query": "Do you ship to Norway?", "answer": "Yes, in 5 to 7 days.",
        "total_price": None, "model_name": "gpt-4o-mini", "app_mode": "chat",
    }  # fmt: skip
    found = only(project, "dify_messages")
    assert {column: found[column] for column in expected} == expected


@on_both_paths
def test_trap_02_a_creation_time_far_from_the_trace_is_not_believed(read_path: str, tmp_path: Path) -> None:
    trace = message_trace(input={"message": "hi", "created_at": "2026-11-22T09:00:00", "error": "boom"})
    found = only(loaded(tmp_path, sent(trace), read_path), "dify_messages")
    assert (found["started_at"], found["query"], found["error"]) == (at("09:00:05"), "hi", "boom")


@on_both_paths
def test_trap_03_characters_of_suggested_questions_are_no_tokens(read_path: str, tmp_path: Path) -> None:
    project = loaded(tmp_path, sent(message_trace(), llm(), suggestion()), read_path)
    trace = only(project, "traces")
    assert (trace["input_tokens"], trace["output_tokens"], trace["total_tokens"]) == (5, 7, 12)
    assert only(project, "dify_messages")["total_tokens"] == 12
    units = {row["name"]: row["usage_unit"] for row in project.table("generations")}
    assert units == {"llm": "tokens", "suggested_question": "characters"}
    assert only(project, "dify_suggested_questions")["n_questions"] == 3


@on_both_paths
def test_trap_04_halves_of_a_name_are_joined_and_the_tenant_is_no_user(read_path: str, tmp_path: Path) -> None:
    rows = sample("dify", "chat_message", "generate_name_trace", "generate_name_span")
    project = loaded(tmp_path, rows, read_path)
    named = only(project, "dify_generate_names")
    assert (named["conversation_id"], named["title"]) == (
        "f4532111-eea8-5239-89ea-b8b2b0cad5bb",
        "Refund window question",
    )
    assert named["trace_half_id"] == kinds("dify")["generate_name_trace"]
    assert named["span_half_id"] == "0f99263b-707a-5d62-bfe4-c27f6a757845"
    users = {row["user_id"]: row["is_tenant_id"] for row in project.query("SELECT * FROM users")}
    assert users == {"end-user-8842": False, named["tenant_id"]: True}


@on_both_paths
def test_trap_04_a_user_who_names_things_elsewhere_is_a_user(read_path: str, tmp_path: Path) -> None:
    trace = {"id": "t", "name": "generate_name", "timestamp": f"{DAY}09:00:00Z", "userId": "jane", "metadata": {}}
    project = loaded(tmp_path, sent(trace), read_path)
    assert project.query("SELECT user_id, is_tenant_id FROM users") == [{"user_id": "jane", "is_tenant_id": False}]


@pytest.mark.slow
@on_both_paths
def test_trap_05_orphans_whose_parent_never_exists(read_path: str, tmp_path: Path) -> None:
    rows = merged(sent(None, moderation(), suggestion(), tool()), sent(message_trace(NODE, trace=NODE)))
    rows = merged(rows, sent(None, moderation(NODE, trace=NODE)))
    project = loaded(tmp_path, rows, read_path)
    orphans = {row["message_id"]: row["orphan"] for row in project.table("dify_moderations")}
    assert orphans == {MESSAGE: True, NODE: False}
    assert only(project, "dify_suggested_questions")["message_id"] == MESSAGE
    assert only(project, "dify_tool_calls")["provider"] == "w"
    assert [row["message_id"] for row in project.table("dify_messages")] == [NODE]
    for kind in (moderation, suggestion, tool):
        alone = loaded(tmp_path / kind.__name__, sent(None, kind()), read_path)
        assert {row["source_app"] for row in alone.table("observations")} == {"dify"}, kind.__name__


@on_both_paths
def test_trap_06_runs_that_share_a_trace_id_are_rows_of_their_own(read_path: str, tmp_path: Path) -> None:
    first, second, third = (UUID.format(number) for number in (11, 12, 13))
    rows = sent(
        run_trace(run=third, trace="order-7"),
        node(UUID.format(21), run=first, trace="order-7", startTime=f"{DAY}08:00:00Z", statusMessage="Run failed"),
        node(UUID.format(22), run=second, trace="order-7", startTime=f"{DAY}08:30:00Z", metadata={"app_id": "other"}),
        node(UUID.format(23), run=third, trace="order-7"),
    )
    runs = by_key(loaded(tmp_path, rows, read_path), "dify_workflow_runs", "workflow_run_id")
    columns = ("status", "error", "app_id", "workflow_id", "elapsed_s", "user_id", "n_nodes", "external_trace_id")
    assert {run: tuple(row[column] for column in columns) for run, row in runs.items()} == {
        first: ("failed", "Run failed", "app", None, None, None, 1, "order-7"),
        second: ("unknown", None, "other", None, None, None, 1, "order-7"),
        third: ("succeeded", None, "app", "flow", 1.5, "u", 1, "order-7"),
    }
    assert [runs[run]["started_at"] for run in (first, second, third)] == [
        at("08:00:00"),
        at("08:30:00"),
        at("09:00:00"),
    ]


@on_both_paths
def test_trap_06_chatflow_runs_under_one_id_keep_what_their_spans_say(read_path: str, tmp_path: Path) -> None:
    first, second = UUID.format(11), UUID.format(12)
    one, two = UUID.format(31), UUID.format(32)
    trace = run_trace(
        run=second, trace="call-1", name="message", tags=["message", "workflow"], metadata={"workflow_app_log_id": None}
    )
    rows = sent(
        trace,
        run_span(first, trace="call-1", metadata={"user_id": "ann", "status": "failed"}, statusMessage="boom"),
        run_span(second, trace="call-1", metadata={"user_id": "bob"}, startTime=f"{DAY}09:00:30Z"),
        suggestion(one, trace="call-1", metadata={"workflow_run_id": first}),
        suggestion(two, trace="call-1", metadata={"workflow_run_id": second}),
    )
    project = loaded(tmp_path, rows, read_path)
    runs = by_key(project, "dify_workflow_runs", "workflow_run_id")
    columns = ("app_kind", "status", "error", "user_id", "message_id", "external_trace_id")
    assert {run: tuple(row[column] for column in columns) for run, row in runs.items()} == {
        first: ("chatflow", "failed", "boom", "ann", one, "call-1"),
        second: ("chatflow", "succeeded", None, "u", two, "call-1"),
    }
    messages = by_key(project, "dify_messages", "message_id")
    assert {message: row["workflow_run_id"] for message, row in messages.items()} == {one: first, two: second}


@on_both_paths
def test_trap_06_chat_messages_under_one_id_are_rows_of_their_own(read_path: str, tmp_path: Path) -> None:
    other = UUID.format(41)
    rows = sent(message_trace(other, trace="call-2"), llm(trace="call-2"), llm(other, trace="call-2"))
    messages = by_key(loaded(tmp_path, rows, read_path), "dify_messages", "message_id")
    assert {message: (row["total_tokens"], row["user_id"]) for message, row in messages.items()} == {
        MESSAGE: (12, None),
        other: (12, "u"),
    }


@on_both_paths
def test_trap_11_empty_is_null_and_both_names_of_the_model_are_read(read_path: str, tmp_path: Path) -> None:
    empty = {"model_provider": "", "app_name": "", "workspace_name": "", "conversation_id": "", "user_id": ""}
    named = {"providedModelName": "gpt-4", "model": None}
    rows = merged(
        sent(run_trace(userId="", metadata=empty), node(metadata=empty, endTime=f"{DAY}09:00:00Z", statusMessage="")),
        sent(message_trace(), llm(endTime=f"{DAY}09:00:00Z", completionStartTime=f"{DAY}09:00:00Z")),
        sent(message_trace(NODE, trace=NODE), llm(NODE, trace=NODE)),
    )
    for stream in ("v2_observations", "legacy_observations"):
        for row in rows[stream]:
            # What took no time at all is served without latency, and both names of the model exist.
            row.update({"latency": None, "timeToFirstToken": None})
            row.update(named if row["traceId"] == NODE else {})
    project = loaded(tmp_path, rows, read_path)
    run = only(project, "dify_workflow_runs")
    assert [run[column] for column in ("app_name", "workspace_name", "conversation_id", "user_id", "error")] == [
        None
    ] * 5
    found = only(project, "dify_workflow_nodes")
    assert (found["elapsed_s"], found["model_provider"], found["run_error"]) == (0.0, None, None)
    messages = by_key(project, "dify_messages", "message_id")
    assert (messages[MESSAGE]["latency_s"], messages[MESSAGE]["ttft_s"]) == (0.0, 0.0)
    assert {row["model"] for row in project.table("generations")} == {"gpt-4"}
    assert (
        only(loaded(tmp_path / "lone", sent(message_trace(), suggestion()), read_path), "traces")["total_tokens"]
        is None
    )


@on_both_paths
def test_trap_12_numbers_as_text_and_texts_as_json(read_path: str, tmp_path: Path) -> None:
    priced = {"total_tokens": "240", "total_price": "0.0000468", "currency": "USD", "iteration_index": "1"}
    rows = merged(
        sent(
            run_trace(metadata={"elapsed_time": "2.5", "total_tokens": "240", "app_id": 12, "app_name": True}),
            node(metadata={**priced, "node_name": 42}),
            node(UUID.format(9), metadata={"total_tokens": 240, "total_price": 4.68e-05, "currency": "USD"}),
        ),
        sent(
            message_trace(metadata={"agent_based": "true", "status": 1}),
            tool(metadata={"time_cost": "0.5", "tool_config": '{"tool_provider": "w"}', "error": {"code": 3}}),
            tool(id="plain", metadata={"tool_config": "no JSON", "error": ""}),
        ),
    )
    project = loaded(tmp_path, rows, read_path)
    run = only(project, "dify_workflow_runs")
    assert (run["elapsed_s"], run["total_tokens"], run["app_id"], run["app_name"]) == (2.5, 240, "12", "true")
    nodes = by_key(project, "dify_workflow_nodes", "node_execution_id")
    assert {row["total_price"] for row in nodes.values()} == {Decimal("0.0000468")}
    assert {row["total_tokens"] for row in nodes.values()} == {240}
    assert (nodes[NODE]["node_title"], nodes[NODE]["iteration_index"]) == ("42", 1)
    message = only(project, "dify_messages")
    assert (message["agent_based"], message["status"]) == (True, "1")
    tools = by_key(project, "dify_tool_calls", "observation_id")
    assert [tools["plain"][column] for column in ("provider", "error", "is_error")] == [None, None, False]
    failed = tools[f"tool-{MESSAGE}"]
    assert (failed["provider"], failed["error"], failed["time_cost_s"]) == ("w", '{"code":3}', 0.5)


def test_trap_14_what_one_path_merges_is_taken_from_the_rows_own_keys(tmp_path: Path) -> None:
    rows = sent(
        run_trace(
            trace=MESSAGE, name="message", tags=["message", "workflow"], statusMessage=None,
            metadata={"workflow_app_log_id": None, "status": "partial-succeeded", "total_tokens": 99},
        ),
        run_span(metadata={"total_tokens": 99}),
        node(trace=MESSAGE, parentObservationId=RUN),
        tool(),
        moderation(),
    )  # fmt: skip
    projects = both(tmp_path, rows)
    for table, key in {
        "dify_workflow_runs": "workflow_run_id", "dify_workflow_nodes": "node_execution_id",
        "dify_messages": "message_id", "dify_tool_calls": "observation_id", "dify_moderations": "observation_id",
    }.items():  # fmt: skip
        ours, theirs = (
            by_key(projects[read_path], table, key, without=("ingested_at", "run_id", "read_path", "partition_hour"))
            for read_path in READ_PATHS
        )
        assert ours == theirs, table
        assert len(ours) == 1, table
    found = only(projects["v2"], "dify_workflow_nodes")
    assert (found["total_tokens"], found["status"]) == (None, "succeeded")
    assert only(projects["v2"], "dify_tool_calls")["workflow_run_id"] == RUN


@on_both_paths
def test_trap_16_children_flagged_as_roots_have_their_context_from_the_parentless_row(
    read_path: str, tmp_path: Path
) -> None:
    project = loaded(tmp_path, sample("dify", "chat_message_otel_sdk"), read_path)
    trace = only(project, "traces")
    assert (trace["trace_name"], trace["user_id"], trace["source_app"]) == ("message", "end-user-8842", "dify")
    assert trace["session_id"] == "19b30453-b419-51ec-9c3a-d58d5fc8bcd1"
    message = only(project, "dify_messages")
    expected = {
        "message_id": "dcb64de4-fa69-5dae-9023-51f70c627429", "user_id": "end-user-8842", "total_tokens": 380,
        "trace_id": "dcb64de4fa695dae902351f70c627429", "app_mode": "chat", "generation_missing": False,
    }  # fmt: skip
    assert {column: message[column] for column in expected} == expected
    assert only(project, "dify_moderations")["orphan"] is False


@on_both_paths
def test_trap_16_a_workflow_by_the_sdk_is_one_run_with_short_ids(read_path: str, tmp_path: Path) -> None:
    mark = {"resourceAttributes": {"service.name": "dify-langfuse-app-trace"}, "scope": {"name": "langfuse-sdk"}}
    run, step = "6c41d3ea-1b0f-4b1c-9a52-3d5e0c7a9f10", "0d3f5c7a-9b1d-4e2f-8a6c-5b7d9e1f3a2c"
    trace, root = run.replace("-", ""), "aaaaaaaaaaaaaaaa"
    span = {
        "id": root, "traceId": trace, "name": "workflow", "startTime": f"{DAY}09:00:00Z", "endTime": f"{DAY}09:00:03Z",
        "metadata": {**run_metadata(run), **mark},
    }  # fmt: skip
    child = node(
        step, run=run, trace=trace, id=step.replace("-", "")[:16], parentObservationId=root, metadata=mark,
        startTime=f"{DAY}09:00:01Z",
    )  # fmt: skip
    rows: Rows = sent(run_trace(run=run, trace=trace, metadata=mark), span, child)
    # On v2 there is no synthetic row: the root has the context of the trace, its child has nothing of it.
    flat = {"resourceAttributes.service.name": "dify-langfuse-app-trace", "scope.name": "langfuse-sdk"}
    v2_root, v2_child = rows["v2_observations"][1:]
    v2_root.update(parentObservationId=None, isRootObservation=True, metadata={**run_metadata(run), **flat})
    own = {key: value for key, value in child["metadata"].items() if key not in mark}
    v2_child.update(isRootObservation=True, tags=[], userId="", traceName="Step", metadata={**own, **flat})
    rows["v2_observations"] = [v2_root, v2_child]
    project = loaded(tmp_path, rows, read_path)
    expected = {
        "workflow_run_id": run, "trace_id": trace, "app_kind": "workflow", "status": "succeeded", "user_id": "u",
        "n_nodes": 1, "started_at": at("09:00:00"), "ended_at": at("09:00:03"), "writer": "C1",
        "external_trace_id": None,
    }  # fmt: skip
    found = only(project, "dify_workflow_runs")
    assert {column: found[column] for column in expected} == expected
    assert only(project, "dify_workflow_nodes")["node_execution_id"] == step


@on_both_paths
def test_trap_17_a_chatflow_that_both_tasks_wrote_is_one_message_and_one_run(read_path: str, tmp_path: Path) -> None:
    # Metadata of both shapes, input and output of the last writer.
    trace = message_trace(
        tags=["advanced-chat", "message", "workflow"],
        metadata={**run_metadata(workflow_app_log_id=None), "status": "normal", "workflow_run_id": RUN},
        input={"message": "hi", "message_tokens": 1}, output="hello",
    )  # fmt: skip
    rows = sent(
        trace,
        run_span(input={"sys.query": "how?"}, output={"answer": "so"}),
        node(trace=MESSAGE, parentObservationId=RUN, metadata={"total_price": "0.5", "currency": "USD"}),
        llm(metadata={"workflow_run_id": RUN}),
    )
    project = loaded(tmp_path, rows, read_path)
    run = only(project, "dify_workflow_runs")
    assert (run["workflow_run_id"], run["status"], run["app_kind"], run["message_id"]) == (
        RUN, "succeeded", "chatflow", MESSAGE,
    )  # fmt: skip
    message = only(project, "dify_messages")
    expected = {
        "message_id": MESSAGE, "app_mode": "chatflow", "workflow_run_id": RUN, "status": "succeeded",
        "query": "how?", "answer": "so", "model_name": "gpt-4", "from_source": "api", "end_user_id": "e",
        "total_tokens": 30, "total_price": Decimal("0.5"), "generation_missing": False, "user_id": "u",
    }  # fmt: skip
    assert {column: message[column] for column in expected} == expected
    assert run["tenant_id"] == TENANT
