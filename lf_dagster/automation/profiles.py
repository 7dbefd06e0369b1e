"""The job and the schedule of user profiles."""

from __future__ import annotations

from typing import Any

import dagster as dg

from lf_dagster.assets import asset_key
from lf_dagster.assets.profiles import PROFILES
from lf_dagster.assets.runs import PROJECT_TAG
from lf_dagster.config import ProjectSettings
from lf_dagster.profiles import ProfileSettings

_MINUTES_AFTER = 15


def build_profiles_job(settings: ProjectSettings) -> Any:
    """`<project>_profiles`: the profiles as the warehouse has them now."""
    return dg.define_asset_job(
        name=f"{settings.name}_profiles",
        selection=[asset_key(settings.name, PROFILES)],
        description=f"Set the user profiles of the Langfuse project {settings.name} in Mixpanel.",
        tags={PROJECT_TAG: settings.name},
        executor_def=dg.in_process_executor,
    )


def build_profiles_schedule(settings: ProjectSettings, job: Any) -> Any:
    """Every `every_hours`, a quarter of an hour after the hourly run, which it waits for where that takes longer."""
    chosen = (settings.mixpanel and settings.mixpanel.kept_profiles) or ProfileSettings.model_validate({})
    minute = (settings.schedule_minute + _MINUTES_AFTER) % 60
    hours = {1: "*", 24: "0"}.get(chosen.every_hours, f"*/{chosen.every_hours}")
    return dg.ScheduleDefinition(
        name=f"{settings.name}_profiles_schedule",
        job=job,
        cron_schedule=f"{minute} {hours} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Sets the profiles of users of whom the warehouse says something new.",
    )
