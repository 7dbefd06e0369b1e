"""The legacy read path: every row once although its lists shift and its ties dance (I1)."""

from __future__ import annotations

import json
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lf_dagster.errors import ServiceUnavailable
from lf_dagster.lake import Lake
from lf_dagster.simulators.faults import Fault
from tests.source.conftest import HOUR, Connect, Standin, World, extract, milliseconds, rows

pytestmark = pytest.mark.usefixtures("every_worker")

instants = st.sampled_from([0, 1, 2, 1_800_000, 3_599_998, 3_599_999])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    observations=st.lists(instants, max_size=40),
    traces=st.lists(instants, max_size=40),
    scores=st.lists(instants, max_size=40),
    page_size=st.sampled_from([1, 3, 7, 50, 100]),
    parallel=st.integers(1, 4),
)
def test_any_world_is_read_whole_at_any_page_size(
    running_standin: Standin,
    connect: Connect,
    observations: list[int],
    traces: list[int],
    scores: list[int],
    page_size: int,
    parallel: int,
):
    world = World()
    for number, at in enumerate(observations):
        world.observation(f"o{number}", at, name="old").observation(f"o{number}", at, name="new", updated=1)
    for number, at in enumerate(traces):
        world.trace(f"t{number}", at)
    for number, at in enumerate(scores):
        world.score(f"s{number}", at)
    running_standin.use(world, mode="v3-legacy")
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        extract(connect(page_size=page_size, parallel_requests=parallel), lake)
        found = {stream: rows(lake, stream) for stream in ("observations", "traces", "scores")}
    for stream, times in (("observations", observations), ("traces", traces), ("scores", scores)):
        placed = sorted(((at, f"{stream[0]}{number}") for number, at in enumerate(times)), reverse=True)
        assert [(milliseconds(row["event_time"]), row["id"]) for row in found[stream]] == placed
    assert {json.loads(row["json"])["name"] for row in found["observations"]} <= {"new"}


def crowded(count: int = 1000, *, instants: int = 10) -> World:
    world = World()
    for number in range(count):
        at = number % instants * (3_600_000 // instants)
        world.observation(f"o{number:04}", at, trace=f"t{number % 300}").trace(f"t{number:04}", at)
        world.score(f"s{number:04}", at)
    return world


def test_more_rows_in_one_millisecond_than_a_page_are_all_found(standin: Standin, connect: Connect, lake: Lake):
    # 10 instants with 250 rows each; a page holds 100, and ties are served in another order on every page.
    standin.use(crowded(2500), mode="v3-legacy")
    for found in extract(connect(), lake):
        assert (found.rows, found.duplicates) == (2500, 0)
        assert found.read_path == "legacy"


def test_a_quiet_hour_takes_one_request_per_stream_and_a_busy_one_hardly_more_than_its_pages(
    standin: Standin, connect: Connect, lake: Lake
):
    standin.use(World().trace("t", 1).observation("o", 1).score("s", 1), mode="v3-legacy")
    assert [found.requests for found in extract(connect(), lake)] == [1, 1, 1]
    standin.use(crowded(900, instants=900), mode="v3-legacy")
    found = extract(connect(parallel_requests=1), lake)
    assert [item.rows for item in found] == [900, 900, 900]
    assert [item.requests for item in found] == [10, 10, 10]


def test_traces_come_with_metadata_and_metrics(standin: Standin, connect: Connect, lake: Lake):
    world = World().trace("t", 1, metadata={"k": "v"}, userId="u").observation("o", 2, trace="t")
    standin.use(world, mode="v3-legacy")
    extract(connect(), lake)
    [row] = rows(lake, "traces")
    body = json.loads(row["json"])
    assert (row["id"], row["trace_id"], row["read_path"]) == ("t", "t", "legacy")
    assert body["metadata"] == {"k": "v"}
    assert body["totalCost"] != -1
    assert body["latency"] != -1


def test_scores_of_missing_traces_are_read_too(standin: Standin, connect: Connect, lake: Lake):
    standin.use(World().score("s", 1, traceId="gone").trace("t", 1), mode="v3-legacy")
    extract(connect(), lake)
    assert [row["trace_id"] for row in rows(lake, "scores")] == ["gone"]


def test_a_deprecation_notice_is_tolerated(standin: Standin, connect: Connect, lake: Lake):
    standin.use(World().trace("t", 1), mode="cloud-old-org")
    extract(connect(read_path="legacy"), lake)
    assert len(rows(lake, "traces")) == 1


def test_rows_that_arrive_or_vanish_during_the_walk_do_not_hide_others(standin: Standin, connect: Connect, lake: Lake):
    world = crowded(400, instants=400)
    standin.use(world, mode="v3-legacy")
    client = connect(page_size=20, parallel_requests=1)
    original, calls = client.get, 0

    def get(path: str, params: Any = None, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if path == "observations" and calls > 4:
            world.observation(f"new-{calls}", 3_599_000 + calls, trace="n")
            world.gone(f"o{399 - calls:04}")
        return original(path, params, **options)

    client.get = get  # type: ignore[method-assign]
    extract(client, lake, streams=["observations"])
    found = {row["id"] for row in rows(lake, "observations")}
    untouched = {f"o{number:04}" for number in range(300)}
    assert untouched <= found


def test_an_instant_that_never_comes_out_whole_is_an_error_and_not_a_short_file(
    standin: Standin, connect: Connect, lake: Lake
):
    world = World()
    for number in range(150):
        world.score(f"s{number}", 5)
    standin.use(world, mode="v3-legacy")
    client = connect()
    answer = Fault(path="/api/public/v2/scores", status=200, content_type="application/json")
    standin.faults.add(replace(answer, body=_page([f"s{number}" for number in range(100)])))
    standin.faults.add(replace(answer, body=_page(["the same"] * 30), times=None))
    with pytest.raises(ServiceUnavailable, match="and others never") as caught:
        extract(client, lake, streams=["scores"])
    assert caught.value.context["window"] == "2025-08-21T06:00:00.005Z .. 2025-08-21T06:00:00.006Z"
    assert caught.value.context["hour"] == "2025-08-21-06:00"
    assert not lake.extract_exists("p", "scores", HOUR)


def _page(ids: list[str]) -> str:
    page = [{"id": name, "timestamp": "2025-08-21T06:00:00.005Z"} for name in ids]
    return json.dumps({"data": page, "meta": {"totalItems": 150}})
