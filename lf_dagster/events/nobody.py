"""User ids that stand for nobody, by destination."""

from __future__ import annotations

MIXPANEL_DENIED_IDS = (
    "undefined", "null", "nil", "none", "unknown", "n/a", "na", "anon", "anonymous", "false", "true", "0", "-1",
    "00000000-0000-0000-0000-000000000000", "<nil>", "[]", "{}", "lmy47d",
)  # fmt: skip
"""Mixpanel refuses these as distinct id (mixpanel.md 4.2); compared trimmed, in lower case."""

POSTHOG_ILLEGAL_IDS = (
    "0", "00000000-0000-0000-0000-000000000000", "[object object]", "anonymous", "anonymous-user", "backend",
    "distinct_id", "distinctid", "email", "false", "guest", "id", "nan", "none", "not_authenticated", "null",
    "system", "true", "undefined", "user",
)  # fmt: skip
"""PostHog switches person processing off for these (posthog.md 11)."""

UNKNOWN_USER = "langfuse_unknown_user"
"""Property value of events without user (documented). Never a distinct id: it would become one giant user."""

_BLANK = r"[\s\v\x1c-\x1f\x85\p{Z}\x{feff}]"


def bare(text: str) -> str:
    """SQL: a text without blanks on either side. DuckDB's `trim` leaves tabs and line ends, the destinations do not."""
    # Most texts begin and end with ASCII that is no blank, and need no pattern.
    plain = " AND ".join(f"({text})[{end}] > ' ' AND ({text})[{end}] <= '~'" for end in (1, -1))
    return f"CASE WHEN {plain} THEN {text} ELSE regexp_replace({text}, '^{_BLANK}+|{_BLANK}+$', '', 'g') END"
