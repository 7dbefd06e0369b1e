"""What Dify leaves in Langfuse becomes rows of its own tables, the same ones on both read paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lf_dagster.warehouse import load_models
from tests.warehouse.apps.dify_rows import (
    DAY,
    MESSAGE,
    NODE,
    RUN,
    TENANT,
    UUID,
    at,
    message_trace,
    node,
    run_metadata,
    run_span,
    run_trace,
    suggestion,
)
from tests.warehouse.apps.samples import (
    READ_PATHS,
    Rows,
    both,
    by_key,
    counts,
    kinds,
    loaded,
    merged,
    picked,
    real,
    sample,
    sent,
    without_content,
)
from tests.warehouse.extracts import Project

KEYS: dict[str, tuple[str, ...]] = {
    "dify_workflow_runs": ("workflow_run_id",),
    "dify_workflow_nodes": ("trace_id", "node_execution_id"),
    "dify_messages": ("message_id",),
    "dify_moderations": ("trace_id", "observation_id"),
    "dify_suggested_questions": ("trace_id", "observation_id"),
    "dify_dataset_retrievals": ("trace_id", "observation_id"),
    "dify_tool_calls": ("trace_id", "observation_id"),
    "dify_generate_names": ("conversation_id", "started_at"),
}

ROWS_BY_KIND = {
    "dify_workflow_runs": {
        "workflow": 1, "workflow_failed": 1, "chatflow_message": 1, "workflow_external_trace_id": 1,
        "chatflow_message_otel": 1,
    },
    "dify_workflow_nodes": {
        "workflow": 4, "workflow_failed": 2, "chatflow_message": 4, "workflow_external_trace_id": 2,
        "chatflow_message_otel": 1,
    },
    "dify_messages": {
        "chatflow_message": 1, "chat_message": 1, "moderation_flagged": 1, "agent_message_tools": 1,
        "completion_message_error": 1, "chat_message_no_generation": 1, "chatflow_message_otel": 1,
        "chat_message_otel_sdk": 1,
    },
    "dify_moderations": {
        "chatflow_message": 1, "chat_message": 1, "moderation_flagged": 1, "chatflow_message_otel": 1,
        "chat_message_otel_sdk": 1,
    },
    "dify_suggested_questions": {"chatflow_message": 1, "chat_message": 1},
    "dify_dataset_retrievals": {"chat_message": 1},
    "dify_tool_calls": {"agent_message_tools": 2},
}  # fmt: skip
"""Rows of each sample trace in each table, counted by hand."""

CONTENT = {
    "dify_workflow_runs": {"query", "inputs", "outputs"},
    "dify_workflow_nodes": {"inputs", "outputs"},
    # of the message without generation, all that its trace's input tells
    "dify_messages": {
        "query", "answer", "n_files", "prompt_tokens", "answer_tokens", "total_tokens", "latency_s", "started_at",
    },
    # the newest writer says what it does in the output alone
    "dify_moderations": {"query", "flagged", "action"},
    "dify_suggested_questions": {"questions"},
    "dify_dataset_retrievals": {"query", "n_documents", "dataset_ids", "dataset_names", "max_score", "documents"},
    "dify_tool_calls": {"inputs", "outputs"},
    "dify_generate_names": {"input", "title"},
}  # fmt: skip
"""Columns that may differ when content is not read."""

AUDIT_COLUMNS = {"project_id", "project_name", "partition_hour", "ingested_at", "run_id", "read_path"}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    return both(tmp_path_factory.mktemp("dify"), merged(sample("dify"), sample("librechat")))


@pytest.fixture(scope="module")
def real_rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    return both(tmp_path_factory.mktemp("real"), real())


def only(project: Project, table: str) -> dict[str, Any]:
    [row] = project.table(table)
    return row


def test_every_table_and_column_is_documented_and_has_its_lineage() -> None:
    models = {model.name: model for model in load_models("apps") if model.app == "dify"}
    assert models.keys() == KEYS.keys()
    for model in models.values():
        assert model.kind == "view"
        assert all(column.description for column in model.columns), model.name
        assert {"project_id", "project_name", "partition_hour", "ingested_at", "run_id", "read_path"} <= set(
            model.schema
        )
        unknown = {column for column, sources in model.lineage.items() if not sources}
        assert unknown <= {"n_nodes", "generation_missing"}, model.name


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_every_kind_lands_in_its_own_table_and_no_other(samples: dict[str, Project], read_path: str) -> None:
    project = samples[read_path]
    kind_of = {trace_id: kind for kind, trace_id in kinds("dify").items()}
    for table, expected in ROWS_BY_KIND.items():
        found = Counter(kind_of.get(row["trace_id"], "not Dify") for row in project.table(table))
        assert found == expected, table
    [named] = project.table("dify_generate_names")
    assert kind_of[named["trace_half_id"]] == "generate_name_trace"


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_no_row_of_dify_lands_in_the_tables_of_another_app(samples: dict[str, Project], read_path: str) -> None:
    project = samples[read_path]
    others = [model for model in load_models("apps") if model.app not in (None, "dify") and "trace_id" in model.schema]
    for model in others:
        assert not {row["trace_id"] for row in project.table(model.name)} & set(kinds("dify").values()), model.name
    for table in ("traces", "observations"):
        found = project.query(f"SELECT trace_id, source_app FROM {table}")
        ours = {row["source_app"] for row in found if row["trace_id"] in kinds("dify").values()}
        assert ours == {"dify"}, table


@pytest.mark.parametrize("rows", ["samples", "real_rows"])
def test_both_read_paths_give_equal_rows(rows: str, request: pytest.FixtureRequest) -> None:
    projects: dict[str, Project] = request.getfixturevalue(rows)
    for table, key in KEYS.items():
        ours, theirs = (by_key(projects[read_path], table, *key) for read_path in READ_PATHS)
        assert ours.keys() == theirs.keys(), table
        assert ours, table
        differing = {column for each in ours for column in ours[each] if ours[each][column] != theirs[each][column]}
        # A row of a trace belongs to the hour of its trace, which is another one on the legacy path.
        assert differing <= ({"partition_hour"} if table in ("dify_workflow_runs", "dify_messages") else set()), table


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_without_content_all_else_is_the_same(samples: dict[str, Project], read_path: str, tmp_path: Path) -> None:
    bare = loaded(tmp_path, without_content(sample("dify")), read_path)
    for table, key in KEYS.items():
        full, ours = by_key(samples[read_path], table, *key), by_key(bare, table, *key)
        assert full.keys() == ours.keys(), table
        differing = {column for each in full for column in full[each] if full[each][column] != ours[each][column]}
        assert differing <= CONTENT[table], table
        never = CONTENT[table] & {"query", "answer", "inputs", "outputs", "input", "title", "documents", "questions"}
        assert {ours[each][column] for each in ours for column in never} <= {None}, table
    missing = by_key(bare, "dify_messages", "message_id")[kinds("dify")["chat_message_no_generation"]]
    assert missing["started_at"] == at("10:05:04.100")
    assert (missing["status"], missing["generation_missing"], missing["total_tokens"]) == ("normal", True, None)
    questions = bare.table("dify_suggested_questions")
    assert {row["n_questions"] for row in questions} == {3}


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_workflow_runs(samples: dict[str, Project], read_path: str) -> None:
    runs = by_key(samples[read_path], "dify_workflow_runs", "workflow_run_id")
    expected = {
        "trace_id": "92f70fa9-7580-5fd4-962d-7a9cfd249885", "app_kind": "chatflow",
        "workflow_id": "b4e2c7d5-2a3f-4e4d-9c6b-7a8998b7c602", "workflow_version": "2026-11-02 08:12:44.510332",
        "app_id": "5d3f4182-ac30-4f2d-9d56-2f317c9eb003", "app_name": "Docs Chatflow",
        "workspace_name": "Acme Workspace", "tenant_id": "7c1f1a52-0c55-4a86-9f0e-2f6a0f9d1b10",
        "conversation_id": "639ad7f3-2115-56f1-a4ab-89712f2b75b1",
        "message_id": "92f70fa9-7580-5fd4-962d-7a9cfd249885", "workflow_app_log_id": None,
        "user_id": "end-user-8842", "status": "succeeded", "error": None, "triggered_from": "app-run",
        "elapsed_s": 3.87, "total_tokens": 655, "n_nodes": 4, "n_failed_nodes": 0, "started_at": at("09:31:40"),
        "ended_at": at("09:31:43.870"), "query": "How do I rotate an API key?",
        "outputs": '{"answer":"Open Settings, API Keys, then choose Rotate.","files":[]}', "files": "[]",
        "external_trace_id": None, "writer": "A", "partition_hour": at("09:00:00"),
    }  # fmt: skip
    assert picked(runs["6faac5b1-e02f-524e-9491-09804d84ebbc"], expected) == expected
    failed = {
        "app_kind": "workflow", "status": "failed", "total_tokens": 0, "n_nodes": 2, "n_failed_nodes": 1,
        "error": "Run failed: Node Normalise run failed: Invalid JSON in code output", "message_id": None,
        "workflow_app_log_id": "e5b3c34c-5a1b-5137-b25c-3728e3f305a9", "started_at": at("09:20:11"),
        "ended_at": at("09:20:11.114"), "external_trace_id": None, "elapsed_s": 0.131, "writer": "B",
    }  # fmt: skip
    assert picked(runs["8b19668f-6bb2-51af-9541-1ce98ce86079"], failed) == failed
    external = {
        "trace_id": "order-import-2026-11-20-0007", "external_trace_id": "order-import-2026-11-20-0007",
        "app_kind": "workflow", "user_id": "end-user-8842", "status": "succeeded", "total_tokens": 189, "n_nodes": 2,
        "started_at": at("10:08:00"), "writer": "B",
    }  # fmt: skip
    assert picked(runs["6d15bd0f-5686-5f01-8d8d-39f753cbaa3f"], external) == external
    newest = {
        "app_kind": "chatflow", "message_id": "782d06a6-4dab-5979-b065-b09f6eeeeadc", "elapsed_s": 3.5,
        "workflow_id": "b4e2c7d5-2a3f-4e4d-9c6b-7a8998b7c602", "workflow_version": "2026-11-02",
        "tenant_id": "7c1f1a52-0c55-4a86-9f0e-2f6a0f9d1b10", "user_id": "end-user-8842", "status": "succeeded",
        "conversation_id": "d3760f66-d573-5aa9-9799-6db0e2490f67", "triggered_from": "app-run", "n_nodes": 1,
        "app_name": "Docs Chatflow", "query": "Reset my key", "total_tokens": 323, "external_trace_id": None,
        "started_at": at("10:20:00.300"), "ended_at": at("10:20:03.800"), "writer": "C2",
    }  # fmt: skip
    assert picked(runs["30db34e0-bdec-5ce5-92b4-c519f5e23c7d"], newest) == newest


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_workflow_nodes(samples: dict[str, Project], read_path: str) -> None:
    nodes = by_key(samples[read_path], "dify_workflow_nodes", "node_execution_id")
    model = {
        "workflow_run_id": "6faac5b1-e02f-524e-9491-09804d84ebbc", "node_title": "Answer LLM", "node_type": "llm",
        "trace_id": "92f70fa9-7580-5fd4-962d-7a9cfd249885", "status": "succeeded", "error": None,
        "started_at": at("09:31:40.800"), "elapsed_s": 2.96, "model_provider": "langgenius/openai/openai",
        "model_name": "gpt-4o-mini", "prompt_tokens": 601, "completion_tokens": 54, "total_tokens": 655,
        "total_price": Decimal("0.00012255"), "currency": "USD", "ttft_s": 0.42, "iteration_id": None,
        "observation_type": "GENERATION", "app_id": "5d3f4182-ac30-4f2d-9d56-2f317c9eb003",
    }  # fmt: skip
    assert picked(nodes["b4b47f38-0078-558c-bac2-53e572ec57c8"], model) == model
    plain = {
        "node_title": "Docs Lookup", "node_type": "knowledge-retrieval", "status": "succeeded", "elapsed_s": 0.742,
        # the v2 row also has the run's 655 tokens
        "total_tokens": None, "prompt_tokens": None, "total_price": None, "model_name": None, "ttft_s": None,
        "inputs": '{"query":"How do I rotate an API key?"}', "observation_type": "SPAN",
    }  # fmt: skip
    assert picked(nodes["c8a5c148-3ae3-5699-b1f3-778a28b566d8"], plain) == plain
    error = "Run failed: Node Normalise run failed: Invalid JSON in code output"
    failed, fine = nodes["148d9942-78c9-5403-b056-c99c4403553b"], nodes["1282cce7-eac7-539f-8683-b5eb274b45a5"]
    assert (failed["status"], failed["error"], failed["run_error"]) == ("failed", error, error)
    assert (fine["status"], fine["error"], fine["run_error"]) == ("succeeded", None, error)
    newest = {
        "workflow_run_id": "30db34e0-bdec-5ce5-92b4-c519f5e23c7d", "node_title": "Answer LLM", "node_type": "llm",
        "status": "succeeded", "model_name": "gpt-4o-mini", "prompt_tokens": 311, "completion_tokens": 12,
        "total_tokens": 323, "ttft_s": 0.4, "observation_type": "GENERATION",
    }  # fmt: skip
    assert picked(nodes["c3402447-af7b-5be0-95e6-002dfd03cbf9"], newest) == newest


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_messages(samples: dict[str, Project], read_path: str) -> None:
    messages = by_key(samples[read_path], "dify_messages", "message_id")
    chat = {
        "trace_id": "b268f8c4-d429-5d18-b343-62f86a299157", "app_mode": "chat",
        "conversation_id": "f4532111-eea8-5239-89ea-b8b2b0cad5bb", "workflow_run_id": None,
        "app_id": "3b1d2f60-8a1e-4d0b-9b34-0d1f5a7c9e01", "app_name": "Support Bot", "user_id": "end-user-8842",
        "end_user_id": "0a9b8c7d-6e5f-4a3b-9c2d-1e0f9a8b7c6d", "account_id": None, "from_source": "api",
        "agent_based": False, "model_provider": "langgenius/openai/openai", "model_name": "gpt-4o-mini",
        "status": "normal", "error": None, "prompt_tokens": 388, "answer_tokens": 11, "total_tokens": 399,
        "total_price": Decimal("0.0000648"), "latency_s": 2.84, "ttft_s": 0.51, "started_at": at("09:41:05"),
        "query": "What is your refund window?", "answer": "Refunds are possible within 30 days.", "n_files": 0,
        "generation_missing": False,
    }  # fmt: skip
    assert picked(messages["b268f8c4-d429-5d18-b343-62f86a299157"], chat) == chat
    failed = {
        "app_mode": "completion", "status": "error", "query": "Write a blurb", "answer": None,
        "error": "[openai] Rate Limit Error, You exceeded your current quota", "from_source": "console",
        "account_id": "b1c2d3e4-f5a6-4b7c-8d9e-0f1a2b3c4d5e", "end_user_id": None, "total_tokens": 0,
        "user_id": "b1c2d3e4-f5a6-4b7c-8d9e-0f1a2b3c4d5e", "started_at": at("09:52:00"),
    }  # fmt: skip
    assert picked(messages["1be5c69b-2a89-5a0f-b228-95424bc47c0e"], failed) == failed
    agent = {"app_mode": "agent-chat", "agent_based": True, "prompt_tokens": 902, "answer_tokens": 61, "latency_s": 5.4}
    assert picked(messages["be1d7897-94b7-5cb0-8a02-c0261583f151"], agent) == agent
    chatflow = {
        "app_mode": "chatflow", "workflow_run_id": "6faac5b1-e02f-524e-9491-09804d84ebbc", "status": "succeeded",
        "prompt_tokens": 601, "answer_tokens": 54, "total_tokens": 655, "total_price": Decimal("0.00012255"),
        "latency_s": 3.87, "query": "How do I rotate an API key?", "n_files": 0, "generation_missing": False,
        "answer": "Open Settings, API Keys, then choose Rotate.", "user_id": "end-user-8842",
    }  # fmt: skip
    assert picked(messages["92f70fa9-7580-5fd4-962d-7a9cfd249885"], chatflow) == chatflow
    newest = {"app_mode": "chatflow", "query": "Reset my key", "answer": "Use the Rotate button.", "total_tokens": 323}
    assert picked(messages["782d06a6-4dab-5979-b065-b09f6eeeeadc"], newest) == newest


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_what_belongs_to_a_message(samples: dict[str, Project], read_path: str) -> None:
    project = samples[read_path]
    moderations = by_key(project, "dify_moderations", "observation_id")
    flagged = {
        "trace_id": "ed6d692c-da54-5723-b976-29bdfb24ee00", "message_id": "ed6d692c-da54-5723-b976-29bdfb24ee00",
        "flagged": True, "action": "direct_output", "preset_response": "I cannot help with that.",
        "query": "(blocked text)", "started_at": at("09:44:29.500"), "ended_at": at("09:44:29.900"), "orphan": False,
    }  # fmt: skip
    assert picked(moderations["be38d529-47cc-5c06-a684-06c5b7f997db"], flagged) == flagged
    passed = {"flagged": False, "preset_response": None, "query": "How do I rotate an API key?", "orphan": False}
    assert picked(moderations["b645bb23-befd-5e1b-9a64-670d0ee344c0"], passed) == passed
    newest = {"message_id": "782d06a6-4dab-5979-b065-b09f6eeeeadc", "flagged": False, "query": "Reset my key"}
    assert picked(moderations["46d8821153a58f67"], newest) == newest

    suggested = by_key(project, "dify_suggested_questions", "observation_id")
    questions = {
        "message_id": "92f70fa9-7580-5fd4-962d-7a9cfd249885", "n_questions": 3,
        "workflow_run_id": "6faac5b1-e02f-524e-9491-09804d84ebbc", "model_provider": "langgenius/openai/openai",
        "questions": ["Can I keep the old key active?", "Where are keys stored?", "Who can rotate keys?"],
        "model_name": "gpt-4o-mini", "status": "normal", "error": None, "started_at": at("09:31:45"), "latency_s": 1.2,
    }  # fmt: skip
    assert picked(suggested["e94341bd-4d92-5b9e-a448-82d1534a6c98"], questions) == questions

    retrieval = {
        "message_id": "b268f8c4-d429-5d18-b343-62f86a299157", "query": "What is your refund window?",
        "n_documents": 1, "dataset_ids": ["d-22"], "dataset_names": ["Policies"], "max_score": 0.91,
        "started_at": at("09:41:04.100"), "latency_s": 0.6,
        "embedding_models":
            '{"d-22":{"embedding_model":"text-embedding-3-small","embedding_model_provider":"langgenius/openai/openai"}}',
    }  # fmt: skip
    assert picked(only(project, "dify_dataset_retrievals"), retrieval) == retrieval

    tools = by_key(project, "dify_tool_calls", "tool_name")
    fine = {
        "message_id": "be1d7897-94b7-5cb0-8a02-c0261583f151", "provider": "orders", "provider_type": "api",
        "inputs": '{"order_id":"1009"}', "outputs": '{"status":"packed"}', "error": None, "time_cost_s": 0.38,
        "started_at": at("09:47:13.100"), "ended_at": at("09:47:13.480"), "is_error": False, "workflow_run_id": None,
    }  # fmt: skip
    assert picked(tools["get_order"], fine) == fine
    failed = {"error": "HTTP 503 from orders API", "is_error": True, "outputs": None, "time_cost_s": 0.92}
    assert picked(tools["get_shipping_eta"], failed) == failed

    named = {
        "conversation_id": "f4532111-eea8-5239-89ea-b8b2b0cad5bb", "started_at": at("09:41:09"), "latency_s": 0.9,
        "trace_half_id": "ca513954-6c01-5e42-a09a-02399352fc22",
        "span_half_id": "0f99263b-707a-5d62-bfe4-c27f6a757845", "title": "Refund window question",
        "tenant_id": "7c1f1a52-0c55-4a86-9f0e-2f6a0f9d1b10", "input": "What is your refund window?",
    }  # fmt: skip
    assert picked(only(project, "dify_generate_names"), named) == named


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_the_first_release_wrote_ids_into_names_and_models_twice(read_path: str, tmp_path: Path) -> None:
    metadata = {"node_type": "llm", "total_tokens": 12, "total_price": "0.5", "currency": "RMB"}
    model = {"model_provider": "openai", "model_name": "gpt-4", **metadata}
    rows = sent(
        run_trace(name=f"workflow_{RUN}", userId=TENANT, sessionId=RUN, metadata={"triggered_form": "debugging"}),
        node(name=f"Step_{NODE}", metadata=model),
        node(
            metadata=model, type="GENERATION", id=UUID.format(50), name=f"generation_{NODE}", parentObservationId=NODE,
            usageDetails={"input": 5, "output": 7, "total": 12}, model="gpt-4",
        ),
    )  # fmt: skip
    project = loaded(tmp_path, rows, read_path)
    run = only(project, "dify_workflow_runs")
    assert (run["writer"], run["n_nodes"], run["user_id"], run["triggered_from"]) == ("A0", 1, None, "debugging")
    found = only(project, "dify_workflow_nodes")
    assert (found["node_execution_id"], found["node_title"], found["observation_type"]) == (NODE, "Step", "GENERATION")
    assert (found["prompt_tokens"], found["completion_tokens"], found["total_tokens"]) == (5, 7, 12)
    assert (found["total_price"], found["currency"]) == (Decimal("0.5"), "RMB")
    assert project.query("SELECT user_id, is_tenant_id FROM users") == [{"user_id": TENANT, "is_tenant_id": True}]


@pytest.mark.parametrize("read_path", READ_PATHS)
@pytest.mark.parametrize(
    ("metadata", "completion_start", "writer"),
    [
        ({}, None, "A"),
        ({"app_name": "Bot"}, None, "B"),
        ({"workspace_name": "Acme"}, None, "B"),
        ({}, f"{DAY}09:00:00.5Z", "B"),
    ],
)
def test_the_writer_is_told_by_what_it_adds(
    metadata: dict[str, str], completion_start: str | None, writer: str, read_path: str, tmp_path: Path
) -> None:
    rows = sent(run_trace(metadata=metadata), node(type="GENERATION", completionStartTime=completion_start))
    assert only(loaded(tmp_path, rows, read_path), "dify_workflow_runs")["writer"] == writer


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_nodes_in_rounds_and_branches(read_path: str, tmp_path: Path) -> None:
    inside = {
        "iteration_id": "it", "iteration_index": "2", "loop_id": "lo", "loop_index": 3, "parallel_id": "pa",
        "parent_parallel_id": "pp", "node_type": "a type of tomorrow", "status": "exception",
    }  # fmt: skip
    project = loaded(tmp_path, sent(run_trace(), node(metadata=inside, level="ERROR", statusMessage="oops")), read_path)
    found = only(project, "dify_workflow_nodes")
    expected = {**inside, "iteration_index": 2, "error": "oops"}
    assert picked(found, expected) == expected
    run = only(project, "dify_workflow_runs")
    assert (run["n_nodes"], run["n_failed_nodes"], run["status"]) == (1, 1, "succeeded")


@pytest.mark.parametrize("read_path", READ_PATHS)
@pytest.mark.parametrize(("error", "status"), [(None, "unknown"), ("Run failed", "failed")])
def test_a_run_that_only_its_nodes_tell_of(error: str | None, status: str, read_path: str, tmp_path: Path) -> None:
    rows = sent(None, node(statusMessage=error), node(UUID.format(9), startTime=f"{DAY}08:59:59Z", statusMessage=error))
    project = loaded(tmp_path, rows, read_path)
    expected = {
        "workflow_run_id": RUN, "status": status, "error": error, "n_nodes": 2, "n_failed_nodes": 0,
        "started_at": at("08:59:59"), "ended_at": at("09:00:01"), "app_kind": "workflow", "app_id": "app",
        "partition_hour": at("08:00:00"),
    }  # fmt: skip
    assert picked(only(project, "dify_workflow_runs"), expected) == expected


@pytest.mark.slow
@pytest.mark.parametrize("read_path", READ_PATHS)
@pytest.mark.parametrize(
    "questions",
    [
        [],
        ["one"],
        ["it's", "don't", 'say "hi"', """both ' and \""""],
        ["a\\b", "c\nd\te", "e\u00a0f", "\u200b", ""],
        ["\\x41", "\\'", "ends with \\"],
        ["你好世界 🎉", "a, [b]", "c', 'd"],
    ],
)
def test_suggested_questions_are_read_like_python_wrote_them(
    questions: list[str], read_path: str, tmp_path: Path
) -> None:
    row = suggestion(output=[{"role": "assistant", "content": str(questions)}])
    found = only(loaded(tmp_path, sent(None, row), read_path), "dify_suggested_questions")
    assert found["questions"] == questions
    assert found["n_questions"] == len(questions)


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_suggested_questions_that_are_no_list_are_counted_all_the_same(read_path: str, tmp_path: Path) -> None:
    found = only(loaded(tmp_path, sent(None, suggestion(output="no list")), read_path), "dify_suggested_questions")
    assert (found["questions"], found["n_questions"]) == (None, 3)


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_a_node_is_a_node_whatever_its_title(read_path: str, tmp_path: Path) -> None:
    titles = ["moderation", "suggested_question", "dataset_retrieval", "llm", "workflow", "weather", "message"]
    nodes = [
        node(
            UUID.format(60 + number), trace=MESSAGE, parentObservationId=RUN, name=title,
            type="GENERATION" if title in ("llm", "suggested_question") else "SPAN", metadata={"node_name": title},
            completionStartTime=f"{DAY}09:00:00.5Z",
        )
        for number, title in enumerate(titles)
    ]  # fmt: skip
    # A trace that both tasks wrote: on v2 every node has the keys of the message too.
    trace = message_trace(
        tags=["advanced-chat", "message", "workflow"],
        metadata={
            **run_metadata(workflow_app_log_id=None),
            "action": "a",
            "preset_response": "p",
            "tool_name": "weather",
        },
    )
    project = loaded(tmp_path, sent(trace, run_span(), *nodes), read_path)
    found = counts(project, KEYS)
    one = {"dify_workflow_runs": 1, "dify_messages": 1}
    assert found == {**dict.fromkeys(KEYS, 0), **one, "dify_workflow_nodes": len(titles)}
    assert only(project, "dify_messages")["ttft_s"] is None


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_conversations_are_named_by_one_half_or_both(read_path: str, tmp_path: Path) -> None:
    metadata = {"conversation_id": "c", "tenant_id": TENANT}

    def trace(id_: str, moment: str, conversation: str = "c") -> dict[str, Any]:
        return {
            "id": id_, "name": "generate_conversation_name", "timestamp": f"{DAY}{moment}Z", "userId": TENANT,
            "metadata": {**metadata, "conversation_id": conversation}, "output": "from trace",
        }  # fmt: skip

    def span(id_: str, moment: str, conversation: str = "c") -> dict[str, Any]:
        return {
            "id": id_, "traceId": conversation, "name": "generate_conversation_name", "startTime": f"{DAY}{moment}Z",
            "endTime": f"{DAY}{moment}.5Z", "metadata": {**metadata, "conversation_id": conversation},
            "output": [{"role": "assistant", "content": "from span"}],
        }  # fmt: skip

    rows = merged(
        sent(trace("t1", "09:00:02")), sent(None, span("s1", "09:00:00")),
        sent(trace("t2", "09:10:02")), sent(None, span("s2", "09:10:00")),
        sent(trace("t3", "09:20:02", "lonely trace")), sent(None, span("s4", "09:30:00", "lonely span")),
    )  # fmt: skip
    found = by_key(loaded(tmp_path, rows, read_path), "dify_generate_names", "conversation_id", "started_at")
    halves = {key: (row["trace_half_id"], row["span_half_id"], row["title"]) for key, row in found.items()}
    assert halves == {
        ("c", at("09:00:00")): ("t1", "s1", "from span"),
        ("c", at("09:10:00")): ("t2", "s2", "from span"),
        ("lonely trace", at("09:20:02")): ("t3", None, "from trace"),
        ("lonely span", at("09:30:00")): (None, "s4", "from span"),
    }
    assert found["c", at("09:00:00")]["latency_s"] == 0.5


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_a_trace_of_the_same_names_by_somebody_else_stays_unknown(read_path: str, tmp_path: Path) -> None:
    def trace(name: str, *children: dict[str, Any]) -> Rows:
        return sent(
            {
                "id": name,
                "name": name,
                "timestamp": f"{DAY}09:00:00Z",
                "tags": [name],
                "metadata": {"status": "normal"},
            },
            *({"traceId": name, "startTime": f"{DAY}09:00:00Z", **child} for child in children),
        )

    rows = merged(
        trace(
            "message", {"id": "1", "name": "llm", "type": "GENERATION"}, {"id": "2", "name": "moderation"},
            {"id": "3", "name": "suggested_question", "type": "GENERATION"},
        ),
        trace("workflow", {"id": "4", "name": "workflow"}, {"id": "5", "name": "dataset_retrieval"}),
        trace("generate_conversation_name", {"id": "6", "name": "get_order", "metadata": {"tool_name": "get_order"}}),
    )  # fmt: skip
    project = loaded(tmp_path, rows, read_path)
    assert {row["source_app"] for row in project.query("SELECT source_app FROM traces")} == {"unknown"}
    assert set(counts(project, KEYS).values()) == {0}


