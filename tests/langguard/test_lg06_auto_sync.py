"""LG-06, auto sync: every few minutes the hour under way is read, and never counts as complete before it is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project
from lf_dagster.errors import ConfigError
from tests.automation.rows import Life
from tests.automation.test_checks import said
from tests.automation.works import Works, hours_of, tags_of, works
from tests.langguard.syncing import ids, metadata, somebody_runs

ELEVEN, TWELVE = "2026-09-07-11:00", "2026-09-07-12:00"
MOMENT = datetime(2026, 9, 7, 12, 25, tzinfo=timezone.utc)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Works]:
    """A project since 11:00 that syncs every 5 minutes; it is 12:25 and the hour under way has one span."""
    life = Life().span("early", "07T11:05").span("first", "07T12:05", trace="u").span("second", "07T12:27", trace="v")
    life.span("last", "07T12:57", trace="w")
    with works(tmp_path, life.store, start="2026-09-07T11:00", now="2026-09-07T12:25", sync_every_minutes=5) as running:
        yield running


def asked(shop: Works) -> list[tuple[str, str]]:
    return [hours_of(request) for request in shop.due("sync")]


def test_lg06_it_is_one_setting_and_off_by_default():
    off, on = (build_project_definitions(load_project({"sync_every_minutes": every})) for every in (None, 5))
    names = {schedule.name for schedule in off.schedules or ()}
    assert names == {f"langfuse_{name}_schedule" for name in ("hourly", "audit", "report")}
    schedule = on.resolve_schedule_def("langfuse_sync_schedule")
    assert (schedule.cron_schedule, schedule.default_status) == ("*/5 * * * *", dg.DefaultScheduleStatus.RUNNING)
    newest = [_partitions(each).get_partition_keys(current_time=MOMENT)[-1] for each in (off, on)]
    assert newest == [ELEVEN, TWELVE]
    assert load_project({}, {"LF_DAGSTER_SYNC_EVERY_MINUTES": "10"}).sync_every_minutes == 10
    assert load_project({}, {"LF_DAGSTER_SYNC_EVERY_MINUTES": "0"}).sync_every_minutes is None
    for wrong in (7, 60, -5):
        with pytest.raises(ConfigError, match="sync_every_minutes"):
            load_project({"sync_every_minutes": wrong})


def _partitions(definitions: dg.Definitions) -> dg.HourlyPartitionsDefinition:
    found: Any = definitions.resolve_job_def("langfuse_hourly").partitions_def
    return found


def test_lg06_an_observation_is_in_the_lake_after_at_most_one_tick(shop: Works):
    shop.scheduled("sync")
    assert ids(shop, TWELVE) == ["first"]
    shop.at("2026-09-07T12:30").scheduled("sync")
    assert ids(shop, TWELVE) == ["first", "second"]
    facts = metadata(shop, "raw_observations", TWELVE)
    assert (facts["deleted"], facts["newly_deleted"]) == (0, 0)
    assert {"trace u", "trace v"} <= shop.mixpanel_events().keys() & shop.posthog_events().keys()


def test_lg06_ticks_never_run_an_hour_that_a_run_is_working_on(shop: Works):
    running = somebody_runs(shop.instance, TWELVE, project="shop")
    assert asked(shop.at("2026-09-07T12:20")) == [(ELEVEN, ELEVEN)]
    both = somebody_runs(shop.instance, ELEVEN, project="shop")
    assert asked(shop) == []
    assert running in (shop.skipped or "")
    assert both in (shop.skipped or "")


@pytest.mark.slow
def test_lg06_the_hour_before_is_read_until_its_closing_run_is_done(shop: Works):
    assert asked(shop.at("2026-09-07T12:00")) == [(ELEVEN, TWELVE)]
    shop.at("2026-09-07T12:25").scheduled("sync")
    # At minute 30 the hourly schedule runs it; had that come to nothing, the next tick goes on.
    assert asked(shop.at("2026-09-07T12:30")) == [(TWELVE, TWELVE)]
    assert asked(shop.at("2026-09-07T12:35")) == [(ELEVEN, TWELVE)]
    shop.at("2026-09-07T12:30").scheduled()
    assert asked(shop.at("2026-09-07T12:35")) == [(TWELVE, TWELVE)]


def test_lg06_from_the_grace_on_the_sensor_looks_after_an_hour_that_did_not_close(shop: Works):
    assert asked(shop.at("2026-09-07T12:45")) == [(TWELVE, TWELVE)]
    assert [tags_of(request) for request in shop.ask()] == [(ELEVEN, ELEVEN, "missing")]


@pytest.mark.slow
def test_lg06_an_hour_read_before_its_end_is_not_complete_and_is_read_again(shop: Works):
    shop.at("2026-09-07T12:30").scheduled()
    shop.scheduled("sync")
    assert shop.at("2026-09-07T12:50").ask() == [], "the hour under way is nobody's lack"
    found = shop.account()
    assert [item.hour.key for item in found.extracted] == [ELEVEN]
    assert (shop.settled_until(), found.missing) == (TWELVE, [])
    shop.audit()
    assert [item.hour.key for item in shop.account().audit.hours] == [ELEVEN]

    shop.at("2026-09-07T13:45")
    assert (shop.settled_until(), [hour.key for hour in shop.account().missing]) == (TWELVE, [TWELVE])
    [request] = shop.tick()
    assert tags_of(request) == (TWELVE, TWELVE, "unclosed")
    assert ids(shop, TWELVE) == ["first", "last", "second"]
    assert (shop.settled_until(), shop.ask()) == ("2026-09-07-13:00", [])


@pytest.mark.slow
def test_lg06_a_read_between_the_end_and_the_closing_run_does_not_close_an_hour(shop: Works):
    assert asked(shop.at("2026-09-07T13:05")) == [(TWELVE, "2026-09-07-13:00")]
    shop.scheduled("sync")
    shop.at("2026-09-07T13:45")
    assert [hour.key for hour in shop.account().missing] == [ELEVEN, TWELVE]


@pytest.mark.slow
def test_lg06_on_time_judges_the_closing_run(shop: Works):
    shop.scheduled("sync")
    assert TWELVE not in said(shop, "posthog", "on_time")
    shop.at("2026-09-07T14:31").rerun(TWELVE)
    late = said(shop, "posthog", "on_time")[TWELVE]
    assert (late.passed, late.metadata["minutes_after_due"].value) == (False, 61.0)


@pytest.mark.slow
def test_lg06_failing_ticks_do_not_make_the_hour_wait(shop: Works, monkeypatch):
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-wrong")
    for minute in (30, 35, 40, 45, 50, 55):
        shop.at(f"2026-09-07T12:{minute}").scheduled("sync")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-works")
    shop.at("2026-09-07T13:45")
    assert (ELEVEN, TWELVE) in [hours_of(request) for request in shop.tick()]


def test_lg06_without_keys_a_tick_says_which_variable_is_missing(shop: Works, monkeypatch):
    monkeypatch.delenv("LANGFUSE_SECRET_KEY")
    assert asked(shop) == []
    assert "LANGFUSE_SECRET_KEY" in (shop.skipped or "")
