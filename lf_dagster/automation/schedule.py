"""Jobs and schedules: the fast path of an hour that has just ended, and the audit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from lf_dagster.assets import asset_key
from lf_dagster.assets.runs import PROJECT_TAG, REASON_TAG, REQUESTED_TAG, hours_of_run, open_runs
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour, parse_hour


def build_hourly_job(settings: ProjectSettings, assets: Iterable[dg.AssetKey]) -> Any:
    """`<project>_hourly`: extract, model and ship the hours it is given, with the `assets` of an hour.

    They are told by key: somebody else's assets may be in the same group. Like all jobs of a project it runs in one
    process, whatever the executor of the Dagster project that it is part of.
    """
    return dg.define_asset_job(
        name=f"{settings.name}_hourly",
        selection=sorted(assets),
        description=f"Extract, model and ship hours of the Langfuse project {settings.name}.",
        tags={PROJECT_TAG: settings.name},
        executor_def=dg.in_process_executor,
    )


def build_hourly_schedule(settings: ProjectSettings, job: Any) -> Any:
    """At `schedule_minute` of every hour: the hour just ended.

    Half an hour is how long Langfuse may take until it shows what it was sent (contracts: langfuse.md 10). A missed
    tick is not caught up here: the reconcile sensor asks for whatever is missing.
    """

    @dg.schedule(
        name=f"{settings.name}_hourly_schedule",
        job=job,
        cron_schedule=f"{settings.schedule_minute} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Runs the hour just ended, {settings.schedule_minute} minutes after its end.",
    )
    def hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        due = Hour.containing(context.scheduled_execution_time).shift(-1)
        if due < parse_hour(settings.start):
            return dg.SkipReason(f"{due.key} lies before the project's first hour {settings.start}")
        working = [run.run_id for run in open_runs(context.instance, settings.name) if due in hours_of_run(run)]
        if working:
            return dg.SkipReason(f"run {working[0]} is working on {due.key}")
        return dg.RunRequest(
            partition_key=due.key,
            run_config=waiting_for_traces(settings),
            tags={
                PROJECT_TAG: settings.name,
                REASON_TAG: "schedule",
                REQUESTED_TAG: context.scheduled_execution_time.isoformat(),
            },
        )

    return hourly


def waiting_for_traces(settings: ProjectSettings) -> dict[str, Any]:
    """While history is still being made up, events of its traces wait for it."""
    if not settings.reconcile.enabled:
        return {}
    return {
        "ops": {f"{settings.name}__{name}": {"config": {"wait_for_traces": True}} for name in settings.destinations}
    }


def build_audit_job(settings: ProjectSettings) -> Any:
    """`<project>_audit`: one look at the source."""
    return dg.define_asset_job(
        name=f"{settings.name}_audit",
        selection=[asset_key(settings.name, "source_audit")],
        description=f"Compare the hours of the Langfuse project {settings.name} with the source.",
        tags={PROJECT_TAG: settings.name},
        executor_def=dg.in_process_executor,
    )


def build_audit_schedule(settings: ProjectSettings, job: Any) -> Any:
    """Every `audit_every_hours`, 20 minutes after the hourly run."""
    every = settings.reconcile.audit_every_hours
    minute = (settings.schedule_minute + 20) % 60
    return dg.ScheduleDefinition(
        name=f"{settings.name}_audit_schedule",
        job=job,
        cron_schedule=f"{minute} {'*' if every == 1 else f'*/{every}'} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING
        if settings.reconcile.enabled
        else dg.DefaultScheduleStatus.STOPPED,
        description="Compares all hours of the horizon with Langfuse's own numbers.",
    )
