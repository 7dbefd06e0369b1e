"""Fault injection and request log that all stand-ins share, as one pure ASGI middleware.

A `FaultQueue` holds `Fault`s; `install(app, faults)` puts it in front of a whole Starlette application, so a fault
can answer instead of the application, spoil the application's answer, wait, or cut the TCP connection before, during
or after the request was handled ("after" is the ambiguous timeout: stored, but the client cannot know).
Requests below `/_standin` are never touched and never logged.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ADMIN_PREFIX = "/_standin"
HTML_502 = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
HTML_524 = "<!DOCTYPE html><html><head><title>524: A timeout occurred</title></head><body>Error 524</body></html>"
HTML_LOGIN = "<!doctype html><html><head><title>Sign in</title></head><body><form></form></body></html>"
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_SECRET_PARAMETERS = frozenset({"token", "api_key", "secret", "password"})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong, and for which requests.

    Which: `method` (None = any), `path` (prefix), `nth` (only the nth match since the fault was added, 1-based),
    `times` (how often it strikes, None = for ever), `probability` with `seed` (drawn per match, reproducible).
    What: wait `delay_seconds` first; then `cut` the connection (`before` the request is handled, `during` the answer,
    `after` it was handled and before any byte of the answer), or answer `status` with `body`, `content_type` and
    `headers` instead of the application (`handle=True` lets the application process the request all the same), or,
    without `status`, pass the application's answer on with its body replaced by `body`, or cut to `truncate_to`
    bytes (well-formed HTTP around broken JSON), and with `content_type` and `headers` laid over its own.
    """

    method: str | None = None
    path: str = ""
    nth: int | None = None
    times: int | None = 1
    probability: float = 1.0
    seed: int = 0
    delay_seconds: float = 0.0
    cut: Literal["before", "during", "after"] | None = None
    status: int | None = None
    body: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    truncate_to: int | None = None
    handle: bool = False

    @classmethod
    def rate_limited(cls, *, retry_after: float | str | None = None, body: str = "rate limited", **kw: Any) -> Fault:
        """A 429 in plain text (pass `body` and `content_type` for JSON), with `Retry-After` when given."""
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        return cls(**{"status": 429, "body": body, "content_type": "text/plain", "headers": headers, **kw})

    @classmethod
    def bad_gateway(cls, **kw: Any) -> Fault:
        """A 502 with a proxy's HTML page."""
        return cls(**{"status": 502, "body": HTML_502, "content_type": "text/html", **kw})

    @classmethod
    def proxy_timeout(cls, **kw: Any) -> Fault:
        """A 524 with Cloudflare's HTML page: the server behind was too slow."""
        return cls(**{"status": 524, "body": HTML_524, "content_type": "text/html", **kw})

    @classmethod
    def unavailable(cls, *, body: str = "upstream connect error or disconnect", **kw: Any) -> Fault:
        """A 503 in plain text."""
        return cls(**{"status": 503, "body": body, "content_type": "text/plain", **kw})

    @classmethod
    def html_ok(cls, **kw: Any) -> Fault:
        """A 200 with an HTML page where JSON is due (a login page, a single-page application)."""
        return cls(
            **{"status": 200, "body": "<!doctype html><title>Sign in</title>", "content_type": "text/html", **kw}
        )


class _Pending:
    """A queued fault with its counters."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.matched = 0
        self.struck = 0
        self._random = random.Random(fault.seed)

    @property
    def spent(self) -> bool:
        fault = self.fault
        if fault.nth is not None and self.matched >= fault.nth:
            return True
        return fault.times is not None and self.struck >= fault.times

    def strikes(self, method: str, path: str) -> bool:
        fault = self.fault
        if self.spent or not path.startswith(fault.path) or fault.method not in {None, method}:
            return False
        self.matched += 1
        if fault.nth is not None and self.matched != fault.nth:
            return False
        if fault.probability < 1.0 and self._random.random() >= fault.probability:
            return False
        self.struck += 1
        return True


@dataclass(frozen=True, kw_only=True)
class RequestRecord:
    """One request as a stand-in saw it. Sizes in bytes on the wire; `status` None = the connection was cut."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    request_bytes: int
    status: int | None
    response_bytes: int
    started_at: float
    duration_seconds: float
    fault: bool


