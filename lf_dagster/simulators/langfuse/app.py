"""The HTTP side of the Langfuse stand-in: routes, the order of checks, authentication, compression (contract 2)."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lf_dagster.simulators.faults import FaultQueue, admin_routes, install
from lf_dagster.simulators.langfuse import errors, legacy, limits, metrics, v2
from lf_dagster.simulators.langfuse.cache import COMPRESS_FROM_BYTES, PageCache, compressed
from lf_dagster.simulators.langfuse.context import DEPRECATION, Answer, Call, json_answer
from lf_dagster.simulators.langfuse.errors import ApiError
from lf_dagster.simulators.langfuse.limits import Limits, PlainTextRefusal, RateLimiter
from lf_dagster.simulators.langfuse.modes import Mode, resolve
from lf_dagster.simulators.langfuse.params import Query
from lf_dagster.simulators.langfuse.store import ApiKey, Store

_PREFIX = "/api/public/"
_HTML_404 = (
    "<!DOCTYPE html><html><head><title>404: This page could not be found</title></head>"
    "<body><h1>404</h1><h2>This page could not be found.</h2></body></html>"
)
_HEADERS = {"x-robots-tag": "noindex", "x-frame-options": "SAMEORIGIN"}
_CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET,HEAD,PUT,PATCH,POST,DELETE",
    "vary": "Access-Control-Request-Headers",
}

Handler = Callable[[Call], Answer]


@dataclass(frozen=True)
class Endpoint:
    """One route: what answers it, its rate limit bucket, and its family (`open`, `new` or `legacy`).

    `replacement` is what the 410 of new Cloud organizations points to.
    """

    handler: Handler
    bucket: str | None
    family: str
    replacement: str | None = None


@dataclass
class Server:
    """The settings of a running stand-in; `mode`, `limiter` and the stores may be changed between requests.

    `clock` gives epoch seconds: what the stores hold is shown as of that moment.
    """

    stores: Sequence[Store]
    mode: Mode
    clock: Callable[[], float]
    limiter: RateLimiter
    faults: FaultQueue
    compress: bool = True
    unstable_ties: bool = True
    pages: PageCache = field(default_factory=PageCache)

    def key_of(self, secret: str) -> tuple[Store, ApiKey] | None:
        """The store that this secret opens; the public half plays no part in it."""
        for store in self.stores:
            for key in store.project.keys:
                if key.secret == secret:
                    return store, key
        return None


_SIMPLE: dict[str, Endpoint] = {
    "v2/observations": Endpoint(v2.observations, limits.PUBLIC_API, "new"),
    "v3/scores": Endpoint(v2.list_scores, limits.PUBLIC_API, "new"),
    "v2/metrics": Endpoint(metrics.new_metrics, limits.V2_METRICS, "new"),
    "traces": Endpoint(legacy.traces, limits.LEGACY, "legacy", "v2/observations"),
    "observations": Endpoint(legacy.observations, limits.LEGACY, "legacy", "v2/observations"),
    "sessions": Endpoint(legacy.sessions, limits.LEGACY, "legacy", "v2/observations"),
    "v2/scores": Endpoint(legacy.scores, limits.PUBLIC_API, "legacy", "v3/scores"),
    "scores": Endpoint(legacy.trace_scores, limits.PUBLIC_API, "legacy", "v3/scores"),
    "metrics": Endpoint(metrics.legacy_metrics, limits.METRICS, "legacy", "v2/metrics"),
}
_BY_ID: dict[str, Endpoint] = {
    "traces": Endpoint(legacy.trace, limits.LEGACY, "legacy", "v2/observations"),
    "observations": Endpoint(legacy.observation, limits.LEGACY, "legacy", "v2/observations"),
    "v2/scores": Endpoint(legacy.score, limits.PUBLIC_API, "legacy", "v3/scores"),
}


def create_app(
    stores: Store | Sequence[Store],
    *,
    mode: str | Mode = "v4-dual",
    clock: Callable[[], float] = time.time,
    limits: Limits | None = None,
    faults: FaultQueue | None = None,
    compress: bool = True,
    unstable_ties: bool = True,
) -> Starlette:
    """A Langfuse server over one or more projects' stores; the secret key of a request selects the project.

    mode: a name of `modes.MODES` or a Mode. clock: epoch seconds, decides what is visible. limits: off by default, as
    on self-hosted servers. unstable_ties: legacy lists serve rows of equal sort value in another order on every page,
    as the real ones do (contract 20); off makes them stable. Settings stay reachable as `app.state.server`.
    """
    queue = faults or FaultQueue()
    server = Server(
        stores=[stores] if isinstance(stores, Store) else list(stores),
        mode=resolve(mode),
        clock=clock,
        limiter=RateLimiter(limits or Limits({})),
        faults=queue,
        compress=compress,
        unstable_ties=unstable_ties,
    )
    app = Starlette(routes=[*admin_routes(queue), Route("/{path:path}", _Public(server))])
    app.state.server = server
    app.state.faults = queue
    return install(app, queue)


class _Public:
    """The ASGI end point of everything that is not the stand-in's own administration."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            answer = _respond(self._server, scope, headers)
        except PlainTextRefusal as refusal:
            answer = Answer(refusal.text.encode(), refusal.status, "text/plain; charset=utf-8", refusal.headers)
        except ApiError as error:
            answer = json_answer(error.body, status=error.status, headers=error.headers)
        if self._wants_gzip(headers, answer):
            answer = compressed(answer)
        await _response(answer)(scope, receive, send)

    def _wants_gzip(self, headers: Headers, answer: Answer) -> bool:
        accepted = "gzip" in headers.get("accept-encoding", "") and "content-encoding" not in answer.headers
        return self._server.compress and accepted and len(answer.body) >= COMPRESS_FROM_BYTES


