"""What starts runs by itself."""

from lf_dagster.automation.schedule import build_hourly_job, build_hourly_schedule

__all__ = ["build_hourly_job", "build_hourly_schedule"]