ODD: list[Callable[[Any], Any]] = [
    lambda _: None,
    lambda _: "",
    lambda _: 12,
    lambda _: True,
    lambda _: [],
    lambda _: [1, "[", None],
    lambda _: {},
    lambda value: {"content": value, "message": value, "usage": value, "documents": value, "text": []},
    lambda _: "{not json",
    lambda _: "1e999",
]


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_odd_values_never_raise(read_path: str, tmp_path: Path) -> None:
    parts: list[Rows] = []
    for number, odd in enumerate(ODD):
        rows = sample("dify")
        for row in [row for stream in rows.values() for row in stream]:
            for key in ("id", "traceId", "parentObservationId"):
                row[key] = f"{row[key]}-{number}" if row.get(key) else None
            identifying = {"workflow_run_id", "message_id", "node_execution_id", "tenant_id", "from_source"}
            row["metadata"] = {
                key: value if key in identifying or key.startswith(("dify", "resource")) else odd(value)
                for key, value in (row["metadata"] or {}).items()
            }
            is_text = "isRootObservation" in row and isinstance(odd(None), (dict, list))
            row["input"] = row["output"] = str(odd("x")).replace("'", '"') if is_text else odd(row["input"])
        parts.append(rows)
    project = loaded(tmp_path, merged(*parts), read_path)
    for table in KEYS:
        project.table(table)
    assert project.table("dify_workflow_nodes")


def test_whoever_opens_the_warehouse_reads_the_tables(samples: dict[str, Project]) -> None:
    with duckdb.connect(samples["v2"].warehouse.location, read_only=True) as con:
        for table in KEYS:
            assert con.execute(f"SELECT count(*) > 0 FROM demo.{table}").fetchall() == [(True,)], table
