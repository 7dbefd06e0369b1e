"""Events that the ledger has and the hour no longer: moved to another hour, or deleted at the source.

A deleted event stays at the destination, which is reported; PostHog can be sent a tombstone: the event's key without
its properties, so that it replaces the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import duckdb

from lf_dagster.destinations.base import DELETED, MOVED, NOT_SHIPPED, TOMBSTONED
from lf_dagster.destinations.policy import Policy
from lf_dagster.destinations.statements import count, hour_list, literal, moment_sql, same
from lf_dagster.hours import Hour

TOMBSTONE_HASH = "tombstone"
"""`delivered_hash` of what holds no more than its key: no content has it, so an event that returns is sent."""


def judge_vanished(
    con: duckdb.DuckDBPyConnection, prepared_sql: str, around: Sequence[Hour], *, kinds: Sequence[str]
) -> None:
    """Fill the temp table `fates`: the rows of `vanished` with what became of each, and whether the ledger says so.

    `prepared_sql` and the temp table `around` say what else there is in the hours `around`; only `kinds` are shipped.
    """
    living = _NOTHING_LIVES
    if count(con, f"SELECT count(*) FROM ({_OPEN})"):
        hours = f"hour BETWEEN {moment_sql(around[0].start)} AND {moment_sql(around[-1].start)}"
        living = _LIVING.format(prepared=prepared_sql, hours=hours)
    con.execute(f"CREATE OR REPLACE TEMP TABLE living AS {living}")
    con.execute(_FATES.format(kinds=", ".join(map(literal, kinds))))


def bury(
    con: duckdb.DuckDBPyConnection, policy: Policy, protocol: str, built: Sequence[Hour], *, stamp: datetime
) -> None:
    """Fill the temp table `tombstones` (columns of the view `outgoing`) with what the policy has sent for `fates`.

    Only for hours whose events were `built`: an hour that the models never made is no evidence. `stamp` is when newly
    vanished events are gone.
    """
    from lf_dagster.events import tombstone_sql

    hours = f"hour IN ({hour_list(built)})" if policy.tombstones and built else "false"
    relation = _DELETED.format(hours=hours, stamp=moment_sql(stamp))
    con.execute(_TOMBSTONES.format(source=tombstone_sql(protocol, relation, hashed=policy.hashed)))


_OPEN = f"SELECT entity_id FROM vanished WHERE delivered_identity IS NOT NULL AND reason IS DISTINCT FROM '{MOVED}'"

_NOTHING_LIVES = "SELECT hour, event, entity_id FROM prepared WHERE false"

_LIVING = f"SELECT hour, event, entity_id FROM ({{prepared}}) WHERE {{hours}} AND entity_id IN ({_OPEN})"

# An event is one hour's at a time. Where ledgers disagree, the one that delivered it last has it.
_FATES = f"""
CREATE OR REPLACE TEMP TABLE fates AS
SELECT *, gone_at IS NULL OR fate IS DISTINCT FROM reason AS changed FROM (
    SELECT *, CASE
        WHEN delivered_identity IS NULL OR reason = '{MOVED}' THEN reason
        WHEN kind NOT IN ({{kinds}}) THEN '{NOT_SHIPPED}'
        WHEN EXISTS (
            SELECT 1 FROM living l WHERE l.event = v.event AND l.entity_id = v.entity_id AND l.hour <> v.hour
        ) THEN '{MOVED}'
        WHEN EXISTS (
            SELECT 1 FROM around a WHERE {same("a", "v")} AND a.partition_hour <> v.hour
            AND a.delivered_identity = v.delivered_identity AND a.reason IS DISTINCT FROM '{MOVED}'
            AND (coalesce(a.delivered_at, a.written_at), a.written_at)
                > (coalesce(v.delivered_at, v.written_at), v.written_at)
        ) THEN '{MOVED}'
        WHEN reason = '{TOMBSTONED}' THEN reason
        ELSE '{DELETED}' END AS fate
    FROM vanished v
)
"""

_DELETED = f"""
SELECT hour, event, event_id, kind, entity_id, delivered_identity AS identity, time_ms, delivered_at AS previous_at,
    delivered_hash AS previous_hash, coalesce(gone_at, {{stamp}}) AS gone_at
FROM fates WHERE fate = '{DELETED}' AND {{hours}}
"""

_TOMBSTONES = f"""
CREATE OR REPLACE TEMP TABLE tombstones AS
SELECT hour, event, event_id, kind, entity_id, time_ms::BIGINT AS time_ms, distinct_id, identity, identity AS key,
    '{TOMBSTONE_HASH}' AS payload_hash, '' AS head, payload AS body, '' AS tail, strlen(payload) AS payload_bytes,
    previous_at, identity AS previous_identity, previous_hash, gone_at
FROM ({{source}})
"""
