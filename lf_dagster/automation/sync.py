"""The schedule that reads the hour under way every few minutes, for projects that want it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from lf_dagster.accounting import closes_at, is_closed
from lf_dagster.assets.runs import (
    PROJECT_TAG,
    RANGE_END,
    RANGE_START,
    REASON_TAG,
    REQUESTED_TAG,
    SYNC_REASON,
    runs_on,
)
from lf_dagster.automation.reconcile import require_keys
from lf_dagster.automation.schedule import waiting_for_traces
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour, parse_hour
from lf_dagster.lake import Lake


def build_sync_schedule(settings: ProjectSettings, job: Any) -> dg.ScheduleDefinition:
    """`<project>_sync_schedule`: every `sync_every_minutes` one run over the hour under way, and over the one before it
    until that one is closed. Ticks that were missed need no making up: the next one reads the same hours."""

    @dg.schedule(
        name=f"{settings.name}_sync_schedule",
        job=job,
        cron_schedule=f"*/{settings.sync_every_minutes} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Reads the hour under way every {settings.sync_every_minutes} minutes; the hourly schedule closes "
        "it.",
    )
    def sync(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        at, lake = context.scheduled_execution_time, Lake(settings.data)
        try:
            require_keys(settings)
        except ConfigError as error:
            return dg.SkipReason(str(error))
        busy = runs_on(context.instance, settings.name, lake)
        due = list(_due(settings, lake, at))
        hours = [hour for hour in due if hour not in busy]
        if not hours:
            return dg.SkipReason("; ".join(f"run {busy[hour]} is working on {hour.key}" for hour in due) or _TOO_EARLY)
        return dg.RunRequest(
            run_config=waiting_for_traces(settings),
            tags={
                PROJECT_TAG: settings.name,
                REASON_TAG: SYNC_REASON,
                REQUESTED_TAG: at.isoformat(),
                RANGE_START: hours[0].key,
                RANGE_END: hours[-1].key,
            },
        )

    return sync


_TOO_EARLY = "the project's first hour has not begun"


def _due(settings: ProjectSettings, lake: Lake, at: datetime) -> Iterator[Hour]:
    """The hours that a tick reads, oldest first."""
    under_way, first = Hour.containing(at), parse_hour(settings.start)
    before = under_way.shift(-1)
    if before >= first and not _is_for_others(settings, before, at) and not is_closed(settings, lake, before):
        yield before
    if under_way >= first:
        yield under_way


def _is_for_others(settings: ProjectSettings, hour: Hour, at: datetime) -> bool:
    """Whether the hourly schedule runs the hour at this very moment, or the reconcile sensor looks after it by now."""
    closing = closes_at(settings, hour)
    grace = timedelta(minutes=settings.reconcile.grace_minutes)
    return at == closing or (settings.reconcile.enabled and at >= closing + grace)
