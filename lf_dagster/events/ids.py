"""Event ids: uuid v5, equal to those of Langfuse's own integrations (langfuse.md 12.3), in Python and SQL."""

from __future__ import annotations

import uuid
from typing import Literal

DestinationName = Literal["mixpanel", "posthog"]

NAMESPACES: dict[str, uuid.UUID] = {
    "mixpanel": uuid.UUID("8f7c3e42-9a1b-4d5f-8e2a-1c6b9d3f4e7a"),
    "posthog": uuid.UUID("0f6c91df-d035-4813-b838-9741ba38ef0b"),
}
"""Namespace per destination, as in Langfuse: moving over from its integration does not double count."""


def event_id(destination: DestinationName, project_id: str, entity_id: str) -> str:
    """uuid v5 of `<project_id>-<entity_id>`. The same for a generation and an observation event of one id."""
    return str(uuid.uuid5(NAMESPACES[destination], f"{project_id}-{entity_id}"))


def event_digest_sql(destination: DestinationName, project_id: str, entity_id: str) -> str:
    """SQL for the SHA-1 hex digest behind `event_id`; `entity_id` is a SQL expression."""
    prefix = project_id.replace("'", "''")
    return f"sha1(from_hex('{NAMESPACES[destination].hex}') || encode('{prefix}-' || {entity_id}))"


def llm_event_id(event: str, event_id: str) -> str:
    """Id of an event of LLM analytics, from its name and the id of the row's `langfuse ...` event."""
    return str(uuid.uuid5(NAMESPACES["posthog"], f"{event}-{event_id}"))


def llm_event_digest_sql(event: str, event_id: str) -> str:
    """SQL for the digest behind `llm_event_id`; both are SQL expressions."""
    return f"sha1(from_hex('{NAMESPACES['posthog'].hex}') || encode({event} || '-' || {event_id}))"


def is_nobody_sql(distinct_id: str, row: str = "") -> str:
    """SQL: whether a distinct id stands for no user, but for its own event alone.

    `row` is the prefix of the columns `event` and `event_id`. An event of LLM analytics without user has the id of the
    row's `langfuse ...` event, so that both count as one.
    """
    own = event_id_sql(llm_event_digest_sql(f"{row}event", distinct_id))
    llm = f"CASE WHEN starts_with({row}event, '$ai_') THEN {row}event_id = {own} ELSE false END"
    return f"({distinct_id} IN ('', {row}event_id) OR {llm})"


def event_id_sql(digest: str) -> str:
    """SQL that forms the uuid v5 text from a digest column (version 5, RFC 4122 variant)."""
    variant = f"substr('89ab', ('0x' || substr({digest}, 17, 1))::INT % 4 + 1, 1)"
    return (
        f"concat(substr({digest}, 1, 8), '-', substr({digest}, 9, 4), '-5', substr({digest}, 14, 3), '-', "
        f"{variant}, substr({digest}, 18, 3), '-', substr({digest}, 21, 12))"
    )