class FaultQueue:
    """Thread-safe queue of faults (the first one that strikes wins) and log of the latest requests."""

    def __init__(self, *, keep_requests: int = 20_000) -> None:
        self._lock = threading.Lock()
        self._pending: list[_Pending] = []
        self._requests: deque[RequestRecord] = deque(maxlen=keep_requests)

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._pending.extend(_Pending(fault) for fault in faults)

    def clear(self) -> None:
        """Forget all faults; the request log stays."""
        with self._lock:
            self._pending.clear()

    def reset(self) -> None:
        """Forget all faults and logged requests."""
        with self._lock:
            self._pending.clear()
            self._requests.clear()

    def pending(self) -> list[Fault]:
        """Faults that can still strike."""
        with self._lock:
            return [pending.fault for pending in self._pending if not pending.spent]

    def requests(self, path: str = "") -> list[RequestRecord]:
        """Logged requests below the path prefix, oldest first."""
        with self._lock:
            return [record for record in self._requests if record.path.startswith(path)]

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request; counts the match for every fault that looks at it."""
        with self._lock:
            struck = next((item.fault for item in self._pending if item.strikes(method, path)), None)
            self._pending = [item for item in self._pending if not item.spent]
            return struck

    def record(self, record: RequestRecord) -> None:
        with self._lock:
            self._requests.append(record)


class FaultMiddleware:
    """ASGI middleware in front of a stand-in: applies faults, logs requests."""

    def __init__(self, app: ASGIApp, faults: FaultQueue) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(ADMIN_PREFIX):
            await self._app(scope, receive, send)
            return
        fault = self._faults.take(scope["method"], scope["path"])
        exchange = _Exchange(scope, receive, send, self._faults, struck=fault is not None)
        try:
            if fault is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await _apply(fault, self._app, exchange)
        finally:
            exchange.log()


def install(app: Starlette, faults: FaultQueue) -> Starlette:
    """Put the middleware outside of everything else in the application, where it can reach the connection."""
    app.middleware_stack = FaultMiddleware(app.build_middleware_stack(), faults)
    return app


class _Exchange:
    """One request and its answer, counted and logged once: before its client can know that it is over."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, faults: FaultQueue, *, struck: bool) -> None:
        self.scope = scope
        self._faults = faults
        self._struck = struck
        self._logged = False
        self._receive = receive
        self._send = send
        self._started_at = time.time()
        self._started = time.monotonic()
        self._request_bytes = 0
        self._status: int | None = None
        self._response_bytes = 0
        self._ahead: deque[Message] = deque()

    async def receive(self) -> Message:
        if self._ahead:
            return self._ahead.popleft()
        message = await self._receive()
        self._request_bytes += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        self._response_bytes += len(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.log()
        await self._send(message)

    async def read_ahead(self) -> None:
        """Take the whole request in: it will be handled even if the client goes away meanwhile."""
        messages = [await self.receive()]
        while messages[-1]["type"] == "http.request" and messages[-1].get("more_body"):
            messages.append(await self.receive())
        self._ahead.extend(messages)

    async def cut(self, *, flush: bool = False) -> None:
        """Close the connection under the client; `flush` lets bytes go out that were sent already.

        ASGI has no word for this. uvicorn's `send` is a method of the object that holds the transport; without one
        (an in-process ASGI client) the cut is a ConnectionResetError out of the application.
        """
        self._status = None
        self.log()
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is None:
            raise ConnectionResetError("the stand-in cut the connection")
        if flush:
            transport.close()
        else:
            transport.abort()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def log(self) -> None:
        if not self._logged:
            self._logged = True
            self._faults.record(self._record())

    def _record(self) -> RequestRecord:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]}
        query = parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return RequestRecord(
            method=self.scope["method"],
            path=self.scope["path"],
            query=urlencode([(name, "***" if name in _SECRET_PARAMETERS else value) for name, value in query]),
            headers={name: "***" if name in _SECRET_HEADERS else value for name, value in headers.items()},
            request_bytes=self._request_bytes,
            status=self._status,
            response_bytes=self._response_bytes,
            started_at=self._started_at,
            duration_seconds=time.monotonic() - self._started,
            fault=self._struck,
        )


