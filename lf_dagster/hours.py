"""UTC hours: the grain of every extract, model run and delivery.

An hour is the half-open window [start, start + 1 h) in UTC. Its `key` is Dagster's hourly partition key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from lf_dagster.errors import ConfigError

KEY_FORMAT = "%Y-%m-%d-%H:%M"
ONE_HOUR = timedelta(hours=1)


@dataclass(frozen=True, order=True)
class Hour:
    """One UTC hour, by its start."""

    start: datetime

    def __post_init__(self) -> None:
        utc = self.start.astimezone(timezone.utc) if self.start.tzinfo else None
        if utc is None or (utc.minute, utc.second, utc.microsecond) != (0, 0, 0):
            raise ConfigError(f"not the start of a UTC hour: {self.start!r}")
        object.__setattr__(self, "start", utc)

    @classmethod
    def from_key(cls, key: str) -> Hour:
        """The hour of a Dagster partition key such as `2026-11-21-06:00`."""
        return cls(datetime.strptime(key, KEY_FORMAT).replace(tzinfo=timezone.utc))

    @classmethod
    def containing(cls, moment: datetime) -> Hour:
        """The hour that an aware moment lies in."""
        utc = moment.astimezone(timezone.utc)
        return cls(utc.replace(minute=0, second=0, microsecond=0))

    @property
    def end(self) -> datetime:
        return self.start + ONE_HOUR

    @property
    def key(self) -> str:
        return self.start.strftime(KEY_FORMAT)

    @property
    def date(self) -> str:
        """`YYYY-MM-DD`, the hive partition `date=`."""
        return self.start.strftime("%Y-%m-%d")

    @property
    def hour(self) -> str:
        """`HH`, the hive partition `hour=`."""
        return self.start.strftime("%H")

    def shift(self, hours: int) -> Hour:
        return Hour(self.start + hours * ONE_HOUR)

    def __str__(self) -> str:
        return self.key


def iso(moment: datetime) -> str:
    """Milliseconds and `Z`, the form that Langfuse writes and accepts: `2026-11-21T06:00:00.000Z`."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_hour(text: str) -> Hour:
    """An hour from a partition key, a date or an ISO time (no zone means UTC); minutes are cut off.

    Raises ConfigError for anything else.
    """
    try:
        return Hour.from_key(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(
            f"not a time: {text!r}", hint="Write it like 2026-11-21T06:00 (UTC), 2026-11-21 or 2026-11-21-06:00."
        ) from None
    return Hour.containing(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))


def hour_range(first: Hour, last: Hour) -> list[Hour]:
    """All hours from `first` to `last`, both included."""
    count = int((last.start - first.start) / ONE_HOUR) + 1
    return [first.shift(step) for step in range(count)]


def contiguous_blocks(hours: Iterable[Hour], at_most: int | None = None) -> Iterator[list[Hour]]:
    """The hours, sorted, cut where one is missing and after `at_most` of them."""
    block: list[Hour] = []
    for hour in sorted(set(hours)):
        if block and (hour.start - block[-1].start != ONE_HOUR or len(block) == at_most):
            yield block
            block = []
        block.append(hour)
    if block:
        yield block
