"""From settings to Dagster definitions; Python users call this without any YAML."""

from __future__ import annotations

import dagster as dg

from lf_dagster.assets import (
    build_delivery_asset,
    build_event_assets,
    build_raw_assets,
    build_source_spec,
    build_typed_assets,
    build_view_specs,
)
from lf_dagster.automation import build_hourly_job, build_hourly_schedule
from lf_dagster.config import ProjectSettings


def build_project_definitions(settings: ProjectSettings) -> dg.Definitions:
    """Assets, job and schedule of one project.

    All assets share one partitions definition object and one backfill policy: that is what lets Dagster put
    them into the same runs.
    """
    partitions = dg.HourlyPartitionsDefinition(start_date=settings.start, timezone="UTC")
    policy = dg.BackfillPolicy.multi_run(max_partitions_per_run=settings.hours_per_run)
    job = build_hourly_job(settings)
    return dg.Definitions(
        assets=[
            build_source_spec(settings),
            build_raw_assets(settings, partitions=partitions, backfill_policy=policy),
            build_typed_assets(settings, partitions=partitions, backfill_policy=policy),
            *build_view_specs(settings),
            build_event_assets(settings, partitions=partitions, backfill_policy=policy),
            *(
                build_delivery_asset(settings, destination, partitions=partitions, backfill_policy=policy)
                for destination in settings.destinations
            ),
        ],
        jobs=[job],
        schedules=[build_hourly_schedule(settings, job)],
    )
