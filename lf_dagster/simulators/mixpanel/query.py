"""Read-back: raw export, segmentation, event names (contract section 12)."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lf_dagster.simulators.faults import json_response
from lf_dagster.simulators.mixpanel.state import MixpanelState, state_of
from lf_dagster.simulators.mixpanel.store import StoredEvent, View

_GZIP_FROM_BYTES = 1_400
_EXPORT_MOST = 100_000
_VALUE = r"""("[^"]*"|'[^']*'|-?[0-9.]+|true|false)"""
_CONDITION = re.compile(r"""\s*(?:properties|event)\[["']([^"']+)["']\]\s*==\s*""" + _VALUE + r"\s*")
_BUCKETS = {"minute": "%Y-%m-%d %H:%M:00", "hour": "%Y-%m-%d %H:00:00", "day": "%Y-%m-%d", "month": "%Y-%m-01"}


class BadQuery(Exception):
    """A parameter is missing or wrong: 400."""


async def export(request: Request) -> Response:
    """`GET /api/2.0/export`: newline-delimited JSON of all copies, both dates inclusive."""
    state = state_of(request)
    project_id = _project(state, request)
    if project_id is None:
        return json_response({"error": "Invalid credentials", "status": "error"}, status=401)
    wait = state.export_wait(project_id)
    if wait is not None:
        text = "standin: export rate limit exceeded"
        return json_response({"error": text, "status": "error"}, status=429, headers={"retry-after": str(wait)})
    try:
        return _lines(request, _exported(state, request, project_id))
    except BadQuery as error:
        return json_response({"error": str(error), "status": "error"}, status=400)


def _project(state: MixpanelState, request: Request) -> int | None:
    """Project of the query when a service account that belongs to it asks; tokens cannot read."""
    project_id = request.query_params.get("project_id")
    account = state.service_account(request, project_id)
    return int(project_id) if account is not None and project_id is not None else None


def _exported(state: MixpanelState, request: Request, project_id: int) -> list[dict[str, Any]]:
    zone = _zone(state) if state.behaviour.day_boundaries == "project" else timezone.utc
    first, last = _dates(request)
    names = _names(request)
    conditions = _conditions(request.query_params.get("where", ""))
    in_ms = request.query_params.get("time_in_ms") == "true"
    limit = request.query_params.get("limit")
    found: list[dict[str, Any]] = []
    for item in _visible(state, project_id):
        day = _local(item, zone).date()
        if first <= day <= last and (not names or item.event in names) and _matches(item, conditions):
            time = item.time_ms if in_ms else item.time_ms // 1000
            found.append({"event": item.event, "properties": {**item.properties, "time": time}})
    return found if limit is None else found[: _whole(limit, _EXPORT_MOST)]


def _lines(request: Request, events: list[dict[str, Any]]) -> Response:
    body = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    headers: dict[str, str] = {}
    if len(body) > _GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, 1)
        headers["content-encoding"] = "gzip"
    return Response(body, headers=headers, media_type="text/plain")


async def segmentation(request: Request) -> Response:
    """`GET /api/query/segmentation`: counts of one event per time bucket, deduplicated, in the project's zone."""
    return _query(request, _segmented)


async def event_names(request: Request) -> Response:
    """`GET /api/query/events/names`: distinct event names, most frequent first."""
    return _query(request, _named)


def _query(request: Request, answer: Callable[[MixpanelState, Request, int], Any]) -> Response:
    state = state_of(request)
    project_id = _project(state, request)
    if project_id is None:
        return json_response({"error": "Invalid credentials", "status": "error"}, status=401)
    if not state.query_allowed(project_id):
        text = f"Query rate limit exceeded for project_id: {project_id}"
        return json_response({"error": text, "status": "error"}, status=429)
    try:
        return json_response(answer(state, request, project_id))
    except BadQuery as error:
        return json_response({"error": str(error), "status": "error"}, status=400)


def _segmented(state: MixpanelState, request: Request, project_id: int) -> dict[str, Any]:
    name = request.query_params.get("event")
    unit = request.query_params.get("unit", "day")
    if not name or unit not in _BUCKETS:
        raise BadQuery("standin: event and a unit of minute, hour, day or month are needed")
    first, last = _dates(request)
    conditions = _conditions(request.query_params.get("where", ""))
    buckets = dict.fromkeys(_series(first, last, unit), 0)
    for item in _visible(state, project_id, view="query"):
        local = _local(item, _zone(state))
        if item.event == name and first <= local.date() <= last and _matches(item, conditions):
            buckets[local.strftime(_BUCKETS[unit])] += 1
    return {"data": {"series": list(buckets), "values": {name: buckets}}, "legend_size": 1}


def _named(state: MixpanelState, _: Request, project_id: int) -> list[str]:
    counted = Counter(item.event for item in _visible(state, project_id, view="query"))
    return [name for name, _ in counted.most_common()]


def _visible(state: MixpanelState, project_id: int, view: View = "raw") -> list[StoredEvent]:
    newest = state.now_ms - int(state.behaviour.visibility_delay_seconds * 1000)
    return [item for item in state.store.stored(view, project_id=project_id) if item.received_ms <= newest]


def _series(first: date, last: date, unit: str) -> list[str]:
    step = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}.get(unit, timedelta(days=1))
    moment = datetime(first.year, first.month, first.day, tzinfo=timezone.utc)
    end = datetime(last.year, last.month, last.day, tzinfo=timezone.utc) + timedelta(days=1)
    series: dict[str, None] = {}
    while moment < end:
        series[moment.strftime(_BUCKETS[unit])] = None
        moment += step
    return list(series)


def _zone(state: MixpanelState) -> tzinfo:
    return ZoneInfo(state.behaviour.project_timezone)


def _local(item: StoredEvent, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(item.time_ms / 1000, tz=zone)


def _dates(request: Request) -> tuple[date, date]:
    try:
        first, last = request.query_params["from_date"], request.query_params["to_date"]
        return date.fromisoformat(first), date.fromisoformat(last)
    except (KeyError, ValueError) as error:
        raise BadQuery(f"standin: from_date and to_date are needed as YYYY-MM-DD: {error}") from error


def _names(request: Request) -> set[str]:
    try:
        return set(msgspec.json.decode(request.query_params.get("event", "[]"), type=list[str]))
    except msgspec.DecodeError as error:
        raise BadQuery("standin: event must be a JSON array of names") from error


def _whole(text: str, most: int) -> int:
    if not text.isdigit() or not 0 < int(text) <= most:
        raise BadQuery(f"standin: a whole number between 1 and {most} is needed, not {text}")
    return int(text)


def _conditions(where: str) -> list[tuple[str, Any]]:
    """Equality comparisons joined by `and`: the subset of the expression language that the stand-in reads."""
    conditions: list[tuple[str, Any]] = []
    for part in re.split(r"\band\b", where) if where else []:
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise BadQuery(f"standin: where understands only properties[...] == value joined by and, not {part}")
        value = match[2]
        quoted = value[0] in "\"'"
        conditions.append((match[1], value[1:-1] if quoted else msgspec.json.decode(value)))
    return conditions


def _matches(item: StoredEvent, conditions: list[tuple[str, Any]]) -> bool:
    return all(item.properties.get(name) == value for name, value in conditions)
