"""The v2 read path: every row once, newest version, text untouched, whatever the pages and ties (I1)."""

from __future__ import annotations

import json
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lf_dagster.hours import iso
from lf_dagster.lake import Lake
from lf_dagster.source import LangfuseClient
from tests.source.conftest import HOUR, KEYS, Connect, Standin, World, extract, milliseconds, rows

pytestmark = pytest.mark.usefixtures("every_worker")

FIELDS = "core,basic,time,metadata,model,usage,prompt,trace_context"


class _Body(msgspec.Struct):
    data: list[msgspec.Raw]


def served(standin: Standin, path: str = "v2/observations", **params: Any) -> list[str]:
    """Texts of all rows of the hour, as one request for them returns them."""
    query = {"fields": FIELDS, "limit": 1000, "fromStartTime": iso(HOUR.start), "toStartTime": iso(HOUR.end), **params}
    auth = (KEYS["LANGFUSE_PUBLIC_KEY"], KEYS["LANGFUSE_SECRET_KEY"])
    answer = httpx.get(f"{standin.origin}/api/public/{path}", params=query, auth=auth)
    return [bytes(row).decode() for row in msgspec.json.decode(answer.content, type=_Body).data]


def newest(texts: list[str]) -> list[str]:
    """Of each id the text with the largest updatedAt, then the largest startTime."""
    best: dict[str, tuple[tuple[str, str], str]] = {}
    for text in texts:
        row = json.loads(text)
        age = (row["updatedAt"], row["startTime"])
        if row["id"] not in best or age > best[row["id"]][0]:
            best[row["id"]] = (age, text)
    return sorted(text for _, text in best.values())


sightings = st.tuples(
    st.integers(0, 9),  # which observation
    st.sampled_from([0, 1, 2, 1_800_000, 3_599_998, 3_599_999]),  # start, crowded into few instants
    st.integers(0, 4),  # its trace
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seen=st.lists(sightings, max_size=40),
    crowd=st.integers(0, 30),
    page_size=st.sampled_from([1, 2, 3, 5, 7, 50, 1000]),
    parallel=st.integers(1, 4),
)
def test_any_world_is_read_whole_at_any_page_size(
    running_standin: Standin,
    connect: Connect,
    seen: list[tuple[int, int, int]],
    crowd: int,
    page_size: int,
    parallel: int,
):
    world = World()
    for age, (number, at, trace) in enumerate(seen):
        # The same observation again: a second version at the same place, or a lasting row at another start.
        world.observation(f"o{number}", at, trace=f"t{trace % (number + 1)}", updated=1 + age, name=f"v{age}")
    for number in range(crowd):
        world.observation(f"c{number}", 777_777, trace=f"t{number % 3}", updated=1)
    running_standin.use(world)
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        [found, _] = extract(connect(page_size=page_size, parallel_requests=parallel), lake)
        stored = rows(lake, "observations")
    everything = served(running_standin)
    assert sorted(row["json"] for row in stored) == newest(everything)
    assert (found.rows, found.distinct_ids) == (len(stored), len({row["id"] for row in stored}))
    assert found.rows + found.duplicates == len(everything)
    times = [row["event_time"] for row in stored]
    assert times == sorted(times, reverse=True)


def test_the_newer_version_is_found_when_a_page_ends_between_two_versions(
    standin: Standin, connect: Connect, lake: Lake
):
    world = World()
    for number in range(20):
        world.observation(f"o{number:02}", number, updated=1, name="old")
        world.observation(f"o{number:02}", number, updated=2, name="new")
    standin.use(world)
    for page_size in (1, 2, 3, 4, 5):
        extract(connect(page_size=page_size), lake)
        assert [json.loads(row["json"])["name"] for row in rows(lake, "observations")] == ["new"] * 20


def test_more_versions_of_one_row_than_a_page_holds_are_all_seen(standin: Standin, connect: Connect, lake: Lake):
    world = World().observation("above", 11).observation("below", 9)
    for version in range(30):
        world.observation("often", 10, updated=version, name=str(version))
    standin.use(world)
    extract(connect(page_size=3, parallel_requests=1), lake)
    found = {row["id"]: json.loads(row["json"])["name"] for row in rows(lake, "observations")}
    assert found == {"above": "", "often": "29", "below": ""}


