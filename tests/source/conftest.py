"""The Langfuse stand-in over a real socket, clients for it, and small worlds of rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from lf_dagster.config import LangfuseSettings
from lf_dagster.hours import Hour, iso
from lf_dagster.lake import Lake
from lf_dagster.simulators.faults import FaultQueue
from lf_dagster.simulators.langfuse import NEVER, Mode, Store, create_app
from lf_dagster.simulators.langfuse.rows import observation
from lf_dagster.simulators.langfuse.scores import score
from lf_dagster.simulators.langfuse.traces import trace
from lf_dagster.simulators.server import serve
from lf_dagster.source import HourExtract, LangfuseClient, extract_hours, load, streams_of

HOUR = Hour.from_key("2025-08-21-06:00")
"""Long ago, so that no test depends on the day it runs on."""
KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-local", "LANGFUSE_SECRET_KEY": "sk-lf-local"}


class FakeTime:
    """Sleeping moves the clock and is written down."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        with self._lock:
            return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
            self.slept.append(seconds)


class World:
    """A store with shorthand for rows of `HOUR`; times are milliseconds after its start."""

    def __init__(self) -> None:
        self.store = Store(merge_delay_ms=NEVER)

    def observation(self, id: str, at: float, *, trace: str = "t", updated: float = 0, **columns: Any) -> World:
        moment = HOUR.start + timedelta(milliseconds=at)
        times = {"createdAt": iso(moment), "updatedAt": iso(moment + timedelta(milliseconds=updated))}
        data = observation(id=id, trace_id=trace, start_time=iso(moment), project_id="proj-lf", **{**times, **columns})
        versions = len(self.store.observations.of_id(id))
        self.store.put_observation(data, at_ms=versions)
        return self

    def gone(self, id: str) -> World:
        self.store.delete_observation(id, at_ms=1_000_000)
        return self

    def score(self, id: str, at: float, **columns: Any) -> World:
        moment = iso(HOUR.start + timedelta(milliseconds=at))
        defaults = {"name": "quality", "data_type": "NUMERIC", "traceId": "t"}
        self.store.put_score(score(id=id, timestamp=moment, project_id="proj-lf", **{**defaults, **columns}))
        return self

    def trace(self, id: str, at: float, **columns: Any) -> World:
        moment = iso(HOUR.start + timedelta(milliseconds=at))
        self.store.put_trace(trace(id=id, timestamp=moment, project_id="proj-lf", **columns))
        return self


class Standin:
    """The stand-in as a test sees it; `use` exchanges what it serves."""

    def __init__(self, origin: str, switch: Switch) -> None:
        self.origin = origin
        self._switch = switch
        self.app: Starlette = Starlette()
        self.faults = FaultQueue()

    def use(self, store: Store | World, *, mode: str | Mode = "v4-dual", **options: Any) -> Standin:
        self.faults = FaultQueue()
        held = store.store if isinstance(store, World) else store
        self.app = create_app(held, mode=mode, faults=self.faults, **options)
        self._switch.app = self.app
        return self

    def requests(self, path: str = "") -> list[Any]:
        return self.faults.requests(f"/api/public/{path}")


class Switch:
    """An ASGI application that can be exchanged under a running server."""

    def __init__(self) -> None:
        self.app: ASGIApp = Starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def every_worker() -> Iterator[None]:
    """Workers join in at once, however busy the others are: what tests of many workers are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "SHORTEST_SECONDS", 0.0)
        patch.setattr(load, "ENOUGH", 1e9)
        yield


@pytest.fixture(scope="session")
def running_standin() -> Iterator[Standin]:
    switch = Switch()
    with serve(switch) as server:
        yield Standin(server.origin, switch)


@pytest.fixture
def standin(running_standin: Standin) -> Standin:
    return running_standin.use(World())


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


Connect = Callable[..., LangfuseClient]


@pytest.fixture
def connect(standin: Standin, time: FakeTime) -> Iterator[Connect]:
    """Makes clients of the stand-in; keyword arguments are settings."""
    with ExitStack() as stack:

        def build(env: dict[str, str] = KEYS, **settings: Any) -> LangfuseClient:
            made = LangfuseSettings(**{"host": standin.origin, "timeout_seconds": 10, **settings})
            return stack.enter_context(LangfuseClient(made, env=env, clock=time.clock, sleep=time.sleep))

        yield build


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def extract(client: LangfuseClient, lake: Lake, *hours: Hour, **options: Any) -> list[HourExtract]:
    """Extracts of all streams of the detected read path; `HOUR` when no hour is given."""
    source = client.describe()
    given = {"project": "p", "streams": streams_of(source.read_path), "lake": lake, "run_id": "r", **options}
    return extract_hours(client, source, hours=hours or [HOUR], **given)


def rows(lake: Lake, stream: str, hour: Hour = HOUR) -> list[dict[str, Any]]:
    """The live rows of an extract."""
    return [row for row in all_rows(lake, stream, hour) if row["deleted_seen_at"] is None]


def deleted(lake: Lake, stream: str, hour: Hour = HOUR) -> dict[str, datetime]:
    """When each marked row was first missing, by id."""
    marked = [row for row in all_rows(lake, stream, hour) if row["deleted_seen_at"] is not None]
    return {row["id"]: row["deleted_seen_at"] for row in marked}


def all_rows(lake: Lake, stream: str, hour: Hour = HOUR) -> list[dict[str, Any]]:
    return pq.ParquetFile(lake.extract_path("p", stream, hour)).read().to_pylist()


def milliseconds(moment: datetime) -> int:
    return round((moment - HOUR.start) / timedelta(milliseconds=1))
