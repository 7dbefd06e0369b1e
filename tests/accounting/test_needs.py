"""What each hour needs, from what is held of it alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lf_dagster.accounting import REASONS, BrokenFile, Delivery, Holding, Need
from lf_dagster.accounting.needs import needs_of, revisit_at, state_of
from tests.accounting.hours import READ_AT, H, at, delivery, project, settled

SOON = READ_AT + timedelta(minutes=5)
TYPED, EVENTS = settled().typed, settled().events
assert TYPED is not None
assert EVENTS is not None


def needs(holding: Holding, look=None, **explicit):
    found = needs_of(holding, project(**explicit), look or at(SOON))
    assert all(need.reason in REASONS for need in found)
    return found


def test_an_hour_that_lacks_nothing_is_settled():
    assert needs(settled()) == ()
    assert state_of(()) == "settled"


def test_an_hour_without_both_extracts_is_missing():
    half = replace(settled(), extracts={"observations": settled().extracts["observations"]})
    for holding in (Holding(H), half):
        assert needs(holding) == (Need("raw", "missing"),)
    assert state_of(needs(Holding(H))) == "missing"


@pytest.mark.parametrize(
    ("changed", "need"),
    [
        ({"typed": None}, Need("typed", "not_modelled")),
        ({"typed": replace(TYPED, inputs="other")}, Need("typed", "extract_newer")),
        ({"typed": replace(TYPED, stale_since=SOON)}, Need("typed", "touched")),
        ({"events": None}, Need("events", "events_behind")),
        ({"events": replace(EVENTS, inputs="typed-0")}, Need("events", "events_behind")),
    ],
)
def test_models_that_are_behind_are_rerun_from_the_first_layer_that_is(changed, need):
    assert needs(replace(settled(), **changed)) == (need,)
    assert state_of((need,)) == "stale"


@pytest.mark.parametrize(
    ("ledger", "reason"),
    [
        (Delivery(), "undelivered"),
        (Delivery(None, unmerged=True), "unfinished"),
        (Delivery({"events_build": "events-1"}, unmerged=True), "unfinished"),
        (Delivery({"events_build": "events-1", "outstanding": "2"}), "unfinished"),
        (Delivery({"events_build": "events-0"}), "events_newer"),
        (Delivery({}), "events_newer"),
    ],
)
def test_one_destination_that_lacks_something_does_not_bother_the_other(ledger, reason):
    found = needs(delivery(settled(), "posthog", ledger))
    assert found == (Need("posthog", reason),)
    assert state_of(found) == "undelivered"


@pytest.mark.parametrize("age", [3, 24, 168])
def test_an_hour_is_read_again_once_at_each_age(age):
    due = revisit_at(H, age)
    before = settled(read_at=due - timedelta(minutes=10))
    assert needs(before, at(due - timedelta(minutes=1))) == ()
    assert needs(before, at(due)) == (Need("raw", "revisit"),)
    assert needs(settled(read_at=due + timedelta(minutes=1)), at(due + timedelta(minutes=2))) == ()


def test_revisits_of_neighbours_fall_together_and_are_late_by_a_sixth_of_the_age_at_most():
    day = [H.shift(step) for step in range(48)]
    for age, together in ((1, 1), (3, 1), (12, 2), (24, 4), (168, 24)):
        moments = [revisit_at(hour, age) for hour in day]
        late = [moment - hour.end - timedelta(hours=age) for hour, moment in zip(day, moments, strict=True)]
        assert min(late) == timedelta(0)
        assert max(late) == timedelta(hours=together - 1)
        assert {moments.count(moment) for moment in set(moments[24:-24] or moments)} <= set(range(1, together + 1))


def test_an_age_that_passed_unseen_still_asks_and_history_read_late_does_not():
    long_after = H.end + timedelta(days=30)
    assert needs(settled(), at(long_after)) == (Need("raw", "revisit"),)
    assert needs(settled(read_at=long_after - timedelta(hours=1)), at(long_after)) == ()


def test_a_changed_source_asks_until_the_hour_was_read_after_the_change_was_seen():
    seen = READ_AT + timedelta(minutes=20)
    look = at(seen + timedelta(minutes=1), changed_since={H: seen})
    assert needs(settled(), look) == (Need("raw", "source_changed"),)
    assert needs(settled(read_at=seen + timedelta(seconds=1)), look) == ()


def test_held_events_are_due_when_the_hour_is_old_enough():
    holding = delivery(settled(held=4), "posthog", settled().deliveries["posthog"])
    explicit = {"mixpanel": {"hold_hours": 2}}
    assert needs(holding, at(H.end + timedelta(minutes=119)), **explicit) == ()
    assert needs(holding, at(H.end + timedelta(hours=2)), **explicit) == (Need("mixpanel", "hold_over"),)


def test_events_that_wait_for_a_trace_are_due_when_the_last_gap_is_closed():
    gap = H.shift(-5)
    waiting = settled(awaiting=3, awaiting_gap=gap.key)
    assert needs(waiting, at(SOON, gaps=frozenset({gap, H.shift(-9)}))) == ()
    assert {need.reason for need in needs(waiting, at(SOON, gaps=frozenset({H.shift(-9)})))} == {"trace_known"}


def test_retries_of_what_may_pass_lie_further_apart_the_longer_it_lasts():
    first = settled(retryable=1)
    last = READ_AT
    assert needs(first, at(last + timedelta(minutes=59))) == ()
    assert {need.reason for need in needs(first, at(last + timedelta(minutes=60)))} == {"retry"}
    old = settled(retryable=1, delivered_at=(H.end + timedelta(hours=20)).isoformat(), read_at=H.end)
    explicit = {"reconcile": {"revisit_hours": []}}
    assert needs(old, at(H.end + timedelta(hours=29)), **explicit) == ()
    assert {need.reason for need in needs(old, at(H.end + timedelta(hours=30)), **explicit)} == {"retry"}


def test_a_broken_extract_asks_for_the_hour_and_a_broken_ledger_for_somebody():
    extract, ledger = BrokenFile("scores", "a", "torn"), BrokenFile("mixpanel", "b", "torn")
    half = replace(settled(), extracts={"observations": settled().extracts["observations"]}, broken_extracts=(extract,))
    assert needs(half) == (Need("raw", "unreadable"),)
    assert state_of(needs(half)) == "stale"
    shut = delivery(settled(), "mixpanel", Delivery(broken=ledger))
    assert needs(shut) == (Need("mixpanel", "unreadable_ledger"),)
    assert state_of(needs(shut)) == "undelivered"
    assert needs(delivery(half, "mixpanel", Delivery(broken=ledger)))[1:] == needs(shut)
    assert (extract.is_ledger, ledger.is_ledger, half.broken, shut.broken) == (False, True, [extract], [ledger])
