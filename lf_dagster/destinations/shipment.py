"""Sends the spools of plans with bounded requests in flight, records every answer, and closes each hour.

Worker threads send and write ledger parts; the calling thread cuts batches, merges the ledgers of complete hours and
reports them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime

import duckdb

from lf_dagster.destinations.base import BatchOutcome, Destination, HourDelivery
from lf_dagster.destinations.batching import Batch, cut_batches
from lf_dagster.destinations.closing import close_hour, close_unchanged
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.plan import Plan
from lf_dagster.destinations.receipts import receipts
from lf_dagster.destinations.recording import WRITE_SECONDS, Recorder
from lf_dagster.destinations.scratch import scratch_database
from lf_dagster.errors import LfDagsterError, RequestRejected
from lf_dagster.hours import Hour
from lf_dagster.http import Cancelled
from lf_dagster.lake import Workspace

logger = logging.getLogger(__name__)

MOST_SUSPECTS = 8
"""Events that may be refused one by one before anything was taken; more, and it is the request that is wrong."""


class Shipment:
    """Ships plans. `finished` is called with every hour that is complete, from the thread that calls `run`."""

    def __init__(
        self,
        destination: Destination,
        ledger: Ledger,
        recorder: Recorder,
        workspace: Workspace,
        *,
        run_id: str,
        clock: Callable[[], datetime],
        finished: Callable[[HourDelivery], None],
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._recorder = recorder
        self._workspace = workspace
        self._run_id = run_id
        self._clock = clock
        self._finished = finished
        self._futures: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._taken = 0

    def run(self, plans: Iterable[Plan]) -> None:
        """Send everything. Raises the first error, after the requests in flight have ended."""
        with scratch_database(self._workspace) as con:
            self._ledger.lake.register(con)
            try:
                self._send_all(con, plans)
            except Exception:
                self._save_what_is_there(con)
                raise

    def _send_all(self, con: duckdb.DuckDBPyConnection, plans: Iterable[Plan]) -> None:
        limits = self._destination.limits
        with ThreadPoolExecutor(limits.parallel, thread_name_prefix=f"deliver-{self._destination.name}") as pool:
            try:
                for plan in plans:
                    self._expect(con, plan)
                    for batch in self._batches(plan):
                        self._close_ready(con)
                        while len(self._futures) >= limits.parallel:
                            self._collect()
                        self._start(batch.hour)
                        self._futures.add(pool.submit(self._ship, batch, plan.stamp))
                while self._futures:
                    self._collect()
                    self._close_ready(con)
                self._close_ready(con)
            except BaseException:
                # Waits of the other requests end at once; their answers, if any come, still count.
                self._cancel.set()
                wait(self._futures)
                self._recorder.write_waiting(force=True)
                raise

    def _expect(self, con: duckdb.DuckDBPyConnection, plan: Plan) -> None:
        for hour, item in plan.hours.items():
            self._recorder.expect(item, unplanned=plan.portion.later)
            if hour in plan.changes:
                self._recorder.add(hour, plan.changes[hour], answered=0)
        if plan.portion.is_last:
            whole = [self._recorder.tally(hour).plan for hour in plan.portion.hours]
            for result in close_unchanged(con, self._ledger, whole):
                self._recorder.forget(result.hour)
                self._finished(result)

    def _start(self, hour: Hour) -> None:
        tally = self._recorder.tally(hour)
        tally.started = tally.started or time.monotonic()

    def _batches(self, plan: Plan) -> Iterator[Batch]:
        limits = self._destination.limits
        hours = {hour.start: hour for hour in plan.hours}
        return cut_batches(plan.spool, events=limits.events, size=limits.bytes, hours=hours)

    def _collect(self) -> None:
        """Wait for at least one request; raises its error."""
        ended, self._futures = wait(self._futures, timeout=WRITE_SECONDS, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()
        self._recorder.write_waiting(force=False)

    def _ship(self, batch: Batch, stamp: datetime) -> None:
        """One batch until every event of it is settled. Runs in a worker."""
        stats = self._recorder.tally(batch.hour).stats
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
                self._settle(current, outcome, stamp)
        for current, outcome in suspects:
            self._settle(current, outcome, stamp)

    def _refuse_to_bury(self, suspects: list[tuple[Batch, BatchOutcome]]) -> None:
        """A request that is wrong as a whole looks like one bad event after another; that must not reject them all."""
        if len(suspects) >= MOST_SUSPECTS:
            reason = next(iter(suspects[0][1].rejected.values()))
            raise RequestRejected(
                f"every event is refused, one by one: {reason}",
                hint="None of them was counted as rejected. The requests seem wrong as a whole; please report this.",
                hour=suspects[0][0].hour.key,
            )

    def _settle(self, batch: Batch, outcome: BatchOutcome, stamp: datetime) -> None:
        """Record what became of the events of one answer."""
        settled = len(batch) - len(outcome.pending)
        if settled == 0:
            return
        with self._lock:
            self._taken += settled - len(outcome.rejected)
        moment = max(self._clock(), stamp)
        rows = receipts(batch, outcome, moment=moment, run_id=self._run_id)
        self._recorder.add(batch.hour, rows, answered=settled)

    def _close_ready(self, con: duckdb.DuckDBPyConnection) -> None:
        for hour in self._recorder.complete_hours():
            self._finished(self._close(con, hour))

    def _close(self, con: duckdb.DuckDBPyConnection, hour: Hour) -> HourDelivery:
        tally = self._recorder.closing(hour)
        result = close_hour(
            con,
            self._ledger,
            self._workspace,
            tally.plan,
            own=self._recorder.prefix,
            rows=tally.rows,
            outstanding=tally.outstanding,
            sent=tally.answered,
            stats=tally.stats,
            run_id=self._run_id,
            started=tally.started or time.monotonic(),
            now=self._clock(),
        )
        self._recorder.forget(hour)
        return result

    def _save_what_is_there(self, con: duckdb.DuckDBPyConnection) -> None:
        """After an error: report complete hours, merge the others with the number of events that are outstanding.

        The parts are safe as they are, so trouble here is only logged: the next run merges them.
        """
        complete = set(self._recorder.complete_hours())
        for hour in sorted({*complete, *self._recorder.touched_hours()}):
            try:
                result = self._close(con, hour)
            except (LfDagsterError, OSError, duckdb.Error) as error:
                logger.warning("%s: the ledger's parts stay unmerged until the next run: %s", hour.key, error)
            else:
                if hour in complete:
                    self._finished(result)
