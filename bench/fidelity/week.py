"""One simulated week: the world, both contestants, the outages, and the comparison at the end."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Protocol

from bench.fidelity import truth
from bench.fidelity.clock import VirtualClock
from bench.fidelity.compare import Key, Statement, Tally, compare
from bench.fidelity.native import SLIPS, Native
from bench.fidelity.standins import DESTINATIONS, KEYS, TOKENS, Outside, outside_world
from bench.fidelity.usage import Usage, usage_of
from bench.fidelity.weather import Weather
from lf_dagster.simulators.langfuse.store import Project, Store
from lf_dagster.simulators.world import Ageing, World, WorldSettings, build_world

START = datetime(2026, 9, 7, tzinfo=timezone.utc)
FIRST_LOOK = timedelta(minutes=30)
NATIVE_MINUTE = 30
KILLED_SHARE = 0.4
"""Share of the daemon's ticks in which something is killed."""
_UNMERGED_MS = 15 * 60_000
_GRACE = timedelta(hours=31)
"""The last revisit of an hour may come a day after its age, together with its neighbours (docs/reconcile.md)."""


@dataclass(frozen=True)
class Plan:
    """What is simulated. `step_minutes`: between stops of the clock, while there are new events and after; the sensor
    is asked at every `sense_every`-th stop, and at all later ones."""

    seed: int = 1
    days: int = 7
    traces_per_hour: int = 8
    horizon_hours: int = 168
    step_minutes: int = 60
    late_step_minutes: int = 360
    sense_every: int = 3
    fair: bool = False
    kill: bool = False

    @property
    def end(self) -> datetime:
        return START + timedelta(days=self.days)

    @property
    def last(self) -> datetime:
        """When everything within the horizon had its chance."""
        return self.end + timedelta(hours=self.horizon_hours) + _GRACE

    def steps(self) -> Iterator[datetime]:
        """The moments at which the clock stops."""
        now = START + FIRST_LOOK
        while now < self.last:
            yield now
            now += timedelta(minutes=self.step_minutes if now < self.end else self.late_step_minutes)
        yield now

    def world(self) -> WorldSettings:
        """The world of this plan; one of its days is sent twice."""
        day = random.Random(f"replayed/{self.seed}").randrange(self.days)
        replayed = (START + timedelta(days=day)).date()
        return WorldSettings(
            seed=self.seed,
            start=START,
            hours=24 * self.days,
            traces_per_hour=self.traces_per_hour,
            merge_delay_ms=_UNMERGED_MS,
            ageing=Ageing.lively(replayed_day=replayed, horizon_hours=self.horizon_hours),
            project=Project(keys=(KEYS,)),
        )


class Contestant(Protocol):
    """The product's side: called at every stop of the clock."""

    def tick(self, now: datetime, *, sense: bool = True) -> None: ...

    def sleep_through(self, now: datetime) -> None: ...

    def close(self) -> None: ...


@dataclass
class Result:
    """What became of one week."""

    plan: Plan
    outages: list[str]
    ours: dict[str, Tally]
    native: dict[str, Tally]
    native_with_slips: dict[str, float]
    usage: Usage
    runs: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """PostHog replaces an event under its id, so nothing may be wrong there that is not accounted for."""
        posthog = self.ours["posthog"]
        return bool(posthog.unexplained or posthog.doubled)


def run_week(plan: Plan) -> Result:
    """Runs the week of this plan in a temporary folder."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fidelity-", dir=_fast_disk()) as name:
        folder = Path(name)
        clock = VirtualClock(START, folder / "clock")
        world = build_world(plan.world())
        with outside_world(world.store, clock) as outside, _environment(outside, folder, clock):
            result = _run(plan, world, outside, clock, folder)
    result.seconds = time.monotonic() - began
    return result


def _fast_disk() -> str | None:
    """Memory where the system offers it: half of a week is Dagster's own bookkeeping, a commit per event."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None


