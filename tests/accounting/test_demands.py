"""Which hours are rerun together, in which order, and which wait."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from lf_dagster.accounting import Demand, Failures, Need, plan_demands
from lf_dagster.hours import Hour
from tests.accounting.hours import project

NOON = Hour.from_key("2026-09-07-12:00")
NOW = datetime(2026, 9, 8, 12, 0, tzinfo=timezone.utc)
MISSING, TOUCHED = (Need("raw", "missing"),), (Need("typed", "touched"),)


def plan(needs, *, at_most=100, busy=(), failures=None, now=NOW, settled=frozenset(), **explicit) -> list[Demand]:
    return plan_demands(
        needs,
        project(**explicit),
        now=now,
        busy=frozenset(busy),
        failures=failures or {},
        at_most=at_most,
        settled=settled,
    )


def spans(demands: list[Demand]) -> list[tuple[str, str]]:
    return [(demand.hours[0].key, demand.hours[-1].key) for demand in demands]


def hours(first: Hour, count: int) -> list[Hour]:
    return [first.shift(step) for step in range(count)]


def test_history_is_made_up_newest_day_first_each_day_in_one_run():
    missing = dict.fromkeys(hours(Hour.from_key("2026-09-05-20:00"), 40), MISSING)
    assert spans(plan(missing)) == [
        ("2026-09-07-00:00", "2026-09-07-11:00"),
        ("2026-09-06-00:00", "2026-09-06-23:00"),
        ("2026-09-05-20:00", "2026-09-05-23:00"),
    ]


def test_what_is_stale_comes_before_history_oldest_first():
    needs = {
        NOON: (Need("raw", "revisit"),),
        NOON.shift(-30): (Need("posthog", "undelivered"),),
        NOON.shift(3): MISSING,
    }
    found = plan(needs)
    assert [demand.reasons for demand in found] == [("undelivered",), ("revisit",), ("missing",)]
    assert [demand.layers for demand in found] == [frozenset({"posthog"}), frozenset({"raw"}), frozenset({"raw"})]


def test_neighbours_that_need_the_same_share_a_run():
    both = (Need("mixpanel", "undelivered"), Need("posthog", "undelivered"))
    needs = {**dict.fromkeys(hours(NOON, 3), both), NOON.shift(3): (Need("posthog", "retry"),)}
    found = plan(needs)
    assert [(len(demand.hours), demand.layers) for demand in found] == [
        (3, frozenset({"mixpanel", "posthog"})),
        (1, frozenset({"posthog"})),
    ]


def test_settled_hours_ride_along_with_deliveries_and_only_with_them():
    late, again = (Need("posthog", "undelivered"),), (Need("raw", "revisit"),)
    between = frozenset(hours(NOON, 40))
    scattered = dict.fromkeys([NOON, NOON.shift(3), NOON.shift(4), NOON.shift(23), NOON.shift(24)], late)
    found = plan(scattered, settled=between - scattered.keys())
    assert spans(found) == [(NOON.key, NOON.shift(23).key), (NOON.shift(24).key, NOON.shift(24).key)]
    assert [demand.reasons for demand in found] == [("undelivered",)] * 2
    assert len(plan(scattered, settled=between - scattered.keys() - {NOON.shift(10)})) == 2
    assert spans(plan(scattered, settled=between - scattered.keys(), busy=[NOON.shift(10)]))[0][1] == NOON.shift(4).key
    assert len(plan(dict.fromkeys(scattered, again), settled=between)) == 3


def test_no_more_runs_than_there_is_room_for():
    missing = dict.fromkeys(hours(NOON.shift(-100), 100), MISSING)
    assert len(plan(missing, at_most=2)) == 2
    assert plan(missing, at_most=0) == []


def test_hours_of_a_run_that_is_under_way_are_left_alone():
    missing = dict.fromkeys(hours(NOON, 5), MISSING)
    assert spans(plan(missing, busy=[NOON.shift(2)])) == [
        (NOON.key, NOON.shift(1).key),
        (NOON.shift(3).key, NOON.shift(4).key),
    ]


def test_a_failing_hour_waits_longer_each_time_and_ends_up_alone():
    failed = {count: Failures(count, NOW) for count in (1, 2, 5, 20)}
    waits = {count: (item.again_at - NOW) for count, item in failed.items()}
    assert waits == {
        1: timedelta(minutes=5),
        2: timedelta(minutes=10),
        5: timedelta(minutes=80),
        20: timedelta(hours=6),
    }
    missing = dict.fromkeys(hours(NOON.shift(-12), 12), MISSING)
    later = NOW + timedelta(hours=7)
    sizes = {
        count: [len(demand.hours) for demand in plan(missing, failures=dict.fromkeys(missing, item), now=later)]
        for count, item in failed.items()
    }
    assert sizes == {1: [12], 2: [6, 6], 5: [1] * 12, 20: [1] * 12}
    assert plan(missing, failures=dict.fromkeys(missing, failed[1])) == []


def test_touched_hours_wait_while_hours_shortly_before_them_are_missing():
    needs = {NOON: TOUCHED, NOON.shift(-48): MISSING}
    assert [demand.reasons for demand in plan(needs)] == [("missing",)]
    assert [demand.reasons for demand in plan({NOON: TOUCHED, NOON.shift(-49): MISSING})] == [
        ("touched",),
        ("missing",),
    ]
    assert [demand.reasons for demand in plan({NOON: TOUCHED})] == [("touched",)]


NEEDS = st.sampled_from([MISSING, TOUCHED, (Need("raw", "revisit"),), (Need("posthog", "undelivered"),)])


@given(
    st.dictionaries(st.integers(0, 200).map(NOON.shift), NEEDS),
    st.sets(st.integers(0, 200).map(NOON.shift)),
    st.integers(1, 24),
)
def test_every_hour_that_may_run_is_in_exactly_one_contiguous_demand(needs, busy, size):
    found = plan(needs, busy=busy, hours_per_run=size)
    asked = [hour for demand in found for hour in demand.hours]
    assert len(asked) == len(set(asked))
    missing = {hour for hour, need in needs.items() if need == MISSING}
    waiting = {
        hour
        for hour, need in needs.items()
        if need == TOUCHED and any(hour.shift(-step) in missing for step in range(1, 49))
    }
    assert set(asked) == set(needs) - busy - waiting
    for demand in found:
        assert len(demand.hours) <= size
        assert list(demand.hours) == hours(demand.hours[0], len(demand.hours))
        assert all({need.layer for need in needs[hour]} == demand.layers for hour in demand.hours)


def test_what_a_rerun_cannot_give_is_not_asked_for_and_holds_nothing_else_up():
    shut = Need("mixpanel", "unreadable_ledger")
    found = plan(
        {NOON: (shut,), NOON.shift(1): (Need("raw", "revisit"), shut), NOON.shift(2): (Need("raw", "revisit"),)}
    )
    assert spans(found) == [
        ("2026-09-07-13:00", "2026-09-07-13:00"),
        ("2026-09-07-14:00", "2026-09-07-14:00"),
    ]
    assert [(demand.reasons, demand.without) for demand in found] == [
        (("revisit",), frozenset({"mixpanel"})),
        (("revisit",), frozenset()),
    ]
