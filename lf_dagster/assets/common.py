"""What all assets share: keys, hours of a run, recording an hour, errors as Dagster failures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from lf_dagster.config import ProjectSettings
from lf_dagster.errors import LfDagsterError, RetryableError
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake, hold
from lf_dagster.warehouse import Warehouse

WAREHOUSE_POOL = "lf_dagster_warehouse"
"""Pool of every asset that opens the DuckDB file; `dagster.yaml` gives it one slot."""

SETTINGS_METADATA = "lf_dagster/settings"
"""Definition metadata of a project's source asset: its effective settings (names of secrets, never values)."""
SOURCES_METADATA = "lf_dagster/setting_sources"
"""The same: for each setting that somebody gave, the file or the variables that gave it, the winner first."""

# Waits before the first and second repetition of a step that failed for a passing reason, in seconds. The HTTP
# layer has used up its own retries by then, so these are long.
STEP_RETRY_WAITS = (30.0, 120.0)


def asset_key(project: str, name: str) -> dg.AssetKey:
    """`[project, name]`."""
    return dg.AssetKey([project, name])


def hours_of(context: dg.AssetExecutionContext) -> list[Hour]:
    """The hours of this run, one or many, oldest first."""
    return sorted(Hour.from_key(key) for key in context.partition_keys)


def open_lake(settings: ProjectSettings) -> Lake:
    """The project's lake."""
    return Lake(settings.data)


def open_warehouse(settings: ProjectSettings, lake: Lake) -> Warehouse:
    """The project's warehouse: what the settings say, or a DuckDB file in the lake's folder."""
    return Warehouse.of(settings, lake)


def record_hour(
    context: dg.AssetExecutionContext, key: dg.AssetKey, hour: Hour, facts: Mapping[str, Any], *, at_once: bool
) -> None:
    """Puts an hour's metadata on its materialisation.

    `at_once` also records the materialisation now, so that a range run that fails later keeps this hour
    (Dagster by itself records the hours of a range run only when the step has succeeded).
    """
    if at_once and context.has_partition_key_range:
        context.log_event(dg.AssetMaterialization(asset_key=key, partition=hour.key, metadata=dict(facts)))
    context.add_asset_metadata(dict(facts), asset_key=key, partition_key=hour.key)


@contextmanager
def project_step(
    context: dg.AssetExecutionContext, settings: ProjectSettings, *, log: logging.Logger
) -> Iterator[None]:
    """What every step of a project does: its run is marked as alive, and our errors become Dagster's.

    Of the error tree of `lf_dagster.errors`, retryable ones are retried, others fail at once.
    """
    hold(open_lake(settings), context.run.run_id)
    try:
        yield
    except LfDagsterError as error:
        error.with_context(project=settings.name)
        log.error("%s", error)
        if isinstance(error, RetryableError) and context.retry_number < len(STEP_RETRY_WAITS):
            wait = max(error.retry_after or 0.0, STEP_RETRY_WAITS[context.retry_number])
            raise dg.RetryRequested(max_retries=len(STEP_RETRY_WAITS), seconds_to_wait=wait) from error
        raise dg.Failure(
            description=str(error),
            metadata={key: str(value) for key, value in error.context.items()},
            allow_retries=False,
        ) from error