@contextmanager
def _environment(outside: Outside, folder: Path, clock: VirtualClock) -> Iterator[None]:
    """Points the shipped project at the stand-ins, as a user's `.env` would."""
    before = dict(os.environ)
    os.environ.update(outside.environment(folder, start_key=f"{START:%Y-%m-%d-%H:%M}", clock=clock))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(plan: Plan, world: World, outside: Outside, clock: VirtualClock, folder: Path) -> Result:
    from bench.fidelity.daemon import State

    weather = Weather.fair() if plan.fair else Weather.drawn(plan.seed, START, plan.days)
    state = folder / "daemon.json"
    daemon = _daemon(plan, state)
    natives = [
        Native(world.store, name, receiver.origin, TOKENS[name], clock.ms) for name, receiver in outside.native.items()
    ]
    previous = START
    for number, now in enumerate(plan.steps()):
        clock.move(now)
        _apply(weather, outside, now)
        if weather.is_down("daemon", now):
            daemon.sleep_through(now)
        else:
            daemon.tick(now, sense=now >= plan.end or number % plan.sense_every == 0)
        _run_natives(natives, previous, now)
        previous = now
    for part in (*natives, daemon):
        part.close()
    tallies = _compared(plan, world.store, outside, clock)
    made = State.read(state)
    return Result(
        plan=plan,
        outages=[str(outage) for outage in weather.outages],
        usage=usage_of(outside.meter.requests, hours=24 * plan.days, step_minutes=plan.step_minutes),
        runs=made.ended,
        reasons=made.reasons,
        kills=getattr(daemon, "kills", 0),
        **tallies,
    )


def _daemon(plan: Plan, state: Path) -> Contestant:
    from bench.fidelity.daemon import Daemon
    from bench.fidelity.killer import KilledDaemon

    return KilledDaemon(state, START, seed=plan.seed, share=KILLED_SHARE) if plan.kill else Daemon(state, START)


def _apply(weather: Weather, outside: Outside, now: datetime) -> None:
    weather.apply("langfuse", [outside.langfuse.state.faults], now)
    for name in DESTINATIONS:
        weather.apply(name, [outside.ours[name].faults, outside.native[name].faults], now)


def _run_natives(natives: list[Native], previous: datetime, now: datetime) -> None:
    """The runs due in (previous, now]: each at its own minute, on what the store shows then."""
    due = previous.replace(minute=NATIVE_MINUTE)
    while due <= now:
        if due > previous:
            for native in natives:
                native.run(due)
        due += timedelta(hours=1)


def _compared(plan: Plan, store: Store, outside: Outside, clock: VirtualClock) -> dict[str, Any]:
    project_id = store.project.id
    final = truth.facts(store, clock.ms)
    known = _everything(store)
    ours: dict[str, Tally] = {}
    native: dict[str, Tally] = {}
    with_slips: dict[str, float] = {}
    for name in DESTINATIONS:
        known_ids = {(event.event, event.event_id) for event in (truth.addressed(f, name, project_id) for f in known)}
        wanted = truth.expected(final, name, project_id)
        ours[name] = compare(wanted, outside.ours[name].held(), ledger=_ledger(plan, name), known_ids=known_ids)
        # Nobody can filter the integration's events, so those of internal environments are expected of it.
        all_wanted = truth.expected(final, name, project_id, internal=True)
        held = outside.native[name].held()
        native[name] = compare(all_wanted, held, known_ids=known_ids, ignored=SLIPS)
        with_slips[name] = compare(all_wanted, held).share_right
    return {"ours": ours, "native": native, "native_with_slips": with_slips}


def _everything(store: Store) -> list[truth.Fact]:
    """Events of everything that the store ever held, for telling deleted ones from invented ones."""
    found: list[truth.Fact] = []
    for version in store.observations.versions:
        if version.data["type"] == "GENERATION":
            found.append(_named("generation", version.id))
        found.append(_named("trace", version.trace_id or ""))
    return found + [_named("score", version.id) for version in store.scores.versions]


def _named(kind: truth.Kind, entity_id: str) -> truth.Fact:
    return truth.Fact(kind, entity_id, 0, None, "", {})


def _ledger(plan: Plan, destination: str) -> Mapping[Key, Statement]:
    from bench.fidelity.account import statements
    from bench.fidelity.daemon import PROJECT
    from lf_dagster.hours import Hour

    last = Hour(plan.end).shift(24)
    return statements(os.environ["LF_DAGSTER_DATA"], PROJECT, destination, Hour(START).shift(-24), last)
