"""What to do with each event of some hours, decided in SQL against the ledger, before anything is sent.

Everything runs inside one short read-only connection to the warehouse. What has to be sent goes to a spool file, so
that the warehouse is free again while requests are under way; what is decided without sending (filtered, invalid,
gone ...) goes to the ledger at once.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb

from lf_dagster.destinations import statements
from lf_dagster.destinations.base import Destination
from lf_dagster.destinations.batching import rows_per_read, write_spool
from lf_dagster.destinations.hot_keys import hot_key_warnings
from lf_dagster.destinations.ledger import COLUMNS, Ledger
from lf_dagster.destinations.policy import Policy
from lf_dagster.destinations.rules import first_reason
from lf_dagster.destinations.statements import count, hour_list, literal, moment_sql
from lf_dagster.destinations.vanished import bury, judge_vanished
from lf_dagster.errors import FatalError
from lf_dagster.events import load_catalogue
from lf_dagster.hours import Hour, hour_range
from lf_dagster.lake import Workspace

NEIGHBOUR_HOURS = 48
"""How far a trace's event may have moved: its hour is that of its first observation, looked for in this window."""

_SPOOL = "spool.arrow"


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

    `prepared_sql` yields the prepared events in the form of `protocol` (columns: see `events.prepared_sql`; their keys
    from the relation `statements.KEPT_KEYS`). `builds` are those of the event tables, read before the events are: if
    they are made again meanwhile, the hour is known to be behind. `now` is what the events' times are compared with.
    """

    con: duckdb.DuckDBPyConnection
    ledger: Ledger
    destination: Destination
    hours: Sequence[Hour]
    prepared_sql: str
    protocol: str
    builds: Mapping[Hour, str]
    policy: Policy
    now: datetime
    run_id: str

    def decide(self, *, repair: bool) -> None:
        """Fill the temp tables `prepared`, `known`, `elsewhere`, `decision` and `fates`; `repair`: see `Ledger.load`.

        Raises FatalError when the event tables are missing, do not fit, or hold an event twice.
        """
        self.ledger.load(self.con, "known", self.hours, repair=repair)
        self.con.execute(statements.NOTHING_ELSEWHERE)
        self.con.execute(statements.KEPT)
        self._prepare()
        self._refuse_duplicates()
        self._look_elsewhere()
        choices = {
            "resend": self.policy.resend,
            "keep_changes": self.policy.keep_changes,
            "held_after": self.policy.held_after(self.now),
        }
        self._note_waits()
        self.con.execute(statements.DECISION, choices)
        judge_vanished(self.con, self.prepared_sql, _around(self.hours), kinds=self.policy.kinds)

    def _prepare(self) -> None:
        rules = first_reason(self.destination.rules(self.now))
        query = (
            f"CREATE OR REPLACE TEMP TABLE prepared AS SELECT *, strlen(payload) AS payload_bytes, "
            f"CASE WHEN skip_reason IS NULL THEN {rules} END AS invalid "
            f"FROM ({self.prepared_sql}) WHERE hour IN ({hour_list(self.hours)})"
        )
        try:
            self.con.execute(query)
        except duckdb.Error as error:
            told = _without_quotes(str(error))
        else:
            return
        # Outside of the `except`: DuckDB's own text quotes the statement (a salt may be in it) and values.
        raise FatalError(f"the events cannot be prepared: {told}", hint="Rerun the hour's models; nothing was sent.")

    def _note_waits(self) -> None:
        self.con.execute(statements.WAITING)
        rows = [
            f"({moment_sql(hour.start)}, {literal(kind)}, {moment_sql(gap.start)})"
            for hour, kinds in self.policy.waits.items()
            for kind, gap in kinds.items()
        ]
        if rows:
            self.con.execute(f"INSERT INTO waiting VALUES {', '.join(rows)}")

    def commit(self, workspace: Workspace, *, clock: Callable[[], datetime]) -> Plan:
        """Write what is decided without sending to the ledger and what has to be sent to the spool."""
        stamp = self._stamp(clock())
        bury(self.con, self.policy, self.protocol, [hour for hour in self.hours if hour in self.builds], stamp=stamp)
        hours = self._count()
        for plan in hours.values():
            if plan.changes:
                self._write_changes(workspace, plan.hour, stamp)
        if not any(plan.send for plan in hours.values()):
            return Plan(hours, stamp)
        self.con.execute(statements.OUTGOING)
        spool = workspace.path(_SPOOL)
        self._write_spool(spool)
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
        """Events that are new in their hour, back in it or gone from it, and what other hours' ledgers say of them.

        An event that another hour has delivered is prepared again, under the key that it has there.
        """
        moving = [event.kind for event in load_catalogue() if event.moves]
        self.con.execute(statements.NEWCOMERS.format(moving=", ".join(map(literal, moving))))
        self.con.execute(statements.VANISHED)
        any_wanted = count(self.con, f"SELECT count(*) FROM ({statements.WANTED})")
        around = _around(self.hours) if any_wanted else []
        delivered = "delivered_identity IS NOT NULL"
        self.ledger.load(
            self.con, "around", around, where=f"{delivered} AND (event, event_id) IN ({statements.WANTED})"
        )
        self.con.execute(statements.ELSEWHERE)
        if count(self.con, "SELECT count(*) FROM elsewhere"):
            self._prepare()

    def _count(self) -> dict[Hour, HourPlan]:
        rows = self.con.execute(statements.COUNTS).fetchall()
        warnings = hot_key_warnings(self.con, self.destination, self.ledger, self.hours)
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

    def _write_changes(self, workspace: Workspace, hour: Hour, stamp: datetime) -> None:
        name = f"{uuid.uuid4().hex}-plan"
        query = statements.CHANGES.format(
            columns=", ".join(COLUMNS), run_id=literal(self.run_id), stamp=moment_sql(stamp)
        )
        scratch = workspace.path(name)
        self.con.execute(
            f"COPY (SELECT * FROM ({query}) WHERE partition_hour = {moment_sql(hour.start)}) "
            f"TO {literal(str(scratch))} (FORMAT parquet, COMPRESSION zstd)"
        )
        workspace.commit(name, self.ledger.part_path(hour, name))

    def _write_spool(self, path: Path) -> None:
        largest, average = self.con.execute(
            "SELECT max(payload_bytes), avg(payload_bytes)::BIGINT FROM outgoing"
        ).fetchall()[0]
        rows = rows_per_read(largest=int(largest), average=int(average))
        self.con.execute(statements.LANES if self.destination.unique_ids else statements.NO_LANES)
        write_spool(path, self.con.execute(spool_query(self.destination, self.now)).to_arrow_reader(rows))


def spool_query(destination: Destination, now: datetime) -> str:
    """The events to send, in the order in which they are sent.

    `segment` and `lane` part events that must not share a request: `segment` as the destination says, `lane`
    numbers events with the same id. `payload` ends with the separator, `key` is the identity that the payload has,
    `previous_*` is what the destination holds, `gone_at` is set for tombstones, `remark` is the reason once delivered.
    """
    return statements.SPOOL.format(segment=destination.segment(now), separator=literal(destination.separator))


def _without_quotes(text: str) -> str:
    """The first line of a DuckDB error without the values that it quotes."""
    return re.sub(r"\"[^\"]*\"?|'[^']*'?", "...", text.partition("\n")[0])


def _around(hours: Sequence[Hour]) -> list[Hour]:
    return hour_range(min(hours).shift(-NEIGHBOUR_HOURS), max(hours).shift(NEIGHBOUR_HOURS))
