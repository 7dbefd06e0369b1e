"""The reconcile sensor: asks for reruns of exactly the hours and layers that need it.

It looks at what is on disk (see `accounting`), never at what it did before. Its cursor is only a shortcut: the hour up
to which everything was settled and is beyond the horizon, so that years of history are not looked at every minute.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from lf_dagster.accounting import (
    REPORTED_FROM,
    BrokenFile,
    Demand,
    Failures,
    ProjectAccount,
    account,
    hours_in_horizon,
    needs_by_hour,
    plan_demands,
)
from lf_dagster.assets import asset_key
from lf_dagster.assets.runs import (
    PROJECT_TAG,
    RANGE_END,
    RANGE_START,
    REASON_TAG,
    REQUESTED_TAG,
    failures_of,
    hours_of_run,
    is_gone,
    open_runs,
)
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings, secret
from lf_dagster.errors import ConfigError, WarehouseLocked
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse

TICK_SECONDS = 30
_LOCK_TIMEOUT_SECONDS = 2.0
"""A tick does not wait for a run that writes: the next tick looks again."""

_MOST_NAMED = 3
"""Broken files that a tick names; `status` names more."""

_LAYERS = ("raw", "typed", "events")


def build_reconcile_sensor(settings: ProjectSettings, job: Any, assets: Mapping[str, Sequence[dg.AssetKey]]) -> Any:
    """`<project>_reconcile`. `assets`: the keys of each layer (raw, typed, events) in the job."""

    @dg.sensor(
        name=f"{settings.name}_reconcile",
        job=job,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.reconcile.enabled else dg.DefaultSensorStatus.STOPPED,
        description="Reruns hours that are missing, stale or undelivered, with the reason as run tag.",
    )
    def reconcile(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return _tick(context, settings, assets)

    return reconcile


def _tick(
    context: dg.SensorEvaluationContext, settings: ProjectSettings, assets: Mapping[str, Sequence[dg.AssetKey]]
) -> dg.SensorResult:
    now = utc_now()
    try:
        require_keys(settings)
        running = _living_runs(context.instance, settings)
        failures = failures_of(context.instance, settings.name)
        found = _look(settings, Cursor.parse(context.cursor, settings), now, failures)
    except (ConfigError, WarehouseLocked) as error:
        return dg.SensorResult(skip_reason=str(error))
    demands = plan_demands(
        needs_by_hour(found),
        settings,
        now=now,
        busy=frozenset(hour for run in running for hour in hours_of_run(run)),
        failures=failures,
        at_most=max(0, settings.reconcile.runs_in_flight - len(running)),
        settled=frozenset(item.hour for item in found.hours if not item.needs),
    )
    cursor = Cursor.after(found, settings, now).text
    for hour, file in found.broken[:_MOST_NAMED]:
        context.log.warning("%s: %s", settings.name, _said_of(hour, file))
    if not demands:
        return dg.SensorResult(skip_reason=_nothing_to_ask(found, len(running), failures), cursor=cursor)
    requests = [_request(demand, settings, assets, now) for demand in demands]
    for demand in demands:
        context.log.info("%s: asking for %s", settings.name, _described(demand))
    return dg.SensorResult(run_requests=requests, cursor=cursor)


def _living_runs(instance: dg.DagsterInstance, settings: ProjectSettings) -> list[dg.DagsterRun]:
    """Runs that wait or run. A run whose process is gone without Dagster noticing, as when the machine went down, is
    recorded as failed: else its hours would be taken for busy until its time limit."""
    lake = Lake(settings.data)
    runs = open_runs(instance, settings.name)
    dead = [run for run in runs if is_gone(run, lake)]
    for run in dead:
        instance.report_run_failed(run, "The process of this run is gone: it was killed, or the machine went down.")
    return [run for run in runs if run not in dead]


def require_keys(settings: ProjectSettings) -> None:
    """Without keys every run would fail: say so instead. Raises ConfigError."""
    for name in (settings.langfuse.public_key_env, settings.langfuse.secret_key_env):
        secret(name, env=os.environ)


def _look(
    settings: ProjectSettings, cursor: Cursor, now: datetime, failures: Mapping[Hour, Failures]
) -> ProjectAccount:
    lake = Lake(settings.data)
    warehouse = Warehouse.of(settings, lake, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS)
    given_up = frozenset(hour for hour, failed in failures.items() if failed.count >= REPORTED_FROM)
    return account(settings, lake, warehouse, now=now, first=cursor.settled, others=cursor.open, given_up=given_up)


@dataclass(frozen=True)
class Cursor:
    """`settled`: every hour before it is settled for good and beyond the horizon; `open`: older ones that are not. Its
    text also names files that cannot be read, for people.

    It counts only for the settings it was made under: another start or another destination looks at everything again.
    """

    settled: Hour | None = None
    open: tuple[Hour, ...] = ()
    text: str = ""

    @classmethod
    def parse(cls, text: str | None, settings: ProjectSettings) -> Cursor:
        held = json.loads(text) if text else {}
        if held.get("made_under") != _fingerprint(settings) or not held.get("settled"):
            return cls()
        return cls(Hour.from_key(held["settled"]), tuple(Hour.from_key(key) for key in held["open"]))

    @classmethod
    def after(cls, found: ProjectAccount, settings: ProjectSettings, now: datetime) -> Cursor:
        horizon = hours_in_horizon(settings, now)
        unsettled = [item.hour for item in found.hours if item.needs or not item.is_final]
        window = [item.hour for item in found.hours]
        if not horizon or not window:
            return cls()
        # The oldest hour of a gap-free stretch at the end counts; single older hours are kept by name.
        contiguous = _stretch(window)
        settled = min([horizon[0], *(hour for hour in unsettled if hour >= contiguous)])
        older = [hour for hour in unsettled if hour < settled]
        document = {
            "made_under": _fingerprint(settings),
            "settled": settled.key,
            "open": [hour.key for hour in older],
            "unreadable": {file.path: hour.key for hour, file in found.broken[:_MOST_NAMED]},
        }
        return cls(settled, tuple(older), json.dumps(document))


def _stretch(hours: Sequence[Hour]) -> Hour:
    """The first hour of the unbroken stretch that ends with the last hour."""
    first = hours[-1]
    for hour in reversed(hours[:-1]):
        if hour.shift(1) != first:
            break
        first = hour
    return first


def _fingerprint(settings: ProjectSettings) -> list[Any]:
    return [settings.start, settings.data, sorted(settings.destinations)]


def _request(
    demand: Demand, settings: ProjectSettings, assets: Mapping[str, Sequence[dg.AssetKey]], now: datetime
) -> dg.RunRequest:
    return dg.RunRequest(
        asset_selection=_selection(demand, settings, assets),
        run_config=_run_config(demand, settings),
        tags={
            PROJECT_TAG: settings.name,
            REASON_TAG: ",".join(demand.reasons),
            REQUESTED_TAG: now.isoformat(),
            RANGE_START: demand.hours[0].key,
            RANGE_END: demand.hours[-1].key,
        },
    )


def _selection(
    demand: Demand, settings: ProjectSettings, assets: Mapping[str, Sequence[dg.AssetKey]]
) -> list[dg.AssetKey]:
    """The assets of the demanded layer and of everything after it; or the destinations that were named."""
    destinations = [asset_key(settings.name, name) for name in _open_to(demand, settings)]
    for number, layer in enumerate(_LAYERS):
        if layer in demand.layers:
            return [key for name in _LAYERS[number:] for key in assets[name]] + destinations
    return [asset_key(settings.name, name) for name in settings.destinations if name in demand.layers]


def _open_to(demand: Demand, settings: ProjectSettings) -> list[str]:
    return [name for name in settings.destinations if name not in demand.without]


def _run_config(demand: Demand, settings: ProjectSettings) -> dict[str, Any]:
    """Events of a trace that is still to be extracted wait for it, unless waiting is what has ended."""
    wait = "trace_known" not in demand.reasons
    chosen = [name for name in _open_to(demand, settings) if name in demand.layers or demand.layers & set(_LAYERS)]
    return {"ops": {f"{settings.name}__{name}": {"config": {"wait_for_traces": wait}} for name in chosen}}


def _nothing_to_ask(found: ProjectAccount, running: int, failures: Mapping[Hour, Failures]) -> str:
    outstanding = found.outstanding()
    if not outstanding:
        return "every hour is settled"
    waiting = [failures[item.hour].again_at for item in outstanding if item.hour in failures]
    hint = f"; the next try of a failed hour is due at {min(waiting):%Y-%m-%d %H:%M} UTC" if waiting else ""
    broken = "".join(f"; {_said_of(hour, file)}" for hour, file in found.broken[:_MOST_NAMED])
    return f"{len(outstanding)} hours are outstanding, {running} runs are under way{hint}{broken}"


def _said_of(hour: Hour, file: BrokenFile) -> str:
    reason = " ".join(file.reason.split())
    return f"{file.what} of {hour.key} cannot be read: {file.path}: {reason} {file.remedy}"


def _described(demand: Demand) -> str:
    first, last = demand.hours[0].key, demand.hours[-1].key
    span = first if first == last else f"{first} to {last}"
    return f"{span} from {', '.join(sorted(demand.layers))} on: {', '.join(demand.reasons)}"
