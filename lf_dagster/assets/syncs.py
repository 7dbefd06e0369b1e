"""The last sync of a project as one small document: what a status endpoint would answer.

A sync is a run that reads Langfuse, or all runs of one `lf-dagster sync` call. Its items are rows of the extracts:
`itemsFetched` were received, `itemsSkipped` of them were older versions of others, the rest is `itemsIngested`.
docs/status.md describes the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType

from lf_dagster.assets.common import asset_key
from lf_dagster.assets.runs import hours_of_run, is_gone, newest_runs, open_runs
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake

SYNC_TAG = "lf_dagster/sync"
"""Tag of the runs of one call: its id."""
LIMITED_TAG = "lf_dagster/limited_at"
"""Tag of the last run of a call that its limit ended: the first hour that it did not do."""

_STATUSES = {
    dg.DagsterRunStatus.SUCCESS: "completed",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}
_IN_PROGRESS = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_RECENT_RUNS = 100


@dataclass(frozen=True)
class Items:
    """Rows of one or many extracts."""

    fetched: int = 0
    skipped: int = 0
    read_path: str | None = None

    @classmethod
    def summed(cls, parts: Iterable[Items]) -> Items:
        known = list(parts)
        paths = [part.read_path for part in known if part.read_path]
        return cls(
            sum(part.fetched for part in known), sum(part.skipped for part in known), paths[-1] if paths else None
        )


def sync_document(
    instance: dg.DagsterInstance,
    settings: ProjectSettings,
    lake: Lake,
    last: dict[str, Any] | None,
    *,
    without: str = "",
) -> dict[str, Any]:
    """`success` and `data`: whether a run of the project is in progress (the run `without` left out), whether a
    schedule is on, and the last sync."""
    active = any(
        run.status in _IN_PROGRESS and run.run_id != without and not is_gone(run, lake)
        for run in open_runs(instance, settings.name)
    )
    return {
        "success": True,
        "data": {"isActive": active, "hasSchedule": _has_schedule(instance, settings), "lastSync": last},
    }


def last_sync_entry(
    sync_id: str,
    items: Items,
    hours: Sequence[Hour],
    *,
    status: str,
    completed_at: datetime,
    limited_at: str | None = None,
) -> dict[str, Any]:
    """`lastSync` of the document; `limited_at`: the first hour that a limit left undone."""
    return {
        "id": sync_id,
        "status": status,
        "itemsFetched": items.fetched,
        "itemsIngested": items.fetched - items.skipped,
        "itemsSkipped": items.skipped,
        "completedAt": _utc(completed_at),
        "windowStart": _utc(min(hours).start),
        "windowEnd": _utc(max(hours).end),
        "readPath": items.read_path,
        "limited": limited_at is not None,
        "nextHour": limited_at,
    }


def last_sync(instance: dg.DagsterInstance, settings: ProjectSettings) -> dict[str, Any] | None:
    """The sync that ended last, from Dagster's records of runs; None when none is known."""
    syncs = [record for record in newest_runs(instance, settings.name, limit=_RECENT_RUNS) if _reads(record, settings)]
    if not syncs:
        return None
    newest = max(syncs, key=_ended_at)
    sync_id = newest.dagster_run.tags.get(SYNC_TAG)
    records = [item for item in syncs if sync_id and item.dagster_run.tags.get(SYNC_TAG) == sync_id] or [newest]
    statuses = [_STATUSES[item.dagster_run.status] for item in records]
    limited = [item.dagster_run.tags[LIMITED_TAG] for item in records if LIMITED_TAG in item.dagster_run.tags]
    return last_sync_entry(
        newest.dagster_run.run_id,
        Items.summed(part for item in records for part in _items(instance, item.dagster_run.run_id)),
        [hour for item in records for hour in hours_of_run(item.dagster_run)],
        status=next((status for status in statuses if status != "completed"), "completed"),
        completed_at=_ended_at(newest),
        limited_at=limited[0] if limited else None,
    )


def _reads(record: dg.RunRecord, settings: ProjectSettings) -> bool:
    chosen: Any = record.dagster_run.asset_selection
    return not chosen or asset_key(settings.name, "raw_observations") in chosen


def _ended_at(record: dg.RunRecord) -> datetime:
    return datetime.fromtimestamp(record.end_time or record.create_timestamp.timestamp(), tz=timezone.utc)


def _items(instance: dg.DagsterInstance, run_id: str) -> list[Items]:
    """What each extract of a run brought, by the newest materialisation of its hour in that run."""
    found: dict[tuple[str, str | None], Items] = {}
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        materialization = entry.asset_materialization
        if materialization is not None and "fetched" in materialization.metadata:
            key = (materialization.asset_key.to_user_string(), materialization.partition)
            found[key] = _items_of(materialization.metadata)
    return list(found.values())


def _items_of(metadata: Mapping[str, Any]) -> Items:
    facts = {name: metadata[name].value for name in ("fetched", "duplicates", "read_path")}
    return Items(facts["fetched"], facts["duplicates"], facts["read_path"])


def _has_schedule(instance: dg.DagsterInstance, settings: ProjectSettings) -> bool:
    """Whether one of the schedules that read is on: all are until somebody switches them off, which Dagster keeps. An
    instance without a place for that, as the command line has it without DAGSTER_HOME, serves no schedules."""
    if instance.schedule_storage is None:
        return False
    names = [f"{settings.name}_hourly_schedule"]
    if settings.sync_every_minutes:
        names.append(f"{settings.name}_sync_schedule")
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    stopped = {state.name for state in states if not state.is_running}
    return not stopped.issuperset(names)


def _utc(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
