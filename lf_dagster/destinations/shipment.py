"""Sends a plan's spool with bounded requests in flight, records every answer, and closes each hour.

Worker threads send and write ledger parts; the calling thread cuts batches, merges the ledgers of complete hours and
reports them.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from lf_dagster.destinations.base import BatchOutcome, Destination, HourDelivery
from lf_dagster.destinations.batching import Batch, read_batches
from lf_dagster.destinations.closing import close_hour, close_unchanged
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.plan import Plan
from lf_dagster.destinations.receipts import receipts
from lf_dagster.errors import LfDagsterError, RequestRejected
from lf_dagster.hours import Hour
from lf_dagster.http import Cancelled, HttpStats
from lf_dagster.lake import Workspace

logger = logging.getLogger(__name__)

MOST_SUSPECTS = 8
"""Events that may be refused one by one before anything was taken; more, and it is the request that is wrong."""


@dataclass
class HourTally:
    """What a shipment did for one hour so far: `started` its first request, `settled` events have an answer."""

    stats: HttpStats = field(default_factory=HttpStats)
    started: float | None = None
    settled: int = 0


class Shipment:
    """Ships one plan. `finished` is called with every hour that is complete, from the thread that calls `run`."""

    def __init__(
        self,
        destination: Destination,
        ledger: Ledger,
        plan: Plan,
        workspace: Workspace,
        *,
        run_id: str,
        clock: Callable[[], datetime],
        finished: Callable[[HourDelivery], None],
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._plan = plan
        self._workspace = workspace
        self._run_id = run_id
        self._clock = clock
        self._finished = finished
        self._tallies = {hour: HourTally() for hour in plan.hours}
        self._open = sorted(plan.hours)
        self._parts = (f"{uuid.uuid4().hex}-{number:06d}" for number in itertools.count())
        self._futures: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._taken = 0

    def run(self) -> None:
        """Send everything. Raises the first error, after the requests in flight have ended."""
        with _scratch_database(self._workspace) as con:
            self._ledger.lake.register(con)
            self._close_unchanged(con)
            try:
                self._send_all(con)
            except Exception:
                self._save_what_is_there(con)
                raise

    def _send_all(self, con: duckdb.DuckDBPyConnection) -> None:
        limits = self._destination.limits
        with ThreadPoolExecutor(limits.parallel, thread_name_prefix=f"deliver-{self._destination.name}") as pool:
            try:
                for batch in self._batches():
                    self._close_ready(con, before=batch.hour)
                    while len(self._futures) >= limits.parallel:
                        self._collect()
                    self._start(batch.hour)
                    self._futures.add(pool.submit(self._ship, batch))
                while self._futures:
                    self._collect()
                    self._close_ready(con, before=None)
                self._close_ready(con, before=None)
            except BaseException:
                # Waits of the other requests end at once; their answers, if any come, still count.
                self._cancel.set()
                wait(self._futures)
                raise

    def _start(self, hour: Hour) -> None:
        tally = self._tallies[hour]
        tally.started = tally.started or time.monotonic()

    def _batches(self) -> Iterator[Batch]:
        plan, limits = self._plan, self._destination.limits
        if plan.spool is None:
            return iter(())
        return read_batches(
            plan.spool,
            events=limits.events,
            size=limits.bytes,
            hours={hour.start: hour for hour in plan.hours},
        )

    def _collect(self) -> None:
        """Wait for at least one request; raises its error."""
        ended, self._futures = wait(self._futures, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()

    def _ship(self, batch: Batch) -> None:
        """One batch until every event of it is settled. Runs in a worker."""
        stats = self._tallies[batch.hour].stats
        suspects: list[tuple[Batch, BatchOutcome]] = []
        stack = [batch]
        while stack:
            if self._cancel.is_set():
                raise Cancelled
            current = stack.pop()
            outcome = self._destination.send(current, stats=stats, cancelled=self._cancel.is_set)
            stack.extend(reversed(outcome.again))
            if self._taken == 0 and len(current) < len(batch) and len(outcome.rejected) == 1 == len(current):
                suspects.append((current, outcome))
                self._refuse_to_bury(suspects)
            else:
                self._settle(current, outcome)
        for current, outcome in suspects:
            self._settle(current, outcome)

    def _refuse_to_bury(self, suspects: list[tuple[Batch, BatchOutcome]]) -> None:
        """A request that is wrong as a whole looks like one bad event after another; that must not reject them all."""
        if len(suspects) >= MOST_SUSPECTS:
            reason = next(iter(suspects[0][1].rejected.values()))
            raise RequestRejected(
                f"every event is refused, one by one: {reason}",
                hint="None of them was counted as rejected. The requests seem wrong as a whole; please report this.",
                hour=suspects[0][0].hour.key,
            )

    def _settle(self, batch: Batch, outcome: BatchOutcome) -> None:
        """Write what became of the events of one answer."""
        settled = len(batch) - len(outcome.pending)
        if settled == 0:
            return
        moment = max(self._clock(), self._plan.stamp)
        rows = receipts(batch, outcome, moment=moment, run_id=self._run_id)
        with self._lock:
            name = next(self._parts)
        self._ledger.write_part(self._workspace, batch.hour, name, rows)
        with self._lock:
            self._tallies[batch.hour].settled += settled
            self._taken += settled - len(outcome.rejected)

    def _close_unchanged(self, con: duckdb.DuckDBPyConnection) -> None:
        for result in close_unchanged(con, self._ledger, list(self._plan.hours.values())):
            self._open.remove(result.hour)
            self._finished(result)

    def _close_ready(self, con: duckdb.DuckDBPyConnection, *, before: Hour | None) -> None:
        """Close the hours whose events are all settled, up to an hour that is being sent."""
        ready = [hour for hour in self._open if (before is None or hour < before) and self._is_settled(hour)]
        for hour in ready:
            self._open.remove(hour)
            self._finished(self._close(con, hour))

    def _is_settled(self, hour: Hour) -> bool:
        return self._tallies[hour].settled == self._plan.hours[hour].send

    def _close(self, con: duckdb.DuckDBPyConnection, hour: Hour) -> HourDelivery:
        tally = self._tallies[hour]
        return close_hour(
            con,
            self._ledger,
            self._workspace,
            self._plan.hours[hour],
            settled=tally.settled,
            stats=tally.stats,
            run_id=self._run_id,
            started=tally.started or time.monotonic(),
            now=self._clock(),
        )

    def _save_what_is_there(self, con: duckdb.DuckDBPyConnection) -> None:
        """After an error: report complete hours, merge the others with the number of events that are outstanding.

        The parts are safe as they are, so trouble here is only logged: the next run merges them.
        """
        try:
            self._close_ready(con, before=None)
            for hour in [hour for hour in self._open if self._tallies[hour].settled or self._plan.hours[hour].send]:
                self._close(con, hour)
        except (LfDagsterError, OSError, duckdb.Error) as error:
            logger.warning("the ledger's parts stay unmerged until the next run: %s", error)


@contextmanager
def _scratch_database(workspace: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB for merging ledgers that spills into the workspace."""
    spill = workspace.path("spill")
    con = duckdb.connect(":memory:", config={"temp_directory": str(spill), "memory_limit": "1GB"})
    try:
        con.execute("SET TimeZone = 'UTC'")
        yield con
    finally:
        con.close()
