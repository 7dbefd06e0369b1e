"""The model of Langfuse's own integration: what it loses, what it never learns, and what it does right."""

from datetime import datetime, timedelta, timezone

import pytest

from bench.fidelity import truth
from bench.fidelity.clock import VirtualClock
from bench.fidelity.compare import compare
from bench.fidelity.native import SLIPS, Native
from bench.fidelity.standins import DESTINATIONS, TOKENS, outside_world
from lf_dagster.simulators.faults import Fault
from tests.fidelity.conftest import moment

A_YEAR = 60 * 24 * 365
NOON = datetime(2026, 9, 7, 12, tzinfo=timezone.utc)


class Running:
    """The integration with one destination, on a clock that tests move."""

    def __init__(self, store, destination, outside, clock):
        self.clock = clock
        self.receiver = outside.native[destination]
        self.model = Native(store, destination, self.receiver.origin, TOKENS[destination], moment(0))

    def run_at(self, minutes):
        self.clock.move(NOON + timedelta(minutes=minutes))
        return self.model.run(self.clock.now)

    def held(self):
        return {event.properties["langfuse_id"]: event for event in self.receiver.held()}

    def tally(self):
        found = truth.facts(self.model.store, moment(10_000))
        wanted = truth.expected(found, self.model.destination, self.model.store.project.id, internal=True)
        return compare(wanted, self.receiver.held(), ignored=SLIPS)


@pytest.fixture
def running(hand, tmp_path):
    clock = VirtualClock(NOON, tmp_path / "clock")
    with outside_world(hand.store, clock) as outside:
        made = {name: Running(hand.store, name, outside, clock) for name in DESTINATIONS}
        yield made
        for item in made.values():
            item.model.close()


@pytest.fixture(params=DESTINATIONS)
def native(request, running):
    return running[request.param]


def test_a_window_ends_half_an_hour_ago_and_the_next_one_begins_there(hand, native):
    hand.observation("a", "ta", 59, isRootObservation=True, userId="ada")
    hand.observation("b", "tb", 60, isRootObservation=True)
    assert native.run_at(90)
    assert set(native.held()) == {"ta"}
    assert native.run_at(150)
    assert set(native.held()) == {"ta", "tb"}
    assert native.tally().right == 2


def test_a_row_that_surfaces_late_is_lost(hand, native):
    hand.observation("root", "t", 5, seen=100, isRootObservation=True)
    hand.observation("on-time", "other", 5, isRootObservation=True)
    for minutes in (90, 150, 210):
        native.run_at(minutes)
    assert set(native.held()) == {"other"}
    assert native.tally().missing == 1


def test_an_edit_is_never_sent_again(hand, native):
    hand.observation("root", "t", 5, isRootObservation=True)
    hand.score("s", 6, value=0.25, traceId="t")
    hand.score("s", 6, seen=200, value=0.75, traceId="t")
    for minutes in (90, 150, 210, 270):
        native.run_at(minutes)
    assert native.held()["s"].properties["langfuse_score_value"] == 0.25
    assert native.tally().stale == 1


def test_what_was_deleted_since_stays(hand, native):
    hand.observation("root", "t", 5, isRootObservation=True)
    native.run_at(90)
    hand.store.delete_trace("t", at_ms=moment(100))
    native.run_at(150)
    assert native.tally().extra == 1


def test_a_failure_keeps_the_cursor_and_the_window_is_sent_again(hand, native):
    hand.observation("a", "ta", 5, isRootObservation=True)
    native.receiver.faults.add(Fault.unavailable(times=None))
    assert not native.run_at(90)
    assert native.held() == {}
    native.receiver.faults.clear()
    hand.observation("b", "tb", 6, seen=100, isRootObservation=True)
    assert native.run_at(150)
    assert set(native.held()) == {"ta", "tb"}


def test_a_window_that_was_sent_in_part_is_repeated_without_doubles(hand, native):
    hand.observation("a", "ta", 5, isRootObservation=True)
    hand.score("s", 6, value=1, traceId="ta")
    native.receiver.faults.add(Fault.unavailable(nth=2))
    assert not native.run_at(90)
    assert set(native.held()) == {"s"}
    assert native.run_at(150)
    assert (native.tally().right, native.tally().doubled) == (2, 0)


def test_rows_that_mixpanel_refuses_are_dropped_and_the_window_counts_as_done(hand, running):
    native = running["mixpanel"]
    native.model.synced_ms = moment(-61 * A_YEAR)
    hand.observation("fine", "t1", 5, isRootObservation=True)
    hand.observation("ancient", "t2", -60 * A_YEAR, isRootObservation=True)
    assert native.run_at(90)
    assert native.model.dropped == 1
    assert set(native.held()) == {"t1"}
    assert native.model.synced_ms == moment(60)


def test_posthog_windows_end_at_midnight(running):
    native = running["posthog"]
    native.run_at(30 * 60)
    assert native.model.synced_ms == moment(12 * 60)


def test_its_generations_carry_the_known_slips(hand, native):
    hand.observation("root", "t", 5, isRootObservation=True, userId="ada")
    hand.observation(
        "gen",
        "t",
        6,
        type="GENERATION",
        parentObservationId="root",
        usageDetails={"input": 10, "output": 7, "total": 17},
        costDetails={"total": 0.5},
    )
    native.run_at(90)
    sent = native.held()["gen"].properties
    assert (sent["langfuse_input_units"], sent["langfuse_output_units"], sent["langfuse_total_units"]) == (17, 7, 0.5)
    assert sent["langfuse_latency"] == 60
    assert native.tally().right == 2
