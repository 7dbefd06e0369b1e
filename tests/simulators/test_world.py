"""The generated world: deterministic, complete in both generations, and changing over time as announced."""

import collections
from datetime import datetime, timedelta, timezone

import httpx
import pytest

from lf_dagster.simulators.langfuse import NEVER, create_app
from lf_dagster.simulators.langfuse.values import epoch_ms
from lf_dagster.simulators.world import Ageing, WorldSettings, build_world, bulk_store

AUTH = ("pk-lf-local", "sk-lf-local")
START = datetime(2026, 11, 20, tzinfo=timezone.utc)
HOUR_MS = 3_600_000
FIELDS = "core,basic,time,metadata,model,usage,prompt,trace_context"
RESTLESS = Ageing(late=0.2, resent=0.2, edited=0.2, deleted=0.05, horizon_hours=10)


@pytest.fixture(scope="module")
def world():
    return build_world(WorldSettings(seed=11, start=START, hours=5, traces_per_hour=60, ageing=RESTLESS))


@pytest.fixture
def client_of(origin_of):
    clients = []

    def build(store, **options):
        clients.append(httpx.Client(base_url=origin_of(create_app(store, **options)), auth=AUTH, timeout=30))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


def walk(client, path="v2/observations", **query):
    rows, cursor = [], None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        body = client.get(f"/api/public/{path}", params={**query, **more}).json()
        rows += body["data"]
        cursor = body["meta"].get("cursor")
        if cursor is None:
            return rows


def everything(world, at_seconds):
    bounds = (world.settings.start_ms - 100 * HOUR_MS, world.settings.start_ms + 100 * HOUR_MS)
    return (
        world.observation_ids(*bounds, at_seconds=at_seconds),
        world.score_ids(*bounds, at_seconds=at_seconds),
        world.trace_ids(*bounds, at_seconds=at_seconds),
    )


def test_equal_settings_give_equal_worlds_and_other_seeds_other_ones(world):
    again = build_world(world.settings)
    pairs = zip(again.store.observations.versions, world.store.observations.versions, strict=True)
    assert all(ours.data == theirs.data and ours.visible_ms == theirs.visible_ms for ours, theirs in pairs)
    other = build_world(WorldSettings(seed=12, start=START, hours=1, traces_per_hour=60))
    ids = {version.id for version in world.store.observations.versions}
    assert ids.isdisjoint({version.id for version in other.store.observations.versions if "-" not in version.id})


def test_a_longer_world_contains_the_shorter_one(world):
    settings = WorldSettings(seed=11, start=START + timedelta(hours=2), hours=1, traces_per_hour=60, ageing=RESTLESS)
    part = build_world(settings)
    whole = {(version.id, version.visible_ms) for version in world.store.observations.versions}
    assert {(version.id, version.visible_ms) for version in part.store.observations.versions} <= whole


def test_the_world_shows_what_readers_stumble_over(world):
    rows = [version.data for version in world.store.observations.versions]
    by_id = {row["id"]: row for row in rows}
    kinds = {row["type"] for row in rows}
    assert len(kinds) == 10
    assert {row["level"] for row in rows} >= {"ERROR", "WARNING", "DEBUG", "DEFAULT"}
    assert any(row["id"] == f"t-{row['traceId']}" for row in rows)
    assert any(row["environment"].startswith("langfuse-") for row in rows)
    assert any(row["parentObservationId"] and row["parentObservationId"] not in by_id for row in rows)
    assert any(row["isRootObservation"] and row["parentObservationId"] for row in rows)
    assert any(row["endTime"] is not None and row["endTime"] < row["startTime"] for row in rows)
    assert any(row["endTime"] is None and row["type"] == "SPAN" for row in rows)
    assert any(row["costDetails"] and "total" not in row["costDetails"] for row in rows)
    assert any(len(text) > 200 for row in rows for text in row["metadata"].values())
    assert any(row["userId"] == "" for row in rows)
    assert any(not row["traceId"].isascii() for row in rows)
    assert any("/" in row["traceId"] for row in rows)
    metadata_keys = {key for row in rows for key in row["metadata"]}
    assert {"$posthog_session_id", "$mixpanel_session_id"} <= metadata_keys
    hours = collections.defaultdict(set)
    for row in rows:
        hours[row["traceId"]].add(row["startTime"][:13])
    assert any(len(found) > 1 for found in hours.values())


