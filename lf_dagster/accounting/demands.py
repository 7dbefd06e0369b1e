"""Which hours to rerun together, from which layer, in which order: blocks of hours for runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from lf_dagster.accounting.needs import Need, state_of
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import ONE_HOUR, Hour, contiguous_blocks, hour_range
from lf_dagster.warehouse import TRACE_WINDOW_HOURS

FIRST_WAIT = timedelta(minutes=5)
LONGEST_WAIT = timedelta(hours=6)
REPORTED_FROM = 3
"""Failures in a row from which an hour is reported as failing."""


@dataclass(frozen=True)
class Failures:
    """Runs of an hour that failed since one succeeded: how many, and when the last one was asked for."""

    count: int
    last: datetime

    @property
    def again_at(self) -> datetime:
        """When the hour may be tried again: 5 minutes after the first failure, doubling up to 6 hours."""
        return self.last + min(LONGEST_WAIT, FIRST_WAIT * 2 ** (self.count - 1))


@dataclass(frozen=True)
class Demand:
    """One run: contiguous hours, rerun from `layers` on (one of raw, typed, events; or destinations)."""

    hours: tuple[Hour, ...]
    layers: frozenset[str]
    reasons: tuple[str, ...]


def plan_demands(
    needs: Mapping[Hour, tuple[Need, ...]],
    settings: ProjectSettings,
    *,
    now: datetime,
    busy: frozenset[Hour],
    failures: Mapping[Hour, Failures],
    at_most: int,
    settled: frozenset[Hour] = frozenset(),
) -> list[Demand]:
    """The runs to ask for at this moment, most urgent first, at most `at_most`.

    Left out: hours that another run is working on (`busy`), hours whose last run failed and which have to wait, and
    hours that are only touched while hours shortly before them are still missing: they would be touched again.
    Settled hours ride along where that makes one delivery of several: looking at them costs next to nothing.
    Order: what is stale or undelivered, oldest first; then missing hours, newest day first, so that after a long
    absence today is right before last month is.
    """
    missing = {hour for hour, found in needs.items() if _is_missing(found)}
    ready = {
        hour: found
        for hour, found in needs.items()
        if found and hour not in busy and _may_try(failures.get(hour), now) and not _will_change(hour, found, missing)
    }
    sizes = {hour: _block_size(settings, failures.get(hour)) for hour in ready}
    present = {hour: found for hour, found in ready.items() if hour not in missing}
    history = {hour: ready[hour] for hour in missing & ready.keys()}
    demands = [*_blocks(present, sizes, settled - busy), *_history(history, sizes)]
    return demands[:at_most]


def _is_missing(needs: tuple[Need, ...]) -> bool:
    return state_of(needs) == "missing"


def _may_try(failed: Failures | None, now: datetime) -> bool:
    return failed is None or now >= failed.again_at


def _will_change(hour: Hour, needs: tuple[Need, ...], missing: set[Hour]) -> bool:
    if any(need.reason != "touched" for need in needs) or not missing:
        return False
    return any(hour.shift(-step) in missing for step in range(1, TRACE_WINDOW_HOURS + 1))


def _block_size(settings: ProjectSettings, failed: Failures | None) -> int:
    """Half as many hours in one run after each failure, so that one bad hour ends up alone."""
    return max(1, settings.hours_per_run >> (failed.count if failed else 0))


def _history(needs: Mapping[Hour, tuple[Need, ...]], sizes: Mapping[Hour, int]) -> Iterator[Demand]:
    days = sorted({hour.date for hour in needs}, reverse=True)
    for day in days:
        yield from _blocks({hour: found for hour, found in needs.items() if hour.date == day}, sizes, frozenset())


def _blocks(
    needs: Mapping[Hour, tuple[Need, ...]], sizes: Mapping[Hour, int], settled: frozenset[Hour]
) -> Iterator[Demand]:
    """Neighbouring hours that need the same layers become one run."""
    for (layers, size), hours in _alike(sorted(needs), needs, sizes):
        bridges = settled if layers.isdisjoint(("raw", "typed", "events")) else frozenset[Hour]()
        for block in contiguous_blocks(_bridged(hours, size, bridges), at_most=size):
            reasons = dict.fromkeys(need.reason for hour in block for need in needs.get(hour, ()))
            yield Demand(tuple(block), layers, tuple(reasons))


def _bridged(hours: Sequence[Hour], size: int, bridges: frozenset[Hour]) -> list[Hour]:
    """The hours, and between those that fit into one run what lies between them, as far as it may ride along."""
    found: list[Hour] = []
    first = hours[0]
    for hour in hours:
        between = hour_range(found[-1].shift(1), hour.shift(-1)) if found and found[-1].shift(1) < hour else []
        if between and hour.start - first.start < size * ONE_HOUR and bridges.issuperset(between):
            found += between
        elif between or hour.start - first.start >= size * ONE_HOUR:
            first = hour
        found.append(hour)
    return found


def _alike(
    hours: Sequence[Hour], needs: Mapping[Hour, tuple[Need, ...]], sizes: Mapping[Hour, int]
) -> Iterable[tuple[tuple[frozenset[str], int], list[Hour]]]:
    def kind(hour: Hour) -> tuple[frozenset[str], int]:
        return frozenset(need.layer for need in needs[hour]), sizes[hour]

    return [(key, list(group)) for key, group in groupby(hours, key=kind)]
