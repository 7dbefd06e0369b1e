"""The job and the schedule of the daily report."""

from __future__ import annotations

from typing import Any

import dagster as dg

from lf_dagster.assets import asset_key
from lf_dagster.assets.reports import REPORT
from lf_dagster.assets.runs import PROJECT_TAG
from lf_dagster.config import ProjectSettings

_HOUR_OF_DAY = 4
_MINUTES_AFTER = 10


def build_report_job(settings: ProjectSettings) -> Any:
    """`<project>_report`: the report of the days it is given."""
    return dg.define_asset_job(
        name=f"{settings.name}_report",
        selection=[asset_key(settings.name, REPORT)],
        description=f"Make the report of days of the Langfuse project {settings.name}.",
        tags={PROJECT_TAG: settings.name},
        executor_def=dg.in_process_executor,
    )


def build_report_schedule(settings: ProjectSettings, job: Any) -> Any:
    """Once a day, for the day before: after its last hour was read again at the age of three hours."""
    return dg.build_schedule_from_partitioned_job(
        job,
        name=f"{settings.name}_report_schedule",
        hour_of_day=_HOUR_OF_DAY,
        minute_of_hour=(settings.schedule_minute + _MINUTES_AFTER) % 60,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Makes the report of the day that ended.",
    )
