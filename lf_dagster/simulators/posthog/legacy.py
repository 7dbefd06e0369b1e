"""Legacy capture: `/batch/`, `/i/v0/e/`, `/i/v0/ai/batch/` (contract sections 2 to 4)."""

from __future__ import annotations

import uuid as uuids
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from lf_dagster.simulators.bodies import BodyTooLarge, BodyUnreadable, gunzip, is_gzip
from lf_dagster.simulators.posthog.state import (
    PosthogState,
    is_illegal_distinct_id,
    object_of,
    state_of,
    token_trouble,
)
from lf_dagster.simulators.posthog.store import Arrival
from lf_dagster.simulators.posthog.timestamps import event_time, parse

_DECODER = msgspec.json.Decoder()


class Refusal(Exception):
    """An answer other than 200: plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _Batch(msgspec.Struct):
    """What a request holds besides its shape."""

    events: list[dict[str, Any]]
    token: Any = None
    historical: bool = False
    sent_at: Any = None


async def capture(request: Request) -> Response:
    """One parser for all legacy routes; the order of checks is that of contract section 18."""
    state = state_of(request)
    body = await request.body()
    is_ai = request.url.path.startswith("/i/v0/ai/")
    try:
        _capture(state, request, body, is_ai=is_ai)
    except Refusal as refusal:
        return PlainTextResponse(refusal.text, status_code=refusal.status)
    if request.query_params.get("beacon") == "1":
        return Response(status_code=204)
    return Response(state.behaviour.success_body, media_type="application/json")


def _capture(state: PosthogState, request: Request, body: bytes, *, is_ai: bool) -> None:
    body = _decoded(state, request, body)
    batch = _parse(body)
    token = _token(batch)
    if not batch.events:
        raise Refusal(400, "request holds no event")
    now = state.now
    project_id = state.tokens.get(token)
    limit = state.limits.ai_event_bytes if is_ai else state.limits.event_bytes
    # No event can be over the limit when all of them together are not.
    arrivals = _arrivals(state, batch, project_id, now, measure=len(body) > limit)
    for arrival in arrivals:
        arrival.protocol = "ai" if is_ai else "legacy"
    has_sent_at = batch.sent_at is not None
    broken = state.broken_strictness(arrivals, historical=batch.historical, has_sent_at=has_sent_at, now=now)
    if broken is not None:
        raise Refusal(400, broken)
    lost = state.behaviour.over_quota or (state.behaviour.import_only and not batch.historical)
    if not lost and project_id is not None:
        _store(state, project_id, arrivals, limit, now)


def _store(state: PosthogState, project_id: int, arrivals: list[Arrival], limit: int, now: int) -> None:
    """Store in order; an event over the broker's limit ends it, and what came before stays."""
    oversize = next((index for index, arrival in enumerate(arrivals) if arrival.size > limit), None)
    state.store.add(project_id, arrivals[:oversize], now=now)
    if oversize is not None:
        state.store.warn(project_id, "message_size_too_large", uuid=arrivals[oversize].uuid)
        raise Refusal(413, f"maximum event size exceeded: {limit} bytes")


def _decoded(state: PosthogState, request: Request, body: bytes) -> bytes:
    limit = state.limits.legacy_body_bytes
    hint = request.query_params.get("compression") or request.headers.get("content-encoding", "")
    if not body:
        raise Refusal(400, "request missing data payload")
    try:
        if is_gzip(body) or hint.lower() in {"gzip", "gzip-js"}:
            body = gunzip(body, limit=limit)
    except BodyUnreadable as error:
        raise Refusal(400, f"failed to decode request: {error}") from error
    except BodyTooLarge:
        raise Refusal(413, f"maximum event size exceeded: {limit} bytes") from None
    if len(body) > limit:
        raise Refusal(413, f"maximum event size exceeded: {limit} bytes")
    return body


def _parse(body: bytes) -> _Batch:
    try:
        value = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"failed to parse request: {error}") from error
    if isinstance(value, dict) and "batch" in value:
        batch = _Batch(value["batch"], value.get("api_key", value.get("token")), sent_at=value.get("sent_at"))
        if value.get("historical_migration") is not None:
            batch.historical = value["historical_migration"]
    else:
        batch = _Batch(value if isinstance(value, list) else [value])
        batch.sent_at = next((e.get("sent_at") for e in batch.events if isinstance(e, dict)), None)
    if not isinstance(batch.events, list) or not isinstance(batch.historical, bool):
        raise Refusal(400, "failed to parse request: invalid type")
    for event in batch.events:
        _check_types(event)
    return batch


