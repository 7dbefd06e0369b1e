"""Capture V1: `POST /i/v1/analytics/events`, with a result per event (contract section 8)."""

from __future__ import annotations

import uuid as uuids
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lf_dagster.simulators.bodies import BodyTooLarge, BodyUnreadable, inflate
from lf_dagster.simulators.faults import json_response
from lf_dagster.simulators.posthog.settings import Limits
from lf_dagster.simulators.posthog.state import (
    PosthogState,
    is_illegal_distinct_id,
    object_of,
    state_of,
    token_trouble,
)
from lf_dagster.simulators.posthog.store import Arrival
from lf_dagster.simulators.posthog.timestamps import corrected, parse_rfc3339

_REQUIRED_HEADERS = (
    "posthog-sdk-info",
    "posthog-attempt",
    "posthog-request-id",
    "posthog-request-timestamp",
    "user-agent",
)


class Refusal(Exception):
    """An answer for the whole request, with the tag that clients classify by."""

    def __init__(self, status: int, tag: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.tag = tag
        self.description = description

    def response(self, request_id: str | None) -> Response:
        body = {"error": self.tag, "error_description": self.description, "error_uri": "https://posthog.com/docs/api"}
        return json_response(body, status=self.status, headers=_echo(request_id))


class Options(msgspec.Struct):
    """Typed strictly by the server: a wrong JSON type breaks the batch."""

    cookieless_mode: bool | None = None
    disable_skew_correction: bool | None = None
    process_person_profile: bool | None = None
    product_tour_id: str | None = None


class StrictOptions(Options, forbid_unknown_fields=True):
    """As `Options`, and unknown keys break the batch too."""


class _Event(msgspec.Struct):
    event: str
    uuid: str
    distinct_id: str
    timestamp: str
    session_id: str | None = None
    window_id: str | None = None
    properties: Any = None
    options: Options = msgspec.field(default_factory=Options)


class _StrictEvent(_Event):
    options: StrictOptions = msgspec.field(default_factory=StrictOptions)  # type: ignore[assignment]


class _Envelope(msgspec.Struct):
    created_at: str
    batch: list[msgspec.Raw]
    historical_migration: bool | None = None
    sent_at: Any = None


class _Context(msgspec.Struct):
    """What the request says about all of its events."""

    project_id: int | None
    sent_at: int
    now: int
    library: tuple[str, str]
    historical: bool


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_EVENT = msgspec.json.Decoder(_Event)
_STRICT_EVENT = msgspec.json.Decoder(_StrictEvent)


async def capture(request: Request) -> Response:
    """The order of checks is that of contract section 18."""
    state = state_of(request)
    body = await request.body()
    request_id = request.headers.get("posthog-request-id")
    try:
        results = _capture(state, request, body)
    except Refusal as refusal:
        return refusal.response(request_id)
    headers = _echo(request_id)
    if any(result["result"] == "retry" for result in results.values()):
        headers["retry-after"] = "1"
    return json_response({"results": results}, headers=headers)


def _echo(request_id: str | None) -> dict[str, str]:
    return {} if request_id is None else {"posthog-request-id": request_id}


def _capture(state: PosthogState, request: Request, body: bytes) -> dict[str, dict[str, str]]:
    if not state.behaviour.capture_v1:
        raise Refusal(404, "not_found", "standin: this server has no Capture V1")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "unsupported_media_type", "Content-Type must be application/json")
    token = _token(request)
    sent_at = _check_headers(request)
    envelope, events, sizes = _parse(state, _decoded(state, request, body))
    name, _, version = request.headers["posthog-sdk-info"].partition("/")
    context = _Context(
        project_id=state.tokens.get(token),
        sent_at=sent_at,
        now=state.now,
        library=(name, version),
        historical=envelope.historical_migration is True,
    )
    arrivals = [_arrival(event, context, state.limits) for event in events]
    valid = [arrival for arrival in arrivals if isinstance(arrival, Arrival)]
    broken = state.broken_strictness(
        valid, historical=context.historical, has_sent_at=envelope.sent_at is not None, now=context.now
    )
    if broken is not None:
        raise Refusal(400, "standin", broken)
    return _results(state, context, events, arrivals, sizes)


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        raise Refusal(401, "missing_api_token", "Authorization is missing")
    if scheme.lower() != "bearer":
        raise Refusal(400, "invalid_authorization", "Authorization must be Bearer")
    trouble = token_trouble(token)
    if trouble is not None:
        raise Refusal(401, "invalid_api_token", f"the project token is not valid: {trouble}")
    return token.strip()


