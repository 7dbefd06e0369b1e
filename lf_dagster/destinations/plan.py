"""What to do with each event of some hours, decided in SQL against the ledger, before anything is sent.

A portion of the hours is planned in a database in memory (what is too large is spilled) to which the warehouse is
attached, read-only and for a short time. What has to be sent is read from there, so that the warehouse is free while
requests are under way; what is decided without sending (filtered, invalid, gone ...) goes to the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import duckdb
import pyarrow as pa

from lf_dagster.destinations import statements
from lf_dagster.destinations.base import Destination
from lf_dagster.destinations.batching import rows_per_read
from lf_dagster.destinations.ledger import COLUMNS, LEDGER_SCHEMA, Ledger
from lf_dagster.destinations.policy import Policy
from lf_dagster.destinations.portions import Portion, run_prepared
from lf_dagster.destinations.rules import first_reason
from lf_dagster.destinations.statements import count, hour_list, literal, moment_sql
from lf_dagster.destinations.vanished import bury, judge_vanished
from lf_dagster.errors import FatalError
from lf_dagster.events import PAYLOAD_SQL, load_catalogue
from lf_dagster.hours import Hour, hour_range

_ROWS_AT_ONCE = 2_048

NEIGHBOUR_HOURS = 48
"""How far a trace's event may have moved: its hour is that of its first observation, looked for in this window."""


@dataclass(frozen=True)
class HourPlan:
    """Counts of one hour's events by what is done with them. `changes` are ledger rows that need no sending.

    `send` counts tombstones too, which are none of the `events`. `events_build` is the build of the hour's event
    tables that was looked at; None when the warehouse knows of none. `awaited` is the missing hour that events wait
    for.
    """

    hour: Hour
    events: int = 0
    send: int = 0
    unchanged: int = 0
    changes: int = 0
    warnings: tuple[str, ...] = ()
    events_build: str | None = None
    awaited: Hour | None = None

    def __add__(self, other: HourPlan) -> HourPlan:
        """Two shares of one hour. The build that was looked at first counts: then no later one goes unnoticed."""
        gaps = [gap for gap in (self.awaited, other.awaited) if gap is not None]
        return replace(
            self,
            events=self.events + other.events,
            send=self.send + other.send,
            unchanged=self.unchanged + other.unchanged,
            changes=self.changes + other.changes,
            awaited=min(gaps, default=None),
        )


@dataclass(frozen=True)
class Plan:
    """Counts per hour of a portion, `changes`: ledger rows per hour that need no sending, and `spool`: what has to be
    sent, to be read once while the planner's connection is open.

    `stamp` is later than every row that the ledger has of these events, whatever the clocks of earlier runs said.
    """

    portion: Portion
    hours: dict[Hour, HourPlan]
    stamp: datetime
    changes: dict[Hour, pa.Table]
    spool: Iterable[pa.RecordBatch] = ()


