"""How far a project is behind the clock.

Measured by what has arrived, not by what is settled: an hour of last week that is due to be read again is outstanding
for a minute, but nothing is late. So the lag grows with hours that are not there, and with nothing else.
"""

from __future__ import annotations

from datetime import timedelta

from lf_dagster.accounting.account import HourAccount, ProjectAccount
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour


def arrived_until(found: ProjectAccount, destination: str | None = None) -> Hour | None:
    """The first hour of the account that is not wholly at the destination (at every one; extracted, where there is
    none); None when no hour is due."""
    destinations = found.destinations if destination is None else (destination,)
    until: Hour | None = None
    for item in found.hours:
        if not _has_arrived(item, destinations):
            return item.hour
        until = item.hour.shift(1)
    return until


def _has_arrived(item: HourAccount, destinations: tuple[str, ...]) -> bool:
    deliveries = [item.holding.deliveries[name] for name in destinations]
    return item.holding.extracted_at is not None and all(
        delivery.facts is not None and delivery.count("outstanding") == 0 for delivery in deliveries
    )


def lag_of(found: ProjectAccount, destination: str | None = None) -> timedelta | None:
    """How long ago the last hour ended up to which everything has arrived; None when no hour is due."""
    until = arrived_until(found, destination)
    return None if until is None else found.now - until.start


def allowed_lag(settings: ProjectSettings) -> timedelta:
    """The lag just before an hour that is still in time arrives: the hour itself, the wait for its run, and
    `checks.fresh_minutes` (no less than the grace before it is looked for)."""
    patience = max(settings.checks.fresh_minutes, settings.reconcile.grace_minutes)
    return timedelta(hours=1, minutes=settings.schedule_minute + patience)
