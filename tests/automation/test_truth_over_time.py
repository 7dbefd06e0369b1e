"""What changes late at the source arrives at the destinations, without anyone acting: one story each."""

from __future__ import annotations

from pathlib import Path

import pytest

from lf_dagster.warehouse import Warehouse
from tests.automation.rows import Life
from tests.automation.works import Works, tags_of, works


def day(works: Works, until: str, *, since: str = "2026-09-07T10:30") -> None:
    """The schedule at every minute 30, the sensor after it, an audit every other hour, as the daemon would."""
    works.at(since)
    while works.clock.now.isoformat() <= f"{until}:00+00:00":
        works.scheduled()
        works.settle()
        if works.clock.now.hour % 2 == 0:
            works.later(minutes=20).audit()
            works.settle()
            works.later(minutes=-20)
        works.later(hours=1)


@pytest.fixture
def life() -> Life:
    """One finished conversation: a root of user `u1` with one generation, and a score."""
    told = Life().span("root", "07T10:05", userId="u1", traceName="chat")
    return told.generation("call", "07T10:05:10", cost=0.5, userId="u1").score("s", "07T10:20", 0.25)


def test_an_edited_score_reaches_both_destinations_under_the_same_id(tmp_path: Path, life: Life):
    life.score("s", "07T10:20", 0.75, seen="07T13:45")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30") as world:
        day(world, "2026-09-07T11:30", since="2026-09-07T11:30")
        before = world.posthog_events()["score s"]
        assert before["properties"]["langfuse_score_value"] == 0.25

        day(world, "2026-09-07T15:30", since="2026-09-07T12:30")
        for events in (world.posthog_events(), world.mixpanel_events()):
            assert events["score s"]["properties"]["langfuse_score_value"] == 0.75
        after = world.posthog_events()["score s"]
        assert (after["uuid"], after["distinct_id"]) == (before["uuid"], "u1")
        assert len(world.posthog_events()) == len(world.mixpanel_events()) == 3


@pytest.mark.slow
def test_a_corrected_cost_is_seen_by_the_audit_before_any_revisit(tmp_path: Path, life: Life):
    life.generation("call", "07T10:05:10", cost=0.875, userId="u1", seen="08T02:10")
    revisits = {"reconcile": {"revisit_hours": [168]}}
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30", **revisits) as world:
        day(world, "2026-09-07T12:30", since="2026-09-07T11:30")
        world.at("2026-09-08T02:00").audit()
        assert {tags_of(request)[2] for request in world.settle()} == {"missing"}
        assert world.posthog_events()["generation call"]["properties"]["langfuse_cost_usd"] == 0.5

        world.at("2026-09-08T04:00").audit()
        asked = [tags_of(request) for request in world.settle() if "missing" not in tags_of(request)[2]]
        assert asked == [("2026-09-07-10:00", "2026-09-07-10:00", "source_changed")]
        for events in (world.posthog_events(), world.mixpanel_events()):
            assert events["generation call"]["properties"]["langfuse_cost_usd"] == 0.875
            assert events["trace t"]["properties"]["langfuse_cost_usd"] == 0.875


@pytest.mark.slow
def test_a_user_who_becomes_known_late_updates_the_events_and_doubles_none(tmp_path: Path):
    life = Life().span("root", "07T10:05", traceName="chat").generation("call", "07T10:05:10")
    life.span("root", "07T10:05", traceName="chat", userId="u9", seen="07T12:10")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30") as world:
        day(world, "2026-09-07T11:30", since="2026-09-07T11:30")
        before = world.posthog_events()
        assert before["trace t"]["properties"]["langfuse_user_id"] == "langfuse_unknown_user"

        day(world, "2026-09-07T14:30", since="2026-09-07T12:30")
        after = world.posthog_events()
        assert after.keys() == before.keys() == world.mixpanel_events().keys()
        for name in ("trace t", "generation call"):
            assert after[name]["properties"]["langfuse_user_id"] == "u9"
            assert world.mixpanel_events()[name]["properties"]["langfuse_user_id"] == "u9"
            assert after[name]["distinct_id"] == before[name]["distinct_id"] == after[name]["uuid"]
        found = world.account()
        assert [found.total(name, "identity_changed") for name in ("mixpanel", "posthog")] == [2, 2]
        assert "identity_changed" not in found.reasons(), "there is nothing left to do about it"


