"""SQL that measures values and cuts what is too long for a destination."""

from __future__ import annotations

MAX_CHARACTERS = 255
MAX_ITEMS = 254
"""Mixpanel cuts longer strings silently and refuses longer lists and larger objects (mixpanel.md 4.1)."""

MAX_OBJECT_BYTES = 8_192
"""JSON of an object that Mixpanel can still use (mixpanel.md 4.1)."""

POSTHOG_MAX_DISTINCT_ID = 200
"""PostHog cuts longer distinct ids on the batch route and refuses them on V1 (posthog.md 3, 8.1)."""


def size(column: str, kind: str) -> str:
    """Bytes of a value (kind: string, list or map): cheap, and never fewer than its characters."""
    return f"strlen({column})" if kind == "string" else f"strlen(to_json({column})::VARCHAR)"


def too_long(column: str, kind: str, limit: int) -> str:
    """Whether a value, or any of its members, has more than `limit` characters, or it has too many members."""
    if kind == "string":
        return f"strlen({column}) > {limit} AND length({column}) > {limit}"
    items = column if kind == "list" else f"map_values({column}) || map_keys({column})"
    count = f"len({column})" if kind == "list" else f"cardinality({column})"
    members = f"{count} > {MAX_ITEMS} OR list_max(list_transform({items}, lambda item: length(item))) > {limit}"
    return members if kind == "list" else f"{members} OR {size(column, kind)} > {MAX_OBJECT_BYTES}"


def cut_value(column: str, kind: str, limit: int) -> str:
    """The value cut to what the destination would leave of it."""
    if kind == "string":
        return f"CASE WHEN strlen({column}) > {limit} THEN left({column}, {limit}) ELSE {column} END"
    if kind == "list":
        cut = f"list_transform({column}[1:{MAX_ITEMS}], lambda item: left(item, {limit}))"
    else:
        short = f"list_filter(map_entries({column}), lambda item: length(item.key) <= {limit})[1:{MAX_ITEMS}]"
        pair = f"{{'key': item.key, 'value': left(item.value, {limit})}}"
        pairs = f"list_transform({short}, lambda item: {pair})"
        large = f"{size(column, kind)} > {MAX_OBJECT_BYTES}"
        cut = f"map_from_entries(CASE WHEN {large} THEN {_fitting(pairs)} ELSE {pairs} END)"
    return f"CASE WHEN {size(column, kind)} > {limit} THEN {cut} ELSE {column} END"


def _fitting(pairs: str) -> str:
    """The first of a map's pairs, as many as `MAX_OBJECT_BYTES` hold. Taken as a list, they are a little longer."""
    fits = f"lambda n: strlen(to_json(pairs[1:n])::VARCHAR) <= {MAX_OBJECT_BYTES}"
    return f"list_transform([{pairs}], lambda pairs: pairs[1:len(list_filter(range(1, len(pairs) + 1), {fits}))])[1]"
