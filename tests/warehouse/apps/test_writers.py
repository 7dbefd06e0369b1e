"""Which writer a trace is of: marks as each writer leaves them, on both read paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.warehouse.apps.samples import STREAMS, Rows, both, extract, hours, loaded, sample
from tests.warehouse.extracts import Project, hours_of, v2_row

AT = "2026-11-20T09:00:00Z"


Pair = tuple[dict[str, Any], dict[str, Any]]
"""Metadata as v2 and as legacy serve it."""


def otel(scope: str, attributes: dict[str, Any] | None = None, service: str = "shop") -> Pair:
    """Metadata of a span as v2 (flattened) and legacy (nested) serve it."""
    flat = {"scope.name": scope, "resourceAttributes.service.name": service}
    flat |= {f"attributes.{key}": value for key, value in (attributes or {}).items()}
    nested = {"scope": {"name": scope}, "resourceAttributes": {"service.name": service}, "attributes": attributes or {}}
    return flat, nested


def plain(**metadata: Any) -> Pair:
    """Metadata that both paths serve alike."""
    return metadata, metadata


def written(*observations: dict[str, Any], tags: tuple[str, ...] = (), trace: dict[str, Any] | None = None) -> Rows:
    """A trace `t1` of observations, each with `metadata` as a pair of v2 and legacy."""
    rows: Rows = {stream: [] for stream in STREAMS}
    for number, given in enumerate(observations):
        row = {"id": f"o{number}", "parentObservationId": "o0" if number else None, "name": "work", **given}
        flat, nested = row.pop("metadata", ({}, {}))
        changes = {**row, "traceName": (trace or {}).get("name", row["name"]), "tags": list(tags)}
        at = changes.pop("startTime", AT)
        rows["v2_observations"].append(v2_row(changes.pop("id"), "t1", at, **changes, metadata=flat))
        legacy = {"traceId": "t1", "startTime": AT, "type": "SPAN", **row, "metadata": nested}
        rows["legacy_observations"].append(legacy)
    first = observations[0]
    rows["legacy_traces"] = [
        {
            "id": "t1", "timestamp": AT, "name": first.get("name", "work"), "tags": sorted(tags),
            "metadata": first.get("metadata", ({}, {}))[1], **(trace or {}),
        }
    ]  # fmt: skip
    return rows


def of(project: Project) -> tuple[str, list[str]]:
    [row] = project.query("SELECT source_app, source_apps FROM traces")
    return row["source_app"], row["source_apps"]


GEN = "GENERATION"
WRITERS: dict[str, tuple[Rows, str]] = {
    "python openai wrapper": (written({"name": "OpenAI-generation", "type": GEN}), "openai_wrapper"),
    "embeddings of it": (written({"name": "OpenAI-embedding", "type": "EMBEDDING"}), "openai_wrapper"),
    "js openai wrapper": (written({}, {"name": "OpenAI-completion", "type": GEN}), "openai_wrapper"),
    "langchain": (
        written({}, {"name": "ChatOpenAI", "type": GEN, "metadata": plain(ls_provider="openai", ls_model_name="m")}),
        "langchain",
    ),
    "langgraph": (written({"metadata": plain(langgraph_node="planner", langgraph_step=1)}), "langgraph"),
    "llamaindex": (written({"metadata": otel("openinference.instrumentation.llama_index")}), "llamaindex"),
    "vercel by scope": (written({"name": "ai.generateText", "metadata": otel("ai")}), "vercel_ai"),
    "vercel by attribute": (written({"metadata": otel("next.js", {"ai.operationId": "ai.streamText"})}), "vercel_ai"),
    "litellm callback": (written({"metadata": plain(litellm_response_cost=0.1, cache_hit=False)}), "litellm"),
    "litellm generation": (written({"name": "litellm-acompletion", "type": GEN}), "litellm"),
    "litellm otlp": (written({"metadata": otel("litellm")}), "litellm"),
    "haystack connector": (
        written({"name": "Haystack"}, {"metadata": plain(**{"haystack.component.name": "retriever"})}), "haystack",
    ),
    "haystack instrumentation": (written({"metadata": otel("openinference.instrumentation.haystack")}), "haystack"),
    "pydantic ai": (written({"name": "agent run", "metadata": otel("pydantic-ai")}), "pydantic_ai"),
    "pydantic ai by attribute": (
        written({"metadata": otel("logfire", {"pydantic_ai.all_messages": "[]"})}), "pydantic_ai",
    ),
    "generic genai": (written({"metadata": otel("mine", {"gen_ai.operation.name": "chat"})}), "otel_genai"),
    "generic genai model": (written({"metadata": otel("mine", {"gen_ai.request.model": "m"})}), "otel_genai"),
    "openrouter": (written({"metadata": otel("x", service="openrouter")}), "openrouter"),
    **{
        scope: (written({"metadata": otel(scope, {"gen_ai.request.model": "m"})}), scope)
        for scope in (
            "agent_framework", "autogen-core", "strands-agents", "vllm", "langsmith", "livekit-agents", "genkit-tracer",
            "gcp.vertex.agent", "@flue/opentelemetry", "opentelemetry.instrumentation.bedrock",
            "openinference.instrumentation.crewai",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_is_known_on_both_paths(name: str, tmp_path: Path) -> None:
    rows, expected = WRITERS[name]
    for project in both(tmp_path, rows).values():
        assert of(project) == (expected, [expected])


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows",
    [
        written({"name": "message"}, tags=("message",)),
        written({"name": "workflow", "metadata": plain(workflow_id="w")}, tags=("workflow",)),
        written({"name": "AgentRun"}),
        written({"name": "AgentRun", "metadata": plain(messageId="m")}),
        written({"name": "LibreChat Agent: x", "metadata": plain(thread_id="t")}),
        written({"name": "litellm-thing"}),
        written({"name": "OpenAI-generation"}),
        written({"metadata": plain(ls_provider="openai")}),
        written({"metadata": otel("opentelemetry.instrumentation.requests")}),
        written({"metadata": otel("langfuse-sdk")}),
        written({"metadata": plain(dify="good", agent="gen_ai.request.model")}),
    ],
    ids=[
        "message", "workflow", "AgentRun alone", "a message id alone", "a thread alone", "a span named after litellm",
        "a span named after the wrapper", "a provider alone", "http client", "plain SDK", "words in values",
    ],
)  # fmt: skip
def test_names_and_words_alone_prove_nothing(rows: Rows, tmp_path: Path) -> None:
    for project in both(tmp_path, rows).values():
        assert of(project) == ("unknown", [])
        for table in ("librechat_messages", "librechat_conversations", "librechat_aux_calls"):
            assert project.table(table) == []


def test_librechat_before_there_were_tags(tmp_path: Path) -> None:
    metadata = plain(messageId="m1", parentMessageId="p1")
    rows = written({"name": "graph", "metadata": metadata}, trace={"name": "AgentRun"})
    for project in both(tmp_path, rows).values():
        assert of(project) == ("librechat", ["librechat"])


def test_a_mixed_trace_is_of_the_app_around_it_and_names_the_others(tmp_path: Path) -> None:
    rows = written(
        {"name": "AgentGraph", "metadata": plain(ls_integration="langgraph")},
        {"name": "litellm-acompletion", "type": GEN, "metadata": plain(litellm_response_cost=0.1)},
        {"name": "llm", "type": GEN, "metadata": plain(ls_provider="openai", ls_model_name="m", langgraph_node="x")},
        tags=("librechat", "agent"),
        trace={"name": "AgentRun"},
    )
    for project in both(tmp_path, rows).values():
        # LangChain is how LibreChat writes, no writer beside it
        assert of(project) == ("librechat", ["librechat", "litellm"])


def test_several_frameworks_in_one_trace(tmp_path: Path) -> None:
    rows = written(
        {"metadata": otel("ai")},
        {"name": "OpenAI-generation", "type": GEN},
        {"metadata": plain(ls_integration="langchain_chat_model")},
    )
    for project in both(tmp_path, rows).values():
        assert of(project) == ("vercel_ai", ["langchain", "openai_wrapper", "vercel_ai"])


def test_dify_comes_before_librechat(tmp_path: Path) -> None:
    rows = written({"metadata": plain(message_id="m", from_source="api", agent_based=False)}, tags=("librechat",))
    for project in both(tmp_path, rows).values():
        assert of(project) == ("dify", ["dify", "librechat"] if project.query(LIBRECHAT_ROWS) else ["dify"])


LIBRECHAT_ROWS = "SELECT 1 FROM observations WHERE own_source_app = 'librechat'"


@pytest.mark.parametrize("read_path", ["v2", "legacy"])
@pytest.mark.parametrize("app", ["dify", "librechat"])
def test_every_sample_trace_is_of_its_app(app: str, read_path: str, tmp_path: Path) -> None:
    project = loaded(tmp_path, sample(app), read_path)
    found = project.query("SELECT DISTINCT source_app, source_apps FROM traces")
    assert found == [{"source_app": app, "source_apps": [app]}]


@pytest.mark.parametrize("read_path", ["v2", "legacy"])
def test_a_writer_is_found_again_in_rows_of_another_hour(read_path: str, tmp_path: Path) -> None:
    """Rows that the warehouse holds are judged as those that are read now."""
    rows = written(
        {"metadata": plain(ls_integration="langgraph")},
        {"metadata": plain(litellm_response_cost=0.1), "startTime": "2026-11-20T10:00:00Z"},
        tags=("librechat",),
    )
    project, wanted = Project(tmp_path), hours(rows)
    extract(project, rows, read_path, wanted)
    for hour in (*reversed(wanted), wanted[-1]):
        project.run([hour])
    assert of(project) == ("librechat", ["librechat", "litellm"])


def test_marks_of_any_shape_are_read_or_left_alone(tmp_path: Path) -> None:
    deep: Any = "end"
    for _ in range(300):
        deep = {"scope": deep}
    shapes: dict[str, tuple[Any, str | None]] = {
        "flat before nested": ({"scope.name": "litellm", "scope": {"name": "ai"}}, "litellm"),
        "nested where flat is null": ({"scope.name": None, "scope": {"name": "ai"}}, "vercel_ai"),
        "scope is text": ({"scope": "litellm", "resourceAttributes": "openrouter"}, None),
        "scope is a list": ({"scope": [{"name": "litellm"}], "resourceAttributes": []}, None),
        "scope is nothing": ({"scope": None, "resourceAttributes": None, "langgraph_node": None}, None),
        "name is a number": ({"scope": {"name": 7}}, None),
        "mark is a number": ({"langgraph_node": 3}, "langgraph"),
        "mark is an object": ({"litellm_response_cost": {"usd": 1}}, "litellm"),
        "deep": ({**deep, "ls_integration": "langchain"}, "langchain"),
        "metadata is a list": ([{"scope.name": "litellm"}], None),
        "metadata is text": ("scope.name: litellm", None),
        "metadata is null": (None, None),
    }
    project = Project(tmp_path)
    rows = [v2_row(name, name, AT, metadata=metadata) for name, (metadata, _) in shapes.items()]
    project.extract_v2(rows, hours_of(rows))
    assert project.run(hours_of(rows)).problems == ()
    found = project.query("SELECT observation_id, own_source_app FROM observations")
    assert {row["observation_id"]: row["own_source_app"] for row in found} == {
        name: writer for name, (_, writer) in shapes.items()
    }
