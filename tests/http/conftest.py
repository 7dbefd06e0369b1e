"""A small echo server with fault injection, and a clock that only moves when somebody sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from isal import igzip
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from lf_dagster.http import HttpClient
from lf_dagster.simulators.faults import FaultQueue, install
from lf_dagster.simulators.server import serve


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


class Echo:
    """The running server and its faults."""

    def __init__(self, origin: str, faults: FaultQueue) -> None:
        self.origin = origin
        self.faults = faults


async def _echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse(
        {
            "query": dict(request.query_params),
            "authorization": request.headers.get("authorization"),
            "agent": request.headers.get("user-agent"),
            "body": body.decode(),
        }
    )


async def _gzip(request: Request) -> Response:
    packed = igzip.compress(b'"' + b"x" * int(request.query_params["size"]) + b'"')
    keep = int(request.query_params.get("keep", len(packed)))
    return Response(packed[:keep], headers={"content-encoding": "gzip"}, media_type="application/json")


async def _go(request: Request) -> Response:
    return RedirectResponse(request.query_params["to"], status_code=int(request.query_params.get("status", "307")))


@pytest.fixture(scope="session")
def running_echo() -> Iterator[Echo]:
    faults = FaultQueue()
    routes = [Route(path, end, methods=["GET", "POST"]) for path, end in _ROUTES.items()]
    with serve(install(Starlette(routes=routes), faults)) as server:
        yield Echo(server.origin, faults)


@pytest.fixture
def echo(running_echo: Echo) -> Echo:
    running_echo.faults.reset()
    return running_echo


_ROUTES: dict[str, Callable[[Request], Any]] = {"/echo": _echo, "/gzip": _gzip, "/go": _go}


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def client(echo: Echo, time: FakeTime) -> Iterator[HttpClient]:
    with HttpClient(echo.origin, clock=time.clock, sleep=time.sleep, timeout=5) as client:
        yield client
