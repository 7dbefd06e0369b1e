"""What PostHog does to `$ai_*` events (contract sections 14.3 and 14.5)."""

from __future__ import annotations

import math
from typing import Any

HEAVY_PROPERTIES = frozenset(
    {"$ai_input", "$ai_output", "$ai_output_choices", "$ai_input_state", "$ai_output_state", "$ai_tools"}
)
TOKEN_PROPERTIES = (
    "$ai_input_tokens",
    "$ai_output_tokens",
    "$ai_total_tokens",
    "$ai_reasoning_tokens",
    "$ai_cache_read_input_tokens",
    "$ai_cache_creation_input_tokens",
)
_ID_PROPERTIES = ("$ai_trace_id", "$ai_session_id", "$ai_span_id", "$ai_parent_id")


def is_ai(event: str) -> bool:
    """Whether an event belongs to AI observability."""
    return event.startswith("$ai_")


def normalise(properties: dict[str, Any]) -> list[str]:
    """Clean an AI event's properties in place; names of token properties that became null."""
    for name in [name for name in properties if name.startswith("$ai_gateway")]:
        del properties[name]
    for name in _ID_PROPERTIES:
        if isinstance(properties.get(name), (int, float)):
            properties[name] = str(properties[name])
    spoiled: list[str] = []
    for name in TOKEN_PROPERTIES:
        if name not in properties:
            continue
        sent = properties[name]
        properties[name] = token_count(sent)
        if properties[name] is None and sent is not None:
            spoiled.append(name)
    return spoiled


def token_count(value: Any) -> Any:
    """A token property as kept: numbers, numeric or empty text and null stay, `{"total": n}` is n, the rest null."""
    if isinstance(value, dict):
        total = value.get("total")
        return total if _is_number(total) else None
    if value is None or value == "" or _is_number(value) or (isinstance(value, str) and _is_numeric(value)):
        return value
    return None


def without_heavy(properties: dict[str, Any]) -> dict[str, Any]:
    """Properties as the ordinary events table keeps them."""
    return {name: value for name, value in properties.items() if name not in HEAVY_PROPERTIES}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _is_numeric(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False
