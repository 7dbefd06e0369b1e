"""User profiles as a project keeps them: on recorded rows, as a Dagster asset, and not at all where they are off."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project
from lf_dagster.destinations.mixpanel_profile_properties import PROPERTIES
from lf_dagster.simulators.mixpanel import profiles as engage
from tests.automation.rows import Life
from tests.automation.works import Works, works
from tests.e2e.leaks import leaks_in_files, leaks_in_text
from tests.e2e.sql_world import call
from tests.e2e.stack import RECORDED_FROM, RECORDED_TO, REPOSITORY, SECRETS, StandIns

KEY = dg.AssetKey(["shop", "mixpanel_profiles"])
HOUR = "2026-09-07T10:00"

TRUTH = """
WITH raw AS (
    SELECT json ->> 'id' AS id, json ->> 'traceId' AS trace_id, json ->> 'type' AS type, json ->> 'level' AS level,
        nullif(json ->> 'userId', '') AS user_id, nullif(json ->> 'sessionId', '') AS session_id,
        nullif(json ->> 'model', '') AS model, json ->> 'environment' AS environment,
        (json ->> 'startTime')::TIMESTAMPTZ AS started, (json ->> 'endTime')::TIMESTAMPTZ AS ended,
        (json -> 'costDetails' ->> 'total')::DECIMAL(18, 12) AS cost, id = 't-' || trace_id AS is_trace,
        CASE WHEN is_trace THEN 0 WHEN nullif(json ->> 'parentObservationId', '') IS NULL THEN 1
            WHEN (json ->> 'isRootObservation')::BOOLEAN THEN 2 ELSE 3 END AS rank,
        (json -> 'usageDetails' ->> 'total')::BIGINT AS tokens
    FROM read_parquet('{raw}/stream=observations/*/*/*.parquet')
),
traces AS (
    SELECT trace_id, arg_min(user_id, (rank, started)) FILTER (user_id IS NOT NULL) AS user_id,
        max(session_id) AS session_id,
        coalesce(min(started) FILTER (NOT is_trace), min(started)) AS started,
        coalesce(max(greatest(started, coalesce(ended, started))) FILTER (NOT is_trace), min(started)) AS ended,
        arg_min(environment, (rank, started)) AS environment, sum(cost) AS cost, sum(tokens) AS tokens,
        bool_or(level = 'ERROR') AS failed
    FROM raw GROUP BY trace_id
),
scores AS (
    SELECT user_id, count(*) AS n
    FROM read_parquet('{raw}/stream=scores/*/*/*.parquet') AS s
    JOIN traces AS t ON t.trace_id = coalesce(s.json -> 'subject' ->> 'traceId', s.json -> 'subject' ->> 'id')
    WHERE s.json ->> 'dataType' <> 'CORRECTION' GROUP BY user_id
),
models AS (
    SELECT t.user_id, list_sort(list(DISTINCT model)) AS models
    FROM raw JOIN traces AS t USING (trace_id) WHERE model IS NOT NULL AND NOT is_trace GROUP BY t.user_id
)
SELECT user_id, count(*), count(DISTINCT session_id), count(*) FILTER (failed),
    strftime(min(started) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S'),
    strftime(max(ended) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S'),
    sum(cost)::DOUBLE, sum(tokens)::BIGINT, list_sort(list(DISTINCT environment)),
    coalesce(any_value(models), []), coalesce(any_value(n), 0)
FROM traces LEFT JOIN scores USING (user_id) LEFT JOIN models USING (user_id)
WHERE user_id IS NOT NULL GROUP BY user_id
"""
COMPARED = (
    "traces", "sessions", "failed_traces", "first_seen", "last_seen", "cost_usd", "total_tokens", "environments",
    "models", "scores",
)  # fmt: skip


def profiles(standin: Any) -> dict[str, dict[str, Any]]:
    return {key[1]: profile for key, profile in standin.state.standin.store.profiles.items()}


def test_profiles_are_the_sums_over_the_rows_as_langfuse_returned_them(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path, MIXPANEL_PROFILES="1")
    assert call(env, "sync", "--from", RECORDED_FROM, "--to", RECORDED_TO).code == 0
    assert profiles(recorded.mixpanel) == {}, "events alone make no profile"
    dry = call(env, "mixpanel-profiles", "--dry-run")
    assert (dry.code, dry.out, profiles(recorded.mixpanel)) == (0, "langfuse: 58 of 58 profiles to be set\n", {})
    first = call(env, "mixpanel-profiles")
    assert (first.code, first.out) == (0, "langfuse: 58 of 58 profiles set, 0 rejected\n")

    rows = duckdb.sql(TRUTH.format(raw=tmp_path / "data" / "raw" / "project=langfuse")).fetchall()
    wanted = {user: dict(zip(COMPARED, values, strict=True)) for user, *values in rows}
    held = profiles(recorded.mixpanel)
    found = {user: {name: profile[f"langfuse_{name}"] for name in COMPARED} for user, profile in held.items()}
    for profile in found.values():
        profile["models"] = sorted(profile["models"])
    assert found == wanted
    by_events = {event["properties"]["distinct_id"] for event in recorded.mixpanel_events()}
    assert set(held) <= by_events

    again = call(env, "mixpanel-profiles")
    assert again.out == "langfuse: 0 of 58 profiles set, 0 rejected\n"
    assert call(env, "mixpanel-profiles", "--resend").out == first.out
    assert profiles(recorded.mixpanel) == held
    assert not leaks_in_files(tmp_path / "data")
    assert not leaks_in_text(first.out, first.err, again.out, dry.out)


def test_the_command_line_says_what_is_wrong(recorded: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    env = recorded.environment(tmp_path)
    off = call(env, "mixpanel-profiles")
    assert (off.code, "Set MIXPANEL_PROFILES=1" in off.err) == (1, True)
    env["MIXPANEL_PROFILES"] = "1"
    empty = call(env, "mixpanel-profiles")
    assert (empty.code, "lf-dagster sync" in " ".join(empty.err.split())) == (1, True)
    assert call(env, "sync", "--from", RECORDED_FROM, "--to", RECORDED_TO).code == 0

    def picky(profile: dict[str, Any], values: dict[str, Any]) -> None:
        if values["langfuse_user_url"].endswith("/user-1"):
            raise ValueError(f"not with {SECRETS['MIXPANEL_PROJECT_TOKEN']}")
        profile.update(values)

    monkeypatch.setitem(engage._OPERATORS, "$set", picky)
    refused = call(env, "mixpanel-profiles")
    assert refused.code == 3
    assert "user-1: refused:standin: $set is invalid: not with ***\n" in refused.out
    assert refused.out.endswith("57 of 58 profiles set, 1 rejected\n")
    assert not leaks_in_text(refused.out, refused.err)


def test_the_page_lists_every_property():
    page = (REPOSITORY / "docs" / "analytics-tools.md").read_text(encoding="utf-8")
    [table] = re.findall(r"\| Property \| Type \| \|\n\|---\|---\|---\|\n((?:\|.*\|\n)+)", page)
    assert table == "".join(f"| `{item.name}` | {item.type} | {item.doc} |\n" for item in PROPERTIES)


# In Dagster


def shop(folder: Path, **mixpanel: Any) -> Any:
    life = Life().span("root", "07T10:05", userId="u1").generation("call", "07T10:05:10", cost=0.5)
    life.span("other", "07T10:30", trace="t2", userId="u2")
    options = {"mixpanel": {"profiles": True, "project_id": "7", **mixpanel}}
    return works(folder, life.store, start=HOUR, now="2026-09-08T04:40", **options)


def materialized(running: Works, **config: Any) -> tuple[dict[str, Any], Any]:
    """Metadata and check of profiles that are set now."""
    job = running.definitions.resolve_job_def("shop_profiles")
    options = {"ops": {"shop__mixpanel_profiles": {"config": config}}} if config else {}
    done = job.execute_in_process(instance=running.instance, run_config=options)
    [event] = [event for event in done.all_events if event.is_step_materialization]
    assert event.asset_key == KEY
    assert done.dagster_run.tags["lf_dagster/project"] == "shop"
    [check] = done.get_asset_check_evaluations()
    facts = event.step_materialization_data.materialization.metadata
    return {name: value.value for name, value in facts.items()}, check


def test_a_run_says_what_it_did_and_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with shop(tmp_path) as running:
        running.rerun(HOUR)
        facts, check = materialized(running)
        assert {name: facts[name] for name in ("users", "profiles", "sent", "unchanged", "rejected", "gone")} == {
            "users": 2, "profiles": 2, "sent": 2, "unchanged": 0, "rejected": 0, "gone": 0,
        }  # fmt: skip
        assert facts["dagster/row_count"] == 2
        assert Path(facts["path"]).is_file()
        assert check.passed
        assert materialized(running)[0]["sent"] == 0

        def nothing(_profile: dict[str, Any], _values: dict[str, Any]) -> None:
            raise ValueError("no")

        monkeypatch.setitem(engage._OPERATORS, "$set", nothing)
        facts, check = materialized(running, resend=True)
        assert (facts["rejected"], facts["reasons"]) == (
            2,
            [{"reason": "refused:standin: $set is invalid: no", "profiles": 2}],
        )
        assert [item["distinct_id"] for item in facts["first_rejections"]] == ["u1", "u2"]
        assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)


def test_runs_of_profiles_are_no_runs_on_hours(tmp_path: Path):
    with shop(tmp_path) as running:
        running.settle()
        materialized(running)
        assert running.ask() == []
        running.instance.create_run_for_job(
            running.definitions.resolve_job_def("shop_profiles"), tags={"lf_dagster/project": "shop"}
        )
        assert [request.partition_key for request in running.at("2026-09-08T05:30").due("hourly")] == [
            "2026-09-08-04:00"
        ]


def test_the_asset_is_in_no_hourly_run_and_has_a_schedule_of_its_own():
    settings = load_project({"name": "shop"}, {"MIXPANEL_PROJECT_TOKEN": "x", "MIXPANEL_PROFILES": "true"})
    definitions = build_project_definitions(settings)
    assert KEY not in definitions.resolve_job_def("shop_hourly").asset_layer.executable_asset_keys
    assert definitions.resolve_job_def("shop_profiles").asset_layer.executable_asset_keys == {KEY}
    node = definitions.resolve_asset_graph().get(KEY)
    assert (node.group_name, node.partitions_def, node.pools) == ("shop_profiles", None, {"lf_dagster_warehouse"})
    assert {key.path[-1] for key in node.parent_keys} == {
        "traces",
        "observations",
        "scores",
        "trace_events",
        "mixpanel",
    }
    assert node.metadata["mixpanel_project"].value == "https://mixpanel.com"
    columns = node.metadata["dagster/column_schema"].columns
    assert all(column.description for column in columns)
    assert columns[0].name == "langfuse_first_seen"
    schedule = definitions.resolve_schedule_def("shop_profiles_schedule")
    assert (schedule.cron_schedule, schedule.default_status) == ("45 */6 * * *", dg.DefaultScheduleStatus.RUNNING)
    tick = datetime(2026, 9, 8, 6, 45, tzinfo=timezone.utc)
    with dg.build_schedule_context(
        scheduled_execution_time=tick, repository_def=definitions.get_repository_def()
    ) as context:
        assert len(schedule.evaluate_tick(context).run_requests or ()) == 1


@pytest.mark.parametrize(("hours", "cron"), [(1, "45 * * * *"), (4, "45 */4 * * *"), (24, "45 0 * * *")])
def test_the_schedule_follows_the_setting(hours: int, cron: str):
    given = {"name": "shop", "mixpanel": {"profiles": {"every_hours": hours}}}
    definitions = build_project_definitions(load_project(given))
    assert definitions.resolve_schedule_def("shop_profiles_schedule").cron_schedule == cron


@pytest.mark.parametrize("profiles", [None, False])
def test_where_profiles_are_off_there_is_no_asset_and_no_request(tmp_path: Path, profiles: bool | None):
    given = {} if profiles is None else {"profiles": profiles}
    with works(
        tmp_path, Life().span("root", "07T10:05", userId="u1").store, start=HOUR, now="2026-09-08T04:40",
        mixpanel=given,
    ) as running:  # fmt: skip
        running.rerun(HOUR)
        assert len(running.mixpanel_events()) == 1
        assert running.mixpanel.state.faults.requests("/engage") == []
        names = [spec.key.path[-1] for spec in running.definitions.resolve_all_asset_specs()]
        assert "mixpanel_profiles" not in names
        assert not [item for item in running.definitions.schedules or () if "profiles" in item.name]
        assert not [item for item in running.definitions.jobs or () if "profiles" in item.name]
