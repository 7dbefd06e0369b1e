"""A project's account: how every hour stands, and what is settled, outstanding, rejected, deleted in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lf_dagster.accounting.audit import Audit, last_audit
from lf_dagster.accounting.holdings import BrokenFile, Holding, read_holdings
from lf_dagster.accounting.needs import Look, Need, State, is_final, needs_of, state_of
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour, hour_range, parse_hour
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse

COUNTS = (
    *("events", "delivered", "rejected", "skipped", "outstanding", "gone"),
    *("deleted", "identity_changed", "held", "awaiting", "kept_back"),
)
"""Counts of an hour at a destination, as its ledger's footer has them. events = delivered + rejected + skipped +
outstanding; gone and deleted are no longer among the events; the last four are among delivered and skipped."""


@dataclass(frozen=True)
class HourAccount:
    """One hour: what it holds and what it needs; no needs means settled, `is_final` that none are to be expected."""

    holding: Holding
    needs: tuple[Need, ...]
    is_final: bool

    @property
    def hour(self) -> Hour:
        return self.holding.hour

    @property
    def state(self) -> State:
        return state_of(self.needs)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need.reason for need in self.needs))

    def settled_at(self, destination: str) -> bool:
        """Whether this destination has everything, whatever others lack."""
        return all(need.layer in self.holding.deliveries and need.layer != destination for need in self.needs)

    def count(self, destination: str, name: str) -> int:
        return self.holding.deliveries[destination].count(name)


@dataclass(frozen=True)
class ProjectAccount:
    """Every hour from the project's start to the last one that is over and due, oldest first."""

    project: str
    now: datetime
    hours: list[HourAccount]
    audit: Audit
    destinations: tuple[str, ...]
    extracted: list[HourAccount] = field(init=False)

    def __post_init__(self) -> None:
        extracted = [item for item in self.hours if item.holding.extracted_at is not None]
        object.__setattr__(self, "extracted", extracted)

    @property
    def missing(self) -> list[Hour]:
        """Hours without an extract that was made since they closed."""
        return [item.hour for item in self.hours if item.state == "missing"]

    def settled_until(self, destination: str | None = None) -> Hour | None:
        """The first hour that is not settled (at this destination; everywhere); None when the very first is not."""
        until: Hour | None = None
        for item in self.hours:
            if item.needs and (destination is None or not item.settled_at(destination)):
                break
            until = item.hour.shift(1)
        return until

    def lag(self, destination: str | None = None) -> timedelta | None:
        """How long ago the last settled hour ended; None when nothing is settled."""
        until = self.settled_until(destination)
        return None if until is None else self.now - until.start

    def outstanding(self, destination: str | None = None) -> list[HourAccount]:
        """Hours that are not settled (at this destination; anywhere)."""
        return [item for item in self.hours if item.needs and (destination is None or not item.settled_at(destination))]

    def reasons(self) -> dict[str, int]:
        """How many hours are outstanding for each reason, the most frequent first."""
        found: dict[str, int] = {}
        for item in self.hours:
            for reason in item.reasons:
                found[reason] = found.get(reason, 0) + 1
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def rows(self, name: str = "rows") -> dict[str, int]:
        """Extracted rows (or their `deleted`) per stream."""
        total: dict[str, int] = {}
        for item in self.extracted:
            for stream, rows in item.holding.count(name).items():
                total[stream] = total.get(stream, 0) + rows
        return total

    @property
    def broken(self) -> list[tuple[Hour, BrokenFile]]:
        """Files that cannot be read, by hour."""
        return [(item.hour, file) for item in self.hours for file in item.holding.broken]

    def total(self, destination: str, count: str) -> int:
        return sum(item.count(destination, count) for item in self.hours)


def account(
    settings: ProjectSettings,
    lake: Lake,
    warehouse: Warehouse,
    *,
    now: datetime,
    first: Hour | None = None,
    others: Sequence[Hour] = (),
    given_up: frozenset[Hour] = frozenset(),
) -> ProjectAccount:
    """How every hour from `first` (the project's start) on stands, `others`, and any older hour that became stale.

    `given_up`: hours that fail again and again; events that wait for their traces wait no longer. Raises
    WarehouseLocked while another process keeps the warehouse.
    """
    hours = due_hours(settings, now, first)
    holdings = _until_due(read_holdings(settings, lake, warehouse, hours, others), hours)
    audit = last_audit(lake, settings.name)
    gaps = frozenset(hour for hour, holding in holdings.items() if holding.extracted_at is None)
    look = Look(now, audit.changed_since(), gaps - given_up)
    judged = [
        HourAccount(item, needs_of(item, settings, look), is_final(item, settings, now))
        for _, item in sorted(holdings.items())
    ]
    return ProjectAccount(settings.name, now, judged, audit, tuple(settings.destinations))


def _until_due(holdings: Mapping[Hour, Holding], due: Sequence[Hour]) -> dict[Hour, Holding]:
    """Without hours that are under way, or whose scheduled run may still come: what there is of them is no lack."""
    return {
        hour: holding
        for hour, holding in holdings.items()
        if not due or hour <= due[-1] or holding.extracted_at is not None
    }


def due_hours(settings: ProjectSettings, now: datetime, first: Hour | None = None) -> list[Hour]:
    """Hours whose scheduled run is over, with grace; from `first`, or the project's start, on."""
    wait = timedelta(minutes=settings.schedule_minute + settings.reconcile.grace_minutes)
    newest = Hour.containing(now - wait).shift(-1)
    oldest = max(parse_hour(settings.start), first) if first else parse_hour(settings.start)
    return hour_range(oldest, newest) if oldest <= newest else []


def needs_by_hour(found: ProjectAccount) -> Mapping[Hour, tuple[Need, ...]]:
    """The needs of the hours that have any."""
    return {item.hour: item.needs for item in found.hours if item.needs}
