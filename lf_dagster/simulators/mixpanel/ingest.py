"""`POST /import` (strict and not) and `/track`."""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from lf_dagster.simulators.bodies import BodyTooLarge, BodyUnreadable, decode_json, gunzip
from lf_dagster.simulators.faults import json_response
from lf_dagster.simulators.mixpanel.state import MixpanelState, state_of
from lf_dagster.simulators.mixpanel.validate import RowError, check_row, time_in_ms

PARTIAL = "some data points in the request failed validation"
RATE_LIMITED = "Project exceeded rate limits. Please retry the request with exponential backoff."
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_STATUS_TEXT = {
    400: "Bad Request",
    401: "Unauthorized",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
}
_TRACK_OLDEST_MS = 5 * 86_400_000


class Refusal(Exception):
    """A request-level answer other than 200 and partial 400."""

    def __init__(self, status: int, error: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = headers

    def response(self, *, strict: bool = True) -> Response:
        body: dict[str, Any] = {"code": self.status, "error": self.error, "status": _STATUS_TEXT[self.status]}
        if not strict:
            body = {"error": self.error, "status": 0}
        return json_response(body, status=self.status, headers=self.headers)


async def import_events(request: Request) -> Response:
    """The order of checks is the stand-in's own (contract section 20); texts are those of section 5."""
    state = state_of(request)
    body = await request.body()
    strict = request.query_params.get("strict", "1")
    try:
        if strict not in {"0", "1"}:
            raise Refusal(400, "standin: strict must be 0 or 1")
        return _import(state, request, body, strict=strict == "1")
    except Refusal as refusal:
        return refusal.response(strict=strict != "0")


def _import(state: MixpanelState, request: Request, body: bytes, *, strict: bool) -> Response:
    project_id = state.import_project(request, request.query_params.get("project_id"))
    if project_id is None:
        if not strict:
            return json_response({"error": None, "status": 1})  # accepted by the look of it, stored nowhere
        raise Refusal(401, "Invalid credentials")
    body = _inflated(state, request, body)
    rows, sizes, clean = _parse(request, body)
    limits = state.limits
    if not rows:
        raise Refusal(400, "standin: the request holds no events")
    if len(rows) > limits.batch_events:
        raise Refusal(limits.batch_too_long_status, f"standin: more than {limits.batch_events} events in one request")
    if not state.import_allowed(project_id, len(rows), len(body)):
        wait = state.behaviour.retry_after
        raise Refusal(429, RATE_LIMITED, headers=None if wait is None else {"retry-after": str(wait)})
    if not strict:
        for row in rows:
            _give_insert_id(row)
    failures = _failures(state, rows, sizes, clean)
    accepted = ((row, size) for index, (row, size) in enumerate(zip(rows, sizes, strict=True)) if index not in failures)
    imported = state.store.add(project_id, accepted, now_ms=state.now_ms)
    if not strict:
        return json_response({"error": None, "status": 1})
    return _answer(state, rows, failures, imported)


def _inflated(state: MixpanelState, request: Request, body: bytes) -> bytes:
    limit = state.limits.body_bytes
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in {"gzip", "identity"}:
        raise Refusal(415, f"standin: Content-Encoding {encoding} is not supported")
    try:
        body = gunzip(body, limit=limit) if encoding == "gzip" else body
    except BodyUnreadable as error:
        raise Refusal(400, f"standin: the body is no gzip: {error}") from error
    except BodyTooLarge:
        raise Refusal(413, f"request exceeds max limit of {limit} bytes") from None
    if len(body) > limit:
        raise Refusal(413, f"request exceeds max limit of {limit} bytes")
    return body


def _parse(request: Request, body: bytes) -> tuple[list[Any], list[int], bool]:
    """Rows, their sizes in bytes, and whether all text is valid Unicode."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if content_type == "application/x-ndjson":
            return _parse_lines([line for line in body.split(b"\n") if line.strip()])
        if content_type == "application/json":
            return _parse_array(body)
    except BodyUnreadable as error:
        raise Refusal(400, f"standin: the body cannot be parsed: {error}") from error
    raise Refusal(415, "standin: Content-Type must be application/json or application/x-ndjson")


def _parse_array(body: bytes) -> tuple[list[Any], list[int], bool]:
    rows, clean = decode_json(body)
    if not isinstance(rows, list):
        raise BodyUnreadable("not an array")
    # Broken text can stop the raw decoder, so sizes are then those of a re-encoding.
    sizes = [len(memoryview(raw)) for raw in _RAWS.decode(body)] if clean else [len(repr(row)) for row in rows]
    return rows, sizes, clean


def _parse_lines(lines: list[bytes]) -> tuple[list[Any], list[int], bool]:
    decoded = [decode_json(line) for line in lines]
    return [row for row, _ in decoded], [len(line) for line in lines], all(clean for _, clean in decoded)


def _failures(state: MixpanelState, rows: list[Any], sizes: list[int], clean: bool) -> dict[int, RowError]:
    now_ms = state.now_ms
    needs_distinct_id = state.behaviour.identity_mode == "original"
    extra_keys = state.behaviour.extra_top_level_keys == "accept"
    failures: dict[int, RowError] = {}
    for index, row in enumerate(rows):
        error = check_row(
            row,
            sizes[index],
            now_ms=now_ms,
            limits=state.limits,
            needs_distinct_id=needs_distinct_id,
            extra_keys=extra_keys,
            clean_text=clean,
        )
        if error is not None:
            failures[index] = error
    return failures


def _answer(state: MixpanelState, rows: list[Any], failures: dict[int, RowError], imported: int) -> Response:
    if not failures:
        return json_response({"code": 200, "num_records_imported": imported, "status": "OK"})
    status = state.behaviour.partial_status
    failed = [
        {
            "index": index,
            state.behaviour.insert_id_key: _insert_id(rows[index]),
            "field": _printable(error.field),
            "message": _printable(error.message),
        }
        for index, error in failures.items()
    ]
    envelope = {"code": status, "error": PARTIAL, "status": "Bad Request" if status == 400 else "OK"}
    return json_response({**envelope, "num_records_imported": imported, "failed_records": failed}, status=status)


def _insert_id(row: Any) -> str:
    properties = row.get("properties") if isinstance(row, dict) else None
    value = properties.get("$insert_id") if isinstance(properties, dict) else None
    return value if isinstance(value, str) and value.isprintable() else ""


def _printable(text: str) -> str:
    """Names out of broken rows may hold what JSON cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _give_insert_id(row: Any) -> None:
    """Without strict a missing id is made up, so it can never collapse with anything."""
    properties = row.get("properties") if isinstance(row, dict) else None
    if isinstance(properties, dict):
        properties.setdefault("$insert_id", str(uuid.uuid4()))


async def track(request: Request) -> Response:
    """The client endpoint: answers 1 whatever happens to the events; older than 5 days they vanish."""
    state = state_of(request)
    verbose = request.query_params.get("verbose") == "1"
    try:
        posted = _track_events(request, await request.body())
    except BodyUnreadable as error:
        return json_response({"error": str(error), "status": 0}) if verbose else PlainTextResponse("0")
    for event in posted:
        _track_one(state, event)
    return json_response({"error": None, "status": 1}) if verbose else PlainTextResponse("1")


def _track_events(request: Request, body: bytes) -> list[Any]:
    if "json" not in request.headers.get("content-type", ""):
        data = parse_qs(body.decode("utf-8", "replace")).get("data", [""])[0]
        body = data.encode() if data.lstrip()[:1] in {"[", "{"} else _unbase64(data)
    value, _ = decode_json(body)
    return value if isinstance(value, list) else [value]


def _unbase64(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise BodyUnreadable("data is neither JSON nor base64") from error


def _track_one(state: MixpanelState, event: Any) -> None:
    properties = event.get("properties") if isinstance(event, dict) else None
    project_id = state.tokens.get(str(properties.get("token"))) if isinstance(properties, dict) else None
    if not isinstance(properties, dict) or project_id is None:
        return
    time = properties.get("time", state.now_ms)
    if type(time) not in {int, float} or time_in_ms(int(time)) < state.now_ms - _TRACK_OLDEST_MS:
        return
    kept = {name: value for name, value in properties.items() if name != "token"}
    row = {"event": event.get("event"), "properties": {**kept, "time": time_in_ms(int(time))}}
    _give_insert_id(row)
    size = len(msgspec.json.encode(event))
    if check_row(row, size, now_ms=state.now_ms, limits=state.limits) is None:
        state.store.add(project_id, [(row, size)], now_ms=state.now_ms)