def _response(answer: Answer) -> Response:
    headers = {**_HEADERS, **answer.headers, "content-type": answer.content_type}
    return Response(answer.body, status_code=answer.status, headers=headers)


def _respond(server: Server, scope: Scope, headers: Headers) -> Answer:
    path = _raw_path(scope)
    if not path.startswith(_PREFIX):
        return _html_404()
    name = path[len(_PREFIX) :].rstrip("/")
    if name in ("health", "ready"):
        return _health(server, scope)
    endpoint, argument = _find(name)
    if name != "projects" and (endpoint is None or (name == "v3/scores" and not server.mode.v3_scores)):
        return _html_404()
    if scope["method"] == "OPTIONS":
        return Answer(b"", 204, headers=_CORS)
    if endpoint is None:
        return _projects(server, scope, headers)
    if scope["method"] != "GET":
        raise ApiError(405, {"message": "Method not allowed", "error": "MethodNotAllowedError"})
    if endpoint.family == "legacy" and server.mode.legacy == "events_only":
        raise errors.events_only()
    store = _authenticate(server, headers)
    server.limiter.spend(store.project.organization_id, endpoint.bucket)
    if endpoint.family == "legacy":
        _check_cutoff(server.mode, name, endpoint)
    now_ms = int(server.clock() * 1000)

    def answer() -> Answer:
        query = Query(scope["query_string"])
        return endpoint.handler(Call(store, server.mode, query, now_ms, argument, server.unstable_ties))

    packed = server.compress and "gzip" in headers.get("accept-encoding", "")
    asked = (path, scope["query_string"], server.mode, server.unstable_ties, packed)
    return server.pages.answer((id(store), store.epoch(now_ms), asked), answer, compress=packed)


def _raw_path(scope: Scope) -> str:
    # Ids may contain encoded slashes, so the path is split before it is decoded.
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1").split("?", 1)[0]


def _find(name: str) -> tuple[Endpoint | None, str]:
    if name in _SIMPLE:
        return _SIMPLE[name], ""
    collection, _, last = name.rpartition("/")
    if collection in _BY_ID and last:
        return _BY_ID[collection], unquote(last)
    return None, ""


def _html_404() -> Answer:
    headers = {"cache-control": "private, no-cache, no-store, max-age=0, must-revalidate"}
    return Answer(_HTML_404.encode(), 404, "text/html; charset=utf-8", headers)


def _health(server: Server, scope: Scope) -> Answer:
    if scope["method"] not in ("GET", "HEAD"):
        raise ApiError(405, {"message": "Method not allowed"})
    return json_answer({"status": "OK", "version": server.mode.version})


def _projects(server: Server, scope: Scope, headers: Headers) -> Answer:
    if scope["method"] != "GET":
        raise ApiError(405, {"message": "Method not allowed"})
    store = _authenticate(server, headers, organization_hint=True)
    project = store.project
    found: dict[str, Any] = {
        "id": project.id,
        "name": project.name,
        "organization": {"id": project.organization_id, "name": project.organization_name},
        "metadata": {},
    }
    if project.retention_days > 0:
        found["retentionDays"] = project.retention_days
    return json_answer({"data": [found]})


def _authenticate(server: Server, headers: Headers, *, organization_hint: bool = False) -> Store:
    header = headers.get("authorization")
    if not header:
        raise ApiError(401, {"message": "No authorization header"})
    scheme, _, credentials = header.partition(" ")
    if scheme == "Bearer":
        return _bearer(server, credentials)
    if scheme != "Basic":
        raise ApiError(401, {"message": "Invalid authorization header"})
    found = server.key_of(_secret(credentials))
    if found is None:
        raise ApiError(401, {"message": "Invalid credentials. Confirm that you've configured the correct host."})
    store, key = found
    if key.level == "organization":
        message = "Invalid API key. Organization-scoped API keys cannot be used here." if organization_hint else None
        raise _forbidden(message)
    if key.level != "project":
        raise _forbidden()
    return store


def _bearer(server: Server, public_key: str) -> Store:
    if any(key.public == public_key for store in server.stores for key in store.project.keys):
        raise _forbidden()
    raise ApiError(401, {"message": "Invalid credentials. Confirm that you've configured the correct host."})


def _forbidden(message: str | None = None) -> ApiError:
    return ApiError(403, {"message": message or "Access denied - insufficient permissions for this endpoint"})


def _secret(credentials: str) -> str:
    try:
        _, colon, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ApiError(401, {"message": "Invalid authorization header"}) from error
    if not colon:
        raise ApiError(401, {"message": "Invalid authorization header"})
    return secret


def _check_cutoff(mode: Mode, name: str, endpoint: Endpoint) -> None:
    replacement = f"/api/public/{endpoint.replacement}"
    if mode.legacy == "removed":
        raise errors.not_found(f"This endpoint has been removed. Use {replacement} instead.")
    if mode.legacy == "new_organization":
        body = {
            "error": "LEGACY_API_UNAVAILABLE_FOR_NEW_ORGANIZATION",
            "message": "This legacy API is not available for organizations created on or after 2026-09-16.",
            "requestedEndpoint": f"/api/public/{name}",
            "replacementEndpoint": replacement,
            "documentationUrl": DEPRECATION["docsUrl"],
            "_deprecation": {**DEPRECATION, "replacement": replacement},
        }
        raise ApiError(410, body)
