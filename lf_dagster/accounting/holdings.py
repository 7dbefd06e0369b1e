"""What a project holds of each hour: extracts, builds of the models, deliveries. Facts alone, no judgement.

Everything is read from footers of files and one small table, so that a look over a week takes a fraction of a second
and never waits for a delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import Ledger
from lf_dagster.errors import FatalError
from lf_dagster.hours import Hour, parse_hour
from lf_dagster.lake import STREAMS, Lake, UnreadableFile, is_broken
from lf_dagster.source import streams_of
from lf_dagster.warehouse import Build, Warehouse, builds_since, extract_identity_of

_REMOTE_READERS = 16
"""Footers read at once where each is a request to an object store."""


@dataclass(frozen=True)
class BrokenFile:
    """A file of one hour that cannot be read: the extract of a stream or the ledger of a destination (`of`)."""

    of: str
    path: str
    reason: str

    @property
    def is_ledger(self) -> bool:
        return self.of not in STREAMS

    @property
    def what(self) -> str:
        return f"the ledger of {self.of}" if self.is_ledger else f"the extract of {self.of}"

    @property
    def remedy(self) -> str:
        """What becomes of it, and what there is to do."""
        return _LEDGER_REMEDY if self.is_ledger else _EXTRACT_REMEDY


_LEDGER_REMEDY = (
    "Nothing is sent for this hour there. Restore the file from a backup, or move it away: the hour's events are then "
    "sent again under the same ids."
)
_EXTRACT_REMEDY = (
    "The hour is read again from Langfuse, and the file put aside. A backup of it has more: rows deleted and metadata "
    "gone since it was first read."
)


@dataclass(frozen=True)
class Delivery:
    """What the ledger of one hour says. `facts`: the last merged delivery's (None: there was none); `unmerged`: parts
    of a delivery that runs, or did not come to its end; `broken`: its merged file, if that cannot be read."""

    facts: dict[str, str] | None = None
    unmerged: bool = False
    broken: BrokenFile | None = None

    def count(self, name: str) -> int:
        """A count of the last merged delivery, 0 without one."""
        return int((self.facts or {}).get(name, 0))

    @property
    def delivered_at(self) -> datetime | None:
        """When the hour was last closed here."""
        text = (self.facts or {}).get("delivered_at")
        return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True)
class Holding:
    """One hour. `extracts`: facts per stream that has a file; `deliveries`: per destination of the settings;
    `broken_extracts`: those of its read path that cannot be read.

    `closes_at`: the moment from which on a read of the hour is a whole one; None: when it ends.
    """

    hour: Hour
    extracts: dict[str, dict[str, str]] = field(default_factory=dict)
    typed: Build | None = None
    events: Build | None = None
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    closes_at: datetime | None = None
    broken_extracts: tuple[BrokenFile, ...] = ()

    @property
    def broken(self) -> list[BrokenFile]:
        """Every file of the hour that cannot be read."""
        ledgers = (delivery.broken for delivery in self.deliveries.values())
        return [*self.broken_extracts, *(file for file in ledgers if file is not None)]

    @property
    def extracted_at(self) -> datetime | None:
        """When the whole hour was read; None while it has not been since it closed."""
        read_at = self.read_at
        return read_at if read_at is not None and read_at >= (self.closes_at or self.hour.end) else None

    @property
    def read_at(self) -> datetime | None:
        """When the stream that was read longest ago was read; None unless all of the hour's read path were."""
        read_path = self.extracts.get("observations", {}).get("read_path")
        found = [self.extracts.get(stream, {}).get("extracted_at") for stream in _streams(read_path)]
        return None if None in found else min(datetime.fromisoformat(text) for text in found if text)

    @property
    def identity(self) -> str:
        """Names the extracts, as a typed build names what it was made from."""
        return extract_identity_of(self.extracts)

    def count(self, name: str) -> dict[str, int]:
        """A count of each stream's extract: `rows`, `deleted` ..."""
        return {stream: int(facts.get(name, 0)) for stream, facts in self.extracts.items()}


