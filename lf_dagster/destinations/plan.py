"""What to do with each event of some hours, decided in SQL against the ledger, before anything is sent.

Everything runs inside one short read-only connection to the warehouse. What has to be sent goes to a spool file, so
that the warehouse is free again while requests are under way; what is decided without sending (filtered, invalid,
gone ...) goes to the ledger at once.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb

from lf_dagster.destinations.base import IDENTITY_CHANGED, REFUSED, Destination
from lf_dagster.destinations.batching import rows_per_read, write_spool
from lf_dagster.destinations.ledger import COLUMNS, Ledger
from lf_dagster.destinations.rules import first_reason
from lf_dagster.errors import FatalError
from lf_dagster.hours import Hour, hour_range
from lf_dagster.lake import Workspace

logger = logging.getLogger(__name__)

NEIGHBOUR_HOURS = 48
"""How far a trace's event may have moved: its hour is that of its first observation, looked for in this window."""

_SPOOL = "spool.arrow"


@dataclass(frozen=True)
class HourPlan:
    """Counts of one hour's events by what is done with them. `changes` are ledger rows that need no sending."""

    hour: Hour
    events: int = 0
    send: int = 0
    unchanged: int = 0
    changes: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Counts per hour, and the spool file (None: nothing to send).

    `stamp` is later than every row that the ledger has of these hours, whatever the clocks of earlier runs said.
    """

    hours: dict[Hour, HourPlan]
    stamp: datetime
    spool: Path | None = None


@dataclass(frozen=True)
class Planner:
    """Decides for one destination on an open warehouse connection.

    `prepared_sql` yields the prepared events (columns: see `events.prepared_sql`), `now` is what their times are
    compared with.
    """

    con: duckdb.DuckDBPyConnection
    ledger: Ledger
    destination: Destination
    hours: Sequence[Hour]
    prepared_sql: str
    now: datetime
    run_id: str
    resend: bool

    def decide(self, *, repair: bool) -> None:
        """Fill the temp tables `prepared`, `known`, `elsewhere` and `decision`; `repair`: see `Ledger.load`.

        Raises FatalError when the event tables are missing, do not fit, or hold an event twice.
        """
        self._prepare()
        self._refuse_duplicates()
        self.ledger.load(self.con, "known", self.hours, repair=repair)
        self._look_elsewhere()
        self.con.execute(_DECISION, {"resend": self.resend})

    def _prepare(self) -> None:
        rules = first_reason(self.destination.rules(self.now))
        query = (
            f"CREATE OR REPLACE TEMP TABLE prepared AS SELECT *, strlen(payload) AS payload_bytes, "
            f"CASE WHEN skip_reason IS NULL THEN {rules} END AS invalid "
            f"FROM ({self.prepared_sql}) WHERE hour IN ({_hour_list(self.hours)})"
        )
        try:
            self.con.execute(query)
        except duckdb.Error as error:
            told = _without_quotes(str(error))
        else:
            return
        # Outside of the `except`: DuckDB's own text quotes the statement (a salt may be in it) and values.
        raise FatalError(f"the events cannot be prepared: {told}", hint="Rerun the hour's models; nothing was sent.")

    def commit(self, workspace: Workspace, *, clock: Callable[[], datetime]) -> Plan:
        """Write what is decided without sending to the ledger and what has to be sent to the spool."""
        hours, stamp = self._count(), self._stamp(clock())
        for plan in hours.values():
            if plan.changes:
                self._write_changes(workspace, plan.hour, stamp)
        if not any(plan.send for plan in hours.values()):
            return Plan(hours, stamp)
        largest, average = self._payload_sizes()
        spool = workspace.path(_SPOOL)
        self._write_spool(spool, rows_per_read(largest=largest, average=average))
        return Plan(hours, stamp, spool)

    def _refuse_duplicates(self) -> None:
        twice = self.con.execute(
            "SELECT hour, event, event_id, count(*) FROM prepared GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if twice is not None:
            raise FatalError(
                f"the event tables hold the event {twice[1]} {twice[2]} {twice[3]} times in one hour",
                hint="Rerun the hour's models; nothing was sent.",
                hour=Hour(twice[0]).key,
            )

    def _look_elsewhere(self) -> None:
        """Traces that are new in their hour or back in it, and what other hours' ledgers say of them."""
        self.con.execute(_NEWCOMERS)
        moved = "kind = 'trace' AND delivered_identity IS NOT NULL"
        among = "(event, event_id) IN (SELECT (event, event_id) FROM newcomers)"
        any_new = _one(self.con, "SELECT count(*) FROM newcomers")
        around = _around(self.hours) if any_new else []
        self.ledger.load(self.con, "around", around, where=f"{moved} AND {among}")
        self.con.execute(_ELSEWHERE)

    def _count(self) -> dict[Hour, HourPlan]:
        rows = self.con.execute(_COUNTS).fetchall()
        warnings = hot_key_warnings(self.con, self.destination, self.ledger, self.hours)
        found = {Hour(row[0]): row[1:] for row in rows}
        return {
            hour: HourPlan(hour, *found.get(hour, (0, 0, 0, 0)), warnings=warnings.get(hour.date, ()))
            for hour in self.hours
        }

    def _stamp(self, clock: datetime) -> datetime:
        newest = self.con.execute("SELECT max(written_at) FROM known").fetchone()
        last = newest[0] if newest else None
        return clock if last is None else max(clock, last.astimezone(timezone.utc) + timedelta(microseconds=1))

    def _write_changes(self, workspace: Workspace, hour: Hour, stamp: datetime) -> None:
        name = f"{uuid.uuid4().hex}-plan"
        query = _CHANGES.format(columns=", ".join(COLUMNS), run_id=_literal(self.run_id), stamp=_moment(stamp))
        scratch = workspace.path(name)
        self.con.execute(
            f"COPY (SELECT * FROM ({query}) WHERE partition_hour = {_moment(hour.start)}) "
            f"TO {_literal(str(scratch))} (FORMAT parquet, COMPRESSION zstd)"
        )
        workspace.commit(name, self.ledger.part_path(hour, name))

    def _payload_sizes(self) -> tuple[int, int]:
        largest, average = self.con.execute(
            "SELECT max(payload_bytes), avg(payload_bytes)::BIGINT FROM prepared p "
            "JOIN decision d ON d.prepared_row = p.rowid WHERE d.action = 'send'"
        ).fetchall()[0]
        return int(largest), int(average)

    def _write_spool(self, path: Path, rows: int) -> None:
        self.con.execute(_LANES if self.destination.unique_ids else _NO_LANES)
        write_spool(path, self.con.execute(spool_query(self.destination, self.now)).to_arrow_reader(rows))