def _check_headers(request: Request) -> int:
    """Raises for a missing or malformed header; PostHog-Request-Timestamp in epoch microseconds otherwise."""
    headers = request.headers
    missing = [name for name in _REQUIRED_HEADERS if not headers.get(name)]
    if missing:
        raise Refusal(400, "missing_required_headers", f"missing: {', '.join(missing)}")
    attempt, library = headers["posthog-attempt"], headers["posthog-sdk-info"]
    sent_at = parse_rfc3339(headers["posthog-request-timestamp"])
    checks = {
        "PostHog-Sdk-Info": "/" in library and len(library) <= 200,
        "PostHog-Attempt": attempt.isdigit() and int(attempt) >= 1,
        "PostHog-Request-Id": _canonical(headers["posthog-request-id"]) is not None,
    }
    wrong = [name for name, is_right in checks.items() if not is_right]
    if wrong or sent_at is None:
        wrong += ["PostHog-Request-Timestamp"] if sent_at is None else []
        raise Refusal(400, "missing_required_headers", f"malformed: {', '.join(wrong)}")
    return sent_at


def _decoded(state: PosthogState, request: Request, body: bytes) -> bytes:
    limits = state.limits
    if not body:
        raise Refusal(400, "empty_body", "the request has no body")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if len(body) > limits.v1_compressed_bytes:
        raise Refusal(413, "payload_too_large", f"more than {limits.v1_compressed_bytes} bytes")
    framings = {"gzip": (31,), "deflate": (15, -15)}.get(encoding, ())
    if not framings and encoding != "identity":
        raise Refusal(415, "unsupported_encoding", f"standin: {encoding} is not decoded here")
    try:
        body = _inflated(body, framings, limits.v1_inflated_bytes) if framings else body
    except BodyUnreadable as error:
        raise Refusal(400, "request_parsing_error", f"the body cannot be decoded: {error}") from error
    except BodyTooLarge:
        raise Refusal(413, "payload_too_large", f"inflates to over {limits.v1_inflated_bytes} bytes") from None
    return body


def _inflated(body: bytes, framings: tuple[int, ...], limit: int) -> bytes:
    """Inflate with the first framing that fits: deflate is sent both with and without a zlib header."""
    for wbits in framings[:-1]:
        try:
            return inflate(body, limit=limit, wbits=wbits)
        except BodyUnreadable:
            continue
    return inflate(body, limit=limit, wbits=framings[-1])


def _parse(state: PosthogState, body: bytes) -> tuple[_Envelope, list[_Event], list[int]]:
    """Envelope, events and their sizes in bytes; one event that does not parse breaks the request."""
    decoder = _STRICT_EVENT if state.behaviour.unknown_options == "reject" else _EVENT
    try:
        envelope = _ENVELOPE.decode(body)
        events: list[_Event] = [decoder.decode(raw) for raw in envelope.batch]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, "request_parsing_error", str(error)) from error
    if parse_rfc3339(envelope.created_at) is None:
        raise Refusal(400, "invalid_batch", "created_at must be RFC 3339")
    if not events:
        raise Refusal(400, "empty_batch", "the batch holds no events")
    _check_uuids(events)
    return envelope, events, [len(memoryview(raw)) for raw in envelope.batch]


