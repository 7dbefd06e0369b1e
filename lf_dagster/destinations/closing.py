"""Closes an hour: merges its ledger, checks that every event is accounted for, and counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from lf_dagster.destinations.base import (
    AWAITING_TRACE,
    CHANGE_KEPT_BACK,
    DELETED,
    DROPPED,
    HELD,
    TOMBSTONED,
    UNVERIFIED,
    HourDelivery,
)
from lf_dagster.destinations.hot_keys import mask
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.plan import HourPlan
from lf_dagster.errors import FatalError
from lf_dagster.hours import Hour
from lf_dagster.http import HttpStats
from lf_dagster.lake import Workspace

FIRST_REJECTIONS = 5


@dataclass
class _Account:
    """How an hour stands by its ledger."""

    delivered: int = 0
    rejected: int = 0
    skipped: int = 0
    gone: int = 0
    deleted: int = 0
    tombstoned: int = 0
    identity_changed: int = 0
    held: int = 0
    kept_back: int = 0
    awaiting: int = 0
    retryable: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first_rejections: list[dict[str, Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.delivered + self.rejected + self.skipped

    def add(self, events: int, *, status: str, reason: str | None, gone: bool, there: bool, other_key: bool) -> None:
        """Count events that are alike; `there`: at the destination, `other_key`: not under the source's identity."""
        self.gone += events * gone
        self.deleted += events * (gone and there and reason in (DELETED, TOMBSTONED))
        self.tombstoned += events * (gone and reason == TOMBSTONED)
        if gone:
            return
        setattr(self, status, getattr(self, status) + events)
        self.identity_changed += events * other_key
        self.held += events * (reason == HELD)
        self.kept_back += events * (reason == CHANGE_KEPT_BACK)
        self.awaiting += events * (reason == AWAITING_TRACE)
        self.retryable += events * (status == "rejected" and (reason or "").startswith((DROPPED, UNVERIFIED)))
        if reason:
            self.reasons[reason] = self.reasons.get(reason, 0) + events


def close_unchanged(
    con: duckdb.DuckDBPyConnection, ledger: Ledger, plans: Sequence[HourPlan]
) -> Iterator[HourDelivery]:
    """Results of the hours for which there is nothing to do, all counted in one go; other hours are left out."""
    idle = [plan for plan in plans if not (plan.send or plan.changes)]
    if not idle:
        return
    files = {item.hour: item for item in ledger.load(con, "idle", [plan.hour for plan in idle], columns=_COUNTED)}
    accounts = _accounts(con, lambda: "idle")
    for plan in idle:
        account = accounts.get(plan.hour, _Account())
        known = None if files[plan.hour].parts else ledger.facts(plan.hour)
        if account.total == plan.events and _stands(known, _facts(plan, account, outstanding=0)):
            yield _result(plan, account, sent=0, stats=HttpStats(), duration_seconds=0.0)


def close_hour(
    con: duckdb.DuckDBPyConnection,
    ledger: Ledger,
    workspace: Workspace,
    plan: HourPlan,
    *,
    own: str,
    rows: pa.Table | None,
    outstanding: int,
    sent: int,
    stats: HttpStats,
    run_id: str,
    started: float,
    now: datetime,
) -> HourDelivery:
    """Merge the hour's ledger and count it. `sent` events have an answer, `outstanding` have none; `started` is
    monotonic; `own` and `rows` are what this delivery adds to the ledger (`Ledger.combine`).

    The file's facts are `events`, `delivered`, `rejected`, `skipped`, `outstanding`, the counts of
    `HourDelivery` from `gone` to `kept_back`, `awaiting` and `retryable`, `awaiting_gap` (the hour to wait for),
    `run_id`, `delivered_at` (`now`, ISO) and, when nothing is outstanding, `events_build`: which build of the event
    tables was looked at.
    Raises FatalError when a complete hour's events are not all accounted for; then nothing is replaced.
    """
    combined = ledger.combine(con, plan.hour, own=own, rows=rows)
    account = _accounts(con, lambda: combined.relation(con)).get(plan.hour, _Account())
    if outstanding == 0:
        _balance(plan, account)
    facts = {**_facts(plan, account, outstanding=outstanding), "run_id": run_id, "delivered_at": now.isoformat()}
    ledger.merge(con, workspace, plan.hour, combined, facts=facts)
    ledger.remove_parts(combined.files.parts)
    return _result(plan, account, sent=sent, stats=stats, duration_seconds=time.monotonic() - started)