class _Answer:
    """The application's answer, held back."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
        else:
            self.body += message.get("body", b"")


async def _apply(fault: Fault, app: ASGIApp, exchange: _Exchange) -> None:
    if fault.cut != "before" or fault.delay_seconds:
        await exchange.read_ahead()
    if fault.delay_seconds:
        await asyncio.sleep(fault.delay_seconds)
    if fault.cut == "before":
        await exchange.cut()
        return
    answer = _Answer()
    if fault.status is None or fault.handle:
        await app(exchange.scope, exchange.receive, answer.send)
    if fault.cut == "after":
        await exchange.cut()
        return
    _spoil(answer, fault)
    body = answer.body[: len(answer.body) // 2] if fault.cut == "during" else answer.body
    await exchange.send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await exchange.send({"type": "http.response.body", "body": body, "more_body": fault.cut == "during"})
    if fault.cut == "during":
        await exchange.cut(flush=True)


def _spoil(answer: _Answer, fault: Fault) -> None:
    """Lay the fault's status, body and headers over the answer; Content-Length fits the new body."""
    replaced = {b"content-length"} | {name.lower().encode("latin-1") for name in fault.headers}
    if fault.status is not None:
        answer.status, answer.headers, answer.body = fault.status, [], b""
    if fault.content_type is not None:
        replaced.add(b"content-type")
    if fault.body is not None:
        answer.body = fault.body.encode()
        replaced.add(b"content-encoding")
    if fault.truncate_to is not None:
        answer.body = answer.body[: fault.truncate_to]
    headers = [(name, value) for name, value in answer.headers if name not in replaced]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fault.headers.items()]
    if fault.content_type is not None:
        headers.append((b"content-type", fault.content_type.encode("latin-1")))
    answer.headers = [*headers, (b"content-length", str(len(answer.body)).encode())]


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer encoded by msgspec."""
    body = msgspec.json.encode(value)
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def _parse_faults(body: bytes) -> list[Fault]:
    posted = msgspec.json.decode(body, type=list[dict[str, Any]] | dict[str, Any])
    listed = posted if isinstance(posted, list) else [posted]
    known = {item.name for item in fields(Fault)}
    for item in listed:
        if unknown := item.keys() - known:
            raise msgspec.ValidationError(f"a fault has no {', '.join(sorted(unknown))}")
    return msgspec.convert(listed, list[Fault])


def admin_routes(faults: FaultQueue, *, on_reset: Callable[[], None] | None = None) -> list[Route]:
    """Routes of the admin side that every stand-in has.

    `POST /_standin/faults` takes one `Fault` or a list as JSON objects; `GET` lists those that can still strike;
    `DELETE` forgets them. `POST /_standin/reset` empties the queue, the log and (by `on_reset`) the stand-in.
    `GET /_standin/requests[?path=prefix]` lists requests: sizes, statuses, headers without secrets.
    """

    async def add(request: Request) -> Response:
        try:
            faults.add(*_parse_faults(await request.body()))
        except msgspec.DecodeError as error:
            return json_response({"error": str(error)}, status=400)
        return json_response({"pending": len(faults.pending())})

    async def listed(_: Request) -> Response:
        return json_response([asdict(fault) for fault in faults.pending()])

    async def forget(_: Request) -> Response:
        faults.clear()
        return json_response({"pending": 0})

    async def reset(_: Request) -> Response:
        faults.reset()
        if on_reset is not None:
            on_reset()
        return json_response({"status": "ok"})

    async def requests(request: Request) -> Response:
        return json_response([asdict(record) for record in faults.requests(request.query_params.get("path", ""))])

    return [
        Route(f"{ADMIN_PREFIX}/faults", add, methods=["POST"]),
        Route(f"{ADMIN_PREFIX}/faults", listed, methods=["GET"]),
        Route(f"{ADMIN_PREFIX}/faults", forget, methods=["DELETE"]),
        Route(f"{ADMIN_PREFIX}/reset", reset, methods=["POST"]),
        Route(f"{ADMIN_PREFIX}/requests", requests, methods=["GET"]),
    ]