@dataclass(frozen=True)
class Planner:
    """Decides for one destination on an open warehouse connection.

    `prepared_sql` yields the prepared events in the form of `protocol` (columns: see `events.prepared_sql`; their keys
    from the relation `statements.KEPT_KEYS`, those of `statements.IN_PORTION`), `of_ledger` is SQL for the rows of the
    hours' ledgers that are to be looked at; the parts of the delivery itself, named `own`, are of other portions and
    have none. `builds` are those of the event tables, read before the events are: if they
    are made again meanwhile, the hour is known to be behind. `now` is what the events' times are compared with.
    """

    con: duckdb.DuckDBPyConnection
    ledger: Ledger
    destination: Destination
    portion: Portion
    prepared_sql: str
    protocol: str
    builds: Mapping[Hour, str]
    policy: Policy
    now: datetime
    run_id: str
    of_ledger: str = "true"
    own: str | None = None

    @property
    def hours(self) -> Sequence[Hour]:
        """The hours of the portion."""
        return self.portion.hours

    def decide(self, *, repair: bool) -> None:
        """Fill the temp tables `prepared`, `known`, `elsewhere`, `decision` and `fates`; `repair`: see `Ledger.load`.

        Raises FatalError when the event tables are missing, do not fit, or hold an event twice.
        """
        self.portion.begin(self.con, self.ledger)
        self.ledger.load(self.con, "known", self.hours, where=self.of_ledger, repair=repair, without=self.own)
        self._prepare()
        self._refuse_duplicates()
        self._look_elsewhere()
        self._note_waits()
        held_after = self.policy.held_after(self.now)
        self.con.execute(
            statements.DECISION.format(
                resend=self.policy.resend,
                keep_changes=self.policy.keep_changes,
                held_after=moment_sql(held_after) if held_after else "NULL::TIMESTAMPTZ",
            )
        )
        # From here on any event may be asked for.
        self.con.execute(statements.PORTION.format(condition="true"))
        judge_vanished(self.con, self.prepared_sql, _around(self.hours), kinds=self.policy.kinds)

    def _prepare(self) -> None:
        rules = first_reason([rule for rule in self.destination.rules(self.now) if not rule.of_form])
        query = (
            "CREATE OR REPLACE TEMP TABLE prepared AS "
            "SELECT *, strlen(head) + strlen(body) + strlen(tail) AS payload_bytes, "
            f"CASE WHEN skip_reason IS NULL THEN {rules} END AS invalid "
            f"FROM ({self.prepared_sql}) WHERE hour IN ({hour_list(self.hours)})"
        )
        self.con.execute(statements.KEPT)
        run_prepared(self.con, query)
        self._judge_forms()

    def _judge_forms(self) -> None:
        """Apply the rules about the payload's form where it can be broken. They are dear, and a statement pays for
        their patterns whether it has rows for them or not."""
        doubtful = "NOT wellformed AND skip_reason IS NULL"
        if count(self.con, f"SELECT count(*) FROM prepared WHERE {doubtful}"):
            rules = first_reason(self.destination.rules(self.now))
            judged = f"SELECT rowid AS row, *, {PAYLOAD_SQL} AS payload FROM prepared WHERE {doubtful}"
            self.con.execute(
                f"UPDATE prepared SET invalid = reason FROM (SELECT row, {rules} AS reason FROM ({judged})) "
                "WHERE prepared.rowid = row"
            )

    def _note_waits(self) -> None:
        self.con.execute(statements.WAITING)
        rows = [
            f"({moment_sql(hour.start)}, {literal(kind)}, {moment_sql(gap.start)})"
            for hour, kinds in self.policy.waits.items()
            for kind, gap in kinds.items()
        ]
        if rows:
            self.con.execute(f"INSERT INTO waiting VALUES {', '.join(rows)}")

    def commit(
        self,
        *,
        warnings: Mapping[str, tuple[str, ...]],
        clock: Callable[[], datetime],
    ) -> Plan:
        """What is decided without sending, and what has to be sent; the warehouse is no longer needed.

        `warnings` per UTC date come along with the dates' hours.
        """
        stamp = self._stamp(clock())
        bury(self.con, self.policy, self.protocol, [hour for hour in self.hours if hour in self.builds], stamp=stamp)
        hours = self._count(warnings)
        changes = {plan.hour: self._changes(plan.hour, stamp) for plan in hours.values() if plan.changes}
        if not any(plan.send for plan in hours.values()):
            return Plan(self.portion, hours, stamp, changes)
        self.con.execute(statements.OUTGOING)
        return Plan(self.portion, hours, stamp, changes, self._spool())

    def forget(self) -> None:
        """Give back what the plan has taken of memory, once its spool has been read."""
        for table in ("prepared", "decision", "newcomers"):
            self.con.execute(f"DROP TABLE {table}")

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
        """Events that are new in their hour, back in it or gone from it, and what other hours' ledgers say of them.

        An event that another hour has delivered is prepared again, under the key that it has there.
        """
        moving = [event.kind for event in load_catalogue(self.policy.kinds) if event.moves]
        self.con.execute(statements.NEWCOMERS.format(moving=", ".join(map(literal, moving))))
        self.con.execute(statements.VANISHED)
        any_wanted = count(self.con, f"SELECT count(*) FROM ({statements.WANTED})")
        around = _around(self.hours) if any_wanted else []
        delivered = "delivered_identity IS NOT NULL"
        self.ledger.load_others(
            self.con, "around", around, where=f"{delivered} AND (event, event_id) IN ({statements.WANTED})"
        )
        self.con.execute(statements.ELSEWHERE)
        if count(self.con, "SELECT count(*) FROM elsewhere"):
            self._prepare()

    def _count(self, warnings: Mapping[str, tuple[str, ...]]) -> dict[Hour, HourPlan]:
        rows = self.con.execute(statements.COUNTS).fetchall()
        found = {Hour(row[0]): row[1:] for row in rows}
        awaited = {Hour(hour): Hour(gap) for hour, gap in self.con.execute(statements.AWAITED).fetchall()}
        return {
            hour: HourPlan(
                hour,
                *found.get(hour, (0, 0, 0, 0)),
                warnings=warnings.get(hour.date, ()),
                events_build=self.builds.get(hour),
                awaited=awaited.get(hour),
            )
            for hour in self.hours
        }

    def _stamp(self, clock: datetime) -> datetime:
        newest = self.con.execute("SELECT max(written_at) FROM known").fetchone()
        last = newest[0] if newest else None
        return clock if last is None else max(clock, last.astimezone(timezone.utc) + timedelta(microseconds=1))

    def _changes(self, hour: Hour, stamp: datetime) -> pa.Table:
        query = statements.CHANGES.format(
            columns=", ".join(COLUMNS), run_id=literal(self.run_id), stamp=moment_sql(stamp)
        )
        rows = self.con.execute(f"SELECT * FROM ({query}) WHERE partition_hour = {moment_sql(hour.start)}")
        # It reserves memory for as many rows as it is told: by default a million, whatever there are.
        return rows.to_arrow_table(_ROWS_AT_ONCE).cast(LEDGER_SCHEMA)

    def _spool(self) -> Iterator[pa.RecordBatch]:
        """What has to be sent, read when it is asked for."""
        largest, average = self.con.execute(
            "SELECT max(payload_bytes), avg(payload_bytes)::BIGINT FROM outgoing"
        ).fetchall()[0]
        self.con.execute(statements.LANES if self.destination.unique_ids else statements.NO_LANES)
        segment = self.destination.segment(self.now)
        query = spool_query(self.destination, segment)
        # Sorting whole payloads is dear, and mostly all events may share a request.
        if count(self.con, statements.REQUESTS_APART.format(segment=segment)):
            query += statements.IN_REQUESTS
        return iter(self.con.execute(query).to_arrow_reader(rows_per_read(largest=largest, average=average)))


def spool_query(destination: Destination, segment: str) -> str:
    """The events to send; those that may share a request follow each other once they are `statements.IN_REQUESTS`.

    `segment` and `lane` part events that must not share a request: `segment` as the destination says, `lane`
    numbers events with the same id. `payload` ends with the separator, `key` is the identity that the payload has,
    `previous_*` is what the destination holds, `gone_at` is set for tombstones, `remark` is the reason once delivered.
    """
    return statements.SPOOL.format(segment=segment, separator=literal(destination.separator))


def _around(hours: Sequence[Hour]) -> list[Hour]:
    return hour_range(min(hours).shift(-NEIGHBOUR_HOURS), max(hours).shift(NEIGHBOUR_HOURS))
