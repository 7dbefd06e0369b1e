"""What Dagster's runs say about hours: which are being worked on, and which fail again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME

from lf_dagster.accounting import Failures
from lf_dagster.hours import Hour, hour_range
from lf_dagster.lake import Lake, is_dead

PROJECT_TAG = "lf_dagster/project"
REASON_TAG = "lf_dagster/reason"
REQUESTED_TAG = "lf_dagster/requested_at"
SYNC_REASON = "sync"
"""Reason of runs on hours that are still under way: the next tick repeats them, so a failure is no failing hour."""
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
_PARTITION = "dagster/partition"

_OPEN = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_REMEMBERED_RUNS = 500


def open_runs(instance: dg.DagsterInstance, project: str) -> list[dg.DagsterRun]:
    """Runs on hours of a project that wait or run, whoever asked for them: schedule, sensor, backfill, a person."""
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=_OPEN))
    return [run for run in runs if _is_of(run, project) and hours_of_run(run)]


def is_gone(run: dg.DagsterRun, lake: Lake) -> bool:
    """Whether a run counts as started although its process is gone, as when the machine went down."""
    return run.status == dg.DagsterRunStatus.STARTED and is_dead(lake, run.run_id)


def runs_on(instance: dg.DagsterInstance, project: str, lake: Lake) -> dict[Hour, str]:
    """Hours that a living run waits for or works on, and its id."""
    living = [run for run in open_runs(instance, project) if not is_gone(run, lake)]
    return {hour: run.run_id for run in living for hour in hours_of_run(run)}


def hours_of_run(run: dg.DagsterRun) -> list[Hour]:
    """The hours that a run was asked to do; empty for a run without partitions, and for one whose partitions are no
    hours: the report's days, or whatever somebody's own assets have whose keys begin with the project's name."""
    tags = run.tags
    if RANGE_START in tags and RANGE_END in tags:
        first, last = tags[RANGE_START], tags[RANGE_END]
    elif _PARTITION in tags:
        first = last = tags[_PARTITION]
    else:
        return []
    try:
        return hour_range(Hour.from_key(first), Hour.from_key(last))
    except ValueError:
        return []


def failures_of(instance: dg.DagsterInstance, project: str) -> dict[Hour, Failures]:
    """Hours whose newest runs failed or were canceled: how many in a row, and when the last of them was asked for."""
    found: dict[Hour, Failures] = {}
    done: set[Hour] = set()
    for record in _ended(instance, project):
        for hour in set(hours_of_run(record.dagster_run)) - done:
            if record.dagster_run.status == dg.DagsterRunStatus.SUCCESS:
                done.add(hour)
            elif record.dagster_run.tags.get(REASON_TAG) != SYNC_REASON:
                known = found.get(hour)
                count = 1 if known is None else known.count + 1
                found[hour] = Failures(count, _asked_at(record) if known is None else known.last)
    return found


def last_failure(instance: dg.DagsterInstance, project: str) -> tuple[datetime, str] | None:
    """When the newest failed run of a project ended, and what it said; None when none of the remembered failed."""
    for record in _ended(instance, project, by_hand=True):
        run = record.dagster_run
        if run.status == dg.DagsterRunStatus.FAILURE:
            ended = datetime.fromtimestamp(record.end_time or record.create_timestamp.timestamp(), tz=timezone.utc)
            return ended, _message(instance, run.run_id)
    return None


def newest_run_failed(instance: dg.DagsterInstance, project: str) -> bool:
    """Whether the last run of a project that ended, whoever asked for it, failed."""
    newest = next(_ended(instance, project, by_hand=True), None)
    return newest is not None and newest.dagster_run.status == dg.DagsterRunStatus.FAILURE


def _ended(instance: dg.DagsterInstance, project: str, *, by_hand: bool = False) -> Iterator[dg.RunRecord]:
    """Ended runs of a project's jobs, newest first; `by_hand`: also backfills of its assets.

    Those belong to no job of the project and do not carry its tag.
    """
    filters = [dg.RunsFilter(tags={PROJECT_TAG: project}, statuses=_ENDED)]
    if by_hand:
        filters.append(dg.RunsFilter(job_name=IMPLICIT_ASSET_JOB_NAME, statuses=_ENDED))
    found = (record for item in filters for record in instance.get_run_records(filters=item, limit=_REMEMBERED_RUNS))
    own = {record.storage_id: record for record in found if _is_of(record.dagster_run, project)}
    yield from (own[storage_id] for storage_id in sorted(own, reverse=True))


def newest_runs(instance: dg.DagsterInstance, project: str, *, limit: int) -> list[dg.RunRecord]:
    """The newest ended runs on hours of a project, whoever asked for them.

    Backfills do not carry the project's tag: they are found among the newest runs of the whole instance.
    """
    tagged = instance.get_run_records(dg.RunsFilter(tags={PROJECT_TAG: project}, statuses=_ENDED), limit=limit)
    newest = instance.get_run_records(dg.RunsFilter(statuses=_ENDED), limit=limit)
    found = {record.dagster_run.run_id: record for record in (*tagged, *newest)}
    return [item for item in found.values() if _is_of(item.dagster_run, project) and hours_of_run(item.dagster_run)]


def _is_of(run: dg.DagsterRun, project: str) -> bool:
    keys: Any = run.asset_selection or ()
    return run.tags.get(PROJECT_TAG) == project or any(key.path[0] == project for key in keys)


def _asked_at(record: dg.RunRecord) -> datetime:
    text = record.dagster_run.tags.get(REQUESTED_TAG)
    return datetime.fromisoformat(text) if text else record.create_timestamp.astimezone(timezone.utc)


def _message(instance: dg.DagsterInstance, run_id: str) -> str:
    """The first step failure's own words, else the run's."""
    failed: Sequence[Any] = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    for entry in failed:
        data = entry.dagster_event.step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return str(data.user_failure_data.description)
        if data.error:
            return str(innermost(data.error))
    ended: Sequence[Any] = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return next((entry.dagster_event.message for entry in ended if entry.dagster_event), "unknown failure")


def innermost(error: Any) -> str:
    """The message of the first cause: what really happened, without what wrapped it."""
    while error is not None and error.cause is not None:
        error = error.cause
    return "unknown failure" if error is None else error.message.strip()
