"""What Langfuse counts per hour: the cheap way to see that an hour changed (contracts: langfuse 6, 20).

v2/metrics gives counts and sums of many hours in one call per view. The legacy API has no such call that could be
spared, but every list says how many rows a window has; windows whose number is as expected need no closer look.
Neither proves that an extract is complete: v2/metrics counts versions that are not merged yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from lf_dagster.errors import ProtocolError, RateLimited
from lf_dagster.hours import ONE_HOUR, Hour, contiguous_blocks, iso
from lf_dagster.http import RetryPolicy
from lf_dagster.source.feeds import feed_of, streams_of

if TYPE_CHECKING:
    from lf_dagster.source.client import LangfuseClient

HourNumbers = Mapping[str, float]
"""Numbers of one hour by name: see `V2_NUMBERS`; on the legacy read path rows per stream."""

_ONE_TRY = RetryPolicy(attempts=1)
"""The quota is per day: waiting for it to come back is not for a request."""
MOST_HOURS = 1000
"""From the first to the last hour that one call of v2/metrics answers for."""
_MILLISECOND = timedelta(milliseconds=1)

_VIEWS: dict[str, dict[str, tuple[str, str]]] = {
    "observations": {
        "observations": ("count", "count"),
        "cost": ("totalCost", "sum"),
        "tokens": ("totalTokens", "sum"),
    },
    "scores-numeric": {"numeric_scores": ("count", "count"), "numeric_values": ("value", "sum")},
    "scores-boolean": {"boolean_scores": ("count", "count"), "boolean_values": ("value", "sum")},
    "scores-categorical": {"categorical_scores": ("count", "count")},
}
V2_NUMBERS = tuple(name for numbers in _VIEWS.values() for name in numbers)
"""Names of the v2 numbers. Costs in USD. Texts and corrections are in no view."""


def v2_numbers(client: LangfuseClient, hours: Sequence[Hour]) -> dict[Hour, dict[str, float]]:
    """The numbers of each hour: one call per view, four in all, for up to 1000 hours from the first to the last.

    Raises RateLimited when the quota is used up, ReadPathUnavailable where there are no v2 metrics.
    """
    first, last = min(hours), max(hours)
    if (last.start - first.start) / ONE_HOUR >= MOST_HOURS:
        raise ValueError(f"more than {MOST_HOURS} hours from {first} to {last}")
    found: dict[Hour, dict[str, float]] = {hour: dict.fromkeys(V2_NUMBERS, 0.0) for hour in hours}
    for view, numbers in _VIEWS.items():
        for row in _rows(client, _query(view, numbers, first, last)):
            hour = Hour.containing(_moment(row["time_dimension"]))
            if hour in found:
                found[hour] |= {
                    name: float(row[f"{aggregation}_{measure}"] or 0)
                    for name, (measure, aggregation) in numbers.items()
                }
    return found


def _query(view: str, numbers: Mapping[str, tuple[str, str]], first: Hour, last: Hour) -> dict[str, Any]:
    return {
        "view": view,
        "metrics": [{"measure": measure, "aggregation": aggregation} for measure, aggregation in numbers.values()],
        "timeDimension": {"granularity": "hour"},
        "fromTimestamp": iso(first.start),
        # Both bounds are inclusive here, unlike everywhere else.
        "toTimestamp": iso(last.end - _MILLISECOND),
        "config": {"row_limit": MOST_HOURS},
    }


def _rows(client: LangfuseClient, query: Mapping[str, Any]) -> list[dict[str, Any]]:
    params = {"query": msgspec.json.encode(query).decode()}
    body: Any = client.get("v2/metrics", params, retry=_ONE_TRY).json()
    try:
        rows: list[dict[str, Any]] = body["data"]
        _ = [row["time_dimension"] for row in rows]
    except (KeyError, TypeError):
        raise ProtocolError(
            "not hourly numbers", host=client.http.host, endpoint="GET v2/metrics", view=query["view"]
        ) from None
    return rows


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def legacy_numbers(
    client: LangfuseClient, held: Mapping[Hour, HourNumbers], *, most_calls: int
) -> dict[Hour, dict[str, float]]:
    """Rows per stream of each hour, as far as `most_calls` requests reach; other hours are left out.

    Windows are halved only while their number differs from the sum of what is held, so that an unchanged week costs
    three calls. Raises what `LangfuseClient.get` raises.
    """
    calls = _Calls(client, most_calls)
    found: dict[Hour, dict[str, float]] = {hour: {} for hour in held}
    for stream in streams_of("legacy"):
        expected = {hour: int(numbers.get(stream, 0)) for hour, numbers in held.items()}
        for block in contiguous_blocks(held):
            for hour, rows in _changed_rows(calls, stream, block, expected):
                if rows is None:
                    found.pop(hour, None)
                elif hour in found:
                    found[hour][stream] = rows
    return found


class _Calls:
    """Counts requests down."""

    def __init__(self, client: LangfuseClient, left: int) -> None:
        self._client = client
        self._left = left

    def total(self, stream: str, first: Hour, last: Hour) -> int | None:
        """`totalItems` of a stream between two hours, both included; None when there is no call left."""
        if self._left == 0:
            return None
        self._left -= 1
        feed = feed_of(stream, "legacy", self._client.settings)
        fields = {"fields": "core"} if stream == "traces" else {}
        params = {**feed.params, **fields, feed.low: iso(first.start), feed.high: iso(last.end), "limit": 1, "page": 1}
        try:
            return int(self._client.get_json(feed.path, params)["meta"]["totalItems"])
        except RateLimited:
            self._left = 0
            return None


def _changed_rows(
    calls: _Calls, stream: str, hours: Sequence[Hour], held: Mapping[Hour, int]
) -> Iterator[tuple[Hour, int | None]]:
    total = calls.total(stream, hours[0], hours[-1])
    if total is None:
        yield from ((hour, None) for hour in hours)
    elif total == sum(held[hour] for hour in hours):
        yield from ((hour, held[hour]) for hour in hours)
    elif len(hours) == 1:
        yield hours[0], total
    else:
        middle = len(hours) // 2
        yield from _changed_rows(calls, stream, hours[:middle], held)
        yield from _changed_rows(calls, stream, hours[middle:], held)
