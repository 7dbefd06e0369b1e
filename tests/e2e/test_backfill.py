"""A backfill from the UI: 24 hours are one run, and every hour has its own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lf_dagster.hours import hour_range, parse_hour
from tests.e2e.dagster_stack import Dagster, running_dagster, wait_for
from tests.e2e.leaks import leaks_in_command_lines, leaks_in_files
from tests.e2e.stack import StandIns

LAUNCH = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
STATUS = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status numPartitions runs(limit: 50) { id status } error { message } }
  }
}"""
MATERIALIZATIONS = """
query ($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) {
    ... on Asset { assetMaterializations(limit: 200) {
      partition runId metadataEntries { label ... on IntMetadataEntry { intValue } }
    } }
  }
}"""
CHECKS = """
query ($keys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $keys) { assetKey { path } assetChecksOrError { ... on AssetChecks { checks { name
    partitionStatuses { ... on AssetCheckTimePartitionStatuses { ranges { startKey endKey status } } }
  } } } }
}"""
ASSETS = ["raw_observations", "raw_scores", "observations", "traces", "generations", "scores"]
EVENTS = ["trace_events", "generation_events", "score_events"]
ENDED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}


def launch(dagster: Dagster, names: list[str], keys: list[str]) -> str:
    params = {"assetSelection": [{"path": ["langfuse", name]} for name in names], "partitionNames": keys}
    return dagster.query(LAUNCH, params=params)["launchPartitionBackfill"]["backfillId"]


def finished(dagster: Dagster, backfill: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        found = dagster.query(STATUS, id=backfill)["partitionBackfillOrError"]
        return found if found["status"] in ENDED else None

    return wait_for("the end of the backfill", probe, seconds=110)


def numbers(dagster: Dagster, asset: str) -> dict[str, dict[str, int]]:
    """The newest numbers of each partition of an asset."""
    found = dagster.query(MATERIALIZATIONS, key={"path": ["langfuse", asset]})
    newest: dict[str, dict[str, int]] = {}
    for materialization in reversed(found["assetOrError"]["assetMaterializations"]):
        entries = {entry["label"]: entry.get("intValue") for entry in materialization["metadataEntries"]}
        newest[materialization["partition"]] = entries
    return newest


def checked(dagster: Dagster, *assets: str) -> dict[tuple[str, str], list[tuple[str, str, str]]]:
    """For each asset and check: first hour, last hour and status of each stretch of hours."""
    nodes = dagster.query(CHECKS, keys=[{"path": ["langfuse", name]} for name in assets])["assetNodes"]
    return {
        (node["assetKey"]["path"][-1], check["name"]): [
            (item["startKey"], item["endKey"], item["status"]) for item in check["partitionStatuses"]["ranges"]
        ]
        for node in nodes
        for check in node["assetChecksOrError"]["checks"]
    }


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_backfill_of_24_hours_is_one_run_that_accounts_for_each_hour(recorded: StandIns, tmp_path: Path):
    hours = [hour.key for hour in hour_range(parse_hour("2026-11-20T07"), parse_hour("2026-11-21T06"))]
    with running_dagster(recorded.environment(tmp_path), tmp_path) as dagster:
        backfill = launch(dagster, [*ASSETS, *EVENTS, "mixpanel", "posthog"], hours)
        done = finished(dagster, backfill)
        assert (done["status"], done["numPartitions"]) == ("COMPLETED_SUCCESS", 24), done
        assert [run["status"] for run in done["runs"]] == ["SUCCESS"]

        extracted = numbers(dagster, "raw_observations")
        # At minute 30 of the real clock the schedule runs another hour beside these.
        assert extracted.keys() >= set(hours)
        rows = {hour: extracted[hour]["dagster/partition_row_count"] for hour in hours}
        assert [rows[hour] for hour in hours[-7:]] == [231, 214, 234, 212, 223, 205, 1]
        assert sum(rows.values()) == 1320

        for destination, held in (("mixpanel", recorded.mixpanel_events()), ("posthog", recorded.posthog_events())):
            delivered = {hour: facts for hour, facts in numbers(dagster, destination).items() if hour in hours}
            assert sorted(delivered) == hours
            for facts in delivered.values():
                assert facts["events"] == facts["delivered"] + facts["rejected"] + facts["skipped"]
            assert sum(facts["delivered"] for facts in delivered.values()) == len(held) > 0
        found = checked(dagster, "raw_observations", "mixpanel", "posthog")
        assert found.keys() == {
            ("raw_observations", "matches_source"),
            *((name, check) for name in ("mixpanel", "posthog") for check in ("accounted", "rejections", "on_time")),
        }
        assert all((hours[0], hours[-1], "SUCCEEDED") in ranges for ranges in found.values())
        assert leaks_in_command_lines() == []
    assert leaks_in_files(tmp_path) == []
