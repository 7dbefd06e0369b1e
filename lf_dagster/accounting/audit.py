"""The source audit: does each hour still match Langfuse? Compared by numbers, kept as history in the lake.

A number that differs from ours says that an hour changed, not what changed, and v2/metrics counts versions of a row
that are not merged yet. So a difference makes an hour stale only until it has been read again after the difference
was first seen; what then remains is the source's own affair until its number moves again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lf_dagster.accounting.holdings import Holding, read_holdings
from lf_dagster.accounting.needs import Look, State, needs_of, state_of
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import RateLimited, ReadPathUnavailable
from lf_dagster.hours import ONE_HOUR, Hour, hour_range, parse_hour
from lf_dagster.lake import Lake, is_broken
from lf_dagster.source import MOST_HOURS, HourNumbers, LangfuseClient, legacy_numbers, v2_numbers
from lf_dagster.warehouse import Warehouse, numbers_by_hour

log = logging.getLogger(__name__)

MOST_LEGACY_CALLS = 60
HISTORY_DAYS = 90
"""Audits older than this are removed."""

_TIME = pa.timestamp("us", tz="UTC")
_NUMBERS = pa.map_(pa.string(), pa.float64())
AUDIT_SCHEMA = pa.schema(
    [
        pa.field("audited_at", _TIME, nullable=False),
        pa.field("hour", _TIME, nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("extracted_at", _TIME),
        pa.field("compared_at", _TIME),
        pa.field("matches", pa.bool_()),
        pa.field("source_since", _TIME),
        pa.field("source", _NUMBERS),
        pa.field("held", _NUMBERS),
    ]
)
"""A row per audit and hour. `compared_at`: when `source` (Langfuse's numbers) was read and set beside `held` (ours);
`source_since`: since which audit Langfuse has given these numbers."""


@dataclass(frozen=True)
class AuditedHour:
    """One hour in one audit; columns as in AUDIT_SCHEMA."""

    hour: Hour
    state: State
    reasons: tuple[str, ...]
    extracted_at: datetime | None
    compared_at: datetime | None = None
    matches: bool | None = None
    source_since: datetime | None = None
    source: dict[str, float] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """One audit; `audited_at` is None where there was none. `note` says why hours were not compared, if so."""

    audited_at: datetime | None
    hours: list[AuditedHour]
    note: str | None = None

    def changed_since(self) -> dict[Hour, datetime]:
        """Hours whose numbers differ from ours, and since when."""
        return {
            item.hour: item.source_since
            for item in self.hours
            if item.matches is False and item.source_since is not None
        }


def audit_source(
    settings: ProjectSettings, lake: Lake, warehouse: Warehouse, client: LangfuseClient, *, now: datetime
) -> Audit:
    """Compare every extracted hour within the horizon, and older ones with open business as far as one call of
    v2/metrics reaches; write the result.

    A used-up metrics quota or a server without metrics is no error: the hours keep what the last audit said. Raises
    what the client raises otherwise, and WarehouseLocked.
    """
    held_hours = read_holdings(settings, lake, warehouse, hours_in_horizon(settings, now))
    holdings = {hour: holding for hour, holding in held_hours.items() if hour.end <= now}
    before = {item.hour: item for item in last_audit(lake, settings.name).hours}
    extracted = [holding for holding in holdings.values() if holding.extracted_at is not None]
    held = _held(settings, warehouse, extracted)
    source, note = _source(client, extracted, held)
    compared = {
        holding.hour: _compare(holding, held[holding.hour], source.get(holding.hour), before.get(holding.hour), now)
        for holding in extracted
    }
    changed = Audit(now, list(compared.values())).changed_since()
    gaps = frozenset(holdings) - compared.keys()
    look = Look(now, changed, gaps)
    rows = [_judged(holding, compared.get(holding.hour), settings, look) for holding in holdings.values()]
    _write(lake, settings.name, rows, now)
    return Audit(now, rows, note)


def hours_in_horizon(settings: ProjectSettings, now: datetime) -> list[Hour]:
    """Hours that are over and not older than the horizon, from the project's start on; oldest first."""
    newest = Hour.containing(now).shift(-1)
    first = max(parse_hour(settings.start), newest.shift(1 - settings.reconcile.horizon_hours))
    return hour_range(first, newest) if first <= newest else []


def last_audit(lake: Lake, project: str) -> Audit:
    """The newest audit; one without hours when there was none."""
    for date in reversed(lake.audit_dates(project)):
        rows = _read(lake, lake.audit_path(project, date))
        if rows.num_rows:
            newest = pc.call_function("max", [rows.column("audited_at")])
            kept = rows.filter(pc.call_function("equal", [rows.column("audited_at"), newest]))
            return Audit(newest.as_py(), [_audited(row) for row in kept.to_pylist()])
    return Audit(None, [])


def _held(
    settings: ProjectSettings, warehouse: Warehouse, extracted: Sequence[Holding]
) -> dict[Hour, dict[str, float]]:
    """Our numbers, named like the source's: of the typed tables on v2, rows per stream on the legacy read path."""
    if _is_legacy(extracted):
        return {item.hour: dict(item.count("rows")) for item in extracted}
    hours = [item.hour for item in extracted if item.typed is not None]
    known = numbers_by_hour(warehouse, settings.name, hours) if hours else {}
    return {item.hour: known.get(item.hour, {}) for item in extracted}


def _is_legacy(extracted: Sequence[Holding]) -> bool:
    if not extracted:
        return False
    newest = max(extracted, key=lambda item: item.hour)
    return newest.extracts["observations"].get("read_path") == "legacy"


def _source(
    client: LangfuseClient, extracted: Sequence[Holding], held: Mapping[Hour, HourNumbers]
) -> tuple[dict[Hour, dict[str, float]], str | None]:
    if not extracted:
        return {}, "nothing is extracted yet"
    try:
        if _is_legacy(extracted):
            found = legacy_numbers(client, held, most_calls=MOST_LEGACY_CALLS)
            missing = len(extracted) - len(found)
            return found, f"{missing} hours were left for the next audit" if missing else None
        oldest = max(item.hour for item in extracted).start - MOST_HOURS * ONE_HOUR
        return v2_numbers(client, [item.hour for item in extracted if item.hour.start > oldest]), None
    except RateLimited:
        return {}, "the metrics quota of this Langfuse organization is used up; hours keep their last comparison"
    except ReadPathUnavailable as error:
        return {}, f"this Langfuse has no metrics to compare with: {error.message}"


def _compare(
    holding: Holding,
    held: Mapping[str, float],
    source: Mapping[str, float] | None,
    before: AuditedHour | None,
    now: datetime,
) -> AuditedHour:
    read_at = holding.extracted_at
    if source is None:
        unknown = AuditedHour(holding.hour, "settled", (), read_at)
        return unknown if before is None else replace(before, state="settled", reasons=(), extracted_at=read_at)
    same = before is not None and before.compared_at is not None and _equal(before.source, source)
    return AuditedHour(
        holding.hour,
        "settled",
        (),
        extracted_at=read_at,
        compared_at=now,
        # Rows that only retention removed are still ours: the source cannot have the same numbers.
        matches=any(holding.count("kept_expired").values()) or _match(held, source),
        source_since=before.source_since if before is not None and same else now,
        source=dict(source),
        held=dict(held),
    )


def _match(held: Mapping[str, float], source: Mapping[str, float]) -> bool:
    """Whether our numbers are the source's.

    The contracts leave open whether the numeric view counts booleans too: either is taken for a match.
    """
    numeric = {
        **held,
        "numeric_scores": held.get("numeric_scores", 0) + held.get("boolean_scores", 0),
        "numeric_values": held.get("numeric_values", 0) + held.get("boolean_values", 0),
    }
    return _equal(held, source) or ("numeric_scores" in source and _equal(numeric, source))


def _equal(one: Mapping[str, float], two: Mapping[str, float]) -> bool:
    names = {*one, *two}
    return all(math.isclose(one.get(name, 0), two.get(name, 0), rel_tol=1e-9, abs_tol=1e-9) for name in names)


def _judged(holding: Holding, compared: AuditedHour | None, settings: ProjectSettings, look: Look) -> AuditedHour:
    needs = needs_of(holding, settings, look)
    found = compared or AuditedHour(holding.hour, "missing", (), None)
    reasons = tuple(dict.fromkeys(need.reason for need in needs))
    return replace(found, state=state_of(needs), reasons=reasons)


def _write(lake: Lake, project: str, hours: Sequence[AuditedHour], now: datetime) -> None:
    """Add the audit to its day's file, and remove days that are too old."""
    path = lake.audit_path(project, f"{now:%Y-%m-%d}")
    rows = pa.Table.from_pylist([_row(now, item) for item in hours], AUDIT_SCHEMA)
    if lake.exists(path):
        rows = pa.concat_tables([_read(lake, path), rows])
    with lake.replacing(path) as file:
        pq.write_table(rows, file, compression="zstd")
    oldest = f"{now - timedelta(days=HISTORY_DAYS):%Y-%m-%d}"
    for date in lake.audit_dates(project):
        if date < oldest:
            lake.remove(lake.audit_path(project, date))


def _row(audited_at: datetime, item: AuditedHour) -> dict[str, Any]:
    values = {**item.__dict__, "hour": item.hour.start, "audited_at": audited_at}
    return {**values, "source": list(item.source.items()), "held": list(item.held.items())}


def _audited(row: dict[str, Any]) -> AuditedHour:
    values = {name: value for name, value in row.items() if name != "audited_at"}
    return AuditedHour(
        **{
            **values,
            "hour": Hour(row["hour"]),
            "reasons": tuple(row["reasons"]),
            "source": dict(row["source"] or ()),
            "held": dict(row["held"] or ()),
        }
    )


def _read(lake: Lake, path: str) -> pa.Table:
    """The audits of a day; none where the file cannot be read, since the next audit knows the same and more."""
    try:
        with lake.open(path) as file:
            return pq.read_table(file).cast(AUDIT_SCHEMA)
    except (pa.ArrowInvalid, OSError) as error:
        if not is_broken(error):
            raise
        log.warning("%s: these audits cannot be read and are left out: %s", path, error)
        return AUDIT_SCHEMA.empty_table()