def spool_query(destination: Destination, now: datetime) -> str:
    """The events to send, in the order in which they are sent.

    `segment` and `lane` part events that must not share a request: `segment` as the destination says, `lane`
    numbers events with the same id. `payload` ends with the separator, `previous_*` is what the destination holds.
    """
    return _SPOOL_QUERY.format(segment=destination.segment(now), separator=_literal(destination.separator))


def hot_key_warnings(
    con: duckdb.DuckDBPyConnection, destination: Destination, ledger: Ledger, hours: Sequence[Hour]
) -> dict[str, tuple[str, ...]]:
    """Warnings per UTC date about distinct_ids with so many events that the destination would rename them.

    Counts the table `prepared` and, for dates that could come near, the ledgers of the date's other hours
    (contracts: mixpanel 9).
    """
    limit = destination.hot_key_limit
    if limit is None:
        return {}
    others = [hour for hour in _rest_of_days(hours) if hour not in set(hours)]
    known = sum(int((ledger.facts(hour) or {}).get("delivered", 0)) for hour in others)
    if known + _one(con, "SELECT count(*) FROM prepared WHERE skip_reason IS NULL") < limit:
        return {}
    ledger.load(con, "day", others, where="delivered_identity IS NOT NULL AND distinct_id <> ''")
    rows = con.execute(_HOT_KEYS, {"limit": limit}).fetchall()
    found: dict[str, tuple[str, ...]] = {}
    for date, distinct_id, events in rows:
        text = f"{events} events of distinct_id {mask(distinct_id)} on {date}: from 200000 on Mixpanel renames them"
        logger.warning("%s: %s", destination.name, text)
        found[str(date)] = (*found.get(str(date), ()), text)
    return found


