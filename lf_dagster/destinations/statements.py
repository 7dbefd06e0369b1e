"""SQL of a plan: what is decided about each event, over the temp tables that the planner makes.

`prepared` holds the hours' events as they would be sent, `known` the newest ledger rows of the hours, `around` ledger
rows of other hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import duckdb

from lf_dagster.destinations.base import (
    AWAITING_TRACE,
    CHANGE_KEPT_BACK,
    HELD,
    IDENTITY_CHANGED,
    MOVED,
    REFUSED,
    TOMBSTONED,
    WARNING,
)
from lf_dagster.events import PAYLOAD_SQL
from lf_dagster.events.ids import is_nobody_sql
from lf_dagster.hours import Hour
from lf_dagster.warehouse import VISIT_EVENTS

KEPT_KEYS = "kept_keys"
"""Relation of the keys under which the destination has events; see `events.prepared_sql`."""

IN_PORTION = "in_portion"
"""Macro over an event's kind and row in its event table: whether it belongs to what is being planned."""


def count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    """The one number that a query yields."""
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0


def moment_sql(moment: datetime) -> str:
    """A TIMESTAMPTZ literal."""
    return f"TIMESTAMPTZ '{moment.astimezone(timezone.utc).isoformat()}'"


def hour_list(hours: Sequence[Hour]) -> str:
    """The starts of hours, for `IN (...)`."""
    return ", ".join(moment_sql(hour.start) for hour in hours)


