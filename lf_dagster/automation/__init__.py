"""What starts runs by itself, and what runs say about hours."""

from lf_dagster.assets.runs import failures_of, last_failure
from lf_dagster.automation.profiles import build_profiles_job, build_profiles_schedule
from lf_dagster.automation.reconcile import build_reconcile_sensor
from lf_dagster.automation.report import build_report_job, build_report_schedule
from lf_dagster.automation.schedule import (
    build_audit_job,
    build_audit_schedule,
    build_hourly_job,
    build_hourly_schedule,
)
from lf_dagster.automation.sync import build_sync_schedule

__all__ = [
    "build_audit_job",
    "build_audit_schedule",
    "build_hourly_job",
    "build_hourly_schedule",
    "build_profiles_job",
    "build_profiles_schedule",
    "build_reconcile_sensor",
    "build_report_job",
    "build_report_schedule",
    "build_sync_schedule",
    "failures_of",
    "last_failure",
]
