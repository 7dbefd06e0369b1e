"""Launching a sync in Dagster instead of running it here: through the webserver, into the instance's queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError, ServiceUnavailable
from lf_dagster.hours import Hour, contiguous_blocks

DEFAULT_URL = "http://127.0.0.1:3000"


def launch_hours(
    url: str,
    settings: ProjectSettings,
    hours: Sequence[Hour],
    *,
    selection: Sequence[Any] | None,
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Iterator[tuple[str, list[Hour]]]:
    """Asks the webserver at `url` for a run per block of hours; yields each run's id as soon as it is queued.

    `selection`: asset keys, None for the whole job. Raises ServiceUnavailable when the webserver does not answer or
    does not take the run, ConfigError when `url` is no URL.
    """
    from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError

    from lf_dagster.assets.runs import RANGE_END, RANGE_START

    where = _address(url)
    try:
        client = DagsterGraphQLClient(**where)
        for block in contiguous_blocks(hours, at_most=settings.hours_per_run):
            run_id = client.submit_job_execution(
                f"{settings.name}_hourly",
                run_config=run_config,
                tags={**tags, RANGE_START: block[0].key, RANGE_END: block[-1].key},
                asset_selection=selection,
            )
            yield run_id, block
    except DagsterGraphQLClientError as error:
        raise ServiceUnavailable(
            f"Dagster at {url} did not take the run: {_in_short(error)}",
            hint="Is the webserver running there (`dagster dev`), with this project? --url names another one.",
        ) from error


def _address(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"not a URL with http:// or https://: {url!r}", hint=f"Write it like {DEFAULT_URL}.")
    return {
        "hostname": parts.hostname,
        "port_number": parts.port,
        "use_https": parts.scheme == "https",
        "path_prefix": parts.path.rstrip("/"),
    }


def _in_short(error: Exception) -> str:
    """The first line of what the client says: the rest quotes the whole query."""
    return (str(error).splitlines() or ["no answer"])[0].strip()
