"""The days that a report is about, and the steps in which its charts show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Literal

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour, hour_range

Grain = Literal["hour", "day", "week"]

MOST_DAYS = 366
_HOURLY_UP_TO = 4
_DAILY_UP_TO = 92
_COHORTS_BY_DAY_UP_TO = 14


@dataclass(frozen=True)
class Period:
    """UTC days from `first` to `last`, both included. Raises ConfigError for none of them, and for too many."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ConfigError(f"the last day {self.last} is before the first day {self.first}")
        if self.days > MOST_DAYS:
            raise ConfigError(f"{self.days} days are too many for a report", hint=f"At most {MOST_DAYS} days.")

    @classmethod
    def ending(cls, last: date, days: int) -> Period:
        """So many days, the last of which is `last`."""
        return cls(last - timedelta(days=days - 1), last)

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def start(self) -> datetime:
        return datetime.combine(self.first, time(), timezone.utc)

    @property
    def stop(self) -> datetime:
        """The first moment after the period."""
        return datetime.combine(self.last, time(), timezone.utc) + timedelta(days=1)

    @property
    def previous(self) -> Period:
        """As many days, just before."""
        return Period.ending(self.first - timedelta(days=1), self.days)

    @property
    def grain(self) -> Grain:
        """The step of the charts, so that there are at most about a hundred of them."""
        if self.days <= _HOURLY_UP_TO:
            return "hour"
        return "day" if self.days <= _DAILY_UP_TO else "week"

    @property
    def cohort(self) -> Literal["day", "week"]:
        """The step of the retention table."""
        return "day" if self.days <= _COHORTS_BY_DAY_UP_TO else "week"

    @property
    def hours(self) -> list[Hour]:
        return hour_range(Hour(self.start), Hour(self.stop).shift(-1))

    def __str__(self) -> str:
        return f"{self.first} to {self.last}" if self.days > 1 else f"{self.first}"


def parse_day(text: str) -> date:
    """A day such as `2026-11-21`; ConfigError for anything else."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"not a day: {text!r}", hint="Write it like 2026-11-21 (UTC).") from None
