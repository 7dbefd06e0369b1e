"""Dashboards and insights of the private API: `/api/projects/{id}/dashboards/`, `/insights/` (contract section 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lf_dagster.simulators.faults import json_response
from lf_dagster.simulators.posthog.settings import PersonalKey

Kind = Literal["dashboard", "insight"]
Row = dict[str, Any]

_FIELDS: dict[Kind, dict[str, type | tuple[type, ...]]] = {
    "dashboard": {
        "name": str, "description": str, "pinned": bool, "tags": list, "deleted": bool,
    },
    "insight": {
        "name": str, "description": str, "query": dict, "dashboards": list, "saved": bool, "tags": list,
        "deleted": bool,
    },
}  # fmt: skip
_DEFAULTS: dict[Kind, Row] = {
    "dashboard": {"name": "", "description": "", "pinned": False, "tags": [], "deleted": False},
    "insight": {
        "name": "", "description": "", "query": None, "dashboards": [], "saved": False, "tags": [], "deleted": False,
    },
}  # fmt: skip
_SOURCES = ("TrendsQuery", "FunnelsQuery", "RetentionQuery", "PathsQuery", "StickinessQuery", "LifecycleQuery")
_PAGE = 100


class Refused(Exception):
    """An error answer of the private API."""

    def __init__(self, status: int, kind: str, code: str, detail: str, attr: str | None = None) -> None:
        super().__init__(detail)
        self.response = json_response({"type": kind, "code": code, "detail": detail, "attr": attr}, status=status)


@dataclass
class PrivateStore:
    """What the private API holds, by project. `tagging`: False where the plan has no tags, which then stay empty."""

    keys: Mapping[str, PersonalKey] = field(default_factory=dict)
    tagging: bool = True
    rows: dict[int, dict[Kind, dict[int, Row]]] = field(default_factory=dict)
    writes: int = 0
    """Requests that created or changed something."""

    def of(self, project_id: int, kind: Kind) -> dict[int, Row]:
        """The project's rows, also deleted ones."""
        return self.rows.setdefault(project_id, {"dashboard": {}, "insight": {}})[kind]

    def live(self, project_id: int, kind: Kind) -> list[Row]:
        """Rows that are not deleted, the newest first."""
        return [row for row in reversed(self.of(project_id, kind).values()) if not row["deleted"]]

    def reset(self) -> None:
        self.rows.clear()
        self.writes = 0


def private_routes() -> list[Route]:
    """Routes of both kinds, with the slash at the end that the real server wants."""
    found: list[Route] = []
    for kind in _FIELDS:
        base = f"/api/projects/{{project_id:int}}/{kind}s/"
        listing, single = _Endpoint(kind).listing, _Endpoint(kind).single
        found.append(Route(base, listing, methods=["GET", "POST"]))
        found.append(Route(f"{base}{{row_id:int}}/", single, methods=["GET", "PATCH", "DELETE"]))
    return found


@dataclass(frozen=True)
class _Endpoint:
    kind: Kind

    async def listing(self, request: Request) -> Response:
        """GET: a page, by `limit` and `offset`. POST: a new row (201)."""
        body = await request.body()
        try:
            store, project_id = self._admit(request)
            if request.method == "GET":
                return self._page(request, store.live(project_id, self.kind))
            values = self._validated(store, project_id, body)
            rows = store.of(project_id, self.kind)
            number = 1 + max((id_ for each in store.rows[project_id].values() for id_ in each), default=0)
            rows[number] = {"id": number, "short_id": f"s{number:07d}", **_DEFAULTS[self.kind], **values}
            store.writes += 1
            return json_response(rows[number], status=201)
        except Refused as refused:
            return refused.response

    async def single(self, request: Request) -> Response:
        """GET, or PATCH of some fields; `deleted` hides a row. DELETE is refused, as by the real server."""
        body = await request.body()
        try:
            store, project_id = self._admit(request)
            row = store.of(project_id, self.kind).get(request.path_params["row_id"])
            if row is None or row["deleted"]:
                raise Refused(404, "invalid_request", "not_found", "Not found.")
            if request.method == "DELETE":
                raise Refused(405, "invalid_request", "method_not_allowed", 'standin: PATCH "deleted" instead')
            if request.method == "PATCH":
                row.update(self._validated(store, project_id, body))
                store.writes += 1
            return json_response(row)
        except Refused as refused:
            return refused.response

    def _admit(self, request: Request) -> tuple[PrivateStore, int]:
        store: PrivateStore = request.app.state.standin.private
        word, _, key = request.headers.get("authorization", "").partition(" ")
        known = store.keys.get(key) if word == "Bearer" else None
        if known is None:
            raise Refused(401, "authentication_error", "authentication_failed", "Personal API key found is invalid.")
        scope = f"{self.kind}:{'read' if request.method == 'GET' else 'write'}"
        if scope not in known.scopes and scope.replace(":read", ":write") not in known.scopes:
            text = f"API key missing required scope '{scope}'"
            raise Refused(403, "authentication_error", "permission_denied", text)
        project_id = request.path_params["project_id"]
        if project_id not in known.project_ids:
            raise Refused(404, "invalid_request", "not_found", "Project not found.")
        return store, project_id

    def _page(self, request: Request, rows: list[Row]) -> Response:
        limit, offset = (
            int(request.query_params.get(name, start)) for name, start in (("limit", _PAGE), ("offset", 0))
        )
        further = offset + limit < len(rows)
        query = urlencode({"limit": limit, "offset": offset + limit})
        return json_response(
            {
                "count": len(rows),
                "next": f"{request.url.replace(query=query)}" if further else None,
                "previous": None,
                "results": rows[offset : offset + limit],
            }
        )

    def _validated(self, store: PrivateStore, project_id: int, body: bytes) -> Row:
        """The fields to set. Refused: no object, unknown fields (the real server ignores them), wrong types, queries of
        unknown kinds, dashboards that are not there."""
        try:
            values = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise _invalid(f"JSON parse error - {error}", None) from None
        for name, value in values.items():
            wanted = _FIELDS[self.kind].get(name)
            if wanted is None:
                raise _invalid(f"standin: unknown field {name!r}", name)
            if not isinstance(value, wanted):
                raise _invalid(f"standin: {name} has the wrong type", name)
        if "query" in values:
            values["query"] = _stored(values["query"])
        known = {row["id"] for row in store.live(project_id, "dashboard")}
        if not known.issuperset(values.get("dashboards", ())):
            raise _invalid("Dashboard not found", "dashboards")
        if not store.tagging and "tags" in values:
            values["tags"] = []
        return values


def _stored(query: Row) -> Row:
    """The query as the server keeps it: with defaults that nobody sent. Refused: kinds that it does not know."""
    source = query.get("source")
    if not isinstance(source, dict) or (query.get("kind"), source.get("kind")) not in {
        *(("InsightVizNode", kind) for kind in _SOURCES),
        ("DataVisualizationNode", "HogQLQuery"),
    }:
        raise _invalid("standin: no query that an insight can show", "query")
    if source["kind"] == "TrendsQuery" and not source.get("series"):
        raise _invalid("standin: a trend without series", "query")
    return {**query, "full": False, "source": {"filterTestAccounts": False, "version": 2, **source}}


def _invalid(detail: str, attr: str | None) -> Refused:
    return Refused(400, "validation_error", "invalid_input", detail, attr)
