"""The life of a world: every kind of change has its own moment, is there after it and not before."""

import itertools
from collections import defaultdict
from datetime import date, datetime, timezone

import pytest

from lf_dagster.simulators.langfuse.store import NEVER
from lf_dagster.simulators.langfuse.values import epoch_ms
from lf_dagster.simulators.world import Ageing, WorldSettings, build_world

START = datetime(2026, 9, 7, tzinfo=timezone.utc)
HOUR_MS = 3_600_000
STILL = Ageing.none()


def aged(hours=8, traces=12, **shares):
    ageing = Ageing(**{"late": 0, "resent": 0, "edited": 0, "deleted": 0, "horizon_hours": 168, **shares})
    return build_world(WorldSettings(seed=4, start=START, hours=hours, traces_per_hour=traces, ageing=ageing))


@pytest.fixture(scope="module")
def lively():
    ageing = Ageing.lively(replayed_day=date(2026, 9, 7))
    return build_world(WorldSettings(seed=4, start=START, hours=30, traces_per_hour=8, ageing=ageing))


def versions(table):
    found = defaultdict(list)
    for version in table.versions:
        found[version.id].append(version)
    return {key: sorted(held, key=lambda version: version.visible_ms) for key, held in found.items()}


def seen(snapshot, entity_id):
    return [version.data for version in snapshot.versions if version.id == entity_id]


def visible_around(read, entity_id, moment):
    return seen(read(moment - 1), entity_id), seen(read(moment), entity_id)


def pairs(table):
    """Versions that were replaced, each with the version that replaced it."""
    return [pair for held in versions(table).values() for pair in itertools.pairwise(held)]


def test_a_lively_world_is_a_function_of_its_settings(lively):
    again = build_world(lively.settings)
    for ours, theirs in (
        (again.store.observations, lively.store.observations),
        (again.store.scores, lively.store.scores),
        (again.store.traces, lively.store.traces),
    ):
        for one, other in zip(ours.versions, theirs.versions, strict=True):
            assert (one.data, one.visible_ms, one.superseded_ms, one.deleted_ms) == (
                other.data,
                other.visible_ms,
                other.superseded_ms,
                other.deleted_ms,
            )


def test_nothing_happens_beyond_the_horizon(lively):
    began = {}
    for version in lively.store.observations.versions:
        began[version.trace_id] = min(began.get(version.trace_id, NEVER), version.event_ms)
    horizon = lively.settings.ageing.horizon_ms + 2 * HOUR_MS
    for version in (*lively.store.observations.versions, *lively.store.scores.versions):
        scored = "dataType" in version.data
        start = version.event_ms if scored else began[version.trace_id]
        assert version.visible_ms <= start + horizon
        if version.deleted_ms != NEVER:
            assert version.deleted_ms <= start + horizon
    assert max(version.visible_ms for version in lively.store.observations.versions) > lively.settings.end_ms


def test_offline_clients_are_late_but_not_beyond_the_horizon():
    ageing = Ageing(late=0.5, resent=0, edited=0, deleted=0, horizon_hours=8)
    world = build_world(WorldSettings(seed=4, start=START, hours=20, traces_per_hour=12, ageing=ageing))
    delays = [version.visible_ms - version.event_ms for version in world.store.observations.versions]
    assert 6 * HOUR_MS < max(delays) < 8 * HOUR_MS


def test_costs_are_corrected_under_the_same_id_and_time():
    store = aged(costs=0.5).store
    found = [(old, new) for old, new in pairs(store.observations) if old.data["costDetails"] != new.data["costDetails"]]
    assert len(found) > 20
    for old, new in found:
        before, after = visible_around(store.visible_observations, new.id, new.visible_ms)
        assert (before, after) == ([old.data], [new.data])
        same = ("startTime", "endTime", "usageDetails", "traceId", "userId")
        assert [old.data[key] for key in same] == [new.data[key] for key in same]
        assert new.data["updatedAt"] > old.data["updatedAt"]


