"""Deliveries: ships the events of each hour to one destination and accounts for every one of them.

No `from __future__ import annotations` here: Dagster reads the annotations of asset functions as they are.
"""

import logging
from typing import Any

import dagster as dg
from pydantic import Field

from lf_dagster.accounting import SourceIdentity
from lf_dagster.assets.common import (
    WAREHOUSE_POOL,
    asset_key,
    dagster_failures,
    hours_of,
    open_lake,
    open_warehouse,
    record_hour,
)
from lf_dagster.assets.metadata import delivery_metadata
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import HourDelivery, deliver, open_destination
from lf_dagster.events import event_models

log = logging.getLogger(__name__)

_DESCRIPTIONS = {
    "mixpanel": "Events of the hour in Mixpanel, through strict import. A rerun sends what is new or changed.",
    "posthog": "Events of the hour in PostHog, through Capture V1 or /batch/. A rerun sends what is new or changed.",
}


class DeliveryConfig(dg.Config):
    """Launch-time options of a delivery."""

    resend: bool = Field(False, description="Send every event again, with the same ids, not only changed ones.")


def build_delivery_asset(
    settings: ProjectSettings,
    destination: str,
    *,
    partitions: dg.HourlyPartitionsDefinition,
    backfill_policy: dg.BackfillPolicy,
) -> dg.AssetsDefinition:
    """The asset `[project, destination]`."""
    key = asset_key(settings.name, destination)

    @dg.asset(
        key=key,
        deps=[asset_key(settings.name, model.name) for model in event_models(settings)],
        partitions_def=partitions,
        backfill_policy=backfill_policy,
        group_name=settings.name,
        kinds={destination},
        description=_DESCRIPTIONS[destination],
        owners=list(settings.owners),
        pool=WAREHOUSE_POOL,
    )
    def delivery(context: dg.AssetExecutionContext, config: DeliveryConfig) -> dg.MaterializeResult[Any]:
        with dagster_failures(context, project=settings.name, log=log):
            hours = _deliver(context, settings, destination, resend=config.resend)
        _log_totals(settings.name, destination, hours)
        return dg.MaterializeResult()

    return delivery


def _deliver(
    context: dg.AssetExecutionContext, settings: ProjectSettings, destination: str, *, resend: bool
) -> list[HourDelivery]:
    key, hours, lake = asset_key(settings.name, destination), hours_of(context), open_lake(settings)
    source = SourceIdentity.of(lake, settings.name, hours)
    with open_destination(destination, settings) as opened:
        return deliver(
            opened,
            project=settings,
            project_id=source.project_id,
            project_name=source.project_name,
            host=source.host,
            warehouse=open_warehouse(settings, lake),
            lake=lake,
            hours=hours,
            run_id=context.run.run_id,
            now=utc_now(),
            resend=resend,
            on_hour=lambda done: record_hour(context, key, done.hour, delivery_metadata(done), at_once=True),
        )


def _log_totals(project: str, destination: str, hours: list[HourDelivery]) -> None:
    sent, rejected = sum(hour.sent for hour in hours), sum(hour.rejected for hour in hours)
    delivered, skipped = sum(hour.delivered for hour in hours), sum(hour.skipped for hour in hours)
    log.info(
        "%s: %s: %d events sent, %d there in all, %d rejected, %d skipped",
        *(project, destination, sent, delivered, rejected, skipped),
    )
    if rejected:
        log.warning("%s: %s rejected %d events; the ledger keeps them with the reason", project, destination, rejected)
