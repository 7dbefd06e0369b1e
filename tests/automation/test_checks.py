"""The checks on an hour's assets: what they say of real runs, hour by hour, as Dagster keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from lf_dagster.hours import Hour
from lf_dagster.simulators.faults import Fault
from tests.automation.rows import Life
from tests.automation.works import Works, works

TEN, ELEVEN, TWELVE = (f"2026-09-07-{hour}:00" for hour in (10, 11, 12))
ENDED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def story() -> Life:
    """A trace per hour; the first one comes with a generation."""
    life = Life().span("root", "07T10:05").generation("call", "07T10:06")
    return life.span("second", "07T11:05", trace="u").span("third", "07T12:05", trace="v")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Works]:
    """Three hours with data; it is 13:10, and nothing was done yet."""
    with works(tmp_path, story().store, start="2026-09-07T10:00", now="2026-09-07T13:10") as running:
        yield running


def hour(shop: Works, key: str, **request: Any) -> bool:
    """A run of one hour, as the schedule asks for it."""
    return shop.run(dg.RunRequest(partition_key=key, **request)).success


def executions(shop: Works, asset: str, name: str) -> list[Any]:
    """What Dagster keeps of a check, oldest first."""
    key = dg.AssetCheckKey(dg.AssetKey(["shop", asset]), name)
    return list(reversed(shop.instance.event_log_storage.get_asset_check_execution_history(key, limit=500)))


def said(shop: Works, asset: str, name: str) -> dict[str | None, dg.AssetCheckEvaluation]:
    """The newest evaluation of each hour (None: of a whole run)."""
    ended = [item for item in executions(shop, asset, name) if item.status in ENDED]
    return {item.partition: item.evaluation for item in ended}


def standing(shop: Works, asset: str, name: str) -> dict[str | None, str]:
    """The status of each hour as the page of the check shows it; `outdated`: of an earlier materialisation."""
    key = dg.AssetCheckKey(dg.AssetKey(["shop", asset]), name)
    found = shop.instance.event_log_storage.get_asset_check_partition_info([key])
    return {
        item.partition_key: item.latest_execution_status.value if item.is_current else "outdated"
        for item in found
        if item.partition_key is not None
    }


def facts(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in evaluation.metadata.items()}


def test_a_run_of_one_hour_gives_each_check_that_hour(shop: Works):
    assert hour(shop, TEN)
    assert {key for asset in ("mixpanel", "posthog") for key in said(shop, asset, "accounted")} == {TEN}
    found = said(shop, "mixpanel", "accounted")[TEN]
    assert (found.passed, found.description) == (True, "events: 2 = 2 delivered + 0 rejected + 0 skipped")
    assert facts(found) == {"events": 2, "delivered": 2, "rejected": 0, "skipped": 0}
    assert found.target_materialization_data is not None
    assert said(shop, "posthog", "rejections")[TEN].passed
    assert (
        said(shop, "raw_observations", "matches_source")[TEN].description
        == "2 rows; no audit has compared this hour yet"
    )


@pytest.mark.slow
def test_a_run_of_many_hours_gives_every_hour_its_own_result_and_leaves_none_open(shop: Works):
    assert shop.rerun("2026-09-07T10", "2026-09-07T12").success
    for asset, name in (("raw_observations", "matches_source"), ("mixpanel", "accounted"), ("posthog", "on_time")):
        assert set(said(shop, asset, name)) == {TEN, ELEVEN, TWELVE, None}, (asset, name)
    assert standing(shop, "posthog", "on_time") == {TEN: "FAILED", ELEVEN: "SUCCEEDED", TWELVE: "SUCCEEDED"}
    assert set(standing(shop, "mixpanel", "accounted").values()) == {"SUCCEEDED"}
    assert facts(said(shop, "mixpanel", "accounted")[None]) == {"hours": 3, "failed_hours": 0}


@pytest.mark.slow
def test_a_range_of_one_hour_says_what_its_hour_says(shop: Works):
    assert shop.rerun("2026-09-07T10").success
    found = said(shop, "mixpanel", "accounted")
    assert set(found) == {TEN, None}
    assert found[None].description == found[TEN].description == "events: 2 = 2 delivered + 0 rejected + 0 skipped"
    assert facts(found[None]) == facts(found[TEN])


@pytest.mark.slow
def test_hours_that_a_failing_run_finished_keep_their_results(shop: Works):
    shop.mixpanel.state.faults.add(Fault(path="/import", nth=2, times=None, status=403, body='{"error":"no"}'))
    assert not shop.rerun("2026-09-07T10", "2026-09-07T12").success
    finished = shop.instance.get_materialized_partitions(dg.AssetKey(["shop", "mixpanel"]))
    assert 0 < len(finished) < 3
    statuses = standing(shop, "mixpanel", "accounted")
    assert {hour: statuses[hour] for hour in finished} == dict.fromkeys(finished, "SUCCEEDED")
    assert {statuses[hour] for hour in statuses.keys() - finished} == {"PLANNED"}
    assert set(said(shop, "posthog", "accounted")) == {TEN, ELEVEN, TWELVE, None}


def test_a_run_of_other_assets_says_nothing(shop: Works):
    assert shop.rerun("2026-09-07T10", only=["raw_scores"]).success
    assert executions(shop, "raw_observations", "matches_source") == []


# rejections


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Works]:
    """Mixpanel refuses what has more properties than a trace has: generations."""
    settings = {"checks": {"max_rejected_share": 0.4}}
    life = story().span("more", "07T11:06", trace="w")
    life.generation("plenty", "07T12:06", trace="v").generation("more still", "07T12:07", trace="v")
    life.generation("too much", "07T11:07", trace="u")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T13:10", **settings) as running:
        yield running


def refuse_generations(shop: Works) -> None:
    standin = shop.mixpanel.state.standin
    standin.limits = type(standin.limits)(properties=26)


def test_rejections_warn_above_the_share_and_are_an_error_above_half(strict: Works):
    refuse_generations(strict)
    assert strict.rerun("2026-09-07T10", "2026-09-07T12").success
    found = said(strict, "mixpanel", "rejections")
    judged = {key: (item.passed, item.severity, facts(item)["share"]) for key, item in found.items() if key}
    assert judged == {
        TEN: (False, dg.AssetCheckSeverity.WARN, 0.5),
        ELEVEN: (True, dg.AssetCheckSeverity.WARN, 0.333333),
        TWELVE: (False, dg.AssetCheckSeverity.ERROR, 0.666667),
    }
    assert "refused:" in facts(found[TEN])["first_reason"]
    whole = found[None]
    assert (whole.passed, whole.severity, facts(whole)["which"]) == (
        *(False, dg.AssetCheckSeverity.ERROR),
        [TEN, TWELVE],
    )
    assert (whole.description or "").startswith(f"2 of 3 hours did not pass; {TEN}: 1 of 2 events rejected")
    assert said(strict, "posthog", "rejections")[None].passed


# on_time


def test_an_hour_that_lands_late_warns_and_one_in_time_does_not(shop: Works):
    assert hour(shop, ELEVEN)
    shop.at("2026-09-07T14:31")
    assert hour(shop, TWELVE)
    early, late = (said(shop, "mixpanel", "on_time")[key] for key in (ELEVEN, TWELVE))
    assert (early.passed, facts(early)["minutes_after_due"]) == (True, 40.0)
    assert (late.passed, late.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert late.description == "complete 61 minutes after its scheduled run"


@pytest.mark.slow
def test_a_rerun_is_not_late(shop: Works):
    assert hour(shop, TWELVE)
    shop.later(hours=5)
    assert hour(shop, TWELVE)
    again = said(shop, "posthog", "on_time")[TWELVE]
    assert (again.passed, again.description) == (
        True,
        "The hour was complete here before; its first delivery was judged.",
    )


FACTS_OF_THE_FIRST_VERSION = {
    *("project", "destination", "hour", "run_id", "events", "delivered", "rejected", "skipped", "outstanding", "gone")
}


def as_first_version_wrote(path: str) -> None:
    """A ledger with the facts that the first version gave it: not when it was delivered, nor of which build."""
    file = Path(path)
    rows = pq.read_table(file)
    facts = {name: value for name, value in (rows.schema.metadata or {}).items() if name.startswith(b"lf_dagster.")}
    kept = {name: facts[name] for name in facts if name.decode().split(".")[1] in FACTS_OF_THE_FIRST_VERSION}
    file.unlink()
    pq.write_table(rows.replace_schema_metadata(kept), file)


def test_an_hour_that_the_first_version_delivered_can_be_rerun(shop: Works):
    assert hour(shop, TWELVE)
    held = shop.mixpanel.state.standin.store.events(view="raw")
    for destination in shop.settings.destinations:
        as_first_version_wrote(shop.lake.ledger_path("shop", destination, Hour.from_key(TWELVE)))
    assert hour(shop, TWELVE)
    again = said(shop, "mixpanel", "on_time")[TWELVE]
    assert (again.passed, again.description) == (
        True,
        "The hour was complete here before; its first delivery was judged.",
    )
    assert shop.mixpanel.state.standin.store.events(view="raw") == held


@pytest.mark.slow
def test_an_hour_that_a_destination_refused_at_first_is_late_once_it_lands(shop: Works):
    shop.mixpanel.state.faults.add(Fault(path="/import", status=401))
    assert not hour(shop, TWELVE)
    shop.later(hours=3)
    assert hour(shop, TWELVE)
    assert not said(shop, "mixpanel", "on_time")[TWELVE].passed
    assert said(shop, "posthog", "on_time")[TWELVE].passed


@pytest.mark.slow
def test_history_is_made_up_without_a_warning(shop: Works):
    shop.at("2026-09-09T13:01")
    assert hour(shop, TWELVE)
    found = said(shop, "mixpanel", "on_time")[TWELVE]
    assert found.passed
    assert "history" in (found.description or "")


# matches_source


def audited(shop: Works, *moments: str) -> None:
    """All three hours are read, then audited at these moments."""
    assert shop.rerun("2026-09-07T10", "2026-09-07T12").success
    for moment in moments:
        assert shop.at(moment).audit().success


def source(shop: Works, key: str = TEN) -> dg.AssetCheckEvaluation:
    assert hour(shop, key)
    return said(shop, "raw_observations", "matches_source")[key]


def test_as_many_rows_as_langfuse_counted_pass(shop: Works):
    audited(shop, "2026-09-07T14:00")
    found = source(shop)
    assert (found.passed, found.description) == (
        True,
        "2 rows, as many as Langfuse counted at 2026-09-07T14:00:00.000Z",
    )
    assert facts(found)["returned"] == facts(found)["counted"] == 2


@pytest.mark.slow
def test_rows_that_come_after_the_count_pass(tmp_path: Path):
    life = story().span("late", "07T10:20", trace="t", seen="07T14:10")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T13:10") as shop:
        audited(shop, "2026-09-07T14:00")
        found = source(shop.at("2026-09-07T15:00"))
    assert found.passed
    assert "1 more than Langfuse counted at 2026-09-07T14:00:00.000Z; rows have come" in (found.description or "")


@pytest.mark.slow
def test_a_count_below_what_is_returned_warns_when_no_row_has_changed_since(shop: Works):
    bucket = {"time_dimension": "2026-09-07T10:00:00Z", "count_count": 1, "sum_totalCost": 0, "sum_totalTokens": 0}
    body = json.dumps({"data": [bucket]})
    answer = Fault(path="/api/public/v2/metrics", status=200, body=body, content_type="application/json")
    shop.langfuse.state.faults.add(answer)
    audited(shop, "2026-09-07T14:00")
    found = source(shop)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "although no row has changed since" in (found.description or "")


@pytest.fixture
def deleted(tmp_path: Path) -> Iterator[Works]:
    """The trace of the first hour is deleted at 17:00."""
    life = story().trace_deleted("t", "07T17:00")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T13:10") as running:
        yield running


@pytest.mark.slow
def test_fewer_rows_than_two_audits_counted_warn(deleted: Works):
    audited(deleted, "2026-09-07T14:00", "2026-09-07T16:00")
    found = source(deleted.at("2026-09-07T18:00"))
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (found.description or "").startswith(
        "0 rows, 2 fewer than Langfuse has counted since 2026-09-07T14:00:00.000Z"
    )
    assert facts(found)["newly_deleted"] == 2


@pytest.mark.slow
def test_fewer_rows_than_one_audit_counted_may_be_versions_that_are_not_merged(deleted: Works):
    audited(deleted, "2026-09-07T16:00")
    found = source(deleted.at("2026-09-07T18:00"))
    assert found.passed
    assert "versions of a row may be counted twice" in (found.description or "")