def mask(identifier: str) -> str:
    """An id that can be recognised but not read off: its first three characters and its length."""
    return f"{identifier[:3]}...({len(identifier)} characters)" if len(identifier) > 3 else identifier


def _without_quotes(text: str) -> str:
    """The first line of a DuckDB error without the values that it quotes."""
    return re.sub(r"\"[^\"]*\"?|'[^']*'?", "...", text.partition("\n")[0])


def _one(con: duckdb.DuckDBPyConnection, query: str) -> int:
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0


def _around(hours: Sequence[Hour]) -> list[Hour]:
    return hour_range(min(hours).shift(-NEIGHBOUR_HOURS), max(hours).shift(NEIGHBOUR_HOURS))


def _rest_of_days(hours: Sequence[Hour]) -> list[Hour]:
    midnights = {hour.shift(-int(hour.hour)) for hour in hours}
    return [midnight.shift(step) for midnight in sorted(midnights) for step in range(24)]


def _moment(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.astimezone(timezone.utc).isoformat()}'"


def _hour_list(hours: Sequence[Hour]) -> str:
    return ", ".join(_moment(hour.start) for hour in hours)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_SAME = "{0}.event = {1}.event AND {0}.event_id = {1}.event_id"

_NEWCOMERS = f"""
CREATE OR REPLACE TEMP TABLE newcomers AS
SELECT p.hour, p.event, p.event_id
FROM prepared p LEFT JOIN known k ON k.partition_hour = p.hour AND {_SAME.format("k", "p")}
WHERE p.kind = 'trace' AND p.skip_reason IS NULL AND (k.delivered_identity IS NULL OR k.gone_at IS NOT NULL)
"""

_ELSEWHERE = f"""
CREATE OR REPLACE TEMP TABLE elsewhere AS
SELECT n.hour, n.event, n.event_id, max(a.delivered_at) AS delivered_at,
    arg_max(a.delivered_identity, a.delivered_at) AS delivered_identity,
    arg_max(a.delivered_hash, a.delivered_at) AS delivered_hash
FROM newcomers n JOIN around a ON {_SAME.format("a", "n")} AND a.partition_hour <> n.hour
GROUP BY n.hour, n.event, n.event_id
"""

_DECISION = f"""
CREATE OR REPLACE TEMP TABLE decision AS
WITH seen AS (
    SELECT p.rowid AS prepared_row, p.hour, p.event, p.event_id, p.identity, p.payload_hash, p.skip_reason, p.invalid,
        k.status AS known_status, k.reason AS known_reason, k.payload_hash AS known_hash,
        k.delivered_identity AS known_delivered, k.gone_at IS NOT NULL AS was_gone,
        if(e.event_id IS NULL, k.delivered_at, e.delivered_at) AS previous_at,
        if(e.event_id IS NULL, k.delivered_identity, e.delivered_identity) AS previous_identity,
        if(e.event_id IS NULL, k.delivered_hash, e.delivered_hash) AS previous_hash
    FROM prepared p
    LEFT JOIN known k ON k.partition_hour = p.hour AND {_SAME.format("k", "p")}
    LEFT JOIN elsewhere e ON e.hour = p.hour AND {_SAME.format("e", "p")}
        AND (k.delivered_identity IS NULL OR e.delivered_at > k.delivered_at)
),
acted AS (
    SELECT *, CASE
        WHEN skip_reason IS NOT NULL THEN 'filtered'
        WHEN invalid IS NOT NULL THEN 'invalid'
        WHEN previous_identity <> identity THEN 'identity_changed'
        WHEN NOT $resend AND previous_hash = payload_hash THEN 'unchanged'
        WHEN NOT $resend AND known_status = 'rejected' AND known_hash = payload_hash
            AND starts_with(known_reason, '{REFUSED}') THEN 'refused'
        ELSE 'send' END AS action
    FROM seen
),
judged AS (
    SELECT *, CASE action
        WHEN 'filtered' THEN 'skipped' WHEN 'identity_changed' THEN 'skipped'
        WHEN 'invalid' THEN 'rejected' WHEN 'refused' THEN 'rejected'
        WHEN 'unchanged' THEN 'delivered' END AS status,
        CASE action
        WHEN 'filtered' THEN skip_reason WHEN 'identity_changed' THEN '{IDENTITY_CHANGED}'
        WHEN 'invalid' THEN invalid WHEN 'refused' THEN known_reason
        WHEN 'unchanged' THEN if(known_status = 'delivered', known_reason, NULL) END AS reason
    FROM acted
)
SELECT *, action <> 'send' AND (
    was_gone OR status IS DISTINCT FROM known_status OR reason IS DISTINCT FROM known_reason
    OR payload_hash IS DISTINCT FROM known_hash OR previous_identity IS DISTINCT FROM known_delivered
) AS changed
FROM judged
"""

