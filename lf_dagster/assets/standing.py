"""How a project stands, in a few facts for the page of its audit."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dagster as dg

from lf_dagster.accounting import account, hours_in_horizon, lag_of
from lf_dagster.assets.runs import last_failure
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import iso
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse


def standing(
    instance: dg.DagsterInstance, settings: ProjectSettings, lake: Lake, warehouse: Warehouse, *, now: datetime
) -> dict[str, Any]:
    """Metadata `settled_until` (per destination, within the horizon), `lag_minutes` and `last_error`, as far as there
    is anything to say. Raises WarehouseLocked."""
    horizon = hours_in_horizon(settings, now)
    found = account(settings, lake, warehouse, now=now, first=horizon[0] if horizon else None)
    settled = {name: found.settled_until(name) for name in found.destinations}
    facts: dict[str, Any] = {
        "settled_until": dg.MetadataValue.json({name: until.key if until else None for name, until in settled.items()})
    }
    lag = lag_of(found)
    if lag is not None:
        facts["lag_minutes"] = round(lag.total_seconds() / 60, 1)
    failed = last_failure(instance, settings.name)
    if failed is not None:
        facts["last_error"] = f"{iso(failed[0])}: {failed[1]}"
    return facts