@pytest.mark.slow
def test_a_span_of_two_hours_arrives_after_its_hour_was_shipped(tmp_path: Path):
    life = Life().span("root", "07T10:40", minutes=120, userId="u1", traceName="agent", type="AGENT")
    life.generation("early", "07T10:50", userId="u1").generation("late", "07T12:20", userId="u1")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30") as world:
        day(world, "2026-09-07T11:30", since="2026-09-07T11:30")
        assert world.posthog_events()["trace t"]["properties"]["langfuse_count_observations"] == 1

        day(world, "2026-09-07T14:30", since="2026-09-07T12:30")
        for events in (world.posthog_events(), world.mixpanel_events()):
            trace = events["trace t"]["properties"]
            assert trace["langfuse_count_observations"] == 3
            assert trace["langfuse_trace_name"] == "agent"
            assert trace["langfuse_latency"] == 120 * 60_000
        assert len(world.posthog_events()) == 3


@pytest.mark.slow
def test_a_deleted_trace_leaves_the_tables_and_is_reported_as_delivered(tmp_path: Path, life: Life):
    life.span("other", "07T10:15", trace="kept", userId="u2").trace_deleted("t", "07T12:00")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30") as world:
        day(world, "2026-09-07T11:30", since="2026-09-07T11:30")
        assert "trace t" in world.posthog_events()

        day(world, "2026-09-07T14:30", since="2026-09-07T12:30")
        found = world.account()
        assert found.rows("deleted") == {"observations": 2, "scores": 1}
        assert [found.total(name, "deleted") for name in ("mixpanel", "posthog")] == [3, 3]
        assert [found.total(name, "events") for name in ("mixpanel", "posthog")] == [1, 1]
        assert "trace t" in world.posthog_events(), "nothing is deleted there unless asked for"


@pytest.mark.slow
def test_a_deleted_trace_is_stripped_at_posthog_when_that_is_asked_for(tmp_path: Path, life: Life):
    life.trace_deleted("t", "07T12:00")
    tombstones = {"posthog": {"on_delete": "tombstone"}}
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30", **tombstones) as world:
        day(world, "2026-09-07T14:30", since="2026-09-07T11:30")
        held = world.posthog.state.standin.store.events(view="merged")
        assert len(held) == 3
        for event in held:
            own = {key for key in event["properties"] if key.startswith("langfuse_")}
            assert own == {"langfuse_deleted"}
            assert event["properties"]["langfuse_deleted"] is True


@pytest.mark.slow
def test_a_score_that_comes_days_later_finds_its_trace(tmp_path: Path, life: Life):
    life.score("late", "10T09:00", 1.0)
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30") as world:
        for request in world.at("2026-09-10T10:50").ask():
            world.run(request)
        assert "score late" not in world.posthog_events(), "its trace may be in an hour that is not read yet"
        assert world.account().total("posthog", "awaiting") == 1

        world.settle()
        late = world.posthog_events()["score late"]
        assert (late["distinct_id"], late["properties"]["langfuse_trace_name"]) == ("u1", "chat")
        assert world.settled_until() == "2026-09-10-10:00"


def test_events_that_were_held_over_an_upgrade_are_made_again_before_they_are_sent(tmp_path: Path, life: Life):
    life.span("next", "07T11:05", trace="u")
    held = {"mixpanel": {"hold_hours": 2}, "posthog": None, "reconcile": {"revisit_hours": []}}
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30", **held) as world:
        day(world, "2026-09-07T11:30", since="2026-09-07T11:30")
        with Warehouse.of(world.settings, world.lake).connect() as con:
            # As an earlier version's table was, whose catalogue did not have the property.
            con.execute("ALTER TABLE warehouse.shop.trace_events DROP COLUMN langfuse_trace_name")
        assert world.at("2026-09-07T12:30").scheduled()
        assert world.mixpanel_events() == {}

        world.at("2026-09-07T13:10")
        assert tags_of(world.tick()[0]) == ("2026-09-07-10:00", "2026-09-07-10:00", "events_reshaped")
        assert world.mixpanel_events()["trace t"]["properties"]["langfuse_trace_name"] == "chat"
        assert world.ask() == []
