"""Lexicon schemas: `/api/app/projects/{id}/schemas` (contract section 14)."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from lf_dagster.simulators.faults import json_response
from lf_dagster.simulators.mixpanel.state import MixpanelState, state_of

Schemas = dict[tuple[str, str], dict[str, Any]]


_TYPES = (None, "string", "number", "integer", "boolean", "array", "object", "null")


class _Entry(msgspec.Struct, rename="camel"):
    entity_type: str
    name: str
    schema_json: dict[str, Any]


class _Upload(msgspec.Struct):
    entries: list[_Entry]
    truncate: bool = False


async def schemas(request: Request) -> Response:
    """All schemas of a project: list (GET), merge in (POST), delete (DELETE)."""
    state = state_of(request)
    body = await request.body()
    refusal = _refuse(state, request)
    if refusal is not None:
        return refusal
    known = state.store.schemas.setdefault(request.path_params["project_id"], {})
    if request.method == "GET":
        return _ok(_listed(known))
    if request.method == "DELETE":
        deleted = len(known)
        known.clear()
        return _ok({"delete_count": deleted})
    return _upload(state, request, known, body)


async def schema(request: Request) -> Response:
    """The schema of one entity: read (GET), merge in (POST), delete (DELETE)."""
    state = state_of(request)
    body = await request.body()
    refusal = _refuse(state, request)
    if refusal is not None:
        return refusal
    known = state.store.schemas.setdefault(request.path_params["project_id"], {})
    key = (request.path_params["entity_type"], request.path_params["name"])
    if request.method == "POST":
        try:
            _merge(known, _Entry(*key, msgspec.json.decode(body, type=dict[str, Any])))
        except msgspec.DecodeError as error:
            return _error(400, f"standin: {error}")
        return _ok(known[key])
    if key not in known:
        return _error(404, "standin: no such schema")
    return _ok({"delete_count": 1, "was": known.pop(key)} if request.method == "DELETE" else known[key])


def _refuse(state: MixpanelState, request: Request) -> Response | None:
    account = state.service_account(request, str(request.path_params["project_id"]))
    if account is None:
        return _error(401, "Invalid credentials")
    if account.role not in {"owner", "admin"}:
        return _error(403, "standin: an Owner or Admin service account is needed")
    return None


def _upload(state: MixpanelState, request: Request, known: Schemas, body: bytes) -> Response:
    try:
        upload = msgspec.json.decode(body, type=_Upload)
    except msgspec.DecodeError as error:
        return _error(400, f"standin: {error}")
    if trouble := next(filter(None, map(_trouble, upload.entries)), None):
        return _error(400, trouble)
    size = sum(1 + len(entry.schema_json.get("properties", {})) for entry in upload.entries)
    if not state.schemas_allowed(request.path_params["project_id"], size):
        return _error(429, "standin: schema rate limit exceeded")
    deleted = 0
    if upload.truncate:
        deleted = len(known)
        known.clear()
    for entry in upload.entries:
        _merge(known, entry)
    return _ok({"added": len(upload.entries), "deleted": deleted})


def _trouble(entry: _Entry) -> str | None:
    """What is wrong with an entry, or None. The texts are ours; the real ones are not known."""
    if entry.entity_type not in {"event", "profile"}:
        return f"standin: no entity type {entry.entity_type!r}"
    if entry.entity_type == "profile" and entry.name != "$user":
        return "standin: the profile entity is named $user"
    properties = entry.schema_json.get("properties", {})
    if not isinstance(properties, dict) or not all(isinstance(value, dict | None) for value in properties.values()):
        return "standin: properties are objects"
    wrong = [name for name, value in properties.items() if value and value.get("type") not in _TYPES]
    return f"standin: {wrong[0]} has a type that JSON does not have" if wrong else None


def _merge(known: Schemas, entry: _Entry) -> None:
    """Properties replace, metadata merges, null removes a key."""
    old = known.get((entry.entity_type, entry.name), {})
    merged = {**old, **entry.schema_json}
    if isinstance(old.get("metadata"), dict) and isinstance(entry.schema_json.get("metadata"), dict):
        merged["metadata"] = _merged(old["metadata"], entry.schema_json["metadata"])
    known[entry.entity_type, entry.name] = {name: value for name, value in merged.items() if value is not None}


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    result = dict(old)
    for name, value in new.items():
        both = isinstance(value, dict) and isinstance(old.get(name), dict)
        result[name] = _merged(old[name], value) if both else value
    return {name: value for name, value in result.items() if value is not None}


def _listed(known: Schemas) -> list[dict[str, Any]]:
    return [{"entityType": kind, "name": name, "schemaJson": value} for (kind, name), value in known.items()]


def _ok(results: Any) -> Response:
    return json_response({"results": results, "status": "ok"})


def _error(status: int, text: str) -> Response:
    return json_response({"error": text, "status": "error"}, status=status)
