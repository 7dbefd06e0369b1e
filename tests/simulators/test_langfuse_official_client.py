"""Langfuse's own Python client reads the stand-in on both API generations."""

import json
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest
from langfuse.api import LangfuseAPI
from langfuse.api.core.api_error import ApiError

from lf_dagster.simulators.langfuse import create_app, load_recorded
from lf_dagster.simulators.world import WorldSettings, build_world

RECORDED = Path(__file__).parents[1] / "data" / "langfuse" / "recorded.json.gz"
WINDOW = (datetime(2026, 11, 21, tzinfo=timezone.utc), datetime(2026, 11, 21, 6, 30, tzinfo=timezone.utc))
ALL_GROUPS = "core,basic,time,io,metadata,model,usage,prompt,metrics,trace_context"


@pytest.fixture(scope="module")
def recorded():
    return load_recorded(RECORDED)


@pytest.fixture
def api_of(origin_of):
    clients = []

    def build(store, **options):
        clients.append(httpx.Client(timeout=30))
        origin = origin_of(create_app(store, **options))
        return LangfuseAPI(base_url=origin, username="pk-lf-local", password="sk-lf-local", httpx_client=clients[-1])

    yield build
    for client in clients:
        client.close()


def observations_of(api, **query):
    cursor = None
    while True:
        page = api.observations.get_many(limit=400, cursor=cursor, fields=ALL_GROUPS, **query)
        yield from page.data
        cursor = page.meta.cursor
        if cursor is None:
            return


def scores_of(api, **query):
    cursor = None
    while True:
        page = api.scores_v3.get_many_v3(limit=100, cursor=cursor, fields="core,details,subject,annotation", **query)
        yield from page.data
        cursor = page.meta.cursor
        if cursor is None:
            return


def pages(call, **query):
    page = 1
    while True:
        answer = call(page=page, limit=100, **query)
        yield from answer.data
        if page >= answer.meta.total_pages:
            return
        page += 1


def test_the_new_generation_reads_completely(api_of, recorded):
    api = api_of(recorded)
    rows = list(observations_of(api, from_start_time=WINDOW[0], to_start_time=WINDOW[1]))
    assert len({row.id for row in rows}) == len(rows) == 1320
    assert round(sum(row.total_cost or 0 for row in rows), 9) == 0.802981250
    assert len(list(scores_of(api))) == 235


def test_the_legacy_generation_reads_completely(api_of, recorded):
    api = api_of(recorded, unstable_ties=False)
    traces = list(pages(api.trace.list, order_by="id.asc"))
    assert len({trace.id for trace in traces}) == len(traces) == 319
    rows = list(pages(api.legacy.observations_v1.get_many))
    assert len({row.id for row in rows}) == 1242
    assert len({score.id for score in pages(api.scores.get_many)}) == 235
    one = api.trace.get(traces[0].id)
    assert {row.trace_id for row in one.observations} == {traces[0].id}


def test_projects_health_and_metrics_are_understood(api_of, recorded):
    api = api_of(recorded)
    assert api.projects.get().data[0].name == "LF Project"
    assert api.health.health().version == "4.16.0"
    query = {
        "view": "observations",
        "metrics": [{"measure": "count", "aggregation": "count"}],
        "timeDimension": {"granularity": "hour"},
        "fromTimestamp": "2026-11-21T00:00:00Z",
        "toTimestamp": "2026-11-21T06:59:59.999Z",
    }
    rows = api.metrics.metrics(query=json.dumps(query)).data
    assert [row["count_count"] for row in rows] == [231, 214, 234, 212, 223, 205, 1]


def test_refusals_arrive_as_the_clients_errors(api_of, recorded):
    api = api_of(recorded, mode="v4-events_only")
    with pytest.raises(ApiError) as refused:
        api.trace.list()
    assert refused.value.status_code == 404
    with pytest.raises(ApiError) as refused:
        api.observations.get_many(limit=1001)
    assert refused.value.status_code == 400


def test_a_generated_world_reads_alike_on_both_generations(api_of):
    world = build_world(WorldSettings(seed=5, hours=2))
    # A page boundary inside rows of equal time loses some of them on the legacy side; that is another test.
    api = api_of(world.store, clock=lambda: world.settings.settled_seconds, unstable_ties=False)
    new = {row.id: row for row in observations_of(api) if row.id != f"t-{row.trace_id}"}
    old = {row.id: row for row in pages(api.legacy.observations_v1.get_many)}
    assert new.keys() == old.keys()
    moved = {key for key in new if new[key].start_time != old[key].start_time}
    assert len(moved) <= 2
    for key in new.keys() - moved:
        assert (new[key].name or None) == old[key].name
        assert new[key].usage_details == old[key].usage_details
    scores = {score.id for score in scores_of(api)}
    assert {score.id for score in pages(api.scores.get_many, fields="score")} == scores
    assert list(pages(api.trace.list, fields="core,io,scores,observations,metrics", order_by="id.asc"))
