"""From settings to Dagster definitions; Python users call this without any YAML."""

from __future__ import annotations

from typing import Any

import dagster as dg

from lf_dagster.assets import (
    build_audit_asset,
    build_delivery_asset,
    build_event_assets,
    build_profiles_asset,
    build_raw_assets,
    build_report_asset,
    build_source_spec,
    build_typed_assets,
    build_view_specs,
)
from lf_dagster.automation import (
    build_audit_job,
    build_audit_schedule,
    build_hourly_job,
    build_hourly_schedule,
    build_profiles_job,
    build_profiles_schedule,
    build_reconcile_sensor,
    build_report_job,
    build_report_schedule,
    build_sync_schedule,
)
from lf_dagster.config import ProjectSettings


def build_project_definitions(settings: ProjectSettings) -> dg.Definitions:
    """Assets, jobs, schedules and the reconcile sensor of one project.

    All hourly assets share one partitions definition object and one backfill policy: that is what lets Dagster put
    them into the same runs.
    """
    # The hour under way is a partition only where it is read before it ends.
    end_offset = 1 if settings.sync_every_minutes else 0
    partitions = dg.HourlyPartitionsDefinition(start_date=settings.start, timezone="UTC", end_offset=end_offset)
    hourly: dict[str, Any] = {
        "partitions": partitions,
        "backfill_policy": dg.BackfillPolicy.multi_run(max_partitions_per_run=settings.hours_per_run),
    }
    layers = {
        "raw": build_raw_assets(settings, **hourly),
        "typed": build_typed_assets(settings, **hourly),
        "events": build_event_assets(settings, **hourly),
    }
    deliveries = [build_delivery_asset(settings, destination, **hourly) for destination in settings.destinations]
    keys = {name: sorted(layer.keys) for name, layer in layers.items()}
    job = build_hourly_job(settings, (key for asset in (*layers.values(), *deliveries) for key in asset.keys))
    sensor = build_reconcile_sensor(settings, job, keys)
    audit_job, schedules = build_audit_job(settings), [build_hourly_schedule(settings, job)]
    if settings.sync_every_minutes:
        schedules.append(build_sync_schedule(settings, job))
    if settings.reconcile.audit_every_hours:
        schedules.append(build_audit_schedule(settings, audit_job))
    report_job = build_report_job(settings)
    if settings.report.daily:
        schedules.append(build_report_schedule(settings, report_job))
    profiles, profiles_jobs = [], []
    if settings.mixpanel and settings.mixpanel.kept_profiles:
        profiles.append(build_profiles_asset(settings))
        profiles_jobs.append(build_profiles_job(settings))
        schedules.append(build_profiles_schedule(settings, profiles_jobs[0]))
    return dg.Definitions(
        assets=[
            build_source_spec(settings),
            *layers.values(),
            *build_view_specs(settings),
            *deliveries,
            build_audit_asset(settings),
            build_report_asset(settings),
            *profiles,
        ],
        jobs=[job, audit_job, report_job, *profiles_jobs],
        schedules=schedules,
        sensors=[sensor],
    )
