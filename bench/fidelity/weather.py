"""What goes wrong around a simulated week, drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from lf_dagster.simulators.faults import Fault, FaultQueue

Place = Literal["langfuse", "mixpanel", "posthog", "daemon"]


@dataclass(frozen=True)
class Outage:
    """A stretch of time in which one place does not work."""

    place: Place
    start: datetime
    end: datetime

    def covers(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def __str__(self) -> str:
        hours = (self.end - self.start).total_seconds() / 3600
        return f"{self.place} down for {hours:.1f} h from {self.start:%a %H:%M}"


@dataclass(frozen=True)
class Weather:
    """The outages of a week. `drizzle`: the share of requests that fail at any time, each in one of two ways."""

    outages: tuple[Outage, ...]
    drizzle: float = 0.0
    seed: int = 0

    @classmethod
    def drawn(cls, seed: int, start: datetime, days: int) -> Weather:
        """Two outages of the source, one of each destination, and in a week of at least three days a day off."""
        chance = random.Random(f"weather/{seed}")
        lengths: list[tuple[Place, float]] = [
            ("langfuse", chance.uniform(1, 4)),
            ("langfuse", chance.uniform(3, 9)),
            ("mixpanel", chance.uniform(2, 7)),
            ("posthog", chance.uniform(2, 7)),
        ]
        if days >= 3:
            lengths.append(("daemon", 24))
        outages = [_outage(chance, place, hours, start, days) for place, hours in lengths if hours < 12 * days]
        return cls(tuple(sorted(outages, key=lambda outage: outage.start)), drizzle=0.01, seed=seed)

    @classmethod
    def fair(cls) -> Weather:
        """Nothing goes wrong."""
        return cls(())

    def is_down(self, place: Place, moment: datetime) -> bool:
        return any(outage.place == place and outage.covers(moment) for outage in self.outages)

    def apply(self, place: Place, queues: Iterable[FaultQueue], moment: datetime) -> None:
        """Put the queues of a place into the state of this moment."""
        for queue in queues:
            queue.clear()
            if self.is_down(place, moment):
                queue.add(Fault.unavailable(times=None))
            elif self.drizzle:
                # The second kind is the dangerous one: handled, and the client cannot know.
                draw = self.seed * 10_000_000_000 + int(moment.timestamp())
                queue.add(
                    Fault.bad_gateway(times=None, probability=self.drizzle, seed=draw),
                    Fault(cut="after", times=None, probability=self.drizzle / 2, seed=draw + 1),
                )


def _outage(chance: random.Random, place: Place, hours: float, start: datetime, days: int) -> Outage:
    begins = start + timedelta(minutes=chance.randrange(60, max(int((days * 24 - hours - 1) * 60), 61)))
    return Outage(place, begins, begins + timedelta(hours=hours))