def literal(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def same(one: str, two: str) -> str:
    """The same event, whatever the hour."""
    return f"{one}.event = {two}.event AND {one}.event_id = {two}.event_id"


def _make(payload_hash: str) -> str:
    """What hashes have in common that can be compared (`events.content.payload_hash`)."""
    return f"split_part({payload_hash}, '-', 1)"


PORTION = f"CREATE OR REPLACE TEMP MACRO {IN_PORTION}(kind, id) AS {{condition}}"

NOTHING_ELSEWHERE = """
CREATE OR REPLACE TEMP TABLE elsewhere AS
SELECT partition_hour AS hour, event, event_id, time_ms, delivered_at, delivered_identity, delivered_hash
FROM known WHERE false
"""

KEPT = f"""
CREATE OR REPLACE TEMP TABLE {KEPT_KEYS} AS
SELECT k.partition_hour AS hour, k.event, k.event_id, k.delivered_identity AS identity, k.time_ms
FROM known k ANTI JOIN elsewhere e ON e.hour = k.partition_hour AND {same("e", "k")}
WHERE k.delivered_identity IS NOT NULL
UNION ALL
SELECT hour, event, event_id, delivered_identity, time_ms FROM elsewhere
"""

NEWCOMERS = f"""
CREATE OR REPLACE TEMP TABLE newcomers AS
SELECT p.hour, p.event, p.event_id, k.delivered_identity, k.delivered_at
FROM prepared p LEFT JOIN known k ON k.partition_hour = p.hour AND {same("k", "p")}
WHERE p.kind IN ({{moving}}) AND p.skip_reason IS NULL AND (k.delivered_identity IS NULL OR k.gone_at IS NOT NULL)
"""
"""`moving`: kinds of events whose hour may have been another one."""

VANISHED = f"""
CREATE OR REPLACE TEMP TABLE vanished AS
SELECT k.partition_hour AS hour, k.event, k.event_id, k.kind, k.entity_id, k.time_ms, k.reason, k.gone_at, k.written_at,
    k.delivered_at, k.delivered_identity, k.delivered_hash
FROM known k ANTI JOIN prepared p ON p.hour = k.partition_hour AND {same("p", "k")}
"""

WANTED = f"""
SELECT event, event_id FROM newcomers
UNION ALL
SELECT event, event_id FROM vanished WHERE delivered_identity IS NOT NULL AND reason IS DISTINCT FROM '{MOVED}'
"""
"""Events of which other hours may know more."""

ELSEWHERE = f"""
CREATE OR REPLACE TEMP TABLE elsewhere AS
SELECT n.hour, n.event, n.event_id, a.time_ms, a.delivered_at, a.delivered_identity, a.delivered_hash
FROM newcomers n JOIN around a ON {same("a", "n")} AND a.partition_hour <> n.hour
    AND (n.delivered_identity IS NULL OR coalesce(a.delivered_at, a.written_at) > n.delivered_at)
QUALIFY row_number() OVER (
    PARTITION BY n.hour, n.event, n.event_id ORDER BY coalesce(a.delivered_at, a.written_at) DESC, a.written_at DESC
) = 1
"""
"""Where another hour has delivered the event later than this one: what the destination has is that."""

WAITING = "CREATE OR REPLACE TEMP TABLE waiting (hour TIMESTAMPTZ, kind VARCHAR, gap TIMESTAMPTZ)"

AWAITED = """
SELECT d.hour, max(w.gap) FROM decision d JOIN prepared p ON p.rowid = d.prepared_row
JOIN waiting w ON w.hour = d.hour AND w.kind = p.kind WHERE d.action = 'awaiting' GROUP BY d.hour
"""
"""Which hour each hour waits for: of those that its kinds of events wait for, the one that will be filled first."""

_VISITS = ", ".join(f"'{kind}'" for kind in sorted(VISIT_EVENTS))

DECISION = f"""
CREATE OR REPLACE TEMP TABLE decision AS
WITH seen AS (
    SELECT p.rowid AS prepared_row, p.hour, p.identity, p.key, p.payload_hash, p.skip_reason,
        p.invalid, k.status AS known_status, k.reason AS known_reason, k.payload_hash AS known_hash,
        k.identity AS known_identity, k.delivered_identity AS known_delivered, k.gone_at IS NOT NULL AS was_gone,
        if(e.event_id IS NULL, k.delivered_at, e.delivered_at) AS previous_at,
        if(e.event_id IS NULL, k.delivered_identity, e.delivered_identity) AS previous_identity,
        if(e.event_id IS NULL, k.delivered_hash, e.delivered_hash) AS previous_hash,
        w.kind IS NOT NULL AND ({is_nobody_sql("p.distinct_id", "p.")} OR p.kind IN ({_VISITS})) AS awaits
    FROM prepared p
    LEFT JOIN waiting w ON w.hour = p.hour AND w.kind = p.kind
    LEFT JOIN known k ON k.partition_hour = p.hour AND {same("k", "p")}
    LEFT JOIN elsewhere e ON e.hour = p.hour AND {same("e", "p")}
),
acted AS (
    SELECT *, CASE
        WHEN skip_reason IS NOT NULL THEN 'filtered'
        WHEN previous_identity IS NULL AND hour > {{held_after}} THEN 'held'
        WHEN previous_identity IS NULL AND awaits THEN 'awaiting'
        WHEN invalid IS NOT NULL THEN 'invalid'
        WHEN previous_identity <> key THEN 'identity_changed'
        WHEN NOT {{resend}} AND previous_hash = payload_hash THEN 'unchanged'
        WHEN NOT {{resend}} AND {{keep_changes}} AND {_make("previous_hash")} <> {_make("payload_hash")}
            THEN 'unchanged'
        WHEN NOT {{resend}} AND {{keep_changes}} AND previous_hash <> payload_hash THEN 'kept_back'
        WHEN NOT {{resend}} AND known_status = 'rejected' AND known_hash = payload_hash
            AND starts_with(known_reason, '{REFUSED}') THEN 'refused'
        ELSE 'send' END AS action
    FROM seen
),
judged AS (
    SELECT *, CASE action
        WHEN 'filtered' THEN 'skipped' WHEN 'held' THEN 'skipped' WHEN 'awaiting' THEN 'skipped'
        WHEN 'identity_changed' THEN 'skipped'
        WHEN 'invalid' THEN 'rejected' WHEN 'refused' THEN 'rejected'
        WHEN 'unchanged' THEN 'delivered' WHEN 'kept_back' THEN 'delivered' END AS status,
        CASE action
        WHEN 'filtered' THEN skip_reason WHEN 'held' THEN '{HELD}' WHEN 'awaiting' THEN '{AWAITING_TRACE}'
        WHEN 'identity_changed' THEN '{IDENTITY_CHANGED}'
        WHEN 'invalid' THEN invalid WHEN 'refused' THEN known_reason
        WHEN 'unchanged' THEN CASE
            WHEN known_status = 'delivered' AND starts_with(known_reason, '{WARNING}') THEN known_reason
            WHEN identity <> key THEN '{IDENTITY_CHANGED}' END
        WHEN 'kept_back' THEN '{CHANGE_KEPT_BACK}' END AS reason
    FROM acted
)
SELECT prepared_row, hour, action, status, reason, previous_at, previous_identity, previous_hash, action <> 'send' AND (
    was_gone OR status IS DISTINCT FROM known_status OR reason IS DISTINCT FROM known_reason
    OR payload_hash IS DISTINCT FROM known_hash OR identity IS DISTINCT FROM known_identity
    OR previous_identity IS DISTINCT FROM known_delivered
) AS changed
FROM judged
"""

COUNTS = """
SELECT hour, sum(events)::BIGINT, sum(send)::BIGINT, sum(unchanged)::BIGINT, sum(changes)::BIGINT FROM (
    SELECT hour, count(*) AS events, count(*) FILTER (action = 'send') AS send,
        count(*) FILTER (action = 'unchanged') AS unchanged, count(*) FILTER (changed) AS changes
    FROM decision GROUP BY hour
    UNION ALL
    SELECT hour, 0, 0, 0, count(*) FILTER (changed) FROM fates GROUP BY hour
    UNION ALL
    SELECT hour, 0, count(*), 0, 0 FROM tombstones GROUP BY hour
) GROUP BY hour
"""

CHANGES = f"""
SELECT {{columns}} FROM (
    SELECT p.hour AS partition_hour, p.event, p.event_id, p.kind, p.entity_id, p.time_ms, p.distinct_id, p.identity,
        p.payload_hash, d.status, d.reason, d.previous_at AS delivered_at, d.previous_identity AS delivered_identity,
        d.previous_hash AS delivered_hash, if(d.status = 'rejected', {PAYLOAD_SQL}, NULL) AS payload,
        {{run_id}} AS run_id, NULL::TIMESTAMPTZ AS gone_at, {{stamp}} AS written_at
    FROM decision d JOIN prepared p ON p.rowid = d.prepared_row WHERE d.changed
    UNION ALL BY NAME
    SELECT k.* REPLACE (
        f.fate AS reason, {{run_id}} AS run_id, coalesce(k.gone_at, {{stamp}}) AS gone_at, {{stamp}} AS written_at
    )
    FROM fates f JOIN known k ON k.partition_hour = f.hour AND {same("k", "f")}
    ANTI JOIN tombstones t ON t.hour = f.hour AND {same("t", "f")}
    WHERE f.changed
)
"""

OUTGOING = """
CREATE OR REPLACE TEMP VIEW outgoing AS
SELECT p.hour, p.event, p.event_id, p.kind, p.entity_id, p.time_ms::BIGINT AS time_ms, p.distinct_id, p.identity,
    p.key, p.payload_hash, p.head, p.body, p.tail, p.payload_bytes, d.previous_at, d.previous_identity, d.previous_hash,
    NULL::TIMESTAMPTZ AS gone_at
FROM decision d JOIN prepared p ON p.rowid = d.prepared_row WHERE d.action = 'send'
UNION ALL BY NAME
SELECT * FROM tombstones
"""

NO_LANES = """
CREATE OR REPLACE TEMP TABLE lanes AS SELECT hour, event, event_id, 0::BIGINT AS lane FROM prepared WHERE false
"""

LANES = """
CREATE OR REPLACE TEMP TABLE lanes AS
SELECT hour, event, event_id, row_number() OVER same_id - 1 AS lane FROM outgoing
WINDOW same_id AS (PARTITION BY hour, event_id ORDER BY event)
QUALIFY row_number() OVER same_id > 1
"""

REQUESTS_APART = """
SELECT count(DISTINCT (hour, ({segment})::BIGINT)) > 1 OR (SELECT count(*) FROM lanes) > 0 FROM outgoing
"""
"""Whether there are events that must not share a request."""

SPOOL = f"""
SELECT hour, ({{segment}})::BIGINT AS segment, coalesce(lane, 0)::BIGINT AS lane, event, event_id, kind, entity_id,
    time_ms, distinct_id, identity, key, payload_hash, previous_at, previous_identity, previous_hash, gone_at,
    CASE WHEN gone_at IS NOT NULL THEN '{TOMBSTONED}' WHEN identity <> key THEN '{IDENTITY_CHANGED}' END AS remark,
    concat(head, body, tail, {{separator}}) AS payload
FROM outgoing LEFT JOIN lanes USING (hour, event, event_id)
"""

IN_REQUESTS = "ORDER BY hour, segment, lane"
