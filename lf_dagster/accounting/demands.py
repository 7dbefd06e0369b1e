"""Which hours to rerun together, from which layer, in which order: blocks of hours for runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from lf_dagster.accounting.needs import BY_HAND, Need, state_of
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
    """One run: contiguous hours, rerun from `layers` on (one of raw, typed, events; or destinations), `without` some
    destinations, to which nothing can be delivered."""

    hours: tuple[Hour, ...]
    layers: frozenset[str]
    reasons: tuple[str, ...]
    without: frozenset[str] = frozenset()


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

    Left out: what no rerun can give (BY_HAND), hours that another run is working on (`busy`), hours whose last run
    failed and which have to wait, and hours that are only touched while hours shortly before them are still missing:
    they would be touched again.
    Settled hours ride along where that makes one delivery of several: looking at them costs next to nothing.
    Order: what is stale or undelivered, oldest first; then missing hours, newest day first, so that after a long
    absence today is right before last month is.
    """
    shut = {hour: frozenset(need.layer for need in found if need.reason in BY_HAND) for hour, found in needs.items()}
    needs = {hour: tuple(need for need in found if need.reason not in BY_HAND) for hour, found in needs.items()}
    missing = {hour for hour, found in needs.items() if _is_missing(found)}
    ready = {
        hour: found
        for hour, found in needs.items()
        if found and hour not in busy and _may_try(failures.get(hour), now) and not _will_change(hour, found, missing)
    }
    kinds = {hour: _Kind.of(found, settings, failures.get(hour), shut[hour]) for hour, found in ready.items()}
    present = {hour: found for hour, found in ready.items() if hour not in missing}
    history = {hour: ready[hour] for hour in missing & ready.keys()}
    demands = [*_blocks(present, kinds, settled - busy), *_history(history, kinds)]
    return demands[:at_most]


def _is_missing(needs: tuple[Need, ...]) -> bool:
    return state_of(needs) == "missing"


def _may_try(failed: Failures | None, now: datetime) -> bool:
    return failed is None or now >= failed.again_at


def _will_change(hour: Hour, needs: tuple[Need, ...], missing: set[Hour]) -> bool:
    if any(need.reason != "touched" for need in needs) or not missing:
        return False
    return any(hour.shift(-step) in missing for step in range(1, TRACE_WINDOW_HOURS + 1))


@dataclass(frozen=True)
class _Kind:
    """What hours of one run have in common. `size`: half as many hours in one run after each failure, so that one bad
    hour ends up alone."""

    layers: frozenset[str]
    size: int
    without: frozenset[str]

    @classmethod
    def of(
        cls, needs: tuple[Need, ...], settings: ProjectSettings, failed: Failures | None, shut: frozenset[str]
    ) -> _Kind:
        size = max(1, settings.hours_per_run >> (failed.count if failed else 0))
        return cls(frozenset(need.layer for need in needs), size, shut)


def _history(needs: Mapping[Hour, tuple[Need, ...]], kinds: Mapping[Hour, _Kind]) -> Iterator[Demand]:
    days = sorted({hour.date for hour in needs}, reverse=True)
    for day in days:
        yield from _blocks({hour: found for hour, found in needs.items() if hour.date == day}, kinds, frozenset())


def _blocks(
    needs: Mapping[Hour, tuple[Need, ...]], kinds: Mapping[Hour, _Kind], settled: frozenset[Hour]
) -> Iterator[Demand]:
    """Neighbouring hours that need the same layers become one run."""
    for kind, alike in groupby(sorted(needs), kinds.__getitem__):
        bridges = settled if kind.layers.isdisjoint(("raw", "typed", "events")) else frozenset[Hour]()
        for block in contiguous_blocks(_bridged(list(alike), kind.size, bridges), at_most=kind.size):
            reasons = dict.fromkeys(need.reason for hour in block for need in needs.get(hour, ()))
            yield Demand(tuple(block), kind.layers, tuple(reasons), kind.without)


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
