"""Distinct ids with so many events on a date that the destination would rename them (contracts: mixpanel 9)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import duckdb

from lf_dagster.destinations.base import Destination
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.portions import run_prepared
from lf_dagster.destinations.statements import count, hour_list
from lf_dagster.errors import FatalError
from lf_dagster.hours import Hour

logger = logging.getLogger(__name__)


def hot_key_warnings(
    con: duckdb.DuckDBPyConnection,
    destination: Destination,
    ledger: Ledger,
    counts: Mapping[Hour, int],
    *,
    outline: str,
    prepared_sql: str,
) -> dict[str, tuple[str, ...]]:
    """Warnings per UTC date about distinct_ids with so many events that the destination would rename them.

    Counts the prepared events of the hours (`counts`: how many there are of each) and the ledgers of the dates' other
    hours, unless the `outline` shows that no user comes near (contracts: mixpanel 9).
    """
    limit = destination.hot_key_limit
    if limit is None:
        return {}
    others = [hour for hour in _rest_of_days(list(counts)) if hour not in counts]
    known = sum(_delivered(ledger, hour) for hour in others)
    if known + sum(counts.values()) < limit:
        return {}
    hours_sql = hour_list(list(counts))
    busiest = count(con, _BUSIEST.format(outline=outline, hours=hours_sql))
    if known + busiest < limit:
        return {}
    ledger.load_others(con, "day", others, where="delivered_identity IS NOT NULL AND distinct_id <> ''")
    query = _HOT_KEYS.format(prepared=prepared_sql, hours=hours_sql, limit=limit)
    rows = run_prepared(con, query).fetchall()
    found: dict[str, tuple[str, ...]] = {}
    for date, distinct_id, events in rows:
        text = f"{events} events of distinct_id {mask(distinct_id)} on {date}: from 200000 on Mixpanel renames them"
        logger.warning("%s: %s", destination.name, text)
        found[str(date)] = (*found.get(str(date), ()), text)
    return found


def _delivered(ledger: Ledger, hour: Hour) -> int:
    try:
        return int((ledger.facts(hour) or {}).get("delivered", 0))
    except FatalError:
        return 0  # the deliveries of that hour say what is wrong


def mask(identifier: str) -> str:
    """An id that can be recognised but not read off: its first three characters and its length."""
    return f"{identifier[:3]}...({len(identifier)} characters)" if len(identifier) > 3 else identifier


def _rest_of_days(hours: Sequence[Hour]) -> list[Hour]:
    midnights = {hour.shift(-int(hour.hour)) for hour in hours}
    return [midnight.shift(step) for midnight in sorted(midnights) for step in range(24)]


_BUSIEST = """
SELECT coalesce(max(events), 0) FROM (
    SELECT count(*) AS events FROM ({outline}) WHERE hour IN ({hours}) AND user_id <> '' GROUP BY user_id
)
"""

_HOT_KEYS = """
SELECT date, distinct_id, count(*) AS events FROM (
    SELECT make_timestamp(time_ms * 1000)::DATE AS date, distinct_id FROM ({prepared})
    WHERE hour IN ({hours}) AND skip_reason IS NULL AND distinct_id <> ''
    UNION ALL
    SELECT make_timestamp(time_ms * 1000)::DATE, distinct_id FROM day
) GROUP BY ALL HAVING count(*) >= {limit} ORDER BY events DESC
"""
