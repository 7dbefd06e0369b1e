"""The PostHog stand-in as one ASGI application."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lf_dagster.simulators.faults import ADMIN_PREFIX, FaultQueue, admin_routes, install, json_response
from lf_dagster.simulators.posthog import capture_v1, legacy
from lf_dagster.simulators.posthog.private import PrivateStore, private_routes
from lf_dagster.simulators.posthog.settings import (
    DEMO_TOKENS,
    Behaviour,
    Limits,
    PersonalKey,
    PlannedResult,
    Strictness,
)
from lf_dagster.simulators.posthog.state import PosthogState, state_of
from lf_dagster.simulators.posthog.store import PosthogStore

LEGACY_PATHS = ("/batch", "/i/v0/e", "/e", "/capture", "/track", "/engage", "/i/v0/ai/batch")
V1_PATH = "/i/v1/analytics/events"


def create_app(
    *,
    tokens: Mapping[str, int] = DEMO_TOKENS,
    personal_keys: Sequence[PersonalKey] = (),
    clock: Callable[[], float] = time.time,
    faults: FaultQueue | None = None,
    limits: Limits | None = None,
    behaviour: Behaviour | None = None,
    strictness: Strictness | None = None,
    store: PosthogStore | None = None,
) -> Starlette:
    """A strict PostHog: both capture protocols, and dashboards of the private API, on one origin.

    `tokens` maps project tokens to project ids; `personal_keys` open the private API; `clock` gives epoch seconds.
    `app.state.standin` holds the parts (`store`, `private`, `behaviour`, `strictness`, `plan(...)`),
    `app.state.faults` the queue. Admin: `/_standin/faults`, `/_standin/requests`, `/_standin/reset`,
    `/_standin/events?view=raw|merged|query|ai` (with `project_id`), `/_standin/warnings`, `/_standin/persons`,
    `POST /_standin/results` (list of PlannedResult).
    """
    limits = limits or Limits()
    state = PosthogState(
        tokens=tokens,
        clock=clock,
        limits=limits,
        behaviour=behaviour or Behaviour(),
        strictness=strictness or Strictness(),
        store=store or PosthogStore(limits=limits),
        private=PrivateStore(keys={key.key: key for key in personal_keys}),
    )
    faults = faults or FaultQueue()
    app = Starlette(routes=[*admin_routes(faults, on_reset=state.reset), *_admin_routes(), *_routes()])
    app.state.standin = state
    app.state.faults = faults
    return install(app, faults)


def _routes() -> list[Route]:
    routes = [Route(path + slash, legacy.capture, methods=["POST"]) for path in LEGACY_PATHS for slash in ("", "/")]
    v1 = (Route(V1_PATH + slash, capture_v1.capture, methods=["POST"]) for slash in ("", "/"))
    return [*routes, *v1, *private_routes()]


def _admin_routes() -> list[Route]:
    return [
        Route(f"{ADMIN_PREFIX}/events", _events, methods=["GET"]),
        Route(f"{ADMIN_PREFIX}/warnings", _warnings, methods=["GET"]),
        Route(f"{ADMIN_PREFIX}/persons", _persons, methods=["GET"]),
        Route(f"{ADMIN_PREFIX}/results", _plan, methods=["POST"]),
    ]


async def _events(request: Request) -> Response:
    state = state_of(request)
    project_id = request.query_params.get("project_id")
    try:
        events = state.store.events(
            request.query_params.get("view", "merged"),  # type: ignore[arg-type]
            project_id=None if project_id is None else int(project_id),
            now=state.now,
            behaviour=state.behaviour,
        )
    except ValueError as error:
        return json_response({"error": str(error)}, status=400)
    return json_response(events)


async def _warnings(request: Request) -> Response:
    return json_response(state_of(request).store.warnings(request.query_params.get("type")))


async def _persons(request: Request) -> Response:
    return json_response(state_of(request).store.persons())


async def _plan(request: Request) -> Response:
    try:
        planned = msgspec.json.decode(await request.body(), type=list[PlannedResult])
    except msgspec.DecodeError as error:
        return json_response({"error": str(error)}, status=400)
    state_of(request).plan(*planned)
    return json_response({"planned": len(planned)})