def _check_types(event: Any) -> None:
    """What the server's typed parser refuses together with the whole request."""
    if not isinstance(event, dict):
        raise Refusal(400, "failed to parse request: an event must be an object")
    if not isinstance(event.get("event"), str):
        raise Refusal(400, "failed to parse request: missing field `event`")
    if not isinstance(event.get("properties", {}), (dict, type(None))):
        raise Refusal(400, "failed to parse request: invalid type of `properties`")
    uuid = event.get("uuid")
    if uuid is not None and uuid != "" and _canonical(uuid) is None:
        raise Refusal(400, "failed to parse request: UUID parsing failed")


def _canonical(uuid: Any) -> str | None:
    try:
        return str(uuids.UUID(uuid))
    except (ValueError, AttributeError, TypeError):
        return None


def _token(batch: _Batch) -> str:
    tokens = [batch.token] if batch.token is not None else [_event_token(event) for event in batch.events]
    if not batch.events and batch.token is None:
        raise Refusal(400, "request holds no event")
    if any(token is None for token in tokens):
        raise Refusal(401, "event submitted without an api_key")
    if len({str(token) for token in tokens}) > 1:
        raise Refusal(401, "batch submitted with inconsistent api_key values")
    trouble = token_trouble(str(tokens[0]))
    if trouble is not None:
        raise Refusal(401, f"API key is not valid: {trouble}")
    return str(tokens[0]).strip()


def _event_token(event: dict[str, Any]) -> Any:
    return event.get("api_key", event.get("token", object_of(event.get("properties")).get("token")))


def _arrivals(state: PosthogState, batch: _Batch, project_id: int | None, now: int, *, measure: bool) -> list[Arrival]:
    """Events as they will be stored; the first bad one refuses all (or is skipped, on older servers)."""
    sent_at = None if batch.sent_at is None else parse(str(batch.sent_at))
    arrivals: list[Arrival] = []
    for event in batch.events:
        try:
            arrival = _arrival(state, event, project_id, sent_at, now)
        except Refusal:
            if state.behaviour.bad_legacy_event == "reject":
                raise
            continue
        arrival.historical = batch.historical
        arrival.size = len(msgspec.json.encode(event)) if measure else 0
        arrivals.append(arrival)
    return arrivals


def _arrival(
    state: PosthogState, event: dict[str, Any], project_id: int | None, sent_at: int | None, now: int
) -> Arrival:
    properties = dict(event.get("properties") or {})
    if not event["event"]:
        raise Refusal(400, "event submitted with an empty event name")
    distinct_id = _distinct_id(event, properties)
    uuid = _canonical(event.get("uuid")) or str(uuids.uuid4())
    limit = state.limits.distinct_id_length
    if project_id is not None and len(distinct_id) > limit:
        state.store.warn(project_id, "distinct_id_truncated", uuid=uuid)
    if project_id is not None and is_illegal_distinct_id(distinct_id):
        state.store.warn(project_id, "illegal_distinct_id", uuid=uuid)
    time = event_time(
        event.get("timestamp"),
        offset=event.get("offset"),
        sent_at=sent_at,
        ignore_sent_at=properties.get("$ignore_sent_at") is True,
        now=now,
    )
    return Arrival(
        uuid=uuid,
        event=event["event"],
        distinct_id=distinct_id[:limit],
        time=time,
        properties=properties,
        set_properties={**object_of(properties.get("$set")), **object_of(event.get("$set"))},
        set_once_properties={**object_of(properties.get("$set_once")), **object_of(event.get("$set_once"))},
        person_processing=properties.get("$process_person_profile") is not False,
    )


def _distinct_id(event: dict[str, Any], properties: dict[str, Any]) -> str:
    for value in (event.get("distinct_id"), event.get("$distinct_id"), properties.get("distinct_id")):
        text = value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
        if text.strip("\0 \t\r\n"):
            return text
    raise Refusal(400, "event submitted without a distinct_id")