def _result(plan: HourPlan, account: _Account, *, sent: int, stats: HttpStats, duration_seconds: float) -> HourDelivery:
    wire = stats.snapshot()
    return HourDelivery(
        hour=plan.hour,
        events=plan.events,
        delivered=account.delivered,
        rejected=account.rejected,
        skipped=account.skipped,
        sent=sent,
        unchanged=plan.unchanged,
        **_details(account),
        requests=wire["requests"],
        bytes=wire["bytes_sent"],
        retries=wire["retries"],
        waited_seconds=wire["waited_seconds"],
        duration_seconds=duration_seconds,
        reasons=account.reasons,
        first_rejections=account.first_rejections,
        warnings=plan.warnings,
    )


def _accounts(con: duckdb.DuckDBPyConnection, table: Callable[[], str]) -> dict[Hour, _Account]:
    """How each hour of a table of ledger rows stands. `table`: its name, asked for before each query."""
    accounts: dict[Hour, _Account] = {}
    for hour, status, reason, gone, there, other_key, events in con.execute(_STATUSES.format(table=table())).fetchall():
        account = accounts.setdefault(Hour(hour), _Account())
        account.add(events, status=status, reason=reason, gone=gone, there=there, other_key=other_key)
    if any(account.rejected for account in accounts.values()):
        for hour, *row in con.execute(_REJECTIONS.format(table=table())).fetchall():
            item = dict(zip(_REJECTION, row, strict=True))
            shown = {**item, "distinct_id": mask(item["distinct_id"] or "")}
            accounts[Hour(hour)].first_rejections.append(shown)
    return accounts


_STATUSES = """
SELECT partition_hour, status, reason, gone_at IS NOT NULL AS gone, delivered_identity IS NOT NULL AS there,
    coalesce(delivered_identity <> identity, false) AS other_key, count(*) AS events
FROM {table}
GROUP BY ALL ORDER BY events DESC, reason
"""
_REJECTION = ("kind", "event", "entity_id", "event_id", "distinct_id", "reason")
_COUNTED = (
    *("partition_hour", "status", "reason", "gone_at", "delivered_identity", "identity", "time_ms"),
    *("kind", "event", "entity_id", "event_id", "distinct_id"),
)
_REJECTIONS = f"""
SELECT partition_hour, {", ".join(_REJECTION)} FROM {{table}} WHERE status = 'rejected' AND gone_at IS NULL
QUALIFY row_number() OVER (PARTITION BY partition_hour ORDER BY time_ms, event_id, event) <= {FIRST_REJECTIONS}
ORDER BY partition_hour, time_ms, event_id, event
"""


_DETAILS = (
    *("gone", "deleted", "tombstoned", "identity_changed", "held", "kept_back"),
    *("awaiting", "retryable"),
)


def _details(account: _Account) -> dict[str, int]:
    return {name: getattr(account, name) for name in _DETAILS}


def _facts(plan: HourPlan, account: _Account, *, outstanding: int) -> dict[str, str]:
    counts = {
        "events": plan.events,
        "delivered": account.delivered,
        "rejected": account.rejected,
        "skipped": account.skipped,
        "outstanding": outstanding,
        **_details(account),
    }
    facts = {name: str(number) for name, number in counts.items()}
    if plan.awaited is not None:
        facts["awaiting_gap"] = plan.awaited.key
    if plan.events_build is not None and outstanding == 0:
        facts["events_build"] = plan.events_build
    return facts


def _balance(plan: HourPlan, account: _Account) -> None:
    if account.total != plan.events:
        raise FatalError(
            f"the ledger does not balance: {plan.events} events, but {account.delivered} delivered + "
            f"{account.rejected} rejected + {account.skipped} skipped = {account.total}",
            hint="Another delivery may have run at the same time; run the hour again.",
            hour=plan.hour.key,
        )


def _stands(known: dict[str, str] | None, facts: dict[str, str]) -> bool:
    return known is not None and all(known.get(name) == value for name, value in facts.items())