def test_the_window_is_half_open(standin: Standin, connect: Connect, lake: Lake):
    world = World()
    for at in (-1, 0, 3_599_999, 3_600_000):
        world.observation(f"o{at}", at).score(f"s{at}", at)
    standin.use(world)
    extract(connect(), lake)
    assert [milliseconds(row["event_time"]) for row in rows(lake, "observations")] == [3_599_999, 0]
    assert [row["id"] for row in rows(lake, "scores")] == ["s3599999", "s0"]


def test_a_small_hour_takes_one_request_per_stream(standin: Standin, connect: Connect, lake: Lake):
    standin.use(World().observation("o", 5).score("s", 5))
    found = extract(connect(), lake)
    assert [item.requests for item in found] == [1, 1]
    assert len(standin.requests("v2/observations?")) == 0
    [request] = [item for item in standin.requests("v2/observations") if "fromStartTime" in item.query]
    assert "cursor" not in request.query
    assert "fields=core%2Cbasic%2Ctime%2Cmetadata%2Cmodel%2Cusage%2Cprompt%2Ctrace_context&" in request.query


def crowded(count: int = 700) -> World:
    world = World()
    for number in range(count):
        world.observation(f"o{number:04}", (number * 7919) % 3_600_000 // 50_000 * 50_000, trace=f"t{number % 90}")
        if number % 3 == 0:
            world.score(f"s{number:04}", number * 5000, traceId=f"t{number % 90}")
    return world


def test_page_size_and_parallelism_do_not_change_a_byte_of_what_is_stored(
    standin: Standin, connect: Connect, lake: Lake
):
    standin.use(crowded(200))
    stored = []
    for page_size, parallel in ((1000, 1), (100, 1), (7, 4), (1, 8)):
        extract(connect(page_size=page_size, parallel_requests=parallel), lake)
        stored.append((rows(lake, "observations"), rows(lake, "scores")))
    assert stored[0] == stored[1] == stored[2] == stored[3]
    assert len(stored[0][0]) == 200
    assert len(stored[0][1]) == 67


def test_a_large_hour_is_shared_among_workers_with_few_extra_requests(standin: Standin, connect: Connect, lake: Lake):
    standin.use(crowded(2000))
    alone = extract(connect(page_size=50, parallel_requests=1), lake, streams=["observations"])[0]
    standin.faults.reset()
    shared = extract(connect(page_size=50, parallel_requests=4), lake, streams=["observations"])[0]
    queries = [parse_qs(item.query) for item in standin.requests("v2/observations")]
    windows = {query["fromStartTime"][0] for query in queries if "fromStartTime" in query}
    assert len(windows) >= 3
    assert alone.requests == 41
    assert shared.requests <= 60
    assert shared.rows == alone.rows == 2000


def test_what_an_extract_knows_about_itself(standin: Standin, connect: Connect, lake: Lake):
    world = World().observation(
        "a", 5, trace="t1", createdAt=iso(HOUR.shift(2).start), updatedAt=iso(HOUR.shift(3).start)
    )
    standin.use(world.score("s", 5, traceId=None, sessionId="x").score("s2", 4, observationId="a", traceId="t1"))
    client = connect()
    observations, scores = extract(client, lake)
    assert observations.max_updated_at == HOUR.shift(3).start
    assert observations.max_lateness_seconds == 7200 - 0.005
    assert observations.bytes > 100
    assert observations.read_path == "v2"
    facts = lake.extract_facts("p", "observations", HOUR)
    assert facts is not None
    assert facts.pop("extracted_at").startswith("20")
    assert int(facts.pop("bytes")) == observations.bytes
    assert facts == {
        "project": "p",
        "project_id": "proj-lf",
        "project_name": "LF Project",
        "stream": "observations",
        "hour": "2025-08-21-06:00",
        "read_path": "v2",
        "host": standin.origin,
        "server_version": "4.16.0",
        "rows": "1",
        "distinct_ids": "1",
        "duplicates": "0",
        "deleted": "0",
        "newly_deleted": "0",
        "kept_expired": "0",
        "requests": "1",
        "waited_seconds": "0.0",
        "max_updated_at": "2025-08-21T09:00:00+00:00",
        "max_lateness_seconds": "7199.995",
        "run_id": "r",
    }
    assert [row["trace_id"] for row in rows(lake, "observations")] == ["t1"]
    assert [row["trace_id"] for row in rows(lake, "scores")] == [None, "t1"]
    assert scores.rows == 2


LONG = "s" * 200 + "-the-rest"


@pytest.mark.parametrize("key", ["$mixpanel_session_id", "$posthog_session_id"])
def test_a_cut_session_id_is_read_again_whole(standin: Standin, connect: Connect, lake: Lake, key: str):
    world = World()
    for number in range(12):
        value = LONG + str(number) if number % 4 == 0 else "short"
        world.observation(f"o{number}", number, trace=f"t{number}", metadata={key: value, "other": "y" * 300})
    world.observation("exact", 50, trace="exact", metadata={key: "é" * 200})
    standin.use(world)
    [found, _] = extract(connect(page_size=5, parallel_requests=1), lake)
    stored = {row["id"]: json.loads(row["json"])["metadata"] for row in rows(lake, "observations")}
    assert stored["o0"] == {key: LONG + "0", "other": "y" * 300}
    assert stored["o4"][key] == LONG + "4"
    assert stored["o1"] == {key: "short", "other": "y" * 200}
    assert stored["exact"][key] == "é" * 200
    again = [item.query for item in standin.requests("v2/observations") if "expandMetadata" in item.query]
    assert len(again) == 3
    assert found.duplicates == 0
    assert found.rows == 13


def test_full_metadata_asks_for_everything_once(standin: Standin, connect: Connect, lake: Lake):
    standin.use(World().observation("o", 1, metadata={"$posthog_session_id": LONG, "other": "y" * 300}))
    [found, _] = extract(connect(full_metadata=True), lake)
    assert json.loads(rows(lake, "observations")[0]["json"])["metadata"]["other"] == "y" * 300
    assert found.requests == 1


def test_many_cut_session_ids_are_asked_for_in_calls_that_fit_into_a_url(
    standin: Standin, connect: Connect, lake: Lake
):
    world = World()
    for number in range(200):
        trace = f"trace/{number}/ü" + "x" * 40
        world.observation(f"o{number}", number, trace=trace, metadata={"$posthog_session_id": LONG + str(number)})
    standin.use(world)
    extract(connect(), lake)
    found = [json.loads(row["json"])["metadata"]["$posthog_session_id"] for row in rows(lake, "observations")]
    assert found == [LONG + str(number) for number in reversed(range(200))]
    assert max(len(item.query) for item in standin.requests("v2/observations")) < 8000


def test_content_is_read_only_when_asked_for_and_in_small_pages(standin: Standin, connect: Connect, lake: Lake):
    standin.use(World().observation("o", 1, input="question", output="answer"))
    extract(connect(), lake)
    assert "input" not in json.loads(rows(lake, "observations")[0]["json"])
    extract(connect(content=True), lake)
    assert json.loads(rows(lake, "observations")[0]["json"])["input"] == "question"
    assert "limit=50&" in standin.requests("v2/observations")[-1].query


def test_half_a_surrogate_pair_becomes_the_replacement_character(standin: Standin, connect: Connect, lake: Lake):
    # JSON.stringify writes such halves as escapes; no UTF-8 text can hold them.
    world = World().observation("o", 1, name="x").observation("p", 2, name="fine 🎉 \\ud83d")
    standin.use(world)
    body = served(standin)
    broken = (
        '{"data":[' + ",".join(body).replace('"name":"x"', r'"name":"cut \ud83d","n":"\ud83c\udf89"') + '],"meta":{}}'
    )
    standin.faults.add(_answer(broken))
    extract(connect(read_path="v2"), lake)
    by_id = {row["id"]: json.loads(row["json"]) for row in rows(lake, "observations")}
    assert by_id["o"]["name"] == "cut \ufffd"
    assert by_id["o"]["n"] == "🎉"
    assert by_id["p"]["name"] == "fine 🎉 \\ud83d"


def _answer(body: str) -> Any:
    from lf_dagster.simulators.faults import Fault

    return Fault(path="/api/public/v2/observations", status=200, body=body, content_type="application/json")


def test_rows_that_arrive_during_the_walk_do_no_harm(standin: Standin, connect: Connect, lake: Lake):
    world = crowded(300)
    standin.use(world)
    client: LangfuseClient = connect(page_size=20, parallel_requests=1)
    original, calls = client.get, 0

    def get(path: str, params: Any = None, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if path == "v2/observations" and calls > 4:
            world.observation(f"new-high-{calls}", 3_599_000, trace="n").observation(f"new-low-{calls}", 1, trace="n")
        return original(path, params, **options)

    client.get = get  # type: ignore[method-assign]
    extract(client, lake, streams=["observations"])
    found = {row["id"] for row in rows(lake, "observations")}
    assert {f"o{number:04}" for number in range(300)} <= found
    assert any(name.startswith("new-low") for name in found)
