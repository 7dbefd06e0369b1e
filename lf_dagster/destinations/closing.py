"""Closes an hour: merges its ledger, checks that every event is accounted for, and counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb

from lf_dagster.destinations.base import HourDelivery
from lf_dagster.destinations.ledger import Ledger
from lf_dagster.destinations.plan import HourPlan, mask
from lf_dagster.errors import FatalError
from lf_dagster.http import HttpStats
from lf_dagster.lake import Workspace

FIRST_REJECTIONS = 5
_COUNTED = ("events", "delivered", "rejected", "skipped", "outstanding", "gone")


@dataclass
class _Account:
    """How an hour stands by its ledger."""

    delivered: int = 0
    rejected: int = 0
    skipped: int = 0
    gone: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first_rejections: list[dict[str, Any]] = field(default_factory=list)


def close_hour(
    con: duckdb.DuckDBPyConnection,
    ledger: Ledger,
    workspace: Workspace,
    plan: HourPlan,
    *,
    settled: int,
    stats: HttpStats,
    run_id: str,
    duration_seconds: float,
) -> HourDelivery:
    """Merge the hour's ledger when it changed, and count it. `settled` of the planned sends have an answer.

    The file's facts are `events`, `delivered`, `rejected`, `skipped`, `outstanding` (not settled), `gone`, `run_id`.
    Raises FatalError when a complete hour's events are not all accounted for; then nothing is replaced.
    """
    files = ledger.load(con, "merged", [plan.hour])
    account = _account(con)
    outstanding = plan.send - settled
    if outstanding == 0:
        _balance(plan, account)
    counts = {
        "events": plan.events,
        "delivered": account.delivered,
        "rejected": account.rejected,
        "skipped": account.skipped,
        "outstanding": outstanding,
        "gone": account.gone,
    }
    parts = [part for item in files for part in item.parts]
    if parts or not _stands(ledger.facts(plan.hour), counts):
        ledger.merge(con, workspace, plan.hour, table="merged", facts={**counts, "run_id": run_id})
        ledger.remove_parts(parts)
    wire = stats.snapshot()
    return HourDelivery(
        hour=plan.hour,
        events=plan.events,
        delivered=account.delivered,
        rejected=account.rejected,
        skipped=account.skipped,
        sent=settled,
        unchanged=plan.unchanged,
        gone=account.gone,
        requests=wire["requests"],
        bytes=wire["bytes_sent"],
        retries=wire["retries"],
        waited_seconds=wire["waited_seconds"],
        duration_seconds=duration_seconds,
        reasons=account.reasons,
        first_rejections=account.first_rejections,
        warnings=plan.warnings,
    )


def _account(con: duckdb.DuckDBPyConnection) -> _Account:
    account = _Account()
    rows = con.execute(
        "SELECT gone_at IS NOT NULL AS gone, status, reason, count(*) AS events FROM merged GROUP BY ALL "
        "ORDER BY events DESC, reason"
    ).fetchall()
    for gone, status, reason, events in rows:
        name = "gone" if gone else status
        setattr(account, name, getattr(account, name) + events)
        if reason and not gone:
            account.reasons[reason] = account.reasons.get(reason, 0) + events
    if account.rejected:
        account.first_rejections = _first_rejections(con)
    return account


def _first_rejections(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    rows = con.execute(
        "SELECT kind, event, entity_id, event_id, distinct_id, reason FROM merged "
        f"WHERE status = 'rejected' AND gone_at IS NULL ORDER BY time_ms, event_id LIMIT {FIRST_REJECTIONS}"
    ).fetchall()
    names = ("kind", "event", "entity_id", "event_id", "distinct_id", "reason")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return [{**item, "distinct_id": mask(item["distinct_id"] or "")} for item in found]


def _balance(plan: HourPlan, account: _Account) -> None:
    accounted = account.delivered + account.rejected + account.skipped
    if accounted != plan.events:
        raise FatalError(
            f"the ledger does not balance: {plan.events} events, but {account.delivered} delivered + "
            f"{account.rejected} rejected + {account.skipped} skipped = {accounted}",
            hint="Another delivery may have run at the same time; run the hour again.",
            hour=plan.hour.key,
        )


def _stands(facts: dict[str, str] | None, counts: dict[str, int]) -> bool:
    return facts is not None and all(facts.get(name) == str(counts[name]) for name in _COUNTED)
