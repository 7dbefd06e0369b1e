"""Checks of an hour, made from what a run has in hand anyway: no step, no request and no query of their own.

A check never stops a run. What must stop one is refused where it happens, before anything is overwritten or sent;
docs/checks.md says where, and what each check means.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from typing_extensions import Self

from lf_dagster.accounting import AuditedHour
from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import HourDelivery
from lf_dagster.hours import ONE_HOUR, Hour, iso
from lf_dagster.source import HourExtract

_WARN, _ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR

MADE_UP_AFTER = 48 * ONE_HOUR
"""An hour that first lands later than this after its end is history that somebody asked for, not a late hour."""
SHOWS_WITHIN = timedelta(minutes=30)
"""How long Langfuse may take until it counts what it was sent (contracts: langfuse.md 10)."""
_MOSTLY_REJECTED = 0.5
_MOST_LISTED = 24

RAW_CHECKS = {
    "matches_source": "The read returned as many observations as Langfuse counted at the last audit, as far as a count "
    "that is older than the read can tell. A hint, no proof: the count includes versions that are not merged yet.",
}
DELIVERY_CHECKS = {
    "accounted": "Every event of the hour is delivered, rejected or skipped.",
    "rejections": "The destination rejected no more than `checks.max_rejected_share` of the hour's events.",
    "on_time": "The hour was complete here within `checks.fresh_minutes` of its scheduled run. Judged when the hour is "
    "complete for the first time; history made up later passes.",
}


def check_specs(
    key: dg.AssetKey, checks: Mapping[str, str], partitions: dg.HourlyPartitionsDefinition
) -> list[dg.AssetCheckSpec]:
    """The checks (name and description) of an asset whose own step evaluates them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=key, description=description, partitions_def=partitions)
            for name, description in checks.items()
        ]


@dataclass(frozen=True)
class Finding:
    """What one check says of one hour. `severity` counts when it did not pass."""

    passed: bool
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity = _WARN


class HourChecks:
    """What the checks of one asset say during a step: collected hour by hour, reported once at its end.

    Dagster gives the result of a run over many hours to no hour, and counts the evaluation of an hour only if it names
    the hour's newest materialisation. So each hour is recorded on its own, after the materialisation: at the end of
    the step, or when it fails, for the hours that it finished.

        with HourChecks(context, key) as checks:
            checks.found(hour, findings)  # for each hour
        yield MaterializeResult(...)
        yield from checks.results()
    """

    def __init__(self, context: dg.AssetExecutionContext, key: dg.AssetKey) -> None:
        self._context = context
        self._key = key
        names = sorted(check.name for check in context.selected_asset_check_keys if check.asset_key == key)
        self._found: dict[str, dict[Hour, Finding]] = {name: {} for name in names}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self._record_hours()

    def found(self, hour: Hour, findings: Mapping[str, Finding]) -> None:
        """Takes what was found on an hour; checks that were not selected for this run are left out."""
        for name in self._found.keys() & findings.keys():
            self._found[name][hour] = findings[name]

    def results(self) -> Iterator[dg.AssetCheckResult]:
        """One result per selected check: of the hour, or of all hours of a range. Call it when Dagster has taken the
        asset's materialisations."""
        self._record_hours()
        single = not self._context.has_partition_key_range
        for name, found in self._found.items():
            yield _result(self._key, name, next(iter(found.values())) if single and found else _summed_up(found))

    def _record_hours(self) -> None:
        hours = {hour.key for found in self._found.values() for hour in found}
        if not hours or not self._context.has_partition_key_range:
            return
        materialised = self._context.instance.get_latest_storage_id_by_partition(
            self._key, dg.DagsterEventType.ASSET_MATERIALIZATION, hours
        )
        # Dagster takes evaluations here (contracts: dagster.md 9); the annotation does not say so.
        log_event: Any = self._context.log_event
        for name, found in self._found.items():
            for hour, finding in found.items():
                log_event(self._evaluation(name, hour, finding, materialised.get(hour.key)))

    def _evaluation(self, name: str, hour: Hour, finding: Finding, materialised: int | None) -> dg.AssetCheckEvaluation:
        target = None
        if materialised is not None:
            run_id, moment = self._context.run.run_id, time.time()
            target = AssetCheckEvaluationTargetMaterializationData(
                storage_id=materialised, run_id=run_id, timestamp=moment
            )
        return dg.AssetCheckEvaluation(
            asset_key=self._key,
            check_name=name,
            passed=finding.passed,
            metadata=finding.facts,
            target_materialization_data=target,
            severity=finding.severity,
            description=finding.text,
            partition=hour.key,
        )


def _result(key: dg.AssetKey, name: str, finding: Finding) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=finding.passed,
        metadata=finding.facts,
        severity=finding.severity,
        description=finding.text,
    )


def _summed_up(found: Mapping[Hour, Finding]) -> Finding:
    if not found:
        return Finding(True, "no hour was left to judge")
    bad = {hour: finding for hour, finding in sorted(found.items()) if not finding.passed}
    facts: dict[str, Any] = {"hours": len(found), "failed_hours": len(bad)}
    if not bad:
        return Finding(True, f"{len(found)} hours passed", facts)
    first, finding = next(iter(bad.items()))
    facts["which"] = dg.MetadataValue.json([hour.key for hour in list(bad)[:_MOST_LISTED]])
    severe = any(finding.severity == _ERROR for finding in bad.values())
    text = f"{len(bad)} of {len(found)} hours did not pass; {first.key}: {finding.text}"
    return Finding(False, text, facts, _ERROR if severe else _WARN)


# Deliveries


def newly_complete(known: Mapping[str, str] | None, run_id: str) -> bool | None:
    """Whether the next delivery of an hour is the first to complete it, by the facts that its ledger has (`known`).

    None: an earlier attempt of the run `run_id` completed it, and recorded what it found.
    """
    if known is None or int(known["outstanding"]) > 0:
        return True
    return None if known["run_id"] == run_id else False


def delivery_findings(
    done: HourDelivery, settings: ProjectSettings, *, landed_at: datetime, newly: bool | None
) -> dict[str, Finding]:
    """The findings of DELIVERY_CHECKS on a delivered hour.

    `newly`: whether the hour is complete at the destination for the first time; None leaves `on_time` out.
    """
    found = {"accounted": _accounted(done), "rejections": _rejections(done, settings.checks.max_rejected_share)}
    if newly is not None:
        found["on_time"] = _on_time(done.hour, settings, landed_at) if newly else _BEFORE
    return found


_BEFORE = Finding(True, "The hour was complete here before; its first delivery was judged.")


def _accounted(done: HourDelivery) -> Finding:
    total = done.delivered + done.rejected + done.skipped
    facts = {name: getattr(done, name) for name in ("events", "delivered", "rejected", "skipped")}
    sides = f"{done.delivered} delivered + {done.rejected} rejected + {done.skipped} skipped"
    sign = "=" if total == done.events else "is not"
    return Finding(total == done.events, f"events: {done.events} {sign} {sides}", facts, _ERROR)


def _rejections(done: HourDelivery, allowed: float) -> Finding:
    share = done.rejected / done.events if done.events else 0.0
    facts: dict[str, Any] = {"rejected": done.rejected, "share": round(share, 6), "max_share": allowed}
    if not done.rejected:
        return Finding(True, "nothing rejected", facts)
    reason = next((str(item["reason"]) for item in done.first_rejections), "")
    facts["first_reason"] = reason
    text = f"{done.rejected} of {done.events} events rejected, the first as {reason}"
    return Finding(share <= allowed, text, facts, _ERROR if share > _MOSTLY_REJECTED else _WARN)


def _on_time(hour: Hour, settings: ProjectSettings, landed_at: datetime) -> Finding:
    due = hour.end + timedelta(minutes=settings.schedule_minute)
    late = round((landed_at - due) / timedelta(minutes=1), 1)
    facts: dict[str, Any] = {"minutes_after_due": late, "fresh_minutes": settings.checks.fresh_minutes}
    if landed_at - hour.end > MADE_UP_AFTER:
        return Finding(True, "history, made up more than 48 hours after the hour's end", facts)
    text = f"complete {late:g} minutes after its scheduled run" if late > 0 else "complete before its scheduled run"
    return Finding(late <= settings.checks.fresh_minutes, text, facts)


# Extracts


def source_findings(extract: HourExtract, audited: AuditedHour | None) -> dict[str, Finding]:
    """The findings of RAW_CHECKS on an hour's observations; `audited`: the hour in the last audit before the read."""
    if audited is None or audited.compared_at is None or "observations" not in audited.source:
        return {"matches_source": Finding(True, "no audit has compared this hour yet")}
    # Rows past the source's retention are kept here although they are no longer returned.
    returned, counted = extract.rows - extract.kept_expired, int(audited.source["observations"])
    since = audited.source_since or audited.compared_at
    facts = {
        "returned": returned,
        "counted": counted,
        "newly_deleted": extract.newly_deleted,
        "counted_at": iso(audited.compared_at),
        "counted_since": iso(since),
    }
    judge = _as_counted if returned == counted else _more_than_counted if returned > counted else _fewer_than_counted
    passed, text = judge(extract, abs(returned - counted), audited.compared_at, since)
    return {"matches_source": Finding(passed, text, facts)}


def _as_counted(_extract: HourExtract, _off: int, counted_at: datetime, _since: datetime) -> tuple[bool, str]:
    return True, f"as many as Langfuse counted at {iso(counted_at)}"


def _more_than_counted(extract: HourExtract, off: int, counted_at: datetime, _since: datetime) -> tuple[bool, str]:
    """A count holds at least every row that Langfuse shows, so that more must have come since, or the count lags."""
    newest = extract.max_updated_at
    if newest is None or newest > counted_at - SHOWS_WITHIN:
        return True, f"{off} more than Langfuse counted at {iso(counted_at)}; rows have come or changed since"
    return False, f"{off} more than Langfuse counted at {iso(counted_at)}, although no row has changed since"


def _fewer_than_counted(extract: HourExtract, off: int, counted_at: datetime, since: datetime) -> tuple[bool, str]:
    """Versions that are not merged yet are counted twice; a number that two audits saw has outlived them."""
    if False:
        return True, f"{off} fewer than Langfuse counted at {iso(counted_at)}; versions of a row may be counted twice"
    text = f"{off} fewer than Langfuse has counted since {iso(since)}: deleted since, or not returned by this read"
    return False, f"{text}; {extract.newly_deleted} rows held before are now marked as deleted"
