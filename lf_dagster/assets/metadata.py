"""Every metadata key that lf_dagster puts on a materialisation, and how it is made from a result.

Units stand in the key: `_seconds`, `bytes`; everything else is a count. Numbers are plotted by the UI over hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from lf_dagster.destinations import HourDelivery
from lf_dagster.source import HourExtract
from lf_dagster.warehouse import Model

PARTITION_ROWS = "dagster/partition_row_count"
PROJECT_NAME = "project_name"
"""Name of the Langfuse project, as its extract has it: a label."""


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
    return facts


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


def column_schema(model: Model) -> dg.TableSchema:
    """Dagster's table schema of a model: the name, type and documentation of each column."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=column.name, type=column.type, description=_documented(column))
            for column in model.columns
        ]
    )


def _documented(column: Any) -> str:
    return f"{column.description} ({column.unit})" if column.unit else column.description


def column_lineage(model: Model, project: str, key_of: Mapping[str, str]) -> dg.TableColumnLineage:
    """Dagster's column lineage of a model; `key_of` maps a table's name to its asset's name."""
    deps = {
        column: [
            dg.TableColumnDep(asset_key=dg.AssetKey([project, key_of[table]]), column_name=source)
            for table, source in sources
            if table in key_of
        ]
        for column, sources in model.lineage.items()
    }
    return dg.TableColumnLineage(deps_by_column={column: found for column, found in deps.items() if found})
