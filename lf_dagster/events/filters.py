"""Filters of a destination as SQL over an event table: the reason why an event is skipped, or NULL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lf_dagster.config import Compatibility, Filters
from lf_dagster.events.catalogue import Event
from lf_dagster.warehouse.database import literal

REASONS: dict[str, str] = {
    "filtered:environment": "Its environment is not wanted.",
    "filtered:trace_name": "Its trace's name is not wanted.",
    "filtered:tag": "Its trace's tags are not wanted.",
    "filtered:type": "Its observation type is not wanted (observation events, `$ai_span`, `$ai_embedding`).",
    "filtered:level": "Its level is not wanted (generation and observation events, and their `$ai_` forms).",
    "filtered:sample": "Its trace is not in the sample.",
    "filtered:property": "It cannot do without a property that is excluded (events of LLM analytics).",
}
"""Skip reasons that filters give; the catalogue has more."""

_OF_TYPES = ("observation", "ai_span", "ai_embedding")
_OF_LEVELS = ("generation", "ai_generation", *_OF_TYPES)


def skip_reason_sql(event: Event, filters: Filters, compatibility: Compatibility) -> str:
    """A CASE over the event table's columns: the first rule that holds decides."""
    own = "native_skip_reason" if compatibility == "native" else "skip_reason"
    cases = [f"WHEN {condition} THEN {literal(reason)}" for condition, reason in _rules(event, filters)]
    return f"CASE WHEN {own} IS NOT NULL THEN {own} {' '.join(cases)} END"


def sample_share(trace_id: str) -> float:
    """Where a trace lies in [0, 1): its events are sent when this is below the sample rate.

    The first 8 hex digits of the id's MD5, so that anyone can recompute it. Events without trace use their session,
    else their own id.
    """
    import hashlib

    digest = hashlib.md5(trace_id.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) / 2**32


def _rules(event: Event, filters: Filters) -> Iterator[tuple[str, str]]:
    yield from _names("environment", "filtered:environment", filters.environments, filters.exclude_environments)
    yield from _names("trace_name", "filtered:trace_name", filters.trace_names, filters.exclude_trace_names)
    if filters.tags is not None:
        yield f"NOT list_has_any(tags, {_list(filters.tags)})", "filtered:tag"
    if filters.exclude_tags:
        yield f"list_has_any(tags, {_list(filters.exclude_tags)})", "filtered:tag"
    if event.kind in _OF_TYPES:
        yield from _names("observation_type", "filtered:type", filters.observation_types, ())
    if event.kind in _OF_LEVELS:
        yield from _names("level", "filtered:level", filters.levels, ())
    if filters.sample_rate < 1:
        key = "coalesce(nullif(trace_id, ''), session_id, entity_id)"
        share = f"('0x' || substr(md5({key}), 1, 8))::UINTEGER / 4294967296.0"
        yield f"{share} >= {filters.sample_rate!r}", "filtered:sample"


def _names(
    column: str, reason: str, wanted: Sequence[str] | None, unwanted: Sequence[str]
) -> Iterator[tuple[str, str]]:
    if wanted is not None:
        yield f"NOT list_contains({_list(wanted)}, coalesce({column}, ''))", reason
    if unwanted:
        yield f"list_contains({_list(unwanted)}, {column})", reason


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(literal, values))}]::VARCHAR[]"
