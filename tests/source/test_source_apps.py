"""What rows of source apps are read again for: whole metadata values, and their inputs and outputs alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest

from lf_dagster.config import SourceApp
from lf_dagster.lake import Lake
from lf_dagster.simulators.faults import Fault
from lf_dagster.source import HourExtract, LangfuseClient
from tests.source.conftest import Connect, Standin, World, extract, rows

APPS: tuple[SourceApp, ...] = ("dify", "librechat")
LONG = "x" * 200 + "-the-rest"
CONTENT: dict[str, Any] = {"input": "question", "output": "answer"}
NODE: dict[str, Any] = {"workflow_run_id": "r", "tenant_id": "t", "node_execution_id": "n"}
MESSAGE: dict[str, Any] = {"message_id": "m", "from_source": "api"}
TURN: dict[str, Any] = {"messageId": "m", "thread_id": "c"}


def read(client: LangfuseClient, lake: Lake, **options: Any) -> HourExtract:
    [found] = extract(client, lake, streams=["observations"], source_apps=APPS, **options)
    return found


def stored(lake: Lake) -> dict[str, dict[str, Any]]:
    return {row["id"]: json.loads(row["json"]) for row in rows(lake, "observations")}


def asked(standin: Standin) -> list[dict[str, str]]:
    """Parameters of the requests for rows of the hour, and of those that asked again."""
    queries = [parse_qs(item.query) for item in standin.requests("v2/observations") if "fromStartTime" in item.query]
    return [{name: values[0] for name, values in query.items()} for query in queries]


def asked_again(standin: Standin) -> list[dict[str, str]]:
    return [query for query in asked(standin) if "filter" in query]


# Metadata


@pytest.mark.parametrize(
    ("key", "marks", "tags"),
    [
        ("error", {"tool_name": "t", "tool_config": {}, "time_cost": 1}, []),
        ("tool_config", {"tool_name": "t", "time_cost": 1}, []),
        ("embedding_models", MESSAGE, []),
        ("file_list", NODE, []),
        ("external_trace_id", NODE, []),
        ("parent_trace_context", NODE, []),
        ("node_name", NODE, []),
        ("agentName", TURN, ["librechat"]),
        ("langgraph_node", TURN, ["librechat"]),
    ],
)
def test_a_cut_value_that_a_table_needs_is_read_again_whole(
    standin: Standin, connect: Connect, lake: Lake, key: str, marks: Mapping[str, Any], tags: list[str]
):
    texts = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in marks.items()}
    world = World().observation("app", 1, trace="a", metadata={**texts, key: LONG}, tags=tags)
    world.observation("plain", 2, trace="b", metadata={"k": "v", key: LONG})
    standin.use(world)
    found = read(connect(), lake)
    metadata = {id_: row["metadata"] for id_, row in stored(lake).items()}
    assert metadata["app"][key] == LONG
    assert metadata["plain"] == {"k": "v", key: "x" * 200}
    [again] = asked_again(standin)
    assert key in again["expandMetadata"].split(",")
    assert "io" not in again["fields"].split(",")
    assert found.requests == 2


def test_an_object_that_was_cut_arrives_as_text_and_is_read_again(standin: Standin, connect: Connect, lake: Lake):
    config = {"steps": ["é" * 40] * 9}
    metadata = {"tool_name": "t", "time_cost": "1", "tool_config": json.dumps(config, ensure_ascii=False)}
    standin.use(World().observation("app", 1, metadata=metadata))
    read(connect(), lake)
    assert stored(lake)["app"]["metadata"]["tool_config"] == config


def test_keys_that_hold_content_stay_cut_unless_content_is_asked_for(standin: Standin, connect: Connect, lake: Lake):
    standin.use(World().observation("app", 1, metadata={**NODE, "query": LONG, "tool_outputs": LONG}))
    assert read(connect(), lake).requests == 1
    assert stored(lake)["app"]["metadata"]["query"] == "x" * 200
    for content in ("source_apps", True):
        found = read(connect(content=content), lake)
        assert stored(lake)["app"]["metadata"] == {**NODE, "query": LONG, "tool_outputs": LONG}
        assert found.requests == (1 if content is True else 2)


def test_metadata_that_comes_with_content_is_whole_and_not_read_once_more(
    standin: Standin, connect: Connect, lake: Lake
):
    standin.use(World().observation("app", 1, metadata={**NODE, "error": LONG, "node_name": "x" * 200}))
    assert read(connect(content="source_apps"), lake).requests == 2
    assert stored(lake)["app"]["metadata"]["error"] == LONG
    assert read(connect(content=True), lake).requests == 1


def test_projects_without_source_apps_read_nothing_again(standin: Standin, connect: Connect, lake: Lake):
    standin.use(World().observation("app", 1, metadata={**NODE, "error": LONG}))
    [found] = extract(connect(content="source_apps"), lake, streams=["observations"])
    assert found.requests == 1


# Content


def a_mixed_hour() -> World:
    world = World()
    for number in range(300):
        world.observation(f"plain-{number}", number, trace=f"p{number}", metadata={"messages": "[]"}, **CONTENT)
    for number, metadata in enumerate((NODE, MESSAGE)):
        for row in range(3):
            world.observation(f"dify-{number}-{row}", 400 + row, trace=f"d{number}", metadata=metadata, **CONTENT)
    for row in range(4):
        world.observation(f"chat-{row}", 500 + row, trace="l", metadata=TURN, tags=["librechat", "agent"], **CONTENT)
    return world


def with_content(lake: Lake) -> set[str]:
    found = stored(lake)
    assert all(("input" in row) == ("output" in row) for row in found.values())
    return {id_ for id_, row in found.items() if row.get("input") == "question" and row.get("output") == "answer"}


@pytest.mark.parametrize("page_size", [1000, 7])
def test_content_of_source_apps_alone(standin: Standin, connect: Connect, lake: Lake, page_size: int):
    standin.use(a_mixed_hour())
    found = read(connect(content="source_apps", page_size=page_size), lake)
    apps = {f"dify-{n}-{row}" for n in range(2) for row in range(3)} | {f"chat-{row}" for row in range(4)}
    assert with_content(lake) == apps
    assert all("input" not in row for id_, row in stored(lake).items() if id_ not in apps)
    assert (found.rows, found.duplicates) == (310, 0)
    again = asked_again(standin)
    assert len(again) in ({1} if page_size == 1000 else {2, 3, 4})
    assert all("io" in query["fields"].split(",") and int(query["limit"]) <= 50 for query in again)
    assert found.requests == len(asked(standin))


def test_without_content_no_request_asks_for_it(standin: Standin, connect: Connect, lake: Lake):
    standin.use(a_mixed_hour())
    read(connect(), lake)
    assert with_content(lake) == set()
    assert [query["fields"].split(",").count("io") for query in asked(standin)] == [0]


def test_the_rows_are_those_that_a_read_of_all_content_gives(standin: Standin, connect: Connect, lake: Lake):
    standin.use(a_mixed_hour())
    read(connect(content=True), lake)
    everything = {row["id"]: row for row in rows(lake, "observations")}
    read(connect(content="source_apps"), lake)
    chosen = [row for row in rows(lake, "observations") if not row["id"].startswith("plain")]
    assert chosen == [everything[row["id"]] for row in chosen]
    assert len(chosen) == 10


def test_more_rows_than_a_page_with_content_holds_are_read_in_several(standin: Standin, connect: Connect, lake: Lake):
    world = World()
    for number in range(120):
        world.observation(f"o{number}", number, trace="d", metadata=NODE, **CONTENT)
    standin.use(world)
    read(connect(content="source_apps"), lake)
    assert len(with_content(lake)) == 120
    assert len(asked_again(standin)) == 3


def test_a_row_that_is_gone_meanwhile_stays_as_it_was(standin: Standin, connect: Connect, lake: Lake):
    world = World().observation("kept", 1, trace="d", metadata=NODE, **CONTENT)
    standin.use(world.observation("gone", 2, trace="d", metadata=NODE, **CONTENT))
    client = connect(content="source_apps")
    original = client.get

    def get(path: str, params: Any = None, **options: Any) -> Any:
        if params and "filter" in params:
            world.gone("gone")
        return original(path, params, **options)

    client.get = get  # type: ignore[method-assign]
    found = read(client, lake)
    assert (found.rows, with_content(lake)) == (2, {"kept"})


def test_content_that_is_too_much_for_the_server_is_asked_for_in_smaller_parts(
    standin: Standin, connect: Connect, lake: Lake
):
    world = World()
    for number in range(60):
        world.observation(f"o{number}", number * 60_000, trace="d", metadata=NODE, **CONTENT)
    standin.use(world)
    client = connect(content="source_apps", read_path="v2")
    read(client, lake)
    sent = standin.requests("v2/observations")
    first = next(number for number, item in enumerate(sent, 1) if "filter" in item.query)
    standin.faults.add(Fault(path="/api/public/v2/observations", nth=first, status=422, body="{}"))
    found = read(client, lake)
    assert (found.rows, len(with_content(lake))) == (60, 60)
    assert {query["limit"] for query in asked(standin) if "filter" not in query} == {"1000", "500"}


@pytest.mark.parametrize(
    "columns",
    [
        {"metadata": {"workflow_run_id": "r"}},
        {"metadata": {"message_id": "m", "from_sources": "x"}},
        {"metadata": {"note": '"workflow_run_id" "from_source"'}},
        {"name": "generate_name"},
        {"traceName": "AgentRun", "metadata": {"messageId": "m"}},
        {"traceName": "turn", "metadata": TURN},
        {"tags": ["librechat-like"]},
        {"metadata": {"resourceAttributes.service.name": "dify-like"}},
    ],
)
def test_rows_that_only_look_like_it_keep_their_content(
    standin: Standin, connect: Connect, lake: Lake, columns: dict[str, Any]
):
    standin.use(World().observation("o", 1, **columns, **CONTENT))
    assert read(connect(content="source_apps"), lake).requests == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"metadata": {"message_id": "m", "action": "direct_output", "preset_response": ""}},
        {"metadata": {"tool_name": "t", "tool_config": "{}", "time_cost": "1"}},
        {"name": "generate_conversation_name", "metadata": {"conversation_id": "c", "tenant_id": "t"}},
        {"metadata": {"resourceAttributes.service.name": "dify-langfuse-app-trace"}},
        {"metadata": {"dify.app.id": "a"}},
        {"traceName": "AgentRun", "metadata": TURN},
        {"traceName": "LibreChat Agent: helper", "metadata": {"messageId": "m", "parentMessageId": "0"}},
        {"tags": ["agent", "librechat"]},
    ],
)
def test_every_kind_of_row_of_a_source_app_is_known(
    standin: Standin, connect: Connect, lake: Lake, columns: dict[str, Any]
):
    standin.use(World().observation("o", 1, **columns, **CONTENT))
    read(connect(content="source_apps"), lake)
    assert with_content(lake) == {"o"}


def test_the_legacy_api_gives_content_in_any_case(standin: Standin, connect: Connect, lake: Lake):
    standin.use(a_mixed_hour())
    [found] = extract(connect(content="source_apps", read_path="legacy"), lake, streams=["observations"])
    assert len(with_content(lake)) == found.rows == 310


def test_versions_that_a_page_break_parts_are_both_read_again(standin: Standin, connect: Connect, lake: Lake):
    world = World()
    for updated, name in ((0, "old"), (1000, "new")):
        world.observation("changed", 0, trace="d", metadata=NODE, updated=updated, name=name, **CONTENT)
    for row in range(49):
        world.observation(f"row-{row}", row + 1, trace="d", metadata=NODE, **CONTENT)
    standin.use(world)
    read(connect(content="source_apps"), lake)
    changed = stored(lake)["changed"]
    assert (changed["name"], changed["input"]) == ("new", "question")
