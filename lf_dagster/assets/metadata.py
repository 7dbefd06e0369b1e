"""Every metadata key that lf_dagster puts on a materialisation, and how it is made from a result.

Units stand in the key: `_seconds`, `bytes`; everything else is a count. Numbers are plotted by the UI over hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from lf_dagster.assets.previews import preview_table
from lf_dagster.destinations import HourDelivery
from lf_dagster.source import SHOWN_COLUMNS, HourExtract
from lf_dagster.warehouse import FirstRows

PARTITION_ROWS = "dagster/partition_row_count"
PROJECT_NAME = "project_name"
"""Name of the Langfuse project, as its extract has it: a label."""

FIRST_ROWS = "first_rows"
"""A glance at what was written, without anything that tells who or what."""
LAST_HOURS = "last_24_hours"
"""Picture of the hours at a destination that end with this one."""


def extract_metadata(extract: HourExtract) -> dict[str, Any]:
    """Metadata of one extracted stream and hour."""
    facts: dict[str, Any] = {
        PARTITION_ROWS: extract.rows,
        "fetched": extract.rows - extract.kept_expired + extract.duplicates,
        "duplicates": extract.duplicates,
        "deleted": extract.deleted,
        "newly_deleted": extract.newly_deleted,
        "requests": extract.requests,
        "bytes": extract.bytes,
        "waited_seconds": round(extract.waited_seconds, 3),
        "duration_seconds": round(extract.duration_seconds, 3),
        "read_path": extract.read_path,
        "path": dg.MetadataValue.path(extract.path),
    }
    if extract.max_lateness_seconds is not None:
        facts["max_lateness_seconds"] = round(extract.max_lateness_seconds, 3)
    if extract.max_updated_at is not None:
        facts["max_updated_at"] = str(extract.max_updated_at)
    if extract.first_rows:
        facts |= preview_metadata(FirstRows(SHOWN_COLUMNS, extract.first_rows))
    return facts


def table_metadata(rows: int, project_name: str, shown: FirstRows | None) -> dict[str, Any]:
    """Metadata of one table and hour; `shown`: its first rows, where there are any."""
    return {PARTITION_ROWS: rows, PROJECT_NAME: project_name, **(preview_metadata(shown) if shown else {})}


def preview_metadata(shown: FirstRows) -> dict[str, Any]:
    """The first rows as a table that the UI shows without a click."""
    return {FIRST_ROWS: dg.MetadataValue.md(preview_table(shown))}


def delivery_metadata(delivery: HourDelivery) -> dict[str, Any]:
    """Metadata of one delivered hour; events = delivered + rejected + skipped."""
    facts: dict[str, Any] = {
        PARTITION_ROWS: delivery.events,
        "events": delivery.events,
        "delivered": delivery.delivered,
        "rejected": delivery.rejected,
        "skipped": delivery.skipped,
        "sent": delivery.sent,
        "unchanged": delivery.unchanged,
        "gone": delivery.gone,
        "deleted": delivery.deleted,
        "tombstoned": delivery.tombstoned,
        "identity_changed": delivery.identity_changed,
        "held": delivery.held,
        "kept_back": delivery.kept_back,
        "requests": delivery.requests,
        "retries": delivery.retries,
        "bytes": delivery.bytes,
        "waited_seconds": round(delivery.waited_seconds, 3),
        "duration_seconds": round(delivery.duration_seconds, 3),
    }
    if delivery.reasons:
        facts["reasons"] = dg.MetadataValue.md(_reasons_table(delivery.reasons))
    if delivery.first_rejections:
        facts["first_rejections"] = dg.MetadataValue.json(list(delivery.first_rejections))
    return facts


def _reasons_table(reasons: Mapping[str, int]) -> str:
    rows = "\n".join(f"| {reason} | {count} |" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))
    return f"| reason | events |\n|---|---|\n{rows}"
