"""Row checks of /import under strict=1: first failure per row wins.

Texts that the public material quotes are used literally; all others start with `standin:`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lf_dagster.simulators.bodies import first_bad_text
from lf_dagster.simulators.mixpanel.settings import Limits

DENIED_IDS = frozenset(
    {
        "00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na", "undefined",
        "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}", "lmy47d",
    }
)  # fmt: skip
TIME_MISSING = "'properties.time' is invalid: must not be missing"
TIME_NO_NUMBER = "'properties.time' is invalid: must be specified as seconds since epoch"
DISTINCT_ID_MISSING = "'properties.distinct_id' is invalid: must not be missing"
INSERT_ID_CHARSET = "'$insert_id' is invalid: must only contain alphanumeric or hyphen '-' characters"
BAD_UTF8 = "{path} is invalid: string should be valid utf8"
_INSERT_ID = re.compile(r"[A-Za-z0-9-]+\Z")
_OLDEST_MS = 31_536_000_000  # 1971-01-01
_AHEAD_MS = 3_600_000
_FIRST_MILLISECOND = 10_000_000_000  # valid seconds end near 2e9, valid milliseconds begin at 3.15e10
_MISSING: Any = object()


class RowError(msgspec.Struct, frozen=True):
    """Why a row is refused: the `field` and `message` of its failed_records entry."""

    field: str
    message: str


def is_denied(identifier: str) -> bool:
    """Whether an id is on the denied list, compared trimmed and without case."""
    return identifier.strip().lower() in DENIED_IDS


def time_in_ms(value: int) -> int:
    """Epoch milliseconds of a `time` in seconds or milliseconds, told apart by magnitude."""
    return value if abs(value) >= _FIRST_MILLISECOND else value * 1000


def check_row(
    row: Any,
    size: int,
    *,
    now_ms: int,
    limits: Limits,
    needs_distinct_id: bool = True,
    extra_keys: bool = False,
    clean_text: bool = False,
) -> RowError | None:
    """The first rule that a row of an /import batch breaks, or None.

    `size` is the row's JSON in bytes, `now_ms` the server clock. Broken text must have been decoded to lone
    surrogates (see `bodies.decode_json`); `clean_text` says that there is none and saves the search.
    """
    if not isinstance(row, dict):
        return RowError("", "standin: an event must be an object")
    if not extra_keys and (unknown := row.keys() - {"event", "properties"}):
        return RowError(min(unknown), "standin: only event and properties are allowed at the top level")
    name = row.get("event")
    if not isinstance(name, str) or not name:
        return RowError("event", "standin: 'event' is invalid: must be a non-empty string")
    properties = row.get("properties")
    if not isinstance(properties, dict):
        return RowError("properties", "standin: 'properties' is invalid: must be an object")
    return (
        _check_time(properties.get("time", _MISSING), now_ms)
        or _check_distinct_id(properties, needs_distinct_id)
        or _check_insert_id(properties.get("$insert_id", _MISSING))
        or _check_shape(properties, limits)
        or (None if clean_text else _check_text(row))
        or _check_size(size, limits)
    )


def _check_text(row: dict[str, Any]) -> RowError | None:
    path = first_bad_text(row.get("event"), "event") or first_bad_text(row.get("properties"), "properties")
    return RowError(path, BAD_UTF8.format(path=path)) if path else None


def _check_time(value: Any, now_ms: int) -> RowError | None:
    if value is _MISSING:
        return RowError("properties.time", TIME_MISSING)
    if type(value) is not int:
        return RowError("properties.time", TIME_NO_NUMBER)
    time_ms = time_in_ms(value)
    if time_ms < _OLDEST_MS:
        return RowError("properties.time", "standin: 'properties.time' is invalid: must not be before 1971-01-01")
    if time_ms > now_ms + _AHEAD_MS:
        return RowError("properties.time", "standin: 'properties.time' is invalid: more than 1 hour in the future")
    return None


def _check_distinct_id(properties: dict[str, Any], needed: bool) -> RowError | None:
    value = properties.get("distinct_id", _MISSING)
    field = "properties.distinct_id"
    if value is _MISSING:
        derivable = not needed and ("$user_id" in properties or "$device_id" in properties)
        return None if derivable else RowError(field, DISTINCT_ID_MISSING)
    if not isinstance(value, str):
        return RowError(field, "standin: 'properties.distinct_id' is invalid: must be a string")
    if is_denied(value):
        return RowError(field, f"standin: 'properties.distinct_id' is invalid: must not be '{value}'")
    return None


def _check_insert_id(value: Any) -> RowError | None:
    if value is _MISSING:
        return RowError("$insert_id", "standin: '$insert_id' is invalid: must not be missing")
    if not isinstance(value, str):
        return RowError("$insert_id", "standin: '$insert_id' is invalid: must be a string")
    if is_denied(value):
        return RowError("$insert_id", f"standin: '$insert_id' is invalid: must not be '{value}'")
    if not _INSERT_ID.match(value):
        return RowError("$insert_id", INSERT_ID_CHARSET)
    if len(value) > 36:
        return RowError("$insert_id", "standin: '$insert_id' is invalid: must be at most 36 bytes")
    return None


def _check_shape(properties: dict[str, Any], limits: Limits) -> RowError | None:
    if len(properties) > limits.properties:
        return RowError("properties", f"standin: 'properties' is invalid: more than {limits.properties} properties")
    for name, value in properties.items():
        kind = type(value)
        if kind is dict or kind is list:
            trouble = _trouble_inside(value, limits, 1)
            if trouble:
                return RowError(f"properties.{name}", f"standin: 'properties.{name}' is invalid: {trouble}")
    return None


def _trouble_inside(value: dict[str, Any] | list[Any], limits: Limits, level: int) -> str | None:
    if level > limits.depth:
        return f"nested deeper than {limits.depth} levels"
    if isinstance(value, dict):
        if len(value) > limits.nested_keys:
            return f"more than {limits.nested_keys} keys"
        children = value.values()
    else:
        if len(value) > limits.array_items:
            return f"more than {limits.array_items} elements"
        children = value
    for child in children:
        if isinstance(child, (dict, list)) and (trouble := _trouble_inside(child, limits, level + 1)):
            return trouble
    return None


def _check_size(size: int, limits: Limits) -> RowError | None:
    if size > limits.event_bytes:
        return RowError("", f"standin: the event is larger than {limits.event_bytes} bytes")
    return None
