"""What Dagster loads: the same graph everywhere, without credentials, in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
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
                *("observations", "traces", "generations", "scores", "deletions", "sessions", "users", "agents"),
                *("dify_workflow_runs", "dify_workflow_nodes", "dify_messages", "dify_moderations"),
                *("dify_suggested_questions", "dify_dataset_retrievals", "dify_tool_calls", "dify_generate_names"),
                *("librechat_conversations", "librechat_messages", "librechat_tool_calls", "librechat_aux_calls"),
                *("trace_events", "generation_events", "score_events", "mixpanel", "posthog", "source_audit"),
                "llm_report",
            ]
        )
    ]


def test_source_apps_that_are_not_wanted_have_no_assets():
    settings = load_project({"name": "shop"}, {**BOTH, "LF_DAGSTER_SOURCE_APPS": ""})
    assert not [key for key in keys(build_project_definitions(settings)) if "dify" in key or "librechat" in key]


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
        app = name.partition("_")[0]
        own = {"dify": "shop_dify", "librechat": "shop_librechat", "llm": "shop_report"}
        assert spec.group_name == own.get(app, "shop")
        assert spec.kinds, name
        if name in ("langfuse", "mixpanel", "posthog", "source_audit", "llm_report"):
            continue
        columns = spec.metadata["dagster/column_schema"].columns
        assert all(column.description for column in columns), name
        if not name.startswith("raw_"):
            assert spec.metadata["dagster/column_lineage"].deps_by_column, name


def test_all_assets_of_an_hour_share_partitions_and_policy():
    definitions = build_project_definitions(load_project({"hours_per_run": 12}, BOTH))
    job = definitions.resolve_job_def("langfuse_hourly")
    assert job.partitions_def == dg.HourlyPartitionsDefinition("2026-01-01-00:00", timezone="UTC")
    hourly = job.asset_layer.executable_asset_keys
    assert {key.path[-1] for key in hourly} >= {"raw_scores", "traces", "trace_events", "mixpanel", "posthog"}
    policies = {definitions.resolve_asset_graph().get(key).backfill_policy for key in hourly}
    assert policies == {dg.BackfillPolicy.multi_run(12)}


def test_the_audit_is_a_job_of_its_own():
    definitions = build_project_definitions(load_project({}, BOTH))
    audit = dg.AssetKey(["langfuse", "source_audit"])
    assert audit not in definitions.resolve_job_def("langfuse_hourly").asset_layer.executable_asset_keys
    assert definitions.resolve_job_def("langfuse_audit").asset_layer.executable_asset_keys == {audit}


@pytest.mark.parametrize(("variables", "status"), [({}, "RUNNING"), ({"LF_DAGSTER_RECONCILE": "0"}, "STOPPED")])
def test_what_starts_runs_by_itself(variables: dict[str, str], status: str):
    definitions = build_project_definitions(load_project({}, {**BOTH, **variables}))
    sensor = definitions.resolve_sensor_def("langfuse_reconcile")
    audits = definitions.resolve_schedule_def("langfuse_audit_schedule")
    assert [item.default_status.value for item in (sensor, audits)] == [status, status]
    assert audits.cron_schedule == "50 */2 * * *"
    hourly = definitions.resolve_schedule_def("langfuse_hourly_schedule")
    assert (hourly.cron_schedule, hourly.default_status.value) == ("30 * * * *", "RUNNING")


def test_no_audit_is_scheduled_where_none_is_wanted():
    definitions = build_project_definitions(load_project({}, {**BOTH, "LF_DAGSTER_AUDIT_EVERY_HOURS": "0"}))
    assert [schedule.name for schedule in definitions.schedules or ()] == [
        "langfuse_hourly_schedule",
        "langfuse_report_schedule",
    ]


def test_every_hour_is_checked_in_the_job_and_no_check_stops_it():
    definitions = build_project_definitions(load_project({"name": "shop"}, BOTH))
    checks = definitions.resolve_job_def("shop_hourly").asset_layer.asset_graph.asset_check_keys
    at_each = ("accounted", "rejections", "on_time")
    assert {(key.asset_key.path[-1], key.name) for key in checks} == {
        ("raw_observations", "matches_source"),
        *((destination, name) for destination in ("mixpanel", "posthog") for name in at_each),
    }
    every = [spec for asset in definitions.resolve_asset_graph().assets_defs for spec in asset.check_specs]
    specs = [spec for spec in every if spec.key in checks]
    assert [spec.key.to_user_string() for spec in every if spec.key not in checks] == [
        "shop/source_audit:matches_langfuse"
    ]
    assert not any(spec.blocking for spec in specs)
    assert all(spec.description and spec.partitions_def for spec in specs)


def test_deliveries_have_a_freshness_policy_of_the_settings():
    definitions = build_project_definitions(load_project({}, {**BOTH, "LF_DAGSTER_FRESH_MINUTES": "30"}))
    policies = {spec.key.path[-1]: spec.freshness_policy for spec in definitions.resolve_all_asset_specs()}
    expected = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=4, minutes=30), warn_window=timedelta(hours=1, minutes=30)
    )
    assert {name: policy for name, policy in policies.items() if policy} == dict.fromkeys(
        ("mixpanel", "posthog"), expected
    )


@pytest.mark.filterwarnings("ignore:Function `JobDefinition.run_request_for_partition`")  # inside Dagster
def test_a_tick_at_minute_30_launches_the_hour_just_ended(tmp_path: Path):
    definitions = build_project_definitions(load_project({}, BOTH))
    schedule = definitions.resolve_schedule_def("langfuse_hourly_schedule")
    tick = datetime(2026, 11, 21, 7, 30, tzinfo=timezone.utc)
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(
            instance=instance, scheduled_execution_time=tick, repository_def=definitions.get_repository_def()
        ) as context,
    ):
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests or ()] == ["2026-11-21-06:00"]


@pytest.mark.slow
def test_definitions_load_in_a_fresh_process_without_any_variable(tmp_path: Path):
    script = (
        "import json, sys; from lf_dagster.definitions import defs; "
        "print(json.dumps(sorted(s.key.to_user_string() for s in defs().resolve_all_asset_specs()))); "
        # A sixth of a second and 40 MB in every code server and daemon, for nothing.
        "assert 'pandas' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert "langfuse/raw_observations" in found
    assert "langfuse/mixpanel" not in found
    assert (REPOSITORY / "workspace.yaml").exists()
