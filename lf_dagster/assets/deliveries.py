"""Deliveries: ships the events of each hour to one destination and accounts for every one of them.

No `from __future__ import annotations` here: Dagster reads the annotations of asset functions as they are.
"""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from lf_dagster.accounting import Delivery, SourceIdentity, closes_at, is_closed
from lf_dagster.assets.checks import DELIVERY_CHECKS, delivery_findings, newly_complete
from lf_dagster.assets.columns import destination_columns
from lf_dagster.assets.common import (
    WAREHOUSE_POOL,
    asset_key,
    hours_of,
    open_lake,
    open_warehouse,
    project_step,
    record_hour,
)
from lf_dagster.assets.hour_chart import LastHours, hour_chart
from lf_dagster.assets.hour_checks import HourChecks, check_specs
from lf_dagster.assets.links import destination_link, docs_page
from lf_dagster.assets.metadata import LAST_HOURS, PROJECT_NAME, delivery_metadata
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import HourDelivery, Ledger, deliver, open_destination, waits_for_traces
from lf_dagster.events import event_models
from lf_dagster.hours import Hour

log = logging.getLogger(__name__)

_DESCRIPTIONS = {
    "mixpanel": "Events of the hour in Mixpanel, through strict import. A rerun sends what is new or changed.",
    "posthog": "Events of the hour in PostHog, through Capture V1 or /batch/. A rerun sends what is new or changed.",
}
_FRESHNESS = (
    " Freshness looks at the newest materialisation alone, whichever hour it was: `lf-dagster status` has the real lag."
)


class DeliveryConfig(dg.Config):
    """Launch-time options of a delivery."""

    resend: bool = Field(False, description="Send every event again, with the same ids, not only changed ones.")
    wait_for_traces: bool = Field(
        False,
        description="Hold back new events without user whose trace may lie in an hour that is not extracted yet: once "
        "sent without user they keep that. The reconcile sensor asks for this while it makes up history.",
    )


def build_delivery_asset(
    settings: ProjectSettings,
    destination: str,
    *,
    partitions: dg.HourlyPartitionsDefinition,
    backfill_policy: dg.BackfillPolicy,
) -> dg.AssetsDefinition:
    """The asset `[project, destination]`."""
    key, models = asset_key(settings.name, destination), event_models(settings, destination)

    @dg.asset(
        key=key,
        deps=[asset_key(settings.name, model.name) for model in models],
        partitions_def=partitions,
        backfill_policy=backfill_policy,
        group_name=settings.name,
        kinds={destination},
        description=_DESCRIPTIONS[destination] + _FRESHNESS,
        owners=list(settings.owners),
        metadata={
            **destination_columns(settings, destination, models),
            **destination_link(settings, destination),
            **docs_page("docs/events.md"),
        },
        pool=WAREHOUSE_POOL,
        check_specs=check_specs(key, DELIVERY_CHECKS, partitions),
        freshness_policy=_freshness(settings),
    )
    def delivery(
        context: dg.AssetExecutionContext, config: DeliveryConfig
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        with project_step(context, settings, log=log), HourChecks(context, key) as checks:
            hours = _deliver(context, settings, destination, checks, config)
        _log_totals(settings.name, destination, hours)
        yield dg.MaterializeResult()
        yield from checks.results()

    return delivery


def _freshness(settings: ProjectSettings) -> dg.FreshnessPolicy:
    """Something lands every hour: a warning when that is overdue, a failure after three times as long."""
    expected = timedelta(hours=1, minutes=settings.checks.fresh_minutes)
    return dg.FreshnessPolicy.time_window(warn_window=expected, fail_window=3 * expected)


def _deliver(
    context: dg.AssetExecutionContext,
    settings: ProjectSettings,
    destination: str,
    checks: HourChecks,
    config: DeliveryConfig,
) -> list[HourDelivery]:
    key, hours, lake = asset_key(settings.name, destination), hours_of(context), open_lake(settings)
    source = SourceIdentity.of(lake, settings.name, hours)
    ledger = Ledger(lake, settings.name, destination)
    newly = {hour: _newly_complete(settings, ledger, hour, context.run.run_id) for hour in hours}

    def on_hour(done: HourDelivery) -> None:
        facts = {**delivery_metadata(done), PROJECT_NAME: source.project_name}
        record_hour(context, key, done.hour, facts, at_once=True)
        checks.found(done.hour, delivery_findings(done, settings, landed_at=utc_now(), newly=newly[done.hour]))

    with open_destination(destination, settings) as opened:
        delivered = deliver(
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
            resend=config.resend,
            waits=waits_for_traces(settings, lake, hours) if config.wait_for_traces else {},
            on_hour=on_hour,
        )
    # Hours are done in any order, and a picture shows those before it: so only now.
    last_hours = LastHours(ledger, delivered)
    for done in delivered:
        picture = {LAST_HOURS: dg.MetadataValue.md(hour_chart(last_hours.until(done.hour)))}
        record_hour(context, key, done.hour, picture, at_once=False)
    return delivered


def _newly_complete(settings: ProjectSettings, ledger: Ledger, hour: Hour, run_id: str) -> bool | None:
    """Whether this delivery is the first to complete the hour. What was delivered of it while it was under way does not
    count, and an hour that still is (None) is not judged."""
    if not is_closed(settings, open_lake(settings), hour):
        return None
    known = ledger.facts(hour)
    # Ledgers of earlier versions do not say when: those never read an hour while it was under way.
    landed_at = Delivery(known).delivered_at
    early = landed_at is not None and landed_at < closes_at(settings, hour)
    return newly_complete(None if early else known, run_id)


def _log_totals(project: str, destination: str, hours: list[HourDelivery]) -> None:
    sent, rejected = sum(hour.sent for hour in hours), sum(hour.rejected for hour in hours)
    delivered, skipped = sum(hour.delivered for hour in hours), sum(hour.skipped for hour in hours)
    log.info(
        "%s: %s: %d events sent, %d there in all, %d rejected, %d skipped",
        *(project, destination, sent, delivered, rejected, skipped),
    )
    if rejected:
        log.warning("%s: %s rejected %d events; the ledger keeps them with the reason", project, destination, rejected)
