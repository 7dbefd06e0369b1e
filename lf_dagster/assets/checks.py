"""Checks of an hour, made from what a run has in hand anyway: no step and no request of their own.

A check never stops a run. What must stop one is refused where it happens, before anything is overwritten or sent;
docs/checks.md says where, and what each check means.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from lf_dagster.accounting import Audit, AuditedHour
from lf_dagster.assets.hour_checks import ERROR, WARN, Finding
from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import HourDelivery
from lf_dagster.hours import ONE_HOUR, Hour, iso
from lf_dagster.source import HourExtract

MADE_UP_AFTER = 48 * ONE_HOUR
"""An hour that first lands later than this after its end is history that somebody asked for, not a late hour."""
SHOWS_WITHIN = timedelta(minutes=30)
"""How long Langfuse may take until it counts what it was sent (contracts: langfuse.md 10)."""
_MOSTLY_REJECTED = 0.5

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
    return Finding(total == done.events, f"events: {done.events} {sign} {sides}", facts, ERROR)


def _rejections(done: HourDelivery, allowed: float) -> Finding:
    share = done.rejected / done.events if done.events else 0.0
    facts: dict[str, Any] = {"rejected": done.rejected, "share": round(share, 6), "max_share": allowed}
    if not done.rejected:
        return Finding(True, f"0 of {done.events} events rejected", facts)
    reason = next((str(item["reason"]) for item in done.first_rejections), "")
    facts["first_reason"] = reason
    text = f"{done.rejected} of {done.events} events rejected, the first as {reason}"
    return Finding(share <= allowed, text, facts, ERROR if share > _MOSTLY_REJECTED else WARN)


def _on_time(hour: Hour, settings: ProjectSettings, landed_at: datetime) -> Finding:
    due = hour.end + timedelta(minutes=settings.schedule_minute)
    late = round((landed_at - due) / timedelta(minutes=1), 1)
    facts: dict[str, Any] = {"minutes_after_due": late, "fresh_minutes": settings.checks.fresh_minutes}
    if landed_at - hour.end > MADE_UP_AFTER:
        return Finding(True, "history, made up more than 48 hours after the hour's end", facts)
    text = f"complete {late:g} minutes after its scheduled run" if late > 0 else "complete before its scheduled run"
    return Finding(late <= settings.checks.fresh_minutes, text, facts)


# Audits

AUDIT_CHECKS = {
    "matches_langfuse": "No hour that this audit compared is to be read again since its counts, costs or tokens are "
    "not what Langfuse's metrics say. One that was read since and still differs is Langfuse's own affair."
}


def audit_findings(audit: Audit) -> dict[str, Finding]:
    """The findings of AUDIT_CHECKS on an audit."""
    compared = [item for item in audit.hours if item.compared_at == audit.audited_at]
    differing = [item for item in compared if item.matches is False]
    again = [item for item in differing if item.state != "settled"]
    facts = {"compared": len(compared), "differing": len(differing), "to_read_again": len(again)}
    text = f"{len(differing)} of {len(compared)} compared hours differ from Langfuse's own numbers"
    if differing:
        text += f", {len(again)} of those are to be read again"
    if again:
        text += f", the first is {again[0].hour.key}"
    return {"matches_langfuse": Finding(not again, f"{text}; {audit.note}" if audit.note else text, facts)}


# Extracts


def source_findings(extract: HourExtract, audited: AuditedHour | None) -> dict[str, Finding]:
    """The findings of RAW_CHECKS on an hour's observations; `audited`: the hour in the last audit before the read."""
    # Rows past the source's retention are kept here although they are no longer returned.
    returned = extract.rows - extract.kept_expired
    if audited is None or audited.compared_at is None or "observations" not in audited.source:
        text = f"{returned} rows; no audit has compared this hour yet"
        return {"matches_source": Finding(True, text, {"returned": returned})}
    counted = int(audited.source["observations"])
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
    return {"matches_source": Finding(passed, f"{returned} rows, {text}", facts)}


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
    if since >= counted_at:
        return True, f"{off} fewer than Langfuse counted at {iso(counted_at)}; versions of a row may be counted twice"
    text = f"{off} fewer than Langfuse has counted since {iso(since)}: deleted since, or not returned by this read"
    return False, f"{text}; {extract.newly_deleted} rows held before are now marked as deleted"
