"""What a rerun sends: only what is new or changed, and never what would leave two events (I5, I6)."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.errors import FatalError
from tests.destinations.world import (
    HOUR,
    Event,
    World,
    balanced,
    events,
    mixpanel_events,
    only,
    posthog_events,
    prepare,
)


def test_all_events_of_an_hour_arrive_at_mixpanel_in_full_batches(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(4500))
    result = only(mixpanel.deliver())
    assert (result.events, result.delivered, result.sent, result.requests) == (4500, 4500, 4500, 3)
    assert len(mixpanel_events(mixpanel_app)) == len(mixpanel_events(mixpanel_app, "raw")) == 4500
    assert not mixpanel_app.state.standin.store.damage()


@pytest.mark.parametrize("protocol", ["v1", "batch"])
def test_all_events_of_an_hour_arrive_at_posthog_in_full_batches(
    posthog: World, posthog_app: Any, protocol: str
) -> None:
    posthog.options = {"protocol": protocol}
    posthog.put(events(2500))
    result = only(posthog.deliver())
    assert (result.events, result.delivered, result.sent, result.requests) == (2500, 2500, 2500, 3)
    assert len(posthog_events(posthog_app, "raw")) == 2500


def test_a_rerun_sends_nothing(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(30))
    mixpanel.deliver()
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.sent, result.unchanged, result.requests, result.delivered) == (0, 30, 0, 30)
    assert len(mixpanel_events(mixpanel_app, "raw")) == 30


def test_a_rerun_without_news_leaves_the_ledger_file_alone(mixpanel: World) -> None:
    mixpanel.put(events(3))
    mixpanel.deliver()
    path = mixpanel.ledger.files(HOUR).data
    assert path is not None
    before = Path(path).read_bytes()
    mixpanel.deliver(run="run-2")
    assert mixpanel.ledger.files(HOUR).parts == ()
    assert Path(path).read_bytes() == before


def test_resend_sends_everything_again_under_the_same_ids(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put([*events(5), Event(entity="hidden", skip_reason="filtered:environment")])
    mixpanel.deliver()
    result = only(mixpanel.deliver(run="run-2", resend=True))
    assert (result.sent, result.delivered, result.skipped) == (5, 5, 1)
    assert len(mixpanel_events(mixpanel_app, "raw")) == 10
    assert len(mixpanel_events(mixpanel_app, "query")) == 5


def test_only_the_changed_row_is_sent(posthog: World, posthog_app: Any) -> None:
    before = events(4)
    posthog.put(before)
    posthog.deliver()
    posthog.put([*before[:3], replace(before[3], properties={"cost": 2})])
    result = only(posthog.deliver(run="run-2"))
    assert (result.sent, result.unchanged, result.delivered) == (1, 3, 4)
    merged = posthog_events(posthog_app)
    assert len(merged) == 4
    assert [event for event in merged if event["properties"].get("cost") == 2]


def test_a_new_row_is_sent_and_the_old_ones_are_not(mixpanel: World) -> None:
    mixpanel.put(events(2))
    mixpanel.deliver()
    mixpanel.put(events(5))
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.sent, result.unchanged, result.delivered) == (3, 2, 5)


def test_a_row_that_left_the_source_is_marked_gone_and_not_counted(mixpanel: World) -> None:
    mixpanel.put(events(3))
    mixpanel.deliver()
    mixpanel.put(events(2))
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.events, result.delivered, result.gone, result.sent) == (2, 2, 1, 0)
    (gone,) = mixpanel.rows(where="gone_at IS NOT NULL")
    assert (gone["entity_id"], gone["status"]) == ("e2", "delivered")


def test_a_row_that_comes_back_unchanged_is_not_sent_again(mixpanel: World) -> None:
    for count in (3, 2):
        mixpanel.put(events(count))
        mixpanel.deliver()
    mixpanel.put(events(3))
    result = only(mixpanel.deliver(run="run-3"))
    assert (result.sent, result.delivered, result.gone) == (0, 3, 0)


def test_a_late_user_is_sent_to_mixpanel_under_the_delivered_key(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put([Event(entity="e0", user="")])
    mixpanel.deliver()
    mixpanel.put([Event(entity="e0", user="user-9", properties={"langfuse_user_id": "user-9"})])
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.sent, result.delivered, result.reasons) == (1, 1, {"identity_changed": 1})
    assert result.identity_changed == 1
    (event,) = mixpanel_events(mixpanel_app)
    assert (event["properties"]["distinct_id"], event["properties"]["langfuse_user_id"]) == ("", "user-9")
    (row,) = mixpanel.rows()
    assert row["delivered_identity"].startswith("|")
    assert row["identity"].startswith("user-9|")
    again = only(mixpanel.deliver(run="run-3"))
    assert (again.sent, again.unchanged, again.identity_changed) == (0, 1, 1)
    assert mixpanel.statuses() == {"e0": "delivered|identity_changed"}


@pytest.mark.parametrize("resend", [False, True])
def test_a_late_user_replaces_the_event_at_posthog_also_on_resend(
    posthog: World, posthog_app: Any, resend: bool
) -> None:
    posthog.put([Event(entity="e0", user="anonymous-trace")])
    posthog.deliver()
    posthog.put([Event(entity="e0", user="user-9", properties={"langfuse_user_id": "user-9"})])
    result = only(posthog.deliver(run="run-2", resend=resend))
    assert (result.sent, result.delivered, result.reasons) == (1, 1, {"identity_changed": 1})
    (event,) = posthog_events(posthog_app)
    assert (event["distinct_id"], event["properties"]["langfuse_user_id"]) == ("anonymous-trace", "user-9")


def test_an_identity_that_changes_back_is_delivered_again_without_sending(mixpanel: World) -> None:
    first = Event(entity="e0", user="user-1")
    counts = []
    for user in ("user-1", "user-2", "user-3", "user-1"):
        mixpanel.put([replace(first, user=user)])
        result = only(mixpanel.deliver())
        counts.append((result.sent, result.delivered, result.identity_changed))
        assert mixpanel.rows()[0]["identity"].startswith(f"{user}|")
    # What is sent says nothing of the user here, so the other user is only noted.
    assert counts == [(1, 1, 0), (0, 1, 1), (0, 1, 1), (0, 1, 0)]
    assert mixpanel.statuses() == {"e0": "delivered"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_trace_that_moves_to_another_hour_keeps_its_key_whichever_hour_runs_first(
    mixpanel: World, mixpanel_app: Any, order: tuple[int, int]
) -> None:
    trace = Event(entity="t1", kind="trace", hour=HOUR.shift(1))
    mixpanel.put([trace])
    mixpanel.deliver([HOUR.shift(1)])
    mixpanel.put([replace(trace, hour=HOUR, properties={"cost": 2})])
    results = {step: only(mixpanel.deliver([HOUR.shift(step)], run=f"run-{step}")) for step in order}
    assert (results[0].sent, results[0].delivered, results[0].reasons) == (1, 1, {"identity_changed": 1})
    assert (results[1].events, results[1].gone, results[1].deleted) == (0, 1, 0)
    (event,) = mixpanel_events(mixpanel_app)
    assert event["properties"]["cost"] == 2
    assert event["properties"]["time"] == int(HOUR.end.timestamp() * 1000)
    assert [row["reason"] for row in mixpanel.rows(HOUR.shift(1))] == ["moved"]
    assert [result.sent for result in mixpanel.deliver([HOUR, HOUR.shift(1)], run="again")] == [0, 0]


def test_a_trace_that_moves_within_a_range_run_is_not_doubled(mixpanel: World, mixpanel_app: Any) -> None:
    trace = Event(entity="t1", kind="trace", hour=HOUR.shift(1))
    hours = [HOUR, HOUR.shift(1)]
    mixpanel.put([trace])
    mixpanel.deliver(hours)
    mixpanel.put([replace(trace, hour=HOUR)])
    first, second = mixpanel.deliver(hours, run="run-2")
    assert (first.delivered, first.identity_changed, second.gone, second.deleted) == (1, 1, 1, 0)
    assert len(mixpanel_events(mixpanel_app)) == 1


def test_a_trace_that_moves_within_its_day_replaces_the_old_one_at_posthog(posthog: World, posthog_app: Any) -> None:
    trace = Event(entity="t1", kind="trace", hour=HOUR.shift(1))
    posthog.put([trace])
    posthog.deliver([HOUR.shift(1)])
    posthog.put([replace(trace, hour=HOUR)])
    result = only(posthog.deliver([HOUR]))
    assert (result.sent, result.delivered) == (1, 1)
    assert len(posthog_events(posthog_app)) == 1


def test_a_trace_that_moves_there_and_back_is_compared_with_what_was_sent_last(
    posthog: World, posthog_app: Any
) -> None:
    there = Event(entity="t1", kind="trace", hour=HOUR.shift(1), time_ms=int(HOUR.end.timestamp() * 1000))
    here = replace(there, hour=HOUR, properties={"cost": 2})
    for event in (there, here, there):
        posthog.put([event])
        results = posthog.deliver([HOUR, HOUR.shift(1)])
    assert [result.sent for result in results] == [0, 1]
    (stored,) = posthog_events(posthog_app)
    assert "cost" not in stored["properties"]


def test_a_generation_in_another_hour_is_an_event_of_its_own(mixpanel: World) -> None:
    mixpanel.put([Event(entity="g1", hour=HOUR.shift(1))])
    mixpanel.deliver([HOUR.shift(1)])
    mixpanel.put([Event(entity="g1", hour=HOUR)])
    assert only(mixpanel.deliver([HOUR])).delivered == 1


def test_a_filter_set_later_skips_what_was_delivered(mixpanel: World) -> None:
    mixpanel.put(events(2))
    mixpanel.deliver()
    mixpanel.put(events(2, skip_reason="filtered:tag"))
    result = only(mixpanel.deliver(run="run-2"))
    assert (result.skipped, result.delivered, result.sent) == (2, 0, 0)
    mixpanel.put(events(2))
    assert only(mixpanel.deliver(run="run-3")).delivered == 2


def test_an_hour_without_events_is_accounted_for(mixpanel: World) -> None:
    mixpanel.put([])
    result = only(mixpanel.deliver())
    assert (result.events, result.requests, balanced(result)) == (0, 0, True)
    facts = mixpanel.ledger.facts(HOUR)
    assert facts is not None
    assert (facts["events"], facts["outstanding"]) == ("0", "0")


def test_many_hours_are_reported_each_in_order(mixpanel: World) -> None:
    hours = [HOUR.shift(step) for step in range(-3, 1)]
    mixpanel.put([Event(entity=f"{hour.key}-{number}", hour=hour) for hour in hours[:3] for number in range(3)])
    seen: list[str] = []
    results = mixpanel.deliver(reversed(hours), on_hour=lambda result: seen.append(result.hour.key))
    assert [result.hour for result in results] == hours
    assert [result.events for result in results] == [3, 3, 3, 0]
    assert sorted(seen) == [hour.key for hour in hours]


def test_events_that_share_an_id_never_share_a_v1_request(posthog: World, posthog_app: Any) -> None:
    posthog.put(
        [
            *events(3),
            *(Event(entity=f"o{n}", kind="observation", shares_id_with=f"e{n}", offset_ms=n) for n in range(3)),
        ]
    )
    result = only(posthog.deliver())
    assert (result.delivered, result.requests) == (6, 2)
    assert len(posthog_events(posthog_app)) == 6


def test_requests_never_mix_days_or_historical_with_live_events(posthog: World, posthog_app: Any) -> None:
    # NOW is 2026-11-21 09:30: 48 h before lies within the hour 09 of the 19th.
    edge = HOUR.shift(-45)
    posthog.put([Event(entity=f"e{minute}", hour=edge, offset_ms=minute * 60_000) for minute in range(0, 60, 10)])
    result = only(posthog.deliver([edge]))
    assert (result.delivered, result.requests) == (6, 2)
    flags = [event.historical for event in posthog_app.state.standin.store.stored("raw")]
    assert sorted(flags) == [False, False, True, True, True, True]


def test_an_event_that_is_there_twice_in_one_hour_is_an_error_before_anything_is_sent(mixpanel: World) -> None:
    mixpanel.put([Event(entity="a"), Event(entity="b", shares_id_with="a")])
    with pytest.raises(Exception, match="2 times in one hour"):
        mixpanel.deliver()


def test_event_tables_that_do_not_exist_are_explained_without_quoting_the_statement(mixpanel: World) -> None:
    mixpanel.put([])
    mixpanel.prepare = lambda _: "SELECT *, 'the-salt' AS salt FROM warehouse.main.trace_events"
    with pytest.raises(FatalError, match="Table with name trace_events does not exist") as caught:
        mixpanel.deliver()
    assert "the-salt" not in "".join(traceback.format_exception(caught.value))


def test_a_value_that_cannot_be_converted_is_not_quoted(mixpanel: World) -> None:
    mixpanel.put(events(1))
    mixpanel.prepare = lambda protocol: f"SELECT * REPLACE ('a secret text'::INT AS time_ms) FROM ({prepare(protocol)})"
    with pytest.raises(FatalError, match="cannot be prepared: Conversion Error") as caught:
        mixpanel.deliver()
    assert "a secret text" not in "".join(traceback.format_exception(caught.value))


def test_preview_shows_what_a_delivery_would_do_and_does_nothing(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.put(events(2))
    mixpanel.deliver()
    mixpanel.put([*events(3), Event(entity="bad", event="", offset_ms=9)])
    shown = mixpanel.preview()
    assert [item["action"] for item in shown] == ["send", "unchanged", "unchanged", "invalid"]
    assert shown[0]["payload"]["properties"]["distinct_id"] == "user-1"
    assert len(mixpanel_events(mixpanel_app, "raw")) == 2
    assert len(mixpanel.rows()) == 2