def test_the_scores_cover_every_type_and_subject(world):
    rows = [version.data for version in world.store.scores.versions]
    assert {row["dataType"] for row in rows} == {"NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "CORRECTION"}
    assert {row["source"] for row in rows} == {"API", "EVAL", "ANNOTATION"}
    assert any(row["sessionId"] for row in rows)
    assert any(row["observationId"] for row in rows)
    assert any(row["datasetRunId"] for row in rows)
    traces = {version.id for version in world.store.traces.versions}
    assert any(row["traceId"] and row["traceId"] not in traces for row in rows)


def test_both_generations_serve_exactly_what_the_world_holds(world, client_of):
    end = world.settings.settled_seconds
    client = client_of(world.store, clock=lambda: end)
    observed, scored, traced = everything(world, end)
    assert {row["id"] for row in walk(client, limit=400, fields=FIELDS)} == observed
    assert {row["id"] for row in walk(client, "v3/scores", limit=100)} == scored
    pages = client.get("/api/public/traces", params={"limit": 100}).json()["meta"]["totalPages"]
    listed = [
        row["id"]
        for page in range(1, pages + 1)
        for row in client.get("/api/public/traces", params={"limit": 100, "page": page, "orderBy": "id.asc"}).json()[
            "data"
        ]
    ]
    assert sorted(listed) == sorted(traced)
    total = client.get("/api/public/observations", params={"limit": 1}).json()["meta"]["totalItems"]
    assert total == len({row for row in observed if not row.startswith("t-")})


def test_what_a_reader_sees_grows_changes_and_shrinks_with_the_clock(world, client_of):
    now = [world.settings.start_ms / 1000 - 1]
    client = client_of(world.store, clock=lambda: now[0])
    window = {"fromStartTime": "2026-11-20T00:00:00Z", "toStartTime": "2026-11-20T01:00:00Z"}
    assert walk(client, **window) == []
    seen = {}
    history = []
    for hours in (1, 2, 12, 60):
        now[0] = world.settings.start_ms / 1000 + hours * 3600
        rows = {row["id"]: row["updatedAt"] for row in walk(client, limit=300, fields="core,time", **window)}
        history.append(
            (rows.keys() - seen.keys(), seen.keys() - rows.keys(), {k for k in rows if seen.get(k, rows[k]) != rows[k]})
        )
        seen = rows
    new, gone, changed = (set().union(*(step[index] for step in history[1:])) for index in range(3))
    assert new
    assert gone
    assert changed


def test_a_span_surfaces_after_its_end_and_some_traces_hours_later(world):
    first = {version.id: version for version in reversed(world.store.observations.versions)}
    delays = [
        version.visible_ms - epoch_ms(version.data["endTime"] or version.data["startTime"])
        for version in first.values()
        if (version.data["endTime"] or "9") >= version.data["startTime"]
    ]
    assert min(delays) > 0
    assert sum(delay > HOUR_MS for delay in delays) > len(delays) / 20
    assert max(delays) > 8 * HOUR_MS


def test_nothing_happens_in_a_world_without_ageing_once_its_data_arrived():
    calm = build_world(WorldSettings(seed=3, hours=2, ageing=Ageing.none()))
    ids = collections.Counter(version.id for version in calm.store.observations.versions)
    assert set(ids.values()) == {1}
    last = (calm.settings.start_ms + 8 * HOUR_MS) / 1000
    assert everything(calm, last) == everything(calm, calm.settings.settled_seconds)


def test_duplicates_stay_when_they_are_never_merged():
    settings = WorldSettings(seed=11, start=START, hours=2, merge_delay_ms=NEVER, ageing=RESTLESS)
    world = build_world(settings)
    visible = world.store.visible_observations(int(settings.settled_seconds * 1000)).versions
    assert len(visible) > len({version.id for version in visible})


def test_a_world_starts_at_a_whole_hour():
    with pytest.raises(ValueError, match="whole hour"):
        WorldSettings(start=START + timedelta(minutes=5))


def test_a_bulk_hour_serves_the_same_bytes_that_its_columns_would_give(client_of):
    store = bulk_store(hour=START, observations=3000, templates=40)
    versions = store.observations.versions
    assert len(versions) >= 3000
    assert len({version.id for version in versions}) == len(versions)
    client = client_of(store)
    window = {"fromStartTime": "2026-11-20T00:00:00Z", "toStartTime": "2026-11-20T01:00:00Z"}
    for fields in (FIELDS, "core", "core,basic,io,metadata"):
        rows = walk(client, limit=1000, fields=fields, **window)
        assert len(rows) == len(versions)
    stored = {version.id: version.data for version in versions}
    for row in rows:
        data = stored[row["id"]]
        for key in ("traceId", "startTime", "endTime", "parentObservationId", "name", "input"):
            assert row[key] == data[key]
    assert {len(row["traceId"]) for row in rows if "-" not in row["traceId"]} == {32}
    parents = {row["parentObservationId"] for row in rows if (row["parentObservationId"] or "").startswith("t-")}
    assert parents
    assert parents <= {row["id"] for row in rows}


def test_a_bulk_hour_has_the_legacy_generation_too(client_of):
    store = bulk_store(hour=START, observations=1000, templates=40)
    client = client_of(store)
    traces = client.get("/api/public/traces", params={"limit": 100, "orderBy": "id.asc"}).json()
    assert traces["meta"]["totalItems"] == len(store.traces.versions)
    observed = client.get("/api/public/observations", params={"limit": 100}).json()["data"]
    known = {version.id for version in store.observations.versions}
    assert {row["id"] for row in observed} <= known
    listed = {entry for row in traces["data"] for entry in row["observations"]}
    assert listed <= known
