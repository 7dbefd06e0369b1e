"""`POST /engage` and `POST /groups`: profile updates, always answered with 200 (contract section 10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from lf_dagster.simulators.bodies import BodyUnreadable, decode_json, is_gzip
from lf_dagster.simulators.faults import json_response
from lf_dagster.simulators.mixpanel.state import MixpanelState, state_of

Profile = dict[str, Any]


async def engage(request: Request) -> Response:
    """User profiles; each update carries `$token`, `$distinct_id` and one operator."""
    return await _update(request, _engage_one)


async def groups(request: Request) -> Response:
    """Group profiles; each update carries `$token`, `$group_key`, `$group_id` and one operator."""
    return await _update(request, _group_one)


async def _update(request: Request, apply: Callable[[MixpanelState, Any], str | None]) -> Response:
    state = state_of(request)
    try:
        updates = _updates(request, await request.body(), state.limits.engage_updates)
    except BodyUnreadable as error:
        return _answer(request, str(error), 0)
    errors = [error for error in (apply(state, update) for update in updates) if error is not None]
    return _answer(request, errors[0] if errors else None, len(updates) - len(errors))


def _updates(request: Request, body: bytes, limit: int) -> list[Any]:
    if is_gzip(body) or "content-encoding" in request.headers:
        raise BodyUnreadable("standin: compressed bodies are not supported here")
    if "json" not in request.headers.get("content-type", ""):
        body = parse_qs(body.decode("utf-8", "replace")).get("data", [""])[0].encode()
    value, clean = decode_json(body)
    updates = value if isinstance(value, list) else [value]
    if not clean or len(updates) > limit:
        raise BodyUnreadable(f"standin: broken text or more than {limit} updates")
    return updates


def _answer(request: Request, error: str | None, good: int) -> Response:
    status = int(error is None)
    if request.query_params.get("verbose") == "1":
        return json_response({"status": status, "error": error, "num_good_events": good})
    return PlainTextResponse(str(status))


def _engage_one(state: MixpanelState, update: Any) -> str | None:
    project_id = state.tokens.get(str(update.get("$token"))) if isinstance(update, dict) else None
    distinct_id = update.get("$distinct_id") if isinstance(update, dict) else None
    if project_id is None or not isinstance(distinct_id, str) or not distinct_id:
        return "standin: an update needs a known $token and a $distinct_id"
    key = (project_id, distinct_id)
    if "$delete" in update:
        state.store.profiles.pop(key, None)
        return None
    profile = dict(state.store.profiles.get(key, {}))
    error = _operate(profile, update)
    if error is None:
        if update.get("$ignore_time") is not True:
            profile["$last_seen"] = state.now_ms
        state.store.profiles[key] = profile
    return error


def _group_one(state: MixpanelState, update: Any) -> str | None:
    if not isinstance(update, dict) or str(update.get("$token")) not in state.tokens:
        return "standin: an update needs a known $token"
    group_key, group_id = update.get("$group_key"), update.get("$group_id")
    if not group_key or group_id in {None, ""}:
        return "standin: an update needs $group_key and $group_id"
    key = (state.tokens[str(update["$token"])], str(group_key), str(group_id))
    profile = dict(state.store.groups.get(key, {}))
    error = _operate(profile, update)
    if error is None:
        state.store.groups[key] = profile
    return error


def _operate(profile: Profile, update: dict[str, Any]) -> str | None:
    """Apply the one operator of an update in place."""
    operators = [name for name in _OPERATORS if name in update]
    if len(operators) != 1:
        return "standin: an update needs exactly one operator"
    try:
        _OPERATORS[operators[0]](profile, update[operators[0]])
    except (AttributeError, TypeError, ValueError) as error:
        return f"standin: {operators[0]} is invalid: {error}"
    return None


def _set(profile: Profile, values: Any) -> None:
    profile.update(values)


def _set_once(profile: Profile, values: Any) -> None:
    for name, value in values.items():
        profile.setdefault(name, value)


def _add(profile: Profile, values: Any) -> None:
    for name, value in values.items():
        profile[name] = profile.get(name, 0) + value


def _append(profile: Profile, values: Any) -> None:
    for name, value in values.items():
        profile[name] = [*profile.get(name, []), value]


def _union(profile: Profile, values: Any) -> None:
    for name, added in values.items():
        known = profile.get(name, [])
        profile[name] = [*known, *(value for value in added if value not in known)]


def _unset(profile: Profile, names: Any) -> None:
    for name in names:
        profile.pop(name, None)


def _remove(profile: Profile, values: Any) -> None:
    for name, removed in values.items():
        profile[name] = [value for value in profile.get(name, []) if value != removed]


_OPERATORS: dict[str, Callable[[Profile, Any], None]] = {
    "$set": _set,
    "$set_once": _set_once,
    "$add": _add,
    "$append": _append,
    "$union": _union,
    "$unset": _unset,
    "$remove": _remove,
}
