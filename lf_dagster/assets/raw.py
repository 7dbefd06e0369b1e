"""Raw extracts: one Parquet file per stream and hour, straight from Langfuse's public API.

No `from __future__ import annotations` here: Dagster reads the annotations of asset functions as they are.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from lf_dagster.accounting import last_audit
from lf_dagster.assets.checks import RAW_CHECKS, source_findings
from lf_dagster.assets.columns import raw_columns
from lf_dagster.assets.common import (
    SETTINGS_METADATA,
    SOURCES_METADATA,
    asset_key,
    hours_of,
    open_lake,
    project_step,
    record_hour,
)
from lf_dagster.assets.hour_checks import HourChecks, check_specs
from lf_dagster.assets.links import docs_page, langfuse_link
from lf_dagster.assets.metadata import PROJECT_NAME, extract_metadata
from lf_dagster.assets.reads import Reading
from lf_dagster.config import ProjectSettings, ReadPath
from lf_dagster.hours import Hour
from lf_dagster.source import HourExtract, LangfuseClient, extract_hours, streams_of
from lf_dagster.warehouse import load_models

log = logging.getLogger(__name__)

_DESCRIPTIONS = {
    "observations": "Every observation whose start time lies in the hour, newest version, the whole JSON object as "
    "Langfuse returned it. An hour without observations is an empty file.",
    "scores": "Every score whose timestamp lies in the hour, newest version, the whole JSON object.",
    "traces": "Every trace whose timestamp lies in the hour (legacy read path only), the whole JSON object.",
}


class ExtractConfig(dg.Config):
    """Launch-time options of an extract."""

    accept_deletions: bool = Field(
        False,
        description="Take the answer as it is, even when most of the rows held before are no longer in it.",
    )


def declared_streams(settings: ProjectSettings) -> tuple[str, ...]:
    """The streams that are assets of their own.

    With `read_path: auto` the traces of a legacy server are extracted and modelled too, but which server it is
    becomes known only when an hour runs; the node appears in the graph once `read_path: legacy` is set.
    """
    return streams_of("legacy" if settings.langfuse.read_path == "legacy" else "v2")


def build_source_spec(settings: ProjectSettings) -> dg.AssetSpec:
    """The left edge of the graph: the Langfuse project itself, which Dagster does not materialise."""
    return dg.AssetSpec(
        key=asset_key(settings.name, "langfuse"),
        group_name=settings.name,
        kinds={"langfuse"},
        description=f"The Langfuse project at {settings.langfuse.host}, read through its public API.",
        owners=settings.owners,
        metadata={
            SETTINGS_METADATA: dg.MetadataValue.json(settings.model_dump(mode="json")),
            SOURCES_METADATA: dg.MetadataValue.json({name: list(found) for name, found in settings.sources.items()}),
            "host": dg.MetadataValue.url(settings.langfuse.host),
            **docs_page("docs/ui.md"),
        },
    )


def build_raw_assets(
    settings: ProjectSettings, *, partitions: dg.HourlyPartitionsDefinition, backfill_policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """One multi-asset with an asset per stream."""
    source, observations = asset_key(settings.name, "langfuse"), asset_key(settings.name, "raw_observations")
    models = load_models("typed")
    specs = [
        dg.AssetSpec(
            key=asset_key(settings.name, f"raw_{stream}"),
            deps=[source],
            group_name=settings.name,
            kinds={"langfuse", "parquet"},
            description=_DESCRIPTIONS[stream],
            owners=settings.owners,
            metadata={**raw_columns(stream, settings.name, models), **docs_page("docs/guarantees.md")},
        )
        for stream in declared_streams(settings)
    ]

    @dg.multi_asset(
        name=f"{settings.name}__raw",
        specs=specs,
        partitions_def=partitions,
        backfill_policy=backfill_policy,
        can_subset=True,
        check_specs=check_specs(observations, RAW_CHECKS, partitions),
    )
    def raw(
        context: dg.AssetExecutionContext, config: ExtractConfig
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        with project_step(context, settings, log=log), HourChecks(context, observations) as checks:
            told = _extract(context, settings, checks, accept_deletions=config.accept_deletions)
        for key in sorted(context.selected_asset_keys):
            yield dg.MaterializeResult(asset_key=key, metadata=told if key == observations else None)
        yield from checks.results()

    return raw


def _extract(
    context: dg.AssetExecutionContext, settings: ProjectSettings, checks: HourChecks, *, accept_deletions: bool
) -> dict[str, Any]:
    """Reads the hours; returns metadata of the run as a whole."""
    lake = open_lake(settings)
    audited = {item.hour: item for item in last_audit(lake, settings.name).hours}
    selected = {key.path[-1].removeprefix("raw_") for key in context.selected_asset_keys}
    hours = hours_of(context)
    reading = Reading(context, settings, lake, hours)

    def on_hour(extract: HourExtract) -> None:
        if extract.stream in selected:
            key = asset_key(settings.name, f"raw_{extract.stream}")
            facts = {**extract_metadata(extract), **reading.facts(extract), PROJECT_NAME: source.project.name, **link}
            record_hour(context, key, extract.hour, facts, at_once=True)
        if extract.stream == "observations":
            checks.found(extract.hour, source_findings(extract, audited.get(extract.hour)))

    with LangfuseClient(settings.langfuse) as client:
        source = client.describe()
        link = langfuse_link(settings.langfuse.host, source.project.id)
        streams = _streams_to_read(source.read_path, selected)
        log.info("%s: reading %s from %s (%s)", settings.name, _span(hours), settings.langfuse.host, source.why)
        extracts = extract_hours(
            client,
            source,
            project=settings.name,
            streams=streams,
            hours=hours,
            lake=lake,
            run_id=context.run.run_id,
            source_apps=settings.source_apps,
            accept_deletions=accept_deletions,
            on_hour=on_hour,
        )
    _log_totals(settings.name, extracts)
    return reading.sync([extract for extract in extracts if extract.stream in selected])


def _streams_to_read(read_path: ReadPath, selected: set[str]) -> list[str]:
    # Traces of a legacy server come along with its observations even where they are no asset of their own.
    wanted = selected | ({"traces"} if read_path == "legacy" and "observations" in selected else set())
    return [stream for stream in streams_of(read_path) if stream in wanted]


def _span(hours: Sequence[Hour]) -> str:
    return hours[0].key if len(hours) == 1 else f"{len(hours)} hours from {hours[0].key} to {hours[-1].key}"


def _log_totals(project: str, extracts: Sequence[HourExtract]) -> None:
    for stream in dict.fromkeys(extract.stream for extract in extracts):
        rows = sum(extract.rows for extract in extracts if extract.stream == stream)
        requests = sum(extract.requests for extract in extracts if extract.stream == stream)
        log.info("%s: %d %s in %d requests", project, rows, stream, requests)
    newly, expired = (sum(getattr(item, name) for item in extracts) for name in ("newly_deleted", "kept_expired"))
    if newly or expired:
        log.info(
            "%s: no longer returned: %d rows, now marked as deleted; %d rows past the retention, kept",
            *(project, newly, expired),
        )
