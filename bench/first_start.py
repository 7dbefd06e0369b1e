"""`python -m bench.first_start`: a project with months of history is switched on, and everything is made up.

The real schedules and sensor, the real jobs, a real Dagster instance, DuckDB file and HTTP stand-ins; the clock stands
just after the last hour. Half way the daemon is replaced by a new one, which goes on from what lies on disk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from bench.fidelity.clock import VirtualClock
from bench.fidelity.standins import KEYS, Outside, outside_world
from lf_dagster.simulators.langfuse import Project
from lf_dagster.simulators.world import Ageing, WorldSettings, build_world

START = datetime(2026, 8, 1, tzinfo=timezone.utc)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints runs, requests, wall and CPU time; 1 when not every hour is settled at the end."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_start", description=__doc__)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--traces-per-hour", type=int, default=2)
    options = parser.parse_args(arguments)
    settings = WorldSettings(
        seed=90,
        start=START,
        hours=24 * options.days,
        traces_per_hour=options.traces_per_hour,
        ageing=Ageing.none(),
        project=Project(keys=(KEYS,)),
    )
    store = build_world(settings).store
    with tempfile.TemporaryDirectory(prefix="first-start-") as name:
        folder = Path(name)
        clock = VirtualClock(START + timedelta(days=options.days, minutes=50), folder / "clock")
        with outside_world(store, clock) as outside:
            os.environ.update(outside.environment(folder, start_key=f"{START:%Y-%m-%d-%H:%M}", clock=clock))
            return _start(folder, clock, outside)


def _start(folder: Path, clock: VirtualClock, outside: Outside) -> int:
    from bench.fidelity.daemon import Daemon, State

    began, spent = time.monotonic(), time.process_time()
    most, looks, found = 0, 0, _account(clock)
    hours = len(found.hours)
    daemon = Daemon(folder / "daemon.json", clock.now)
    while found.outstanding():
        if looks and len(found.outstanding()) < hours / 2 and daemon is not None:
            daemon = Daemon(folder / "daemon.json", clock.now)
        daemon.apart(daemon._sense)
        most = max(most, len(State.read(daemon.file).queue))
        daemon.drain()
        looks += 1
        found = _account(clock)
    state = State.read(daemon.file)
    print(f"{hours} hours, {found.rows()} extracted; all settled up to {found.settled_until()}")
    print(f"runs: {state.ended}; at most {most} at once; looks of the sensor: {looks}")
    print(f"reasons: {state.reasons}")
    print(f"requests to Langfuse: {sum(outside.meter.requests.values())}")
    for name, receiver in outside.ours.items():
        print(f"{name}: {len(receiver.held())} events held, {found.total(name, 'delivered')} delivered")
    _print_quiet_tick(daemon, outside)
    print(f"wall {time.monotonic() - began:.0f} s, CPU {time.process_time() - spent:.0f} s (stand-ins included)")
    return 1 if found.outstanding() else 0


def _print_quiet_tick(daemon: Any, outside: Outside) -> None:
    """What a look costs when there is nothing to do: the first one sees everything, the next ones the horizon."""
    before = sum(outside.meter.requests.values())
    for what in ("first", "second"):
        began, spent = time.monotonic(), time.process_time()
        daemon.apart(daemon._sense)
        wall, cpu = time.monotonic() - began, time.process_time() - spent
        print(f"{what} look with nothing to do: {wall:.2f} s wall, {cpu:.2f} s CPU")
    print(f"requests of these looks: {sum(outside.meter.requests.values()) - before}")


def _account(clock: VirtualClock) -> Any:
    from bench.fidelity.daemon import PROJECT
    from lf_dagster.accounting import account
    from lf_dagster.cli.projects import load_definitions, projects_of
    from lf_dagster.lake import Lake
    from lf_dagster.warehouse import Warehouse

    [settings] = projects_of(load_definitions("lf_dagster.definitions"), PROJECT)
    lake = Lake(settings.data)
    return account(settings, lake, Warehouse.of(settings, lake), now=clock.now)


if __name__ == "__main__":
    raise SystemExit(main())
