"""A project on its stand-ins under a clock that only moves when told, driven as Dagster's daemon drives it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg

from bench.fidelity.clock import VirtualClock
from lf_dagster.accounting import ProjectAccount, account
from lf_dagster.component import build_project_definitions
from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.hours import Hour, parse_hour
from lf_dagster.lake import Lake
from lf_dagster.simulators import langfuse, mixpanel, posthog
from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.server import serve_all
from lf_dagster.warehouse import Warehouse

KEY = langfuse.ApiKey("pk-lf-works", "sk-lf-works")
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass
class Works:
    """A project, its outside world and a Dagster instance."""

    settings: ProjectSettings
    clock: VirtualClock
    instance: dg.DagsterInstance
    langfuse: Any
    mixpanel: Any
    posthog: Any
    definitions: dg.Definitions = field(init=False)
    cursor: str | None = None
    skipped: str | None = None
    requests: list[dg.RunRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.definitions = build_project_definitions(self.settings)
            self.repository = self.definitions.get_repository_def()

    @property
    def store(self) -> Store:
        return self.langfuse.state.server.stores[0]

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.data)

    def at(self, text: str) -> Works:
        """Moves the clock to a time such as `2026-09-07T10:00` (UTC)."""
        self.clock.move(datetime.fromisoformat(text).replace(tzinfo=timezone.utc))
        return self

    def later(self, **delta: float) -> Works:
        self.clock.move(self.clock.now + timedelta(**delta))
        return self

    def ask(self) -> list[dg.RunRequest]:
        """One tick of the reconcile sensor; nothing is run."""
        sensor = self.definitions.resolve_sensor_def(f"{self.settings.name}_reconcile")
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self.repository
        ) as context:
            result = sensor.evaluate_tick(context)
        self.cursor, self.skipped = result.cursor or self.cursor, result.skip_message
        return list(result.run_requests or ())

    def tick(self) -> list[dg.RunRequest]:
        """One tick, and its runs one after the other."""
        asked = self.ask()
        for request in asked:
            self.run(request)
        return asked

    def settle(self, *, ticks: int = 30) -> list[dg.RunRequest]:
        """Ticks until nothing is asked for any more."""
        asked: list[dg.RunRequest] = []
        for _ in range(ticks):
            found = self.tick()
            if not found:
                return asked
            asked += found
        raise AssertionError(f"not settled after {ticks} ticks: {[tags_of(request) for request in asked[-3:]]}")

    def scheduled(self, name: str = "hourly") -> list[dg.RunRequest]:
        """The requests of a schedule (`hourly`, `sync`) at this moment, run."""
        asked = self.due(name)
        for request in asked:
            self.run(request)
        return asked

    def due(self, name: str) -> list[dg.RunRequest]:
        """The requests of a schedule at this moment; nothing is run."""
        schedule = self.definitions.resolve_schedule_def(f"{self.settings.name}_{name}_schedule")
        with dg.build_schedule_context(
            scheduled_execution_time=self.clock.now, repository_def=self.repository
        ) as context:
            # An instance in memory has no reference that a context could be built from.
            context._instance_ref, context._instance = mock.sentinel.reference, self.instance
            result = schedule.evaluate_tick(context)
        self.skipped = result.skip_message
        return list(result.run_requests or ())

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Runs a request in this process; a failure is no exception."""
        job = self.definitions.resolve_job_def(f"{self.settings.name}_hourly")
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            partition_key=request.partition_key,
            run_config={**request.run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def rerun(self, first: str, last: str | None = None, *, only: list[str] | None = None) -> dg.ExecuteInProcessResult:
        """A backfill by hand: these hours, all assets of the job or some of them."""
        keys = [dg.AssetKey([self.settings.name, name]) for name in only] if only else None
        tags = {RANGE_START: parse_hour(first).key, RANGE_END: parse_hour(last or first).key}
        return self.run(dg.RunRequest(asset_selection=keys, tags=tags))

    def audit(self) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def(f"{self.settings.name}_audit")
        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    def settled_until(self) -> str | None:
        until = self.account().settled_until()
        return until.key if until else None

    def account(self) -> ProjectAccount:
        return account(self.settings, self.lake, Warehouse.of(self.settings, self.lake), now=self.clock.now)

    def posthog_events(self) -> dict[str, dict[str, Any]]:
        """What PostHog holds once merged, by Langfuse's id of the thing, or name and id where that is not unique."""
        return {_name(event["event"], event["properties"]): event for event in self._held(self.posthog, "merged")}

    def mixpanel_events(self) -> dict[str, dict[str, Any]]:
        return {_name(event["event"], event["properties"]): event for event in self._held(self.mixpanel, "query")}

    def _held(self, app: Any, view: str) -> list[dict[str, Any]]:
        return app.state.standin.store.events(view=view)

    def langfuse_requests(self) -> list[str]:
        return [record.path for record in self.langfuse.state.faults.requests("/api/")]


def _name(event: str, properties: dict[str, Any]) -> str:
    kind = event.rpartition(" ")[2].lower()
    return f"{kind} {properties['langfuse_id']}"


def hours_of(request: dg.RunRequest) -> tuple[str, str]:
    """First and last hour of a request."""
    return request.tags[RANGE_START], request.tags[RANGE_END]


def tags_of(request: dg.RunRequest) -> tuple[str, str, str]:
    return (*hours_of(request), request.tags["lf_dagster/reason"])


def assets_of(request: dg.RunRequest) -> set[str]:
    return {key.path[-1] for key in request.asset_selection or ()}


@contextmanager
def works(folder: Path, store: Store, *, start: str, now: str, **settings: Any) -> Iterator[Works]:
    """A running world. `settings` go over what a project of two destinations has by default."""
    store.project = langfuse.Project(id=store.project.id, name=store.project.name, keys=(KEY,))
    clock = VirtualClock(datetime.fromisoformat(now).replace(tzinfo=timezone.utc), folder / "clock")
    apps: dict[str, Any] = {
        "langfuse": langfuse.create_app(store, clock=clock),
        "mixpanel": mixpanel.create_app(tokens={"mp-works": 1}, clock=clock),
        "posthog": posthog.create_app(tokens={"phc_works": 1}, clock=clock),
    }
    variables = {
        "LF_DAGSTER_CLOCK": str(clock.file),
        "LANGFUSE_PUBLIC_KEY": KEY.public,
        "LANGFUSE_SECRET_KEY": KEY.secret,
        "MIXPANEL_PROJECT_TOKEN": "mp-works",
        "POSTHOG_API_KEY": "phc_works",
    }
    with ExitStack() as running:
        running.enter_context(mock.patch.dict(os.environ, variables))
        origins = running.enter_context(serve_all(apps))
        explicit: dict[str, Any] = {
            "name": "shop",
            "start": Hour.containing(datetime.fromisoformat(start).replace(tzinfo=timezone.utc)).key,
            "data": str(folder / "data"),
            "langfuse": {"host": origins["langfuse"]},
            "mixpanel": {"host": origins["mixpanel"]},
            "posthog": {"host": origins["posthog"]},
        }
        chosen = load_project(_over(explicit, settings))
        instance = running.enter_context(dg.DagsterInstance.ephemeral())
        yield Works(chosen, clock, instance, **apps)


def _over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = _over(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
