"""What a Mixpanel stand-in can be told: credentials, limits, and choices where the documentation is silent."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

DEMO_TOKENS = MappingProxyType({"demo-mixpanel-token": 1})
"""Project token -> project id of a stand-in that is told nothing."""
MINUTE = 60.0
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class ServiceAccount:
    """A service account, the projects it belongs to, and its role there."""

    username: str
    secret: str
    project_ids: frozenset[int]
    role: Literal["owner", "admin", "analyst", "consumer"] = "admin"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes and rates; the defaults are the strictest documented values."""

    batch_events: int = 2_000
    batch_too_long_status: Literal[400, 413] = 400
    body_bytes: int = 2_097_152
    """Inflated body. The 413 text of the OpenAPI file says 2 MiB, the page says 10 MB."""
    event_bytes: int = 1_000_000
    properties: int = 254
    nested_keys: int = 254
    array_items: int = 254
    depth: int = 3
    """Levels of objects and arrays inside `properties`."""
    string_length: int = 255
    string_unit: Literal["characters", "bytes"] = "characters"
    composite_bytes: int = 8_192
    """Objects and lists of objects beyond this are stored but unusable."""
    events_per_minute: int = 1_800_000
    bytes_per_minute: int = 2_000_000_000
    hot_shard: int = 200_000
    """Events for one distinct_id and UTC event date before later ones lose their name and id."""
    exports_per_hour: int = 60
    exports_per_second: int = 3
    queries_per_hour: int = 60
    schema_requests_per_minute: int = 5
    schema_entries_per_minute: int = 4_000
    engage_updates: int = 2_000


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Choices where the documentation is silent, contradictory, or differs by project."""

    identity_mode: Literal["original", "simplified"] = "original"
    """`original` refuses a missing distinct_id; `simplified` takes `$user_id` or `$device_id` instead."""
    token_with_project_id: bool = False
    """Accept a project token together with its own project_id."""
    retry_after: int | None = None
    """`Retry-After` on 429 of /import; the documentation does not mention one."""
    partial_status: Literal[200, 400] = 400
    """Status of an answer that carries failed_records."""
    insert_id_key: Literal["insert_id", "$insert_id"] = "insert_id"
    extra_top_level_keys: Literal["reject", "accept"] = "reject"
    visibility_delay_seconds: float = 0.0
    """Age at which an event becomes visible in export and queries."""
    day_boundaries: Literal["utc", "project"] = "utc"
    """Zone of the export's days: UTC for projects since January 2023, the project's zone before."""
    project_timezone: str = "UTC"