_GONE = f"""
SELECT k.* FROM known k ANTI JOIN prepared p ON k.partition_hour = p.hour AND {_SAME.format("k", "p")}
WHERE k.gone_at IS NULL
"""

_COUNTS = f"""
SELECT hour, sum(events)::BIGINT, sum(send)::BIGINT, sum(unchanged)::BIGINT, sum(changes)::BIGINT FROM (
    SELECT hour, count(*) AS events, count(*) FILTER (action = 'send') AS send,
        count(*) FILTER (action = 'unchanged') AS unchanged, count(*) FILTER (changed) AS changes
    FROM decision GROUP BY hour
    UNION ALL
    SELECT partition_hour, 0, 0, 0, count(*) FROM ({_GONE}) GROUP BY partition_hour
) GROUP BY hour
"""

_CHANGES = f"""
SELECT {{columns}} FROM (
    SELECT p.hour AS partition_hour, p.event, p.event_id, p.kind, p.entity_id, p.time_ms, p.distinct_id, p.identity,
        p.payload_hash, d.status, d.reason, d.previous_at AS delivered_at, d.previous_identity AS delivered_identity,
        d.previous_hash AS delivered_hash, if(d.status = 'rejected', p.payload, NULL) AS payload, {{run_id}} AS run_id,
        NULL::TIMESTAMPTZ AS gone_at, {{stamp}} AS written_at
    FROM decision d JOIN prepared p ON p.rowid = d.prepared_row WHERE d.changed
    UNION ALL BY NAME
    SELECT * REPLACE ({{run_id}} AS run_id, {{stamp}} AS gone_at, {{stamp}} AS written_at) FROM ({_GONE})
)
"""

_NO_LANES = "CREATE OR REPLACE TEMP TABLE lanes AS SELECT 0::BIGINT AS prepared_row, 0::BIGINT AS lane WHERE false"

_LANES = """
CREATE OR REPLACE TEMP TABLE lanes AS
SELECT prepared_row, row_number() OVER same_id - 1 AS lane FROM decision WHERE action = 'send'
WINDOW same_id AS (PARTITION BY hour, event_id ORDER BY event)
QUALIFY row_number() OVER same_id > 1
"""

_SPOOL_QUERY = """
SELECT p.hour, ({segment})::BIGINT AS segment, coalesce(l.lane, 0)::BIGINT AS lane, p.event, p.event_id, p.kind,
    p.entity_id, p.time_ms::BIGINT AS time_ms, p.distinct_id, p.identity, p.payload_hash,
    d.previous_at, d.previous_identity, d.previous_hash, p.payload || {separator} AS payload
FROM decision d JOIN prepared p ON p.rowid = d.prepared_row LEFT JOIN lanes l ON l.prepared_row = d.prepared_row
WHERE d.action = 'send'
ORDER BY p.hour, segment, lane, p.time_ms, p.event_id, p.event
"""

_HOT_KEYS = """
SELECT date, distinct_id, count(*) AS events FROM (
    SELECT make_timestamp(time_ms * 1000)::DATE AS date, distinct_id FROM prepared
    WHERE skip_reason IS NULL AND invalid IS NULL AND distinct_id <> ''
    UNION ALL
    SELECT make_timestamp(time_ms * 1000)::DATE, distinct_id FROM day
) GROUP BY ALL HAVING count(*) >= $limit ORDER BY events DESC
"""
