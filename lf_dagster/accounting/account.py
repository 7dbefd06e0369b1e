"""What a lake says about a project: where its hours came from, and how each stands at each destination.

Read from the footers of extracts and ledgers alone: no database is opened, nothing waits for a running delivery.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import Ledger
from lf_dagster.errors import ConfigError
from lf_dagster.hours import ONE_HOUR, Hour
from lf_dagster.lake import STREAMS, Lake

State = Literal["undelivered", "unfinished", "settled"]
"""undelivered: no delivery has finished; unfinished: one was cut short, or left events without an answer."""

_COUNTS = ("events", "delivered", "rejected", "skipped", "outstanding", "gone")


@dataclass(frozen=True)
class SourceIdentity:
    """Which Langfuse project the extracts of some hours came from, as their files say."""

    project_id: str
    project_name: str
    host: str

    @classmethod
    def of(cls, lake: Lake, project: str, hours: Sequence[Hour]) -> SourceIdentity:
        """Read from the newest hour's extract; ConfigError for an hour that has none."""
        for hour in hours:
            if not lake.extract_exists(project, "observations", hour):
                raise ConfigError(
                    f"no extract of {hour.key} for project {project}",
                    hint=f"Materialize {project}/raw_observations and {project}/raw_scores for this hour first.",
                )
        facts = lake.extract_facts(project, "observations", hours[-1]) or {}
        return cls(facts["project_id"], facts["project_name"], facts["host"])


@dataclass(frozen=True)
class HourAtDestination:
    """How one hour stands at one destination; events = delivered + rejected + skipped + outstanding."""

    hour: Hour
    state: State
    events: int = 0
    delivered: int = 0
    rejected: int = 0
    skipped: int = 0
    outstanding: int = 0
    gone: int = 0


@dataclass(frozen=True)
class Extracted:
    """One extracted hour: rows per stream."""

    hour: Hour
    rows: dict[str, int]


@dataclass(frozen=True)
class ProjectAccount:
    """A project's extracted hours and, per destination, how each stands."""

    project: str
    extracted: list[Extracted]
    destinations: dict[str, list[HourAtDestination]] = field(default_factory=dict)

    @property
    def missing(self) -> list[Hour]:
        """Hours without extract between the first and the last extracted hour."""
        known = [item.hour for item in self.extracted]
        return _gaps(known)

    def settled_until(self, destination: str) -> Hour | None:
        """The first hour that is not settled, counted from the first extracted hour; None when nothing is settled."""
        until: Hour | None = None
        for item in self.destinations[destination]:
            if item.state != "settled" or (until is not None and item.hour != until):
                break
            until = item.hour.shift(1)
        return until

    def outstanding(self, destination: str) -> list[HourAtDestination]:
        """Extracted hours that are not settled."""
        return [item for item in self.destinations[destination] if item.state != "settled"]

    def total(self, destination: str, count: str) -> int:
        return sum(getattr(item, count) for item in self.destinations[destination])


def account(settings: ProjectSettings, lake: Lake) -> ProjectAccount:
    """Reads the account of a project; every extracted hour is in it, oldest first."""
    hours = lake.extracted_hours(settings.name, "observations")
    extracted = [Extracted(hour, _rows(lake, settings.name, hour)) for hour in hours]
    destinations = {
        name: [_at_destination(Ledger(lake, settings.name, name), hour) for hour in hours]
        for name in settings.destinations
    }
    return ProjectAccount(settings.name, extracted, destinations)


def _rows(lake: Lake, project: str, hour: Hour) -> dict[str, int]:
    facts = {stream: lake.extract_facts(project, stream, hour) for stream in STREAMS}
    return {stream: int(found["rows"]) for stream, found in facts.items() if found is not None}


def _at_destination(ledger: Ledger, hour: Hour) -> HourAtDestination:
    facts: dict[str, Any] | None = ledger.facts(hour)
    if ledger.unfinished(hour):
        return HourAtDestination(hour, "unfinished", **_counts(facts or {}))
    if facts is None:
        return HourAtDestination(hour, "undelivered")
    counts = _counts(facts)
    return HourAtDestination(hour, "unfinished" if counts["outstanding"] else "settled", **counts)


def _counts(facts: dict[str, Any]) -> dict[str, int]:
    return {name: int(facts.get(name, 0)) for name in _COUNTS}


def _gaps(hours: Sequence[Hour]) -> list[Hour]:
    missing: list[Hour] = []
    for before, after in itertools.pairwise(hours):
        steps = int((after.start - before.start) / ONE_HOUR)
        missing.extend(before.shift(step) for step in range(1, steps))
    return missing