def _check_uuids(events: list[_Event]) -> None:
    seen: set[str] = set()
    for event in events:
        if not event.uuid:
            raise Refusal(400, "missing_event_uuid", "an event has an empty uuid")
        canonical = _canonical(event.uuid)
        if canonical is None:
            raise Refusal(400, "invalid_event_uuid", f"not a uuid: {event.uuid[:50]}")
        if canonical in seen:
            raise Refusal(400, "duplicate_event_uuid", f"twice in the batch: {canonical}")
        seen.add(canonical)
        event.uuid = canonical


def _canonical(text: str) -> str | None:
    try:
        return str(uuids.UUID(text))
    except ValueError:
        return None


def _arrival(event: _Event, context: _Context, limits: Limits) -> Arrival | str:
    """The event as it will be stored, or the details of its `drop`."""
    details = _drop_details(event, limits)
    if details is not None:
        return details
    micros = parse_rfc3339(event.timestamp)
    if micros is None:
        return "invalid_event_timestamp"
    skew = None if event.options.disable_skew_correction else context.sent_at
    properties = {**(event.properties or {}), **_promoted(event, context)}
    return Arrival(
        uuid=event.uuid,
        event=event.event,
        distinct_id=event.distinct_id,
        time=corrected(micros, sent_at=skew, now=context.now),
        properties=properties,
        set_properties=object_of(properties.get("$set")),
        set_once_properties=object_of(properties.get("$set_once")),
        historical=context.historical,
        protocol="v1",
        person_processing=event.options.process_person_profile is not False
        and not is_illegal_distinct_id(event.distinct_id),
    )


def _drop_details(event: _Event, limits: Limits) -> str | None:
    checks = (
        ("missing_event_name", not event.event.strip()),
        ("event_name_too_long", len(event.event) > limits.name_length),
        ("missing_distinct_id", not event.distinct_id.strip()),
        ("distinct_id_too_large", len(event.distinct_id) > limits.distinct_id_length),
        ("malformed_event_properties", not isinstance(event.properties, (dict, type(None)))),
        ("dropped_performance_event", event.event == "$performance_event"),
    )
    return next((details for details, is_wrong in checks if is_wrong), None)


def _promoted(event: _Event, context: _Context) -> dict[str, Any]:
    """Properties that the server makes of headers, top-level fields and options."""
    promoted = {
        "$lib": context.library[0],
        "$lib_version": context.library[1],
        "$session_id": event.session_id,
        "$window_id": event.window_id,
        "$process_person_profile": event.options.process_person_profile,
    }
    return {name: value for name, value in promoted.items() if value is not None}


def _results(
    state: PosthogState,
    context: _Context,
    events: list[_Event],
    arrivals: list[Arrival | str],
    sizes: list[int],
) -> dict[str, dict[str, str]]:
    results: dict[str, dict[str, str]] = {}
    kept: list[Arrival] = []
    for event, arrival, size in zip(events, arrivals, sizes, strict=True):
        verdict, details = _verdict(state, context, event, arrival, size)
        keeps = verdict in {"ok", "warning"}
        planned = state.planned(event.uuid, event.event)
        if planned is not None:
            verdict, details, keeps = planned.result, planned.details, planned.keeps
        if keeps and isinstance(arrival, Arrival):
            kept.append(arrival)
            if context.project_id is not None and is_illegal_distinct_id(event.distinct_id):
                state.store.warn(context.project_id, "illegal_distinct_id", uuid=event.uuid)
        if verdict != "absent":
            results[event.uuid] = {"result": verdict, **({} if details is None else {"details": details})}
    if context.project_id is not None:
        state.store.add(context.project_id, kept, now=context.now)
    return results


def _verdict(
    state: PosthogState, context: _Context, event: _Event, arrival: Arrival | str, size: int
) -> tuple[str, str | None]:
    if isinstance(arrival, str):
        return "drop", arrival
    if state.behaviour.over_quota:
        return "drop", "billing_limit_exceeded"
    if state.behaviour.import_only and not context.historical:
        return "drop", "non_historical_import_drop"
    if size > state.limits.event_bytes:
        return "drop", "event_too_big"
    if is_illegal_distinct_id(event.distinct_id):
        return "warning", "person_processing_disabled"
    return "ok", None