def test_a_user_who_becomes_known_is_on_the_synthetic_row_alone_or_on_the_roots_sent_again():
    store = aged(attributed=0.5).store
    found = [(old, new) for old, new in pairs(store.observations) if new.data["userId"].startswith("known-")]
    ways = {new.id == f"t-{new.trace_id}" for _, new in found}
    assert ways == {True, False}
    for old, new in found:
        assert new.data["isRootObservation"]
        assert "known" in new.data["tags"]
        assert "known" not in old.data["tags"]
        before, after = visible_around(store.visible_observations, new.id, new.visible_ms)
        assert (before, after) == ([old.data], [new.data])
    for version in store.traces.versions:
        if "known" in version.data["tags"]:
            assert version.data["userId"].startswith("known-")


def test_scores_are_edited_removed_given_days_later_and_arrive_days_later():
    world = aged(hours=100, traces=3, edited=0.3, unscored=0.3, annotated=0.3, late_scores=0.3)
    store = world.store
    edits = pairs(store.scores)
    assert edits
    for old, new in edits:
        before, after = visible_around(store.visible_scores, new.id, new.visible_ms)
        assert (before, after) == ([old.data], [new.data])
        assert old.event_ms == new.event_ms
    removed = [version for version in store.scores.versions if version.deleted_ms < NEVER]
    assert removed
    for version in removed:
        before, after = visible_around(store.visible_scores, version.id, version.deleted_ms)
        assert (len(before), after) == (1, [])
    began = {version.id: version.event_ms for version in store.traces.versions}
    given = [version for version in store.scores.versions if version.id.endswith("-later")]
    assert max(version.event_ms - began.get(version.trace_id or "", NEVER) for version in given) > 48 * HOUR_MS
    assert all(version.event_ms < world.settings.end_ms for version in given)
    first = [held[0] for held in versions(store.scores).values()]
    assert max(version.visible_ms - epoch_ms(version.data["timestamp"]) for version in first) > 72 * HOUR_MS


def test_a_day_is_sent_again_at_one_moment_as_it_first_was():
    store = aged(hours=30, costs=0.3, replayed=0.5, replayed_day=date(2026, 9, 7)).store
    moments = defaultdict(list)
    for held in versions(store.observations).values():
        for version in held[1:]:
            moments[version.visible_ms].append((held[0], version))
    replay = max(moments, key=lambda moment: len(moments[moment]))
    assert len(moments[replay]) > 200
    for first, again in moments[replay]:
        assert again.data["startTime"].startswith("2026-09-07")
        moved = ("createdAt", "updatedAt")
        assert {key: value for key, value in again.data.items() if key not in moved} == {
            key: value for key, value in first.data.items() if key not in moved
        }


def test_children_of_a_long_agent_run_surface_hours_before_its_root():
    store = aged(hours=60, traces=8).store
    roots = [version for version in store.observations.versions if version.data["name"] == "nightly-report"]
    gaps = []
    for root in roots:
        children = [row for row in store.observations.versions if row.data["parentObservationId"] == root.id]
        gaps.append(root.visible_ms - min(child.visible_ms for child in children))
    assert max(gaps) > 2 * HOUR_MS


def test_a_deleted_trace_takes_its_rows_with_it():
    store = aged(deleted=0.3).store
    gone = {version.trace_id: version.deleted_ms for version in store.traces.versions if version.deleted_ms < NEVER}
    assert len(gone) > 10
    for trace_id, moment in gone.items():
        rows = [version for version in store.visible_observations(moment - 1).versions if version.trace_id == trace_id]
        left = [version for version in store.visible_observations(moment).versions if version.trace_id == trace_id]
        assert left == []
        assert rows or trace_id in {version.id for version in store.visible_traces(moment - 1).versions}


def test_a_still_world_has_one_version_of_everything():
    world = build_world(WorldSettings(seed=4, start=START, hours=4, traces_per_hour=8, ageing=STILL))
    for table in (world.store.observations, world.store.scores, world.store.traces):
        assert all(len(held) == 1 for held in versions(table).values())
