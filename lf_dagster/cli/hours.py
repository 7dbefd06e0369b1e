"""Which hours `lf-dagster sync` does: those between two times, or those that are outstanding."""

from __future__ import annotations

from enum import Enum
from typing import Any

from lf_dagster.accounting import account
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour, hour_range, parse_hour
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse

NOW = "now"


class Mode(str, Enum):
    """How the hours of a sync are chosen."""

    INCREMENTAL = "incremental"
    BACKFILL = "backfill"


def chosen_hours(settings: ProjectSettings, mode: Mode | None, start: str | None, end: str | None) -> list[Hour]:
    """The hours of a call, oldest first; ConfigError for options that do not go together. Raises WarehouseLocked."""
    if mode is Mode.INCREMENTAL:
        if start or end:
            raise ConfigError(
                "--mode incremental chooses its hours itself", hint="Leave --from and --to out, or use --mode backfill."
            )
        return incremental_hours(settings)
    if start is None or end is None:
        raise ConfigError(
            "which hours?", hint="Give --from and --to, e.g. --from 2026-11-21T06 --to now, or --mode incremental."
        )
    return hours_between(settings, start, end)


def incremental_hours(settings: ProjectSettings) -> list[Hour]:
    """Hours that are outstanding, the newest one that is over, and the one under way where such hours are read."""
    now, lake = utc_now(), Lake(settings.data)
    found = account(settings, lake, Warehouse.of(settings, lake), now=now)
    under_way, first = Hour.containing(now), parse_hour(settings.start)
    newest = [under_way.shift(-1), *([under_way] if settings.sync_every_minutes else [])]
    outstanding = [item.hour for item in found.outstanding()]
    return sorted({*outstanding, *(hour for hour in newest if hour >= first)})


def hours_between(settings: ProjectSettings, start: str, end: str) -> list[Hour]:
    """The hours in [start, end); one hour when both are the same; `now` as the end: up to the newest hour that can be
    read. ConfigError outside the project's partitions."""
    first, stop = _time(settings, start), _time(settings, end)
    last = max(first, stop.shift(-1))
    if stop < first:
        raise ConfigError(f"--to {end} is before --from {start}")
    if first < parse_hour(settings.start):
        raise ConfigError(
            f"{first.key} is before the project's first hour {settings.start}",
            hint="Set LANGFUSE_START (or `start:` in defs.yaml) to an earlier hour.",
        )
    if last >= _first_beyond(settings):
        raise ConfigError(f"{last.key} has not {_state(settings)} yet", hint=_HINTS[bool(settings.sync_every_minutes)])
    return hour_range(first, last)


_HINTS = {
    True: "Only hours that have begun can be synced.",
    False: "Only hours that are over can be synced; sync_every_minutes allows the one under way too.",
}


def _state(settings: ProjectSettings) -> str:
    return "begun" if settings.sync_every_minutes else "ended"


def _time(settings: ProjectSettings, text: str) -> Hour:
    return _first_beyond(settings) if text.strip().lower() == NOW else parse_hour(text)


def _first_beyond(settings: ProjectSettings) -> Hour:
    """The first hour that cannot be read yet."""
    under_way = Hour.containing(utc_now())
    return under_way.shift(1) if settings.sync_every_minutes else under_way


def run_in_flight(instance: Any, settings: ProjectSettings, hours: list[Hour]) -> tuple[Hour, str] | None:
    """The first of the hours that a living run waits for or works on, and that run's id."""
    from lf_dagster.assets.runs import runs_on

    busy = runs_on(instance, settings.name, Lake(settings.data))
    return next(((hour, busy[hour]) for hour in hours if hour in busy), None)
