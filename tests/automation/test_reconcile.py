"""The reconcile sensor: which runs it asks for, when, and when it keeps still."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest

from lf_dagster.accounting import last_audit
from lf_dagster.hours import Hour
from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.world import Ageing, WorldSettings, build_world
from lf_dagster.warehouse import Warehouse
from lf_dagster.warehouse.hours import mark_stale
from tests.automation.works import Works, assets_of, hours_of, tags_of, works

START = datetime(2026, 9, 5, tzinfo=timezone.utc)
EVERYTHING = {
    *("raw_observations", "raw_scores", "observations", "traces", "generations", "scores", "deletions"),
    *("trace_events", "generation_events", "score_events", "mixpanel", "posthog"),
}


def shop_of(folder: Path, **settings: object) -> AbstractContextManager[Works]:
    """A project of two traces an hour from the 5th on; it is 11:50 of the 7th."""
    world = build_world(WorldSettings(seed=5, start=START, hours=96, traces_per_hour=2, ageing=Ageing.none()))
    return works(folder, world.store, start="2026-09-05T00:00", now="2026-09-07T11:50", **settings)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Works]:
    with shop_of(tmp_path) as running:
        yield running


@pytest.fixture
def short_sighted(tmp_path: Path) -> Iterator[Works]:
    """The same with a horizon of two hours, at 05:50 of the first day, settled."""
    with shop_of(tmp_path, reconcile={"horizon_hours": 2, "revisit_hours": []}) as running:
        running.at("2026-09-05T05:50").settle()
        yield running


def under_way(shop: Works, first: str, last: str, **tags: str) -> str:
    """A run of these hours that somebody else started."""
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        asset_selection=frozenset({dg.AssetKey(["shop", "raw_scores"])}),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last, **tags},
    )
    return shop.instance.add_run(run).run_id


def test_on_first_start_history_is_asked_for_newest_day_first_and_bounded(shop: Works):
    asked = shop.ask()
    assert [tags_of(request) for request in asked] == [
        ("2026-09-07-00:00", "2026-09-07-10:00", "missing"),
        ("2026-09-06-00:00", "2026-09-06-23:00", "missing"),
    ]
    assert all(assets_of(request) == EVERYTHING for request in asked)
    assert {request.tags["lf_dagster/project"] for request in asked} == {"shop"}


def test_the_hour_just_ended_is_left_to_the_schedule_for_a_while(shop: Works):
    shop.at("2026-09-07T11:44")
    assert hours_of(shop.ask()[0])[1] == "2026-09-07-09:00"
    shop.at("2026-09-07T11:45")
    assert hours_of(shop.ask()[0])[1] == "2026-09-07-10:00"


def test_hours_that_anyone_is_working_on_are_left_alone_and_count_as_in_flight(shop: Works):
    under_way(shop, "2026-09-06-03:00", "2026-09-07-04:00")
    assert [hours_of(request) for request in shop.ask()] == [("2026-09-07-05:00", "2026-09-07-10:00")]
    under_way(shop, "2026-09-07-05:00", "2026-09-07-10:00")
    assert shop.ask() == []
    assert "2 runs are under way" in (shop.skipped or "")


def test_the_schedule_leaves_an_hour_alone_that_is_being_worked_on(shop: Works):
    shop.at("2026-09-07T11:30")
    under_way(shop, "2026-09-07-10:00", "2026-09-07-10:00")
    assert shop.scheduled() == []


@pytest.mark.parametrize("partition", ["eu", "2026-11", "2026-09-07-10:00|eu"])
def test_runs_of_own_assets_with_other_partitions_do_not_matter(shop: Works, partition: str):
    own = dg.DagsterRun(
        job_name="__ASSET_JOB",
        asset_selection=frozenset({dg.AssetKey(["shop", "by_region"])}),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": partition},
    )
    shop.instance.add_run(own)
    assert len(shop.ask()) == 2, "as many as may be in flight"
    [request] = shop.at("2026-09-07T12:30").due("hourly")
    assert request.partition_key == "2026-09-07-11:00"


def test_without_keys_nothing_is_asked_for_and_the_variable_is_named(shop: Works, monkeypatch):
    monkeypatch.delenv("LANGFUSE_SECRET_KEY")
    assert shop.ask() == []
    assert "LANGFUSE_SECRET_KEY" in (shop.skipped or "")


@pytest.mark.slow
def test_a_busy_warehouse_is_waited_for_until_the_next_tick(shop: Works):
    shop.rerun("2026-09-07T10:00")
    with Warehouse.of(shop.settings, shop.lake).connect() as con:
        con.execute("BEGIN")
        assert shop.ask() == []
    assert "is held by" in (shop.skipped or "")
    assert shop.ask()


def test_a_settled_project_costs_no_run_no_request_and_hardly_any_time(shop: Works):
    shop.at("2026-09-05T03:50").settle()
    before = len(shop.langfuse_requests())
    started = time.process_time()
    assert shop.ask() == []
    assert time.process_time() - started < 2
    assert shop.skipped == "every hour is settled"
    assert len(shop.langfuse_requests()) == before


@pytest.mark.slow
def test_thirty_hours_without_daemon_are_made_up_by_themselves(shop: Works):
    shop.at("2026-09-05T03:50").settle()
    shop.later(hours=30)
    asked = shop.settle()
    assert [tags_of(request) for request in asked if "missing" in tags_of(request)[2]] == [
        ("2026-09-06-00:00", "2026-09-06-08:00", "missing"),
        ("2026-09-05-03:00", "2026-09-05-23:00", "missing"),
    ]
    assert (shop.settled_until(), shop.account().missing) == ("2026-09-06-09:00", [])


@pytest.mark.slow
def test_a_failing_hour_is_tried_again_later_and_later(shop: Works):
    shop.langfuse.state.faults.add(Fault(status=401, times=None, body="{}", content_type="application/json"))
    shop.at("2026-09-05T01:50")
    [request] = shop.tick()
    assert shop.ask() == []
    assert "the next try of a failed hour is due at 2026-09-05 01:55 UTC" in (shop.skipped or "")
    for wait in (5, 10, 20):
        shop.later(minutes=wait - 1)
        assert shop.ask() == []
        shop.later(minutes=1)
        assert [hours_of(again) for again in shop.tick()] == [hours_of(request)]
    shop.langfuse.state.faults.clear()
    shop.later(minutes=40).settle()
    assert shop.account().outstanding() == []


def test_a_destination_that_was_down_is_caught_up_alone(shop: Works):
    shop.at("2026-09-05T01:50")
    shop.mixpanel.state.faults.add(Fault(status=401, times=None))
    shop.tick()
    shop.mixpanel.state.faults.clear()
    before = len(shop.langfuse_requests())
    [request] = shop.later(minutes=5).tick()
    assert assets_of(request) == {"mixpanel"}
    assert tags_of(request)[2] in ("undelivered", "unfinished")
    assert len(shop.langfuse_requests()) == before
    assert shop.account().outstanding() == []


@pytest.mark.slow
def test_the_cursor_spares_settled_history_and_forgets_it_when_a_destination_is_added(short_sighted: Works):
    shop = short_sighted
    held = json.loads(shop.cursor or "{}")
    assert (held["settled"], held["open"]) == ("2026-09-05-03:00", [])

    shutil.rmtree(Path(shop.lake.ledger_path("shop", "posthog", Hour.from_key("2026-09-05-01:00"))).parent)
    assert shop.ask() == [], "not looked at any more"
    shop.cursor = (shop.cursor or "").replace('["mixpanel", "posthog"]', '["mixpanel"]')
    [request] = shop.ask()
    assert (hours_of(request)[0], assets_of(request)) == ("2026-09-05-01:00", {"posthog"})


@pytest.mark.slow
def test_the_cursor_lets_no_hour_go_before_its_last_revisit(tmp_path: Path):
    """The last revisit of an hour falls together with those of its neighbours: later than the horizon."""
    with shop_of(tmp_path, reconcile={"horizon_hours": 24, "revisit_hours": [24]}) as shop:
        shop.at("2026-09-05T04:50").settle()
        shop.at("2026-09-06T02:30")
        waiting = {hours_of(request) for request in shop.settle() if tags_of(request)[2] == "revisit"}
        assert waiting == set(), "together with their neighbours, at 04:00"
        shop.at("2026-09-06T04:05")
        asked = [hours_of(request) for request in shop.settle() if tags_of(request)[2] == "revisit"]
        assert asked == [("2026-09-05-00:00", "2026-09-05-03:00")]


@pytest.mark.slow
def test_an_old_hour_that_becomes_stale_is_rerun_whatever_its_age(short_sighted: Works):
    shop = short_sighted
    with Warehouse.of(shop.settings, shop.lake).connect() as con:
        mark_stale(con, "shop", [Hour.from_key("2026-09-05-00:00")], shop.clock.now)
    [request] = shop.tick()
    assert tags_of(request) == ("2026-09-05-00:00", "2026-09-05-00:00", "touched")
    assert assets_of(request) == EVERYTHING - {"raw_observations", "raw_scores"}
    assert shop.ask() == []


@pytest.mark.slow
def test_hours_before_a_start_that_was_moved_on_are_left_as_they_are(shop: Works):
    shop.at("2026-09-05T05:50").settle()
    with Warehouse.of(shop.settings, shop.lake).connect() as con:
        mark_stale(con, "shop", [Hour.from_key("2026-09-05-01:00"), Hour.from_key("2026-09-05-03:00")], shop.clock.now)
    moved = shop.settings.model_copy(update={"start": "2026-09-05-03:00"})
    later = dataclasses.replace(shop, settings=moved)
    assert [tags_of(request) for request in later.settle()] == [("2026-09-05-03:00", "2026-09-05-03:00", "touched")]
    assert later.skipped == "every hour is settled"
    assert later.settled_until() == "2026-09-05-05:00"
    assert later.audit().success
    assert [item.hour.key for item in last_audit(shop.lake, "shop").hours] == ["2026-09-05-03:00", "2026-09-05-04:00"]
    shop.cursor = later.cursor
    assert [tags_of(request) for request in shop.settle()] == [("2026-09-05-01:00", "2026-09-05-01:00", "touched")]


def test_requests_carry_what_backoff_is_counted_from(shop: Works):
    asked = {request.tags["lf_dagster/requested_at"] for request in shop.ask()}
    assert asked == {"2026-09-07T11:50:00+00:00"}


def test_a_run_whose_process_is_gone_is_ended_and_its_hours_are_asked_for_again(shop: Works):
    run_id = under_way(shop, "2026-09-07-00:00", "2026-09-07-10:00")
    (Path(shop.lake.root) / "alive").mkdir(parents=True)
    (Path(shop.lake.root) / "alive" / run_id).write_text(socket.gethostname())
    assert ("2026-09-07-00:00", "2026-09-07-10:00") in [hours_of(request) for request in shop.ask()]
    ended = shop.instance.get_run_by_id(run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE
