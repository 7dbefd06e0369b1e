"""What `lf-dagster status` reports about one project, as plain data; docs/status.md describes the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from lf_dagster.accounting import (
    COUNTS,
    REASONS,
    REPORTED_FROM,
    BrokenFile,
    Failures,
    ProjectAccount,
    account,
    allowed_lag,
    arrived_until,
    lag_of,
)
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour, contiguous_blocks, iso
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse

LOCK_TIMEOUT_SECONDS = 10.0
_FIRST_HOURS = 3


@dataclass(frozen=True)
class Report:
    """One project at one moment. `failures`: outstanding hours whose newest runs failed; `newest_failed`: whether the
    last run did, also one that somebody asked for; `note`: the audit's."""

    settings: ProjectSettings
    found: ProjectAccount
    failures: Mapping[Hour, Failures]
    last_error: tuple[datetime, str] | None
    newest_failed: bool
    note: str | None

    @classmethod
    def of(cls, settings: ProjectSettings, instance: Any, now: datetime) -> Report:
        """Look at the lake, the warehouse and Dagster's runs. Raises WarehouseLocked after LOCK_TIMEOUT_SECONDS."""
        from lf_dagster.assets.runs import failures_of, last_failure, newest_run_failed

        lake = Lake(settings.data)
        failures = failures_of(instance, settings.name)
        found = account(
            settings,
            lake,
            Warehouse.of(settings, lake, lock_timeout_seconds=LOCK_TIMEOUT_SECONDS),
            now=now,
            given_up=frozenset(hour for hour, failed in failures.items() if failed.count >= REPORTED_FROM),
        )
        outstanding = {item.hour for item in found.outstanding()}
        relevant = {hour: failed for hour, failed in failures.items() if hour in outstanding}
        last_error, failed = last_failure(instance, settings.name), newest_run_failed(instance, settings.name)
        return cls(settings, found, relevant, last_error, failed, _audit_note(instance, settings))

    @property
    def failing(self) -> dict[Hour, Failures]:
        """Hours that failed again and again."""
        return {hour: failed for hour, failed in sorted(self.failures.items()) if failed.count >= REPORTED_FROM}

    @property
    def alarms(self) -> list[str]:
        """What `--check` fails for, in words; empty when all is well."""
        lag, allowed, failing = lag_of(self.found), allowed_lag(self.settings), self.failing
        found = [f"{counted(len(failing))} failed again and again, the first is {min(failing).key}"] if failing else []
        if by_hand := [hour for hour, file in self.found.broken if file.is_ledger]:
            found.append(f"a ledger cannot be read, the first is of {by_hand[0].key}")
        if lag is not None and lag > allowed:
            found.append(f"the lag is {span(lag)}, allowed are {span(allowed)}")
        return found

    @property
    def document(self) -> dict[str, Any]:
        found = self.found
        return {
            "project": found.project,
            "at": iso(found.now),
            "ok": not self.alarms,
            "alarms": self.alarms,
            **_how_far(found, None),
            "allowed_lag_minutes": _minutes(allowed_lag(self.settings)),
            "extracted": {
                "hours": len(found.extracted),
                "from": found.extracted[0].hour.key if found.extracted else None,
                "to": found.extracted[-1].hour.shift(1).key if found.extracted else None,
                "rows": found.rows(),
                "deleted": found.rows("deleted"),
                "missing": [_block(block) for block in contiguous_blocks(found.missing)],
            },
            "outstanding": self.outstanding,
            "unreadable": [_unreadable(hour, file) for hour, file in self.found.broken],
            "failures": [{**_block(hours), **_tries(failed)} for hours, failed in self.failures_by_block()],
            "last_error": {"at": iso(self.last_error[0]), "message": self.last_error[1]} if self.last_error else None,
            "audit": self.audit,
            "destinations": {name: self._destination(name) for name in found.destinations},
        }

    @property
    def outstanding(self) -> dict[str, Any]:
        """For each reason: how many hours are outstanding, the first of them, and what it means."""
        return {
            reason: {
                "hours": count,
                "first": [item.hour.key for item in self.found.outstanding() if reason in item.reasons][:_FIRST_HOURS],
                "means": REASONS[reason],
            }
            for reason, count in self.found.reasons().items()
        }

    @property
    def audit(self) -> dict[str, Any] | None:
        audit = self.found.audit
        if audit.audited_at is None:
            return None
        return {
            "at": iso(audit.audited_at),
            "hours": len(audit.hours),
            "compared": sum(item.compared_at == audit.audited_at for item in audit.hours),
            "differing": sum(item.matches is False for item in audit.hours),
            "note": self.note,
        }

    def failures_by_block(self) -> list[tuple[list[Hour], Failures]]:
        """Neighbouring hours that failed together."""
        blocks = contiguous_blocks(self.failures)
        return [
            (list(hours), failed) for block in blocks for failed, hours in groupby(block, self.failures.__getitem__)
        ]

    def _destination(self, name: str) -> dict[str, Any]:
        hours = self.found.extracted
        return {
            **_how_far(self.found, name),
            **{count: self.found.total(name, count) for count in COUNTS},
            "outstanding_hours": {item.hour.key: item.state for item in hours if not item.settled_at(name)},
            "rejected_hours": {
                item.hour.key: item.count(name, "rejected") for item in hours if item.count(name, "rejected")
            },
        }


def span(delta: timedelta) -> str:
    """`12 min`, `2 h 05 min`, `3 d 04 h`."""
    minutes = int(delta.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60:02d} h"


def _how_far(found: ProjectAccount, destination: str | None) -> dict[str, Any]:
    settled, arrived = found.settled_until(destination), arrived_until(found, destination)
    return {
        "settled_until": settled.key if settled else None,
        "arrived_until": arrived.key if arrived else None,
        "lag_minutes": _minutes(lag_of(found, destination)),
    }


def _minutes(delta: timedelta | None) -> float | None:
    return None if delta is None else round(delta.total_seconds() / 60, 1)


def _block(hours: Sequence[Hour]) -> dict[str, Any]:
    return {"from": hours[0].key, "to": hours[-1].shift(1).key, "hours": len(hours)}


def _tries(failed: Failures) -> dict[str, Any]:
    return {"failures": failed.count, "next_try": iso(failed.again_at), "failing": failed.count >= REPORTED_FROM}


def _unreadable(hour: Hour, file: BrokenFile) -> dict[str, str]:
    reason = one_line(file.reason)
    return {"hour": hour.key, "what": file.what, "file": file.path, "reason": reason, "do": file.remedy}


def one_line(text: str) -> str:
    """What a library says, without its line breaks."""
    return " ".join(text.split())


def counted(count: int) -> str:
    """`1 hour`, `2 hours`."""
    return "1 hour" if count == 1 else f"{count} hours"


def _audit_note(instance: Any, settings: ProjectSettings) -> str | None:
    """Why the last audit compared less than it should, as its materialisation says."""
    from lf_dagster.assets import asset_key

    event = instance.get_latest_materialization_event(asset_key(settings.name, "source_audit"))
    metadata: Mapping[str, Any] = event.asset_materialization.metadata if event and event.asset_materialization else {}
    return str(metadata["note"].value) if "note" in metadata else None
