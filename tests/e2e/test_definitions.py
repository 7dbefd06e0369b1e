"""What Dagster loads: the same graph everywhere, without credentials, in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest

from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project
from tests.e2e.stack import REPOSITORY

BOTH = {"MIXPANEL_PROJECT_TOKEN": "x", "POSTHOG_API_KEY": "phc_x"}


def keys(definitions: dg.Definitions) -> list[str]:
    return sorted(spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs())


def test_the_keys_of_a_project_are_a_promise():
    definitions = build_project_definitions(load_project({"name": "shop"}, BOTH))
    assert keys(definitions) == [
        f"shop/{name}"
        for name in sorted(
            [
                *("langfuse", "raw_observations", "raw_scores"),
                *("observations", "traces", "generations", "scores", "sessions", "users"),
                *("trace_events", "generation_events", "score_events", "mixpanel", "posthog"),
            ]
        )
    ]


def test_options_add_their_assets():
    settings = load_project({"name": "shop", "langfuse": {"read_path": "legacy"}, "observation_events": True}, None)
    found = keys(build_project_definitions(settings))
    assert "shop/raw_traces" in found
    assert "shop/observation_events" in found
    assert "shop/mixpanel" not in found


def test_every_table_says_what_its_columns_are_and_where_they_come_from():
    definitions = build_project_definitions(load_project({"name": "shop"}, BOTH))
    for spec in definitions.resolve_all_asset_specs():
        name = spec.key.path[-1]
        assert spec.description, name
        assert spec.group_name == "shop"
        assert spec.kinds, name
        if name in ("langfuse", "mixpanel", "posthog"):
            continue
        columns = spec.metadata["dagster/column_schema"].columns
        assert all(column.description for column in columns), name
        if not name.startswith("raw_"):
            assert spec.metadata["dagster/column_lineage"].deps_by_column, name


def test_all_assets_of_an_hour_share_partitions_and_policy():
    definitions = build_project_definitions(load_project({"hours_per_run": 12}, BOTH))
    job = definitions.resolve_job_def("langfuse_hourly")
    assert job.partitions_def == dg.HourlyPartitionsDefinition("2026-01-01-00:00", timezone="UTC")
    policies = {asset.backfill_policy for asset in definitions.resolve_asset_graph().assets_defs if asset.is_executable}
    assert policies == {dg.BackfillPolicy.multi_run(12)}


@pytest.mark.filterwarnings("ignore:Function `JobDefinition.run_request_for_partition`")  # inside Dagster
def test_a_tick_at_minute_30_launches_the_hour_just_ended():
    definitions = build_project_definitions(load_project({}, BOTH))
    schedule = definitions.resolve_schedule_def("langfuse_hourly_schedule")
    assert (schedule.cron_schedule, schedule.default_status.value) == ("30 * * * *", "RUNNING")
    tick = datetime(2026, 11, 21, 7, 30, tzinfo=timezone.utc)
    with dg.build_schedule_context(
        scheduled_execution_time=tick, repository_def=definitions.get_repository_def()
    ) as context:
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests or ()] == ["2026-11-21-06:00"]


@pytest.mark.slow
def test_definitions_load_in_a_fresh_process_without_any_variable(tmp_path: Path):
    script = (
        "import json; from lf_dagster.definitions import defs; "
        "print(json.dumps(sorted(s.key.to_user_string() for s in defs().resolve_all_asset_specs())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert "langfuse/raw_observations" in found
    assert "langfuse/mixpanel" not in found
    assert (REPOSITORY / "workspace.yaml").exists()
