"""The report in Dagster: a partition per day, a job and a schedule of its own, and nothing in the way of the hours."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project
from tests.automation.rows import Life
from tests.automation.works import Works, works
from tests.report.page import Page

KEY = dg.AssetKey(["shop", "llm_report"])
DAY = "2026-09-07"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Works]:
    """A project with one run hour, on the day after."""
    life = Life().span("root", "07T10:05", userId="u1", traceName="chat").generation("call", "07T10:05:10", cost=0.5)
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-08T04:40", report={"days": 2}) as running:
        running.rerun("2026-09-07T10:00")
        yield running


def made(shop: Works, day: str = DAY) -> dict[str, Any]:
    """Metadata of a report that is made now."""
    job = shop.definitions.resolve_job_def("shop_report")
    done = job.execute_in_process(instance=shop.instance, partition_key=day)
    [event] = [event for event in done.all_events if event.is_step_materialization]
    assert event.asset_key == KEY
    assert event.partition == day
    assert done.dagster_run.tags["lf_dagster/project"] == "shop"
    return {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}


def test_a_day_becomes_a_file_its_figures_and_a_picture(shop: Works):
    facts = made(shop)
    file = Path(facts["report"])
    assert file.relative_to(shop.settings.data) == Path(f"report/project=shop/date={DAY}/report.html")
    page = Page(file.read_text())
    assert page.figures["cost"] == facts["cost"] == 0.5
    assert (facts["traces"], facts["users"], facts["days"]) == (1, 1, "2026-09-06 to 2026-09-07")
    assert facts["coverage"] == "1 of 48 hours are in the warehouse"
    assert "ttft_p50" not in facts, "what is not known is left out"
    picture = base64.b64decode(facts["picture"].partition("base64,")[2].rstrip(")"))
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 150_000


@pytest.mark.slow
def test_a_report_made_again_has_what_came_since(shop: Works):
    assert made(shop)["traces"] == 1
    shop.rerun("2026-09-07T11:00")
    assert made(shop)["coverage"] == "2 of 48 hours are in the warehouse"


def test_it_is_in_no_hourly_run_and_in_no_group_that_is_picked_by_hours():
    definitions = build_project_definitions(load_project({"name": "shop"}, {"POSTHOG_API_KEY": "phc_x"}))
    assert KEY not in definitions.resolve_job_def("shop_hourly").asset_layer.executable_asset_keys
    assert definitions.resolve_job_def("shop_report").asset_layer.executable_asset_keys == {KEY}
    node = definitions.resolve_asset_graph().get(KEY)
    assert node.group_name == "shop_report"
    assert node.partitions_def == dg.DailyPartitionsDefinition("2026-01-01", timezone="UTC")
    assert {key.path[-1] for key in node.parent_keys} == {"observations", "traces", "generations", "scores"}
    assert node.pools == {"lf_dagster_warehouse"}


@pytest.mark.filterwarnings("ignore:Function `JobDefinition.run_request_for_partition`")  # inside Dagster
def test_the_schedule_makes_the_day_before():
    definitions = build_project_definitions(load_project({"name": "shop"}))
    schedule = definitions.resolve_schedule_def("shop_report_schedule")
    assert (schedule.cron_schedule, schedule.default_status) == ("40 4 * * *", dg.DefaultScheduleStatus.RUNNING)
    tick = datetime(2026, 9, 8, 4, 40, tzinfo=timezone.utc)
    repository = definitions.get_repository_def()
    with dg.build_schedule_context(scheduled_execution_time=tick, repository_def=repository) as context:
        requests = schedule.evaluate_tick(context).run_requests or ()
    assert [request.partition_key for request in requests] == [DAY]


def test_a_project_that_begins_at_noon_has_a_report_of_its_first_day():
    """Dagster refuses a backfill of a day that needs hours which do not exist, unless it is told otherwise."""
    definitions = build_project_definitions(load_project({"name": "shop", "start": "2026-09-07-12:00"}))
    graph, traces = definitions.resolve_asset_graph(), dg.AssetKey(["shop", "traces"])
    days, hours = graph.get(KEY).partitions_def, graph.get(traces).partitions_def
    assert days is not None
    assert hours is not None
    needed = graph.get_partition_mapping(KEY, traces).get_upstream_mapped_partitions_result_for_partitions(
        days.subset_with_partition_keys([DAY]), days, hours
    )
    assert len(list(needed.partitions_subset.get_partition_keys())) == 12
    assert not list(needed.required_but_nonexistent_subset.get_partition_keys())


def test_the_schedule_can_be_left_out():
    definitions = build_project_definitions(load_project({}, {"LF_DAGSTER_REPORT": "0"}))
    assert "langfuse_report_schedule" not in {schedule.name for schedule in definitions.schedules or ()}
    assert definitions.resolve_job_def("langfuse_report")
    assert load_project({}, {"LF_DAGSTER_REPORT_DAYS": "7"}).report.days == 7


@pytest.mark.slow
def test_runs_on_days_are_no_runs_on_hours(shop: Works):
    """They carry the project's tag and a partition, and whoever asks for hours must not stumble over them."""
    made(shop)
    job = shop.definitions.resolve_job_def("shop_report")
    tags = {"dagster/partition": DAY, "lf_dagster/project": "shop"}
    shop.instance.create_run_for_job(job, tags=tags)
    span = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": "2026-09-08"}
    shop.instance.create_run_for_job(job, tags={**span, "lf_dagster/project": "shop"})
    assert [request.partition_key for request in shop.at("2026-09-08T05:30").due("hourly")] == ["2026-09-08-04:00"]
    assert shop.ask()
