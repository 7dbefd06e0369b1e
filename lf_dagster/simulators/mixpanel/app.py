"""The Mixpanel stand-in as one ASGI application."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lf_dagster.simulators.faults import ADMIN_PREFIX, FaultQueue, admin_routes, install, json_response
from lf_dagster.simulators.mixpanel.ingest import import_events, track
from lf_dagster.simulators.mixpanel.profiles import engage, groups
from lf_dagster.simulators.mixpanel.query import event_names, export, segmentation
from lf_dagster.simulators.mixpanel.schemas import schema, schemas
from lf_dagster.simulators.mixpanel.settings import DEMO_TOKENS, Behaviour, Limits, ServiceAccount
from lf_dagster.simulators.mixpanel.state import MixpanelState, state_of
from lf_dagster.simulators.mixpanel.store import MixpanelStore


def create_app(
    *,
    tokens: Mapping[str, int] = DEMO_TOKENS,
    service_accounts: Sequence[ServiceAccount] = (),
    clock: Callable[[], float] = time.time,
    faults: FaultQueue | None = None,
    limits: Limits | None = None,
    behaviour: Behaviour | None = None,
    store: MixpanelStore | None = None,
) -> Starlette:
    """A strict Mixpanel: ingestion, profiles, read-back and Lexicon schemas on one origin.

    `tokens` maps project tokens to project ids; `clock` gives epoch seconds and drives times, rate windows and the
    visibility delay. `app.state.standin` holds the parts (`store`, `behaviour`, ...), `app.state.faults` the queue.
    Admin: `/_standin/faults`, `/_standin/requests`, `/_standin/reset`, `/_standin/events?view=raw|query|compacted`
    (with `winner=newest|oldest|random`, `seed`, `project_id`), `/_standin/profiles`, `/_standin/damage`.
    """
    limits = limits or Limits()
    state = MixpanelState(
        tokens=tokens,
        service_accounts=service_accounts,
        clock=clock,
        limits=limits,
        behaviour=behaviour or Behaviour(),
        store=store or MixpanelStore(limits=limits),
    )
    faults = faults or FaultQueue()
    app = Starlette(routes=[*admin_routes(faults, on_reset=state.reset), *_admin_routes(), *_routes()])
    app.state.standin = state
    app.state.faults = faults
    return install(app, faults)


def _routes() -> list[Route]:
    schemas_path = "/api/app/projects/{project_id:int}/schemas"
    return [
        Route("/import", import_events, methods=["POST"]),
        Route("/track", track, methods=["POST"]),
        Route("/engage", engage, methods=["POST"]),
        Route("/groups", groups, methods=["POST"]),
        Route("/api/2.0/export", export, methods=["GET"]),
        Route("/api/query/segmentation", segmentation, methods=["GET"]),
        Route("/api/query/events/names", event_names, methods=["GET"]),
        Route(schemas_path, schemas, methods=["GET", "POST", "DELETE"]),
        Route(schemas_path + "/{entity_type}/{name}", schema, methods=["GET", "POST", "DELETE"]),
    ]


def _admin_routes() -> list[Route]:
    return [
        Route(f"{ADMIN_PREFIX}/events", _events, methods=["GET"]),
        Route(f"{ADMIN_PREFIX}/profiles", _profiles, methods=["GET"]),
        Route(f"{ADMIN_PREFIX}/damage", _damage, methods=["GET"]),
    ]


async def _events(request: Request) -> Response:
    query = request.query_params
    project_id = query.get("project_id")
    try:
        events = state_of(request).store.events(
            query.get("view", "raw"),  # type: ignore[arg-type]
            project_id=None if project_id is None else int(project_id),
            winner=query.get("winner", "newest"),  # type: ignore[arg-type]
            seed=int(query.get("seed", "0")),
        )
    except (ValueError, KeyError) as error:
        return json_response({"error": str(error)}, status=400)
    return json_response(events)


async def _profiles(request: Request) -> Response:
    profiles = state_of(request).store.profiles
    return json_response([{"project_id": key[0], "distinct_id": key[1], **value} for key, value in profiles.items()])


async def _damage(request: Request) -> Response:
    return json_response(dict(state_of(request).store.damage()))
