"""What Dagster's daemon does, on virtual time: evaluates the project's real schedules and sensor, and runs what they
ask for through the real jobs, one after the other.

A tick first finishes what an earlier one left, then looks at the schedules due since the last tick, then at the
sensor, until that asks for nothing more: in the time between two ticks it would be evaluated many times.
What is to be run and the sensor's cursor are kept in a file, as Dagster keeps them in its database: a killed daemon
goes on where it was. A run that was killed is not run again by itself and stays "started", as with Dagster's own
launcher, until the sensor notices or, here at the next tick, the time limit of run monitoring strikes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
from dagster._utils.schedules import schedule_execution_time_iterator

from lf_dagster.cli.projects import load_definitions

PROJECT = "langfuse"
REASON_TAG = "lf_dagster/reason"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_OPEN = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_LOOKS = 20


@dataclass
class Wanted:
    """A run that is to be made. `request`: a serialised RunRequest; `begun`: its worker was started."""

    job: str
    request: str
    begun: bool = False


@dataclass
class State:
    """What survives a kill. `last`: ISO time of the last look; `ended`: runs by job and outcome; `reasons`: why."""

    last: str
    cursor: str | None = None
    queue: list[Wanted] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> State:
        return msgspec.json.decode(file.read_bytes(), type=cls)

    def write(self, file: Path) -> None:
        """Replace the file at once."""
        scratch = file.with_suffix(".new")
        scratch.write_bytes(msgspec.json.encode(self))
        scratch.replace(file)


class Daemon:
    """The daemon and its run workers in this process. `file`: its state; DAGSTER_HOME names the instance."""

    def __init__(self, file: Path, began: datetime) -> None:
        self.file = file
        self.definitions = load_definitions("lf_dagster.definitions")
        self.repository = self.definitions.get_repository_def()
        if not file.exists():
            State(last=began.isoformat()).write(file)

    def tick(self, now: datetime, *, sense: bool = True) -> None:
        """Everything that is due by now; `sense`: also ask the sensor."""
        self.drain()
        self.apart(lambda: self._look(now))
        self.drain()
        for _ in range(_LOOKS if sense else 0):
            self.drain()
            self.apart(self._sense)
            if not State.read(self.file).queue:
                return

    def sleep_through(self, now: datetime) -> None:
        """The daemon was down until now: what was due is not made up for."""
        state = State.read(self.file)
        state.last = now.isoformat()
        state.write(self.file)

    def drain(self) -> None:
        """Make the wanted runs, one after the other."""
        while State.read(self.file).queue:
            self.apart(self._run_next)

    def close(self) -> None:
        """Nothing is left open: every run has ended."""

    def apart(self, work: Callable[[], None]) -> None:
        """Do some work that may be killed; here it is done in this process."""
        work()

    # Work

    def _look(self, now: datetime) -> None:
        state = State.read(self.file)
        self._reap()
        since = datetime.fromisoformat(state.last)
        for schedule in self.repository.schedule_defs:
            due = _due(schedule, since, now)
            if due is not None:
                state.queue += self._scheduled(schedule, due)
        state.last = now.isoformat()
        state.write(self.file)

    def _sense(self) -> None:
        state = State.read(self.file)
        for sensor in self.repository.sensor_defs:
            state.queue += self._sensed(sensor, state)
        state.write(self.file)

    def _scheduled(self, schedule: Any, due: datetime) -> Iterator[Wanted]:
        with dg.build_schedule_context(
            instance=instance(), repository_def=self.repository, scheduled_execution_time=due
        ) as context:
            tick = schedule.evaluate_tick(context)
        for request in tick.run_requests or ():
            yield Wanted(request.job_name or schedule.job_name, dg.serialize_value(request))

    def _sensed(self, sensor: Any, state: State) -> Iterator[Wanted]:
        with dg.build_sensor_context(
            instance=instance(), repository_def=self.repository, cursor=state.cursor, sensor_name=sensor.name
        ) as context:
            tick = sensor.evaluate_tick(context)
        state.cursor = tick.cursor
        for request in tick.run_requests or ():
            yield Wanted(request.job_name or sensor.job_name, dg.serialize_value(request))

    def _run_next(self) -> None:
        state = State.read(self.file)
        wanted = state.queue[0]
        if wanted.begun:
            self._ended(wanted, "killed")
            return
        wanted.begun = True
        state.write(self.file)
        request: Any = dg.deserialize_value(wanted.request)
        run = self._job(wanted.job).execute_in_process(
            instance=instance(),
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            run_config={**_QUIET, **request.run_config},
            raise_on_error=False,
        )
        self._ended(wanted, "success" if run.success else "failure", request.tags.get(REASON_TAG))

    def _ended(self, wanted: Wanted, how: str, reason: str | None = None) -> None:
        state = State.read(self.file)
        del state.queue[0]
        outcome = f"{wanted.job} {how}"
        state.ended[outcome] = state.ended.get(outcome, 0) + 1
        if reason is not None:
            state.reasons[reason] = state.reasons.get(reason, 0) + 1
        state.write(self.file)

    def _job(self, name: str) -> Any:
        return self.definitions.resolve_job_def(name)

    def _reap(self) -> None:
        """Between ticks nothing runs: what is open has lost its worker, and by now its time is up."""
        for run in instance().get_runs(filters=dg.RunsFilter(statuses=_OPEN)):
            instance().report_run_failed(run)


@cache
def instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME, opened when it is first needed: not before a fork."""
    return dg.DagsterInstance.get()


def _due(schedule: Any, since: datetime, now: datetime) -> datetime | None:
    """The schedule's latest time in (since, now]; one look makes up for no more than that."""
    start = (since + timedelta(seconds=1)).timestamp()
    times = schedule_execution_time_iterator(start, schedule.cron_schedule, schedule.execution_timezone or "UTC")
    return max(takewhile(lambda moment: moment <= now, times), default=None)
