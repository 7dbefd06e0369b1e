"""What a destination shows over time: held events, changes that are kept back, and events that vanish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from lf_dagster.lake import Lake, Workspace
from lf_dagster.simulators.faults import Fault
from tests.destinations.world import (
    HOUR,
    NOW,
    Event,
    World,
    balanced,
    events,
    mixpanel_events,
    only,
    posthog_events,
)

BOTH_PROTOCOLS = pytest.mark.parametrize("protocol", ["v1", "batch"])
LATER = HOUR.end + timedelta(hours=24)
"""The first moment at which HOUR is 24 hours old."""


def facts(world: World) -> dict[str, str]:
    found = world.ledger.facts(HOUR)
    assert found is not None
    return found


# Hold


@pytest.mark.parametrize("destination", ["mixpanel", "posthog"])
def test_events_are_held_until_their_hour_is_old_enough(destination: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(destination)
    world.options = {"hold_hours": 24}
    world.put([*events(2), Event(entity="f", skip_reason="filtered:tag", offset_ms=9)])
    early = only(world.deliver(now=LATER - timedelta(milliseconds=1)))
    assert (early.sent, early.skipped, early.held, balanced(early)) == (0, 3, 2, True)
    assert early.reasons == {"held": 2, "filtered:tag": 1}
    assert facts(world)["held"] == "2"
    assert only(world.deliver(now=LATER - timedelta(hours=1), resend=True)).sent == 0
    late = only(world.deliver(run="run-2", now=LATER))
    assert (late.sent, late.delivered, late.skipped, late.held) == (2, 2, 1, 0)
    assert facts(world)["held"] == "0"


def test_an_event_that_was_delivered_before_is_updated_while_new_ones_are_held(
    mixpanel: World, mixpanel_app: Any
) -> None:
    mixpanel.put(events(1))
    mixpanel.deliver()
    mixpanel.options = {"hold_hours": 24}
    mixpanel.put([*events(1, properties={"cost": 2}), Event(entity="new", offset_ms=5), Event(entity="bad", event="")])
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.sent, result.delivered, result.held, result.rejected) == (1, 1, 2, 0)
    assert mixpanel_events(mixpanel_app)[0]["properties"]["cost"] == 2


def test_a_trace_that_another_hour_delivered_is_not_held(posthog: World, posthog_app: Any) -> None:
    trace = Event(entity="t1", kind="trace", hour=HOUR.shift(1))
    posthog.put([trace])
    posthog.deliver([HOUR.shift(1)])
    posthog.options = {"hold_hours": 24}
    posthog.put([replace(trace, hour=HOUR, properties={"cost": 2})])
    assert only(posthog.deliver([HOUR])).sent == 1
    assert [event["properties"]["cost"] for event in posthog_events(posthog_app)] == [2]


# Keeping changes back


def test_with_on_change_keep_what_mixpanel_has_stays_and_new_events_are_sent(
    mixpanel: World, mixpanel_app: Any
) -> None:
    mixpanel.options = {"on_change": "keep"}
    mixpanel.put(events(2))
    mixpanel.deliver()
    changed = [*events(2, properties={"cost": 2}), Event(entity="new", offset_ms=5)]
    mixpanel.put(changed)
    for sent in (1, 0):
        result = only(mixpanel.deliver(run="run-2"))
        assert (result.sent, result.delivered, result.kept_back) == (sent, 3, 2)
        assert (result.reasons, facts(mixpanel)["kept_back"]) == ({"change_kept_back": 2}, "2")
    assert len(mixpanel_events(mixpanel_app, "raw")) == 3

    resent = only(mixpanel.deliver(run="run-3", resend=True))
    assert (resent.sent, resent.delivered, resent.kept_back, resent.reasons) == (3, 3, 0, {})
    assert only(mixpanel.deliver(run="run-4")).sent == 0


def test_a_change_that_was_kept_back_is_sent_once_changes_are(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.options = {"on_change": "keep"}
    mixpanel.put(events(1))
    mixpanel.deliver()
    mixpanel.put(events(1, user="late", properties={"cost": 2}))
    kept = only(mixpanel.deliver())
    assert (kept.kept_back, kept.identity_changed) == (1, 1)
    mixpanel.options = {}
    assert only(mixpanel.deliver(run="run-2")).sent == 1
    assert [event["properties"]["cost"] for event in mixpanel_events(mixpanel_app)] == [2]
    assert mixpanel.statuses() == {"e0": "delivered|identity_changed"}


def test_a_change_that_goes_back_to_what_was_sent_is_no_longer_kept_back(mixpanel: World) -> None:
    mixpanel.options = {"on_change": "keep"}
    for properties in ({}, {"cost": 2}, {}):
        mixpanel.put(events(1, properties=properties))
        result = only(mixpanel.deliver())
    assert (result.unchanged, result.kept_back, result.reasons) == (1, 0, {})


# Deleted


def test_what_was_delivered_and_then_deleted_is_reported_and_told_from_what_never_left(mixpanel: World) -> None:
    mixpanel.put([*events(3), Event(entity="f", skip_reason="filtered:tag", offset_ms=9)])
    mixpanel.deliver()
    mixpanel.put(events(1))
    for _ in range(2):
        result = only(mixpanel.deliver(run="run-2"))
        assert (result.events, result.delivered, result.gone, result.deleted) == (1, 1, 3, 2)
        assert (facts(mixpanel)["gone"], facts(mixpanel)["deleted"]) == ("3", "2")
    gone = {row["entity_id"]: row["reason"] for row in mixpanel.rows(where="gone_at IS NOT NULL")}
    assert gone == {"e1": "deleted", "e2": "deleted", "f": "filtered:tag"}

    mixpanel.put(events(3))
    back = only(mixpanel.deliver(run="run-3"))
    assert (back.sent, back.delivered, back.deleted, back.reasons) == (0, 3, 0, {})


def test_an_observation_whose_time_moved_to_another_hour_has_moved(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"on_delete": "tombstone"}
    posthog.build(HOUR, HOUR.shift(1))
    posthog.put([Event(entity="g1", hour=HOUR.shift(1))])
    posthog.deliver([HOUR.shift(1)])
    posthog.put([Event(entity="g1", hour=HOUR, properties={"cost": 2})])
    result = only(posthog.deliver([HOUR.shift(1)]))
    assert (result.sent, result.gone, result.deleted) == (0, 1, 0)
    posthog.deliver([HOUR])
    assert [event["properties"].get("cost") for event in posthog_events(posthog_app)] == [2]


def test_a_trace_that_moved_and_was_deleted_then_counts_once(mixpanel: World) -> None:
    trace = Event(entity="t1", kind="trace", hour=HOUR.shift(1))
    hours = [HOUR, HOUR.shift(1)]
    mixpanel.put([trace])
    mixpanel.deliver(hours)
    mixpanel.put([replace(trace, hour=HOUR, properties={"cost": 2})])
    mixpanel.deliver([HOUR])
    mixpanel.put([])
    results = mixpanel.deliver(hours, run="run-3")
    assert [(result.gone, result.deleted) for result in results] == [(1, 1), (1, 0)]
    assert [(result.gone, result.deleted) for result in mixpanel.deliver(hours, run="run-4")] == [(1, 1), (1, 0)]


def test_a_deletion_turns_out_to_be_a_move_when_another_hour_takes_the_trace(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"on_delete": "tombstone"}
    trace = Event(entity="t1", kind="trace")
    posthog.build(HOUR, HOUR.shift(1))
    posthog.put([trace])
    posthog.deliver()
    posthog.put([])
    assert only(posthog.deliver()).deleted == 1
    posthog.put([replace(trace, hour=HOUR.shift(1), properties={"cost": 2})])
    assert only(posthog.deliver([HOUR.shift(1)])).sent == 1
    result = only(posthog.deliver())
    assert (result.gone, result.deleted, result.tombstoned, result.sent) == (1, 0, 0, 0)
    assert [event["properties"].get("cost") for event in posthog_events(posthog_app)] == [2]


def test_events_of_a_kind_that_is_no_longer_shipped_are_not_called_deleted(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"on_delete": "tombstone"}
    posthog.build(HOUR)
    posthog.put([Event(entity="o1", kind="observation")])
    posthog.deliver()
    posthog.put([])
    result = only(posthog.deliver())
    assert (result.gone, result.deleted, result.sent) == (1, 0, 0)
    assert [row["reason"] for row in posthog.rows()] == ["not_shipped"]


def test_deletions_that_an_earlier_version_only_called_gone_are_judged(mixpanel: World) -> None:
    mixpanel.put(events(2))
    mixpanel.deliver()
    mixpanel.put(events(1))
    mixpanel.deliver()
    path = mixpanel.ledger.files(HOUR).data
    with mixpanel.warehouse.connect(read_only=True) as con:
        con.execute(
            f"CREATE TABLE old AS SELECT * REPLACE (NULL::VARCHAR AS reason) "
            f"FROM read_parquet('{path}', hive_partitioning = false)"
        )
        con.execute(f"COPY old TO '{path}' (FORMAT parquet)")
    assert only(mixpanel.deliver(run="run-2")).deleted == 1


# Tombstones


def bury_one(world: World, protocol: str, **options: Any) -> None:
    """Two events are delivered, one of a known user and one of none; the first is deleted at the source."""
    world.options = {"protocol": protocol, "on_delete": "tombstone", **options}
    world.build(HOUR)
    world.put(events(2, properties={"secret": "text"}))
    world.deliver()
    world.put(events(2, properties={"secret": "text"})[1:])


@BOTH_PROTOCOLS
def test_a_tombstone_strips_the_event_of_everything_but_its_key_once(
    posthog: World, posthog_app: Any, protocol: str
) -> None:
    bury_one(posthog, protocol)
    result = only(posthog.deliver(run="run-2"))
    assert (result.sent, result.events, result.delivered) == (1, 1, 1)
    assert (result.gone, result.deleted, result.tombstoned) == (1, 1, 1)
    buried, other = sorted(posthog_events(posthog_app), key=lambda event: "secret" in event["properties"])
    own = {"$lib", "$lib_version", "$process_person_profile", "$geoip_disable"}
    assert {name: value for name, value in buried["properties"].items() if name not in own} == {
        "langfuse_deleted": True
    }
    assert buried["properties"]["$geoip_disable"] is True
    assert buried["distinct_id"] == other["distinct_id"] == "user-1"
    assert other["properties"]["secret"] == "text"
    stored = posthog_app.state.standin.store.stored("raw")[-1]
    assert (stored.person_processing, stored.damage) == (False, [])
    assert [row["reason"] for row in posthog.rows(where="gone_at IS NOT NULL")] == ["tombstoned"]
    again = only(posthog.deliver(run="run-3"))
    assert (again.sent, again.deleted, again.tombstoned) == (0, 1, 1)


@BOTH_PROTOCOLS
def test_an_event_that_returns_is_sent_whole_again(posthog: World, posthog_app: Any, protocol: str) -> None:
    bury_one(posthog, protocol)
    posthog.deliver(run="run-2")
    posthog.put(events(2, properties={"secret": "text"}))
    result = only(posthog.deliver(run="run-3"))
    assert (result.sent, result.delivered, result.gone, result.deleted) == (1, 2, 0, 0)
    assert [event["properties"].get("secret") for event in posthog_events(posthog_app)] == ["text", "text"]
    assert only(posthog.deliver(run="run-4")).sent == 0


def test_deletions_are_buried_later_when_tombstones_are_turned_on(posthog: World, posthog_app: Any) -> None:
    bury_one(posthog, "v1", on_delete="keep")
    kept = only(posthog.deliver(run="run-2"))
    assert (kept.sent, kept.deleted, kept.tombstoned) == (0, 1, 0)
    posthog.options = {**posthog.options, "on_delete": "tombstone"}
    assert only(posthog.deliver(run="run-3")).tombstoned == 1


def test_tombstones_of_events_that_share_an_id_never_share_a_v1_request(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"protocol": "v1", "on_delete": "tombstone"}
    posthog.build(HOUR)
    posthog.put([Event(entity="g", kind="generation"), Event(entity="s", kind="score", shares_id_with="g")])
    posthog.deliver()
    posthog.put([])
    result = only(posthog.deliver(run="run-2"))
    assert (result.tombstoned, result.requests, result.events) == (2, 2, 0)
    assert all(event["properties"].get("langfuse_deleted") for event in posthog_events(posthog_app))


def test_an_hour_that_was_never_modelled_buries_nothing(posthog: World, posthog_app: Any) -> None:
    posthog.options = {"on_delete": "tombstone"}
    posthog.put(events(2))
    posthog.deliver()
    posthog.put([])
    result = only(posthog.deliver(run="run-2"))
    assert (result.sent, result.gone, result.deleted) == (0, 2, 2)
    posthog.build(HOUR)
    assert only(posthog.deliver(run="run-3")).tombstoned == 2


def test_a_tombstone_that_is_refused_leaves_the_event_deleted_and_is_tried_again(
    posthog: World, posthog_app: Any
) -> None:
    bury_one(posthog, "batch")
    posthog_app.state.faults.add(Fault(status=400, body="no", content_type="text/plain", path="/batch/", nth=1))
    refused = only(posthog.deliver(run="run-2"))
    assert (refused.deleted, refused.tombstoned, refused.rejected) == (1, 0, 0)
    again = only(posthog.deliver(run="run-3"))
    assert (again.sent, again.tombstoned) == (1, 1)


class Crash(BaseException):
    """The process ends here, as far as the code can tell."""


@pytest.mark.slow
@pytest.mark.parametrize("step", range(5))
def test_a_crash_while_burying_is_healed_by_a_rerun(posthog: World, posthog_app: Any, step: int) -> None:
    bury_one(posthog, "v1")
    with pytest.MonkeyPatch.context() as patch:
        crash_after(patch, step)
        try:
            posthog.deliver(run="crashed")
        except Crash:
            pass
        else:
            assert step > 0
    result = only(posthog.deliver(run="run-3"))
    assert (result.events, result.delivered, result.deleted, result.tombstoned) == (1, 1, 1, 1)
    assert len(posthog_events(posthog_app, "raw")) <= 2 + 2
    assert sum("langfuse_deleted" in event["properties"] for event in posthog_events(posthog_app)) == 1
    assert not posthog.ledger.unfinished(HOUR)


def crash_after(patch: pytest.MonkeyPatch, step: int) -> None:
    """Crash right after the step-th change of the lake."""
    made: list[None] = []

    def crashing(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*args: Any) -> None:
            change(*args)
            made.append(None)
            if len(made) == step + 1:
                raise Crash

        return changed

    patch.setattr(Workspace, "commit", crashing(Workspace.commit))
    patch.setattr(Lake, "remove", crashing(Lake.remove))


# Which build was looked at


def test_the_ledger_says_which_build_of_the_events_it_looked_at_also_when_nothing_changed(mixpanel: World) -> None:
    mixpanel.put(events(2))
    mixpanel.deliver()
    assert "events_build" not in facts(mixpanel)
    first = mixpanel.build(HOUR, HOUR.shift(1))
    mixpanel.deliver([HOUR, HOUR.shift(1)], run="run-2", clock=lambda: NOW)
    assert facts(mixpanel)["events_build"] == first
    assert datetime.fromisoformat(facts(mixpanel)["delivered_at"]) == NOW
    second = mixpanel.build(HOUR)
    result = only(mixpanel.deliver(run="run-3"))
    assert (result.sent, result.unchanged) == (0, 2)
    assert (facts(mixpanel)["events_build"], facts(mixpanel)["run_id"]) == (second, "run-3")
    other = mixpanel.ledger.facts(HOUR.shift(1))
    assert other is not None
    assert other["events_build"] == first


def test_an_hour_with_events_outstanding_does_not_claim_its_build(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.options = {"batch_events": 2, "parallel_requests": 1}
    mixpanel.put(events(4))
    build = mixpanel.build(HOUR)
    mixpanel_app.state.faults.add(Fault(status=401, body="{}", content_type="application/json", nth=2))
    with pytest.raises(Exception, match="credentials"):
        mixpanel.deliver()
    assert facts(mixpanel)["outstanding"] == "2"
    assert "events_build" not in facts(mixpanel)
    mixpanel.deliver(run="run-2")
    assert facts(mixpanel)["events_build"] == build
