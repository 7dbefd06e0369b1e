"""What PostHog does to `$ai_*` events, and what a good client sends (contract section 14)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
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
CLIENT_EVENTS = frozenset({"$ai_generation", "$ai_embedding", "$ai_span", "$ai_trace", "$ai_metric", "$ai_feedback"})
"""Those that a client may send; the others are the server's own."""

_ID = re.compile(r"[A-Za-z0-9_~.@()!':|-]+")
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


def trouble(event: str, properties: Mapping[str, Any]) -> str | None:
    """What is wrong with an AI event that the real server would store all the same, in some form; or None."""
    if event not in CLIENT_EVENTS:
        return "not an event that a client may send"
    return None if _is_emptied(properties) else next(_troubles(event, properties), None)


def _troubles(event: str, properties: Mapping[str, Any]) -> Iterator[str]:
    for name in ("$ai_trace_id", *_REQUIRED.get(event, ())):
        if properties.get(name) in (None, ""):
            yield f"without {name}"
    for name, value in properties.items():
        if name.startswith("$ai_") and name not in _KNOWN:
            yield f"with the unknown property {name}"
        elif name.startswith("$ai_") and not _KNOWN[name](value):
            yield f"with a wrong {name}: {str(value)[:60]!r}"
        elif name in _CALLS and event not in _COSTED:
            yield f"with {name}, which only calls of a model have"


def _is_emptied(properties: Mapping[str, Any]) -> bool:
    """Whether an event replaces another one by nothing: no AI property, and one mark of the client's at most."""
    marks = [name for name in properties if not name.startswith("$")]
    return len(marks) <= 1 and not any(name.startswith("$ai_") for name in properties)


def costs(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What becomes of the costs of a call: kept as given, or (`estimated`) replaced by the price list's."""
    given = [properties.get(name) for name in ("$ai_input_cost_usd", "$ai_output_cost_usd")]
    total = properties.get("$ai_total_cost_usd")
    if all(given) or (properties.get("$ai_cost_passthrough") is True and _is_number(total)):
        return {"source": "passthrough", "total": total if total else sum(cost or 0 for cost in given)}
    return {"source": "estimated", "total": None}


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_duration(value: Any) -> bool:
    return _is_amount(value) and value >= 0


def _is_amount(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_anything(value: Any) -> bool:
    return value is not None


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and isinstance(item.get("role"), str) for item in value
    )


def _is_input(value: Any) -> bool:
    return isinstance(value, (str, list))


_REQUIRED = {
    "$ai_metric": ("$ai_metric_name", "$ai_metric_value"),
    "$ai_feedback": ("$ai_feedback_text",),
    "$ai_generation": ("$ai_span_id",),
    "$ai_embedding": ("$ai_span_id",),
    "$ai_span": ("$ai_span_id",),
}
_COSTED = ("$ai_generation", "$ai_embedding")
_CALLS = (*TOKEN_PROPERTIES, "$ai_model", "$ai_provider", "$ai_total_cost_usd", "$ai_input_cost_usd")
_KNOWN: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(TOKEN_PROPERTIES, _is_count),
    **dict.fromkeys(("$ai_trace_id", "$ai_session_id"), _is_id),
    **dict.fromkeys(("$ai_latency", "$ai_time_to_first_token"), _is_duration),
    "$ai_temperature": _is_amount,
    **dict.fromkeys(("$ai_input_cost_usd", "$ai_output_cost_usd", "$ai_total_cost_usd"), _is_amount),
    **dict.fromkeys(("$ai_request_cost_usd", "$ai_web_search_cost_usd"), _is_amount),
    **dict.fromkeys(("$ai_is_error", "$ai_stream"), _is_flag),
    **dict.fromkeys(("$ai_cost_passthrough", "$ai_cache_reporting_exclusive"), _is_flag),
    **dict.fromkeys(("$ai_input_state", "$ai_output_state", "$ai_error", "$ai_tools"), _is_anything),
    **dict.fromkeys(
        (
            *("$ai_span_id", "$ai_parent_id", "$ai_span_name", "$ai_trace_name", "$ai_generation_id"),
            *("$ai_model", "$ai_provider", "$ai_framework", "$ai_prompt_name", "$ai_experiment_id"),
            *("$ai_stop_reason", "$ai_error_type", "$ai_metric_name", "$ai_metric_value", "$ai_feedback_text"),
            *("$ai_base_url", "$ai_request_url"),
        ),
        _is_text,
    ),
    "$ai_max_tokens": _is_count,
    "$ai_http_status": _is_count,
    "$ai_model_parameters": lambda value: isinstance(value, dict),
    "$ai_input": _is_input,
    "$ai_output_choices": _are_messages,
}
"""Properties that a client may send, and what each may hold."""


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
