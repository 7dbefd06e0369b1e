"""Counting sinks: both destinations at little cost, for benchmarks. They accept everything and keep numbers only."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lf_dagster.simulators.bodies import gunzip, is_gzip
from lf_dagster.simulators.faults import ADMIN_PREFIX, json_response

_MOST_BYTES = 64 * 1024 * 1024
_OK = {"result": "ok"}


class _Identified(msgspec.Struct):
    uuid: str


class _LegacyBatch(msgspec.Struct):
    batch: list[msgspec.Raw]


class _V1Batch(msgspec.Struct):
    batch: list[_Identified]


_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_LEGACY = msgspec.json.Decoder(_LegacyBatch)
_V1 = msgspec.json.Decoder(_V1Batch)


@dataclass
class Counts:
    """What a sink has taken in: bytes on the wire, and inflated."""

    requests: int = 0
    events: int = 0
    wire_bytes: int = 0
    json_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, events: int, wire_bytes: int, json_bytes: int) -> None:
        with self._lock:
            self.requests += 1
            self.events += events
            self.wire_bytes += wire_bytes
            self.json_bytes += json_bytes

    def reset(self) -> None:
        with self._lock:
            self.requests = self.events = self.wire_bytes = self.json_bytes = 0

    def as_dict(self) -> dict[str, int]:
        with self._lock:
            return {"requests": self.requests, "events": self.events, "wire_bytes": self.wire_bytes,
                    "json_bytes": self.json_bytes}  # fmt: skip


def create_mixpanel_sink(*, counts: Counts | None = None, latency_seconds: float = 0.0) -> Starlette:
    """`POST /import` that answers 200 with the number of rows; `latency_seconds` stands for the network."""
    counts = counts or Counts()

    async def take(request: Request) -> Response:
        wire = await request.body()
        body = _inflated(wire)
        lines = "ndjson" in request.headers.get("content-type", "")
        events = body.count(b"\n") + (not body.endswith(b"\n")) if lines else len(_ARRAY.decode(body))
        counts.add(events=events, wire_bytes=len(wire), json_bytes=len(body))
        await asyncio.sleep(latency_seconds)
        return json_response({"code": 200, "num_records_imported": events, "status": "OK"})

    return _sink(counts, [Route("/import", take, methods=["POST"])])


def create_posthog_sink(
    *, counts: Counts | None = None, latency_seconds: float = 0.0, capture_v1: bool = True
) -> Starlette:
    """Legacy `/batch/` and, when `capture_v1`, Capture V1 with `ok` for every event."""
    counts = counts or Counts()

    async def legacy(request: Request) -> Response:
        wire = await request.body()
        body = _inflated(wire)
        counts.add(events=len(_LEGACY.decode(body).batch), wire_bytes=len(wire), json_bytes=len(body))
        await asyncio.sleep(latency_seconds)
        return json_response({"status": 1})

    async def v1(request: Request) -> Response:
        wire = await request.body()
        body = _inflated(wire)
        batch = _V1.decode(body).batch
        counts.add(events=len(batch), wire_bytes=len(wire), json_bytes=len(body))
        await asyncio.sleep(latency_seconds)
        return json_response({"results": {event.uuid: _OK for event in batch}})

    paths = ("/batch", "/i/v0/e", "/i/v0/ai/batch")
    routes = [Route(path + slash, legacy, methods=["POST"]) for path in paths for slash in ("", "/")]
    if capture_v1:
        routes += [Route("/i/v1/analytics/events" + slash, v1, methods=["POST"]) for slash in ("", "/")]
    return _sink(counts, routes)


def _inflated(body: bytes) -> bytes:
    return gunzip(body, limit=_MOST_BYTES) if is_gzip(body) else body


def _sink(counts: Counts, routes: list[Route]) -> Starlette:
    """`GET /_standin/counts` and `POST /_standin/reset`; `app.state.counts` in the same process."""

    async def read(_: Request) -> Response:
        return json_response(counts.as_dict())

    async def reset(_: Request) -> Response:
        counts.reset()
        return json_response({"status": "ok"})

    admin = [
        Route(f"{ADMIN_PREFIX}/counts", read, methods=["GET"]),
        Route(f"{ADMIN_PREFIX}/reset", reset, methods=["POST"]),
    ]
    app = Starlette(routes=[*routes, *admin])
    app.state.counts = counts
    return app
