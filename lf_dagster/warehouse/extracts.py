"""The extracts of a run's hours as the models see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import duckdb

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.lake import STREAMS, UnreadableFile
from lf_dagster.warehouse.database import file_literal, literal
from lf_dagster.warehouse.shares import Share

if TYPE_CHECKING:
    from lf_dagster.lake import Lake

_COLUMNS = {
    "id": "VARCHAR",
    "trace_id": "VARCHAR",
    "event_time": "TIMESTAMPTZ",
    "updated_at": "TIMESTAMPTZ",
    "read_path": "VARCHAR",
    "json": "VARCHAR",
    "deleted_seen_at": "TIMESTAMPTZ",
    "metadata_gone": "VARCHAR",
}


def extract_identity(lake: Lake, project: str, hour: Hour) -> str:
    """Names the extracts that an hour has now: it differs after each read of any of its streams. Raises UnreadableFile
    for a broken one."""
    found: dict[str, dict[str, str]] = {}
    for stream in STREAMS:
        try:
            facts = lake.extract_facts(project, stream, hour)
        except UnreadableFile:
            # A trace file of a legacy past is not read.
            if stream != "traces" or found.get("observations", {}).get("read_path") == "legacy":
                raise
            continue
        if facts is not None:
            found[stream] = facts
    return extract_identity_of(found)


def extract_identity_of(extracts: Mapping[str, Mapping[str, str]]) -> str:
    """The same from the facts of the extracts that exist, by stream."""
    return " ".join(
        f"{extracts[stream].get('extracted_at')}/{extracts[stream].get('run_id')}" if stream in extracts else "-"
        for stream in STREAMS
    )


def find_extracts(lake: Lake, project: str, hours: Sequence[Hour]) -> dict[str, list[str]]:
    """Paths of the hours' extracts by stream; ConfigError when one is missing."""
    extracts: dict[str, list[str]] = {}
    for stream in STREAMS:
        # What an hour that is v2 now was on the legacy path before may still lie there.
        required = [hour for hour in hours if stream != "traces" or _is_legacy(lake, project, hour)]
        extracts[stream] = lake.extract_paths(project, stream, required)
        if len(extracts[stream]) < len(required):
            missing = [hour.key for hour in required if not lake.extract_exists(project, stream, hour)]
            raise ConfigError(
                f"no extract of {stream} for {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}",
                hint=f"Materialise raw_{stream} for these hours first.",
                project=project,
            )
    return extracts


def open_extracts(con: duckdb.DuckDBPyConnection, extracts: Mapping[str, Sequence[str]], share: Share) -> None:
    """Temp views `raw_<stream>` over a share of the extracts' live rows, and `raw_deletions` over the marked ones.

    The former have the slice that `take_slice` names, at first all of the share.
    """
    take_slice(con, "true")
    for stream, paths in extracts.items():
        con.execute(f"CREATE OR REPLACE TEMP VIEW raw_{stream} AS {_select(stream, paths, share, marked=False)}")
    con.execute(f"CREATE OR REPLACE TEMP VIEW raw_deletions AS {_deletions(extracts, share)}")


def take_slice(con: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Let the views `raw_<stream>` have the rows for whose `id` the condition holds."""
    con.execute(f"CREATE OR REPLACE TEMP MACRO in_slice(id) AS {condition}")


def _is_legacy(lake: Lake, project: str, hour: Hour) -> bool:
    return (lake.extract_facts(project, "observations", hour) or {}).get("read_path") == "legacy"


def _select(stream: str, paths: Sequence[str], share: Share, *, marked: bool) -> str:
    """The live or the marked rows of extracts, with their hour; those without the mark's column hold live rows only."""
    nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _COLUMNS.items())
    rows = f"SELECT {nothing} WHERE false"
    if paths:
        files = ", ".join(map(file_literal, paths))
        # The empty SELECT gives the column its place when no file has it.
        rows += f" UNION ALL BY NAME FROM read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
    trace_id = "id" if stream == "traces" and not marked else "trace_id"
    kind = "deleted_seen_at IS NOT NULL" if marked else "deleted_seen_at IS NULL AND in_slice(id)"
    return (
        # What date_trunc gives in UTC, in a third of the time.
        f"SELECT {', '.join(_COLUMNS)}, time_bucket(INTERVAL 1 HOUR, event_time) AS partition_hour "
        f"FROM ({rows}) WHERE {kind} AND {share.holds(trace_id)}"
    )


def _deletions(extracts: Mapping[str, Sequence[str]], share: Share) -> str:
    return " UNION ALL ".join(
        f"SELECT {literal(stream)} AS stream, * EXCLUDE (updated_at, json, metadata_gone) "
        f"FROM ({_select(stream, paths, share, marked=True)})"
        for stream, paths in extracts.items()
    )
