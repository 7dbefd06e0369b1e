"""Ships the events of some hours to one destination and accounts for every one of them.

    warehouse --plan (SQL)--> spool --slices--> requests, bounded in flight --answers--> ledger parts --merge--> ledger

A part is written as soon as a request is answered, so a kill at any instruction loses the answers of the requests in
flight and nothing else: the next run sends those events again, under the same ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import cast

from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings, secret
from lf_dagster.destinations.base import Destination, HourDelivery, ProtocolChanged
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.locks import lock_hours
from lf_dagster.destinations.plan import Plan, Planner
from lf_dagster.destinations.policy import Policy
from lf_dagster.destinations.shipment import Shipment
from lf_dagster.destinations.statements import KEPT_KEYS
from lf_dagster.destinations.waiting import NOBODY, Waits
from lf_dagster.errors import LfDagsterError
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake, Workspace
from lf_dagster.warehouse import Warehouse
from lf_dagster.warehouse.hours import build_ids

logger = logging.getLogger(__name__)

PrepareSql = Callable[[str], str]
"""From a destination's protocol to the SQL of its prepared events, which takes their keys from `KEPT_KEYS`."""
LOCK_TIMEOUT_SECONDS = 600.0


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
    if prepare is None:
        prepare = events_sql(destination.name, project, project_id=project_id, project_name=project_name, host=host)
    ledger = Ledger(lake, project.name, destination.name)
    policy = Policy.of(project, destination.name, resend=resend, waits=waits)
    delivery = _Delivery(
        destination, ledger, warehouse, prepare=prepare, run_id=run_id, now=now, policy=policy, clock=clock
    )
    done: dict[Hour, HourDelivery] = {}

    def finished(result: HourDelivery) -> None:
        locks.release(result.hour)
        done[result.hour] = result
        if on_hour is not None:
            on_hour(result)

    try:
        with (
            lock_hours(ledger, wanted, timeout_seconds=lock_timeout_seconds) as locks,
            lake.workspace(f"{lake.root}/spool") as workspace,
        ):
            delivery.run(wanted, workspace, finished)
    except LfDagsterError as error:
        error.with_context(project=project.name, destination=destination.name)
        raise
    return [done[hour] for hour in wanted]


class _Delivery:
    """One call of `deliver`: plan, ship, and plan again if the destination's protocol turns out to be another."""

    def __init__(
        self,
        destination: Destination,
        ledger: Ledger,
        warehouse: Warehouse,
        *,
        prepare: PrepareSql,
        run_id: str,
        now: datetime,
        policy: Policy,
        clock: Callable[[], datetime],
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._warehouse = warehouse
        self._prepare = prepare
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
            plan = self._plan(sorted(open_hours), workspace)
            shipment = Shipment(
                *(self._destination, self._ledger, plan, workspace),
                run_id=self._run_id,
                clock=self._clock,
                finished=close,
            )
            try:
                shipment.run()
            except ProtocolChanged:
                # What was acknowledged is in the ledger: the new plan holds the rest, in the other protocol's form.
                logger.warning("%s: falling back to protocol %s", self._destination.name, self._destination.protocol)

    def _plan(self, hours: Sequence[Hour], workspace: Workspace) -> Plan:
        protocol = self._destination.protocol
        prepared_sql = self._prepare(protocol)
        with self._warehouse.connect(read_only=True) as con:
            self._ledger.lake.register(con)
            planner = Planner(
                con,
                self._ledger,
                self._destination,
                hours,
                prepared_sql,
                protocol,
                build_ids(con, self._ledger.project, "events", hours),
                self._policy,
                now=self._now,
                run_id=self._run_id,
            )
            planner.decide(repair=True)
            return planner.commit(workspace, clock=self._clock)


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
        )

    return prepare