def read_holdings(
    settings: ProjectSettings, lake: Lake, warehouse: Warehouse, hours: Sequence[Hour], others: Sequence[Hour] = ()
) -> dict[Hour, Holding]:
    """Everything about an unbroken stretch of hours and some others (empty holdings included), and about older hours
    that are stale or behind. A file that cannot be read is part of its hour's holding, not an error. Hours before the
    project's start, held from when that was an earlier one, are left out: no run takes them.

    Raises WarehouseLocked when another process keeps the warehouse busy beyond the lock timeout.
    """
    builds = _read_builds(settings, warehouse, hours, others)
    start = parse_hour(settings.start)
    wanted = sorted(hour for hour in {*hours, *others, *(build.hour for build in builds)} if hour >= start)
    by_layer = {(build.layer, build.hour): build for build in builds}

    def look(hour: Hour) -> Holding:
        extracts, broken = _extracts(lake, settings.name, hour)
        return Holding(
            hour,
            extracts,
            by_layer.get(("typed", hour)),
            by_layer.get(("events", hour)),
            {name: _delivery(Ledger(lake, settings.name, name), hour) for name in settings.destinations},
            closes_at(settings, hour),
            broken,
        )

    return {holding.hour: holding for holding in _map(look, wanted, lake)}


def closes_at(settings: ProjectSettings, hour: Hour) -> datetime:
    """From when on a read of the hour is a whole one: when it has ended. Where hours are read while they are under way,
    it is the moment of the scheduled run: that one is what catches the rows that Langfuse shows only after the end."""
    wait = timedelta(minutes=settings.schedule_minute) if settings.sync_every_minutes else timedelta()
    return hour.end + wait


def is_closed(settings: ProjectSettings, lake: Lake, hour: Hour) -> bool:
    """Whether the hour's extracts are of a read since it closed."""
    extracts, _ = _extracts(lake, settings.name, hour)
    holding = Holding(hour, extracts, closes_at=closes_at(settings, hour))
    return holding.extracted_at is not None


def _streams(read_path: str | None) -> tuple[str, ...]:
    """What an hour was read from; traces that lie there from a legacy past do not count."""
    return streams_of("legacy" if read_path == "legacy" else "v2")


def _map(look: Callable[[Hour], Holding], hours: Iterable[Hour], lake: Lake) -> list[Holding]:
    if lake.is_local:
        return [look(hour) for hour in hours]
    with ThreadPoolExecutor(_REMOTE_READERS) as pool:
        return list(pool.map(look, hours))


def _read_builds(
    settings: ProjectSettings, warehouse: Warehouse, hours: Sequence[Hour], others: Sequence[Hour]
) -> list[Build]:
    if not warehouse.exists() or not hours:
        return []
    with warehouse.connect(read_only=True) as con:
        return builds_since(con, settings.name, min(hours), others)


def _extracts(lake: Lake, project: str, hour: Hour) -> tuple[dict[str, dict[str, str]], tuple[BrokenFile, ...]]:
    found: dict[str, dict[str, str]] = {}
    broken: list[BrokenFile] = []
    for stream in STREAMS:
        try:
            facts = lake.extract_facts(project, stream, hour)
        except UnreadableFile as error:
            broken.append(BrokenFile(stream, lake.extract_path(project, stream, hour), str(error.__cause__)))
            continue
        if facts is not None:
            found[stream] = facts
    read_path = found.get("observations", {}).get("read_path")
    return found, tuple(file for file in broken if file.of in _streams(read_path))


def _delivery(ledger: Ledger, hour: Hour) -> Delivery:
    try:
        return Delivery(ledger.facts(hour), ledger.unfinished(hour))
    except FatalError as error:
        cause = error.__cause__
        if cause is None or not is_broken(cause):
            raise
        path = ledger.lake.ledger_path(ledger.project, ledger.destination, hour)
        return Delivery(None, ledger.unfinished(hour), BrokenFile(ledger.destination, path, str(cause)))
