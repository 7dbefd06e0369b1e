"""A run over many hours: what is finished stays finished, and every failure says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lf_dagster.cli.projects import projects_of
from lf_dagster.cli.sync import SyncResult, sync_hours
from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project
from lf_dagster.hours import hour_range, parse_hour
from lf_dagster.simulators.faults import Fault
from tests.e2e.stack import StandIns

HOURS = hour_range(parse_hour("2026-11-21T00"), parse_hour("2026-11-21T06"))


def run(standins: StandIns, folder: Path, monkeypatch: pytest.MonkeyPatch, instance: Any) -> SyncResult:
    environment = standins.environment(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    definitions = build_project_definitions(load_project({}, environment))
    [settings] = projects_of(definitions)
    return sync_hours(definitions, instance, settings, HOURS, destinations=["mixpanel", "posthog"])


def materialized(instance: Any, asset: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(["langfuse", asset])))


@pytest.mark.slow
def test_hours_extracted_before_a_failure_are_recorded(
    recorded: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recorded.langfuse.state.faults.add(
        Fault(path="/api/public/v2/observations", nth=6, times=None, status=400, body='{"message":"no"}')
    )
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run(recorded, tmp_path, monkeypatch, instance)
        [failure] = failed.failures
        assert "Langfuse refused the request" in failure
        assert "project=langfuse, stream=observations, hour=2026-11-21-" in failure
        assert "endpoint=GET v2/observations, status=400" in failure
        done = materialized(instance, "raw_observations")
        assert 0 < len(done) < len(HOURS)
        assert materialized(instance, "mixpanel") == set()

        recorded.langfuse.state.faults.clear()
        assert run(recorded, tmp_path, monkeypatch, instance).failures == []
        for asset in ("raw_observations", "traces", "trace_events", "mixpanel", "posthog"):
            assert materialized(instance, asset) == {hour.key for hour in HOURS}, asset


@pytest.mark.slow
def test_hours_delivered_before_a_failure_are_recorded_and_not_sent_again(
    recorded: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recorded.mixpanel.state.faults.add(Fault(path="/import", nth=4, times=None, status=403, body='{"error":"no"}'))
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run(recorded, tmp_path, monkeypatch, instance)
        assert len(failed.failures) == 1
        assert "destination=mixpanel" in failed.failures[0]
        assert materialized(instance, "posthog") == {hour.key for hour in HOURS}
        before = len(recorded.mixpanel_events())
        assert 0 < len(materialized(instance, "mixpanel")) < len(HOURS)

        recorded.mixpanel.state.faults.clear()
        again = run(recorded, tmp_path, monkeypatch, instance)
        assert again.failures == []
        assert again.total("mixpanel", "sent") == len(recorded.mixpanel_events()) - before
        assert again.total("posthog", "sent") == 0


def test_metadata_accounts_for_each_hour_of_a_range(
    recorded: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(recorded, tmp_path, monkeypatch, instance)
    rows = [result.facts[hour]["raw_observations"]["dagster/partition_row_count"] for hour in HOURS]
    assert rows == [231, 214, 234, 212, 223, 205, 1]
    for facts in result.facts.values():
        events = sum(
            facts[f"{kind}_events"]["dagster/partition_row_count"] for kind in ("trace", "generation", "score")
        )
        for destination in ("mixpanel", "posthog"):
            shipped = facts[destination]
            assert shipped["events"] == events
            assert shipped["events"] == shipped["delivered"] + shipped["rejected"] + shipped["skipped"]
