"""Typed tables and event tables in DuckDB: one step and one transaction per layer, every table an asset.

No `from __future__ import annotations` here: Dagster reads the annotations of asset functions as they are.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from lf_dagster.accounting import SourceIdentity
from lf_dagster.assets.columns import model_columns
from lf_dagster.assets.common import (
    WAREHOUSE_POOL,
    asset_key,
    hours_of,
    open_lake,
    open_warehouse,
    project_step,
    record_hour,
)
from lf_dagster.assets.links import docs_page
from lf_dagster.assets.metadata import table_metadata
from lf_dagster.assets.policies import judge_policies, policy_specs, results_of
from lf_dagster.assets.raw import declared_streams
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.events import event_models, run_events
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Model, ModelRun, load_models, run_typed, wanted_apps

log = logging.getLogger(__name__)

_VIEW = (
    "This is a view: computed from its tables whenever it is queried, always current, never materialized. "
    '"Never materialized" is its normal state.'
)
_MOST_PROBLEMS = 5


def build_typed_assets(
    settings: ProjectSettings, *, partitions: dg.HourlyPartitionsDefinition, backfill_policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """The typed tables: observations, traces, generations, scores."""

    def run(context: dg.AssetExecutionContext, lake: Lake, hours: Sequence[Hour], source: SourceIdentity) -> ModelRun:
        return run_typed(
            open_warehouse(settings, lake),
            lake,
            settings,
            project_id=source.project_id,
            project_name=source.project_name,
            hours=hours,
            run_id=context.run.run_id,
            now=utc_now(),
        )

    models = [model for model in load_models("typed") if model.kind == "table"]
    return _layer(settings, "typed", models, run, partitions=partitions, backfill_policy=backfill_policy)


def build_event_assets(
    settings: ProjectSettings, *, partitions: dg.HourlyPartitionsDefinition, backfill_policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """The event tables: one row per event that a destination may get."""

    def run(context: dg.AssetExecutionContext, lake: Lake, hours: Sequence[Hour], source: SourceIdentity) -> ModelRun:
        return run_events(
            open_warehouse(settings, lake),
            settings,
            project_id=source.project_id,
            project_name=source.project_name,
            host=source.host,
            hours=hours,
            run_id=context.run.run_id,
            now=utc_now(),
        )

    return _layer(
        settings, "events", event_models(settings), run, partitions=partitions, backfill_policy=backfill_policy
    )


def build_view_specs(settings: ProjectSettings) -> list[dg.AssetSpec]:
    """The views over the typed tables (sessions, users, those of source apps): always current, so that nothing is ever
    materialised."""
    general = [model for model in load_models("typed") if model.kind == "view"]
    return [_spec(settings, model) for model in (*general, *wanted_apps(settings))]


RunLayer = Callable[[dg.AssetExecutionContext, Lake, Sequence[Hour], SourceIdentity], ModelRun]


def _layer(
    settings: ProjectSettings,
    layer: str,
    models: Sequence[Model],
    run: RunLayer,
    *,
    partitions: dg.HourlyPartitionsDefinition,
    backfill_policy: dg.BackfillPolicy,
) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{settings.name}__{layer}",
        specs=[_spec(settings, model) for model in models],
        partitions_def=partitions,
        backfill_policy=backfill_policy,
        can_subset=True,
        pool=WAREHOUSE_POOL,
        check_specs=policy_specs(settings, partitions) if layer == "typed" else [],
    )
    def tables(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        hours, lake = hours_of(context), open_lake(settings)
        with project_step(context, settings, log=log):
            source = SourceIdentity.of(lake, settings.name, hours)
            result = run(context, lake, hours, source)
            judged = judge_policies(context, settings, lake, hours)
        _log_totals(settings.name, layer, result)
        for key in sorted(context.selected_asset_keys):
            name = key.path[-1]
            shown = result.first_rows.get(name, {})
            for hour, rows in result.rows[name].items():
                record_hour(
                    context, key, hour, table_metadata(rows, source.project_name, shown.get(hour)), at_once=False
                )
            yield dg.MaterializeResult(asset_key=key, metadata=_run_metadata(result))
        yield from results_of(judged)

    return tables


def _spec(settings: ProjectSettings, model: Model) -> dg.AssetSpec:
    assets = _asset_names(settings)
    return dg.AssetSpec(
        key=asset_key(settings.name, model.name),
        deps=[asset_key(settings.name, assets[table]) for table in model.depends_on if table in assets],
        group_name=f"{settings.name}_{model.app}" if model.app else settings.name,
        kinds={"duckdb", "sql", "view"} if model.kind == "view" else {"duckdb", "sql"},
        description=f"{model.description} {_VIEW}" if model.kind == "view" else model.description,
        owners=settings.owners,
        metadata={
            **model_columns(model, settings.name, assets),
            **docs_page(f"docs/tables.md#{model.name}" if model.layer != "events" else "docs/events.md"),
            "dagster/table_name": f"{settings.name}.{model.name}",
        },
    )


def _asset_names(settings: ProjectSettings) -> dict[str, str]:
    raw = [f"raw_{stream}" for stream in declared_streams(settings)]
    tables = [model.name for model in (*load_models("typed"), *wanted_apps(settings), *event_models(settings))]
    return {name: name for name in (*raw, *tables)}


def _run_metadata(result: ModelRun) -> dict[str, Any]:
    facts: dict[str, Any] = {"run_seconds": round(result.duration_seconds, 3)}
    if result.problems:
        facts["problems"] = dg.MetadataValue.json([str(problem) for problem in result.problems[:20]])
    if result.touched_hours:
        # Their traces have observations in the hours of this run: rerun them to bring them up to date.
        facts["stale_hours"] = [hour.key for hour in sorted(result.touched_hours)]
    return facts


def _log_totals(project: str, layer: str, result: ModelRun) -> None:
    totals = ", ".join(f"{sum(hours.values())} {table}" for table, hours in result.rows.items())
    log.info("%s: %s: %s in %.1f s", project, layer, totals, result.duration_seconds)
    for problem in result.problems[:_MOST_PROBLEMS]:
        log.warning("%s: %s: %s", project, layer, problem)
    if len(result.problems) > _MOST_PROBLEMS:
        more = len(result.problems) - _MOST_PROBLEMS
        log.warning("%s: %s: %d more rows could not be read as they should", project, layer, more)
    if result.touched_hours:
        stale = ", ".join(hour.key for hour in sorted(result.touched_hours))
        log.info("%s: traces of other hours have observations in this run's hours; stale now: %s", project, stale)
