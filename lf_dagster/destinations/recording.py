"""What became of each hour's events so far: kept for the ledger, and written to it as parts while requests run.

Parts are there for a process that dies: an hour that is done by the time its first part is due needs none.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from dataclasses import dataclass, field

import pyarrow as pa

from lf_dagster.destinations.ledger import LEDGER_SCHEMA, Ledger
from lf_dagster.destinations.plan import HourPlan
from lf_dagster.hours import Hour
from lf_dagster.http import HttpStats
from lf_dagster.lake import Workspace

WRITE_SECONDS = 0.2
"""How long an answer may wait to be written: a part per answer costs more than a request does."""
_MOST_WAITING = 20_000
_MOST_KEPT = 150_000
"""Rows of an hour in memory; an hour with more is read back from its parts when it is closed."""


@dataclass
class HourTally:
    """One hour: what is planned of it so far, `started` its first request, `answered` events that have a receipt.

    `unplanned` events are in shares that are not planned yet. `waiting` are the rows that no part has yet, `since` when
    the first of them came, `writing` parts are being written; `kept` are all rows, None once they are too many.
    Times are monotonic.
    """

    plan: HourPlan
    unplanned: int = 0
    stats: HttpStats = field(default_factory=HttpStats)
    started: float | None = None
    answered: int = 0
    waiting: list[pa.Table] = field(default_factory=list)
    since: float = 0.0
    writing: int = 0
    kept: list[pa.Table] | None = field(default_factory=list)

    @property
    def outstanding(self) -> int:
        """Events without a receipt; 0: the hour is complete."""
        return self.plan.send - self.answered + self.unplanned

    @property
    def rows(self) -> pa.Table | None:
        """All rows for the ledger; None when only parts have them."""
        if self.kept is None:
            return None
        return pa.concat_tables(self.kept) if self.kept else pa.Table.from_batches([], LEDGER_SCHEMA)

    def add(self, rows: pa.Table, *, answered: int, now: float) -> None:
        """More rows, of which `answered` events were sent."""
        self.since = self.since if self.waiting else now
        self.waiting.append(rows)
        self.answered += answered
        if self.kept is not None:
            self.kept.append(rows)
            if _count(self.kept) > _MOST_KEPT:
                self.kept = None

    def is_due(self, now: float) -> bool:
        """Whether what is waiting should be written now."""
        return bool(self.waiting) and (now - self.since >= WRITE_SECONDS or _count(self.waiting) >= _MOST_WAITING)


class Recorder:
    """Tallies of the open hours, and the ledger parts of one delivery. Safe to use from several threads."""

    def __init__(self, ledger: Ledger, workspace: Workspace) -> None:
        self._ledger = ledger
        self._workspace = workspace
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._tallies: dict[Hour, HourTally] = {}
        self.prefix = f"{uuid.uuid4().hex}-"
        """Begins the names of its parts."""

    def expect(self, plan: HourPlan, *, unplanned: int) -> None:
        """An hour, or another share of it; `unplanned` events are in shares that will follow."""
        with self._lock:
            tally = self._tallies.get(plan.hour)
            if tally is None:
                self._tallies[plan.hour] = HourTally(plan, unplanned)
            else:
                tally.plan, tally.unplanned = tally.plan + plan, unplanned

    def tally(self, hour: Hour) -> HourTally:
        """What is known of an hour."""
        return self._tallies[hour]

    def complete_hours(self) -> list[Hour]:
        """Hours that can be closed, oldest first."""
        with self._lock:
            return sorted(hour for hour, tally in self._tallies.items() if not (tally.outstanding or tally.writing))

    def touched_hours(self) -> list[Hour]:
        """Open hours of which something was planned to be sent or has been."""
        with self._lock:
            return sorted(hour for hour, tally in self._tallies.items() if tally.answered or tally.plan.send)

    def closing(self, hour: Hour) -> HourTally:
        """The tally of an hour that is about to be closed.

        Writes what only parts can have: the rows of a large hour, and all of them when they have to be compared with
        those that another delivery has left.
        """
        with self._lock:
            tally = self._tallies[hour]
        if tally.kept is not None and self._ledger.foreign_parts(self._ledger.files(hour), self.prefix):
            tally.kept = None
        if tally.kept is None:
            with self._lock:
                waiting = self._taken(tally)
            self._write(tally, waiting)
        return tally

    def forget(self, hour: Hour) -> None:
        """The hour is closed."""
        with self._lock:
            del self._tallies[hour]

    def add(self, hour: Hour, rows: pa.Table, *, answered: int) -> None:
        """Rows for the ledger, `answered` of them for events that were sent; writes those that are due."""
        with self._lock:
            tally = self._tallies[hour]
            now = time.monotonic()
            tally.add(rows, answered=answered, now=now)
            due = self._taken(tally) if tally.is_due(now) and tally.outstanding else []
        self._write(tally, due)

    def write_waiting(self, *, force: bool) -> None:
        """Write the rows that are due; with `force` all that there are."""
        with self._lock:
            now = time.monotonic()
            due = [(tally, self._taken(tally)) for tally in self._tallies.values() if force or tally.is_due(now)]
        for tally, tables in due:
            self._write(tally, tables)

    def _taken(self, tally: HourTally) -> list[pa.Table]:
        taken, tally.waiting = tally.waiting, []
        tally.writing += bool(taken)
        return taken

    def _write(self, tally: HourTally, tables: list[pa.Table]) -> None:
        if not tables:
            return
        name = f"{self.prefix}{next(self._numbers):06d}"
        try:
            self._ledger.write_part(self._workspace, tally.plan.hour, name, pa.concat_tables(tables))
        finally:
            with self._lock:
                tally.writing -= 1


def _count(tables: list[pa.Table]) -> int:
    return sum(table.num_rows for table in tables)
