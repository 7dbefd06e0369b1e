"""The hourly job and its schedule: the fast path of an hour that has just ended."""

from __future__ import annotations

from typing import Any

import dagster as dg

from lf_dagster.config import ProjectSettings


def build_hourly_job(settings: ProjectSettings) -> Any:
    """`<project>_hourly`: extract, model and ship the hours it is given."""
    return dg.define_asset_job(
        name=f"{settings.name}_hourly",
        selection=dg.AssetSelection.groups(settings.name),
        description=f"Extract, model and ship hours of the Langfuse project {settings.name}.",
        tags={"lf_dagster/project": settings.name},
    )


def build_hourly_schedule(settings: ProjectSettings, job: Any) -> Any:
    """At `schedule_minute` of every hour: the hour just ended.

    Half an hour is how long Langfuse may take until it shows what it was sent (contracts: langfuse.md 10).
    """
    return dg.build_schedule_from_partitioned_job(
        job,
        name=f"{settings.name}_hourly_schedule",
        minute_of_hour=settings.schedule_minute,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Runs the hour just ended, {settings.schedule_minute} minutes after its end.",
    )
