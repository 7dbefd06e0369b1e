"""Ships the events of some hours to one destination and accounts for every one of them.

    warehouse --plan (SQL)--> spool --slices--> requests, bounded in flight --answers--> ledger (parts, while it runs)

The hours are planned in portions, the next one while the last requests of the one before are in flight. Answers are
written at once, or after a moment when they come in quick succession, so a kill at any instruction loses the answers of
that moment and of the requests in flight and nothing else: the next run sends those events again, under the same ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import cast

import duckdb

from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings, secret
from lf_dagster.destinations.base import Destination, HourDelivery, ProtocolChanged
from lf_dagster.destinations.hot_keys import hot_key_warnings
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.locks import one_delivery
from lf_dagster.destinations.plan import Plan, Planner
from lf_dagster.destinations.policy import Policy
from lf_dagster.destinations.portions import Portion, count_events, portions
from lf_dagster.destinations.recording import Recorder
from lf_dagster.destinations.shipment import Shipment
from lf_dagster.destinations.statements import IN_PORTION, KEPT_KEYS
from lf_dagster.destinations.waiting import NOBODY, Waits
from lf_dagster.errors import LfDagsterError, RetryableError
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake, Workspace
from lf_dagster.warehouse import Warehouse
from lf_dagster.warehouse.hours import build_ids

logger = logging.getLogger(__name__)

PrepareSql = Callable[[str], str]
"""From a destination's protocol to the SQL of its prepared events, which takes their keys from `KEPT_KEYS` and may
leave out events that are not `IN_PORTION`."""
LOCK_TIMEOUT_SECONDS = 1800.0


def deliver(
    destination: Destination,
    *,
    project: ProjectSettings,
    project_id: str,
    project_name: str,
    host: str,
    warehouse: Warehouse,
    lake: Lake,
    hours: Iterable[Hour],
    run_id: str,
    now: datetime,
    resend: bool = False,
    waits: Waits = NOBODY,
    on_hour: Callable[[HourDelivery], None] | None = None,
    prepare: PrepareSql | None = None,
    clock: Callable[[], datetime] = utc_now,
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
) -> list[HourDelivery]:
    """Deliver the hours, oldest first; the result is in the order of the hours.

    Sends what is new or changed against the ledger (`resend`: everything), under keys that never change once an event
    is delivered. `waits`: what new events without user wait for (`waits_for_traces`). `now` is what event times and
    ages of hours are judged by. `on_hour` is called from this thread as soon as an hour is complete. `prepare` replaces
    `events.prepared_sql`.

    Raises FatalError or RetryableError of the first request that failed for good, once the requests in flight have
    ended; everything that was acknowledged stays in the ledger, and hours already reported stay delivered.
    """
    wanted = sorted(set(hours))
    if not wanted:
        return []
    outline = None
    if prepare is None:
        prepare = events_sql(destination.name, project, project_id=project_id, project_name=project_name, host=host)
        outline = _outline_sql(destination.name, project)
    ledger = Ledger(lake, project.name, destination.name)
    policy = Policy.of(project, destination.name, resend=resend, waits=waits)
    delivery = _Delivery(
        *(destination, ledger, warehouse),
        prepare=prepare,
        outline=outline,
        run_id=run_id,
        now=now,
        policy=policy,
        clock=clock,
    )
    done: dict[Hour, HourDelivery] = {}

    def finished(result: HourDelivery) -> None:
        done[result.hour] = result
        if on_hour is not None:
            on_hour(result)

    try:
        with (
            one_delivery(ledger, timeout_seconds=lock_timeout_seconds),
            lake.workspace(f"{lake.root}/spool") as workspace,
        ):
            delivery.run(wanted, workspace, finished)
    except LfDagsterError as error:
        error.with_context(project=project.name, destination=destination.name)
        raise
    return [done[hour] for hour in wanted]


_OUTLINE = "SELECT hour, kind, entity_id, NULL::BIGINT AS row, distinct_id AS user_id FROM ({prepared})"
"""Stands for `events.outline_sql` where events are prepared in another way."""


class _Delivery:
    """One call of `deliver`: plan, ship, and plan again if the destination's protocol turns out to be another."""

    def __init__(
        self,
        destination: Destination,
        ledger: Ledger,
        warehouse: Warehouse,
        *,
        prepare: PrepareSql,
        outline: str | None,
        run_id: str,
        now: datetime,
        policy: Policy,
        clock: Callable[[], datetime],
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._warehouse = warehouse
        self._prepare = prepare
        self._outline = outline
        self._run_id = run_id
        self._now = now
        self._policy = policy
        self._clock = clock

    def run(self, hours: Sequence[Hour], workspace: Workspace, finished: Callable[[HourDelivery], None]) -> None:
        """Deliver the hours; `finished` is called with each that is complete."""
        open_hours = set(hours)

        def close(result: HourDelivery) -> None:
            open_hours.discard(result.hour)
            finished(result)

        while open_hours:
            recorder = Recorder(self._ledger, workspace)
            shipment = Shipment(
                *(self._destination, self._ledger, recorder, workspace),
                run_id=self._run_id,
                clock=self._clock,
                finished=close,
            )
            try:
                with closing(self._plans(sorted(open_hours), recorder.prefix)) as plans:
                    shipment.run(plans)
            except ProtocolChanged:
                # What was acknowledged is in the ledger: new plans hold the rest, in the other protocol's form.
                logger.warning("%s: falling back to protocol %s", self._destination.name, self._destination.protocol)

    def _plans(self, hours: Sequence[Hour], own: str) -> Generator[Plan]:
        """The plans of the portions, each made when it is asked for, with requests of the one before in flight.

        `own` is what the names of this delivery's ledger parts begin with.
        """
        protocol = self._destination.protocol
        prepared_sql = self._prepare(protocol)
        outline = self._outline or _OUTLINE.format(prepared=prepared_sql)
        with self._session() as con:
            with self._warehouse.attached(con):
                Portion(tuple(hours)).begin(con, self._ledger)
                counts = count_events(con, outline, hours)
                warnings = hot_key_warnings(
                    con, self._destination, self._ledger, counts, outline=outline, prepared_sql=prepared_sql
                )
                wanted = list(portions(con, outline, counts))
                builds = build_ids(con, self._ledger.project, "events", hours)

            for portion in wanted:
                with self._warehouse.attached(con):
                    planner = Planner(
                        con,
                        self._ledger,
                        self._destination,
                        portion,
                        prepared_sql,
                        protocol,
                        build_ids(con, self._ledger.project, "events", portion.hours),
                        self._policy,
                        now=self._now,
                        run_id=self._run_id,
                        of_ledger=portion.of_ledger(outline),
                        own=own,
                    )
                    _check_rows_stand(portion, builds, planner.builds)
                    planner.decide(repair=True)
                yield planner.commit(warnings=warnings, clock=self._clock)
                planner.forget()

    @contextmanager
    def _session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._warehouse.session() as con:
            # A portion is hardly more than one row group, and a second thread that finds nothing to do burns CPU.
            con.execute("SET threads = 1")
            # It would move the choice of a portion above the forming of all payloads.
            con.execute("SET disabled_optimizers = 'filter_pullup'")
            # Of ledgers, which are read once.
            con.execute("SET enable_external_file_cache = false")
            self._ledger.lake.register(con)
            yield con


def _check_rows_stand(portion: Portion, before: Mapping[Hour, str], now: Mapping[Hour, str]) -> None:
    """Raises RetryableError when the rows that a share was given may be other rows by now."""
    for hour in portion.hours if portion.rows else ():
        if before.get(hour) != now.get(hour):
            raise RetryableError(
                "the event tables were made again while their events were being delivered",
                hint="What was sent is accounted for; run the hour again.",
                hour=hour.key,
            )


def events_sql(
    destination: str, project: ProjectSettings, *, project_id: str, project_name: str, host: str
) -> PrepareSql:
    """The prepared events of the project's event tables, with the salt of hashed user ids read from its variable."""
    from lf_dagster.events import DestinationName, Protocol, prepared_sql

    settings = project.destinations[destination]
    salt = secret(settings.hash_user_ids_env) if settings.hash_user_ids_env else None

    def prepare(protocol: str) -> str:
        return prepared_sql(
            cast("DestinationName", destination),
            project,
            protocol=cast("Protocol", protocol),
            project_id=project_id,
            project_name=project_name,
            host=host,
            user_id_salt=salt,
            kept=KEPT_KEYS,
            portion=IN_PORTION,
        )

    return prepare


def _outline_sql(destination: str, project: ProjectSettings) -> str:
    from lf_dagster.events import outline_sql

    return outline_sql(destination, project)
