"""Rows that Dify and LibreChat leave in Langfuse, and projects that hold them, on either read path, with content."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from lf_dagster.hours import Hour
from tests.warehouse.extracts import DATA, Project, hours_of, v2_row

Rows = dict[str, list[dict[str, Any]]]
"""The same data on both paths, by stream (see STREAMS)."""

STREAMS = ("v2_observations", "v3_scores", "legacy_traces", "legacy_observations", "legacy_scores")
READ_PATHS = ("v2", "legacy")
AUDIT = ("ingested_at", "run_id", "read_path")
"""Audit columns that differ between runs or read paths."""


@lru_cache(maxsize=2)
def _entries(app: str) -> list[dict[str, Any]]:
    return json.loads(gzip.decompress((DATA / "apps" / f"{app}.json.gz").read_bytes()))


def kinds(app: str) -> dict[str, str]:
    """Kind of each sample trace of `dify` or `librechat` to its trace id."""
    return {
        entry["kind"]: (entry["v2_observations"] or entry["legacy_observations"])[0]["traceId"]
        for entry in _entries(app)
    }


def sample(app: str, *only: str) -> Rows:
    """A copy of the rows of the sample file, of all kinds or of some."""
    rows: Rows = {stream: [] for stream in STREAMS}
    for entry in deepcopy(_entries(app)):
        if only and entry["kind"] not in only:
            continue
        rows["v2_observations"] += entry["v2_observations"]
        rows["legacy_observations"] += entry["legacy_observations"]
        rows["legacy_traces"] += [entry["legacy_trace"]] if entry["legacy_trace"] else []
        rows["v3_scores"] += entry.get("scores_v3") or []
        rows["legacy_scores"] += entry.get("scores_v1") or []
    return rows


@lru_cache(maxsize=1)
def _real() -> dict[str, list[dict[str, Any]]]:
    return json.loads(gzip.decompress((DATA / "apps" / "real.json.gz").read_bytes()))


def real() -> Rows:
    """A copy of rows of both apps' shapes as a real server gave them (its legacy scores were not kept)."""
    return {stream: deepcopy(_real().get(stream, [])) for stream in STREAMS}


def merged(*parts: Rows) -> Rows:
    """Several sets of rows as one."""
    return {stream: [row for part in parts for row in part[stream]] for stream in STREAMS}


def without_content(rows: Rows) -> Rows:
    """The same rows as a project that reads no content has them."""
    return {
        stream: [{key: value for key, value in row.items() if key not in ("input", "output")} for row in rows[stream]]
        for stream in STREAMS
    }


def hours(rows: Rows) -> list[Hour]:
    """Every hour that holds one of the rows, on either path."""
    return sorted(
        {
            *hours_of([*rows["v2_observations"], *rows["legacy_observations"]]),
            *hours_of(rows["legacy_traces"], "traces"),
            *hours_of([*rows["v3_scores"], *rows["legacy_scores"]], "scores"),
        }
    )


def extract(project: Project, rows: Rows, read_path: str, wanted: Sequence[Hour]) -> None:
    """Write the rows' extracts of one read path."""
    if read_path == "v2":
        project.extract_v2(rows["v2_observations"], wanted, rows["v3_scores"])
    else:
        project.extract_legacy(rows["legacy_traces"], rows["legacy_observations"], wanted, rows["legacy_scores"])


def loaded(folder: Path, rows: Rows, read_path: str) -> Project:
    """A project that holds the rows, read on one path, its models run over all hours."""
    project = Project(folder / read_path)
    wanted = hours(rows)
    extract(project, rows, read_path, wanted)
    assert project.run(wanted).problems == ()
    return project


def both(folder: Path, rows: Rows) -> dict[str, Project]:
    """The project once per read path."""
    return {read_path: loaded(folder, rows, read_path) for read_path in READ_PATHS}


def counts(project: Project, tables: Iterable[str]) -> dict[str, int]:
    """Rows per table."""
    return {table: project.query(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}


def by_key(project: Project, table: str, *key: str, without: Sequence[str] = AUDIT) -> dict[Any, dict[str, Any]]:
    """A table's rows by one or several columns; fails when two rows share the key."""
    rows = project.table(table, without=without)
    found = {row[key[0]] if len(key) == 1 else tuple(row[name] for name in key): row for row in rows}
    assert len(found) == len(rows), f"{table} is not unique by {key}"
    return found


def picked(row: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that a test expects something of."""
    return {column: row[column] for column in expected}


def sent(trace: Mapping[str, Any] | None, *observations: Mapping[str, Any]) -> Rows:
    """What a server in dual mode serves, on both paths, of a trace and observations in the shape of legacy rows.

    On v2 the trace is a synthetic row, and each observation has its context and metadata, its own keys winning.
    Without the trace (`None`) the observations are orphans.
    """
    legacy = [{"level": "DEFAULT", "metadata": {}, "type": "SPAN", **row} for row in observations]
    context = trace or {}
    rows = [] if trace is None else [_v2_of(trace, context, id=f"t-{trace['id']}", traceId=trace["id"])]
    rows += [_v2_of(row, context, parent=row.get("parentObservationId") or f"t-{row['traceId']}") for row in legacy]
    return {
        "v2_observations": rows,
        "v3_scores": [],
        "legacy_traces": [{"metadata": {}, **trace, "tags": sorted(trace.get("tags", []))}] if trace else [],
        "legacy_observations": legacy,
        "legacy_scores": [],
    }


def _v2_of(
    row: Mapping[str, Any], context: Mapping[str, Any], *, parent: str | None = None, **changes: Any
) -> dict[str, Any]:
    at = row.get("startTime") or row["timestamp"]
    served = {key: row[key] for key in _SERVED_ALIKE if key in row}
    return v2_row(
        changes.pop("id", row["id"]),
        changes.pop("traceId", row.get("traceId", "")),
        at,
        **served,
        parentObservationId=parent,
        statusMessage=row.get("statusMessage") or "",
        isRootObservation=parent is None,
        userId=context.get("userId") or "",
        sessionId=context.get("sessionId") or "",
        version=context.get("version") or "",
        traceName=context.get("name"),
        tags=context.get("tags", []),
        input=_text(row.get("input")),
        output=_text(row.get("output")),
        metadata={**context.get("metadata", {}), **row.get("metadata", {})},
        **changes,
    )


_SERVED_ALIKE = ("name", "type", "endTime", "level", "completionStartTime", "model", "usageDetails", "costDetails")


def _text(content: Any) -> str | None:
    return content if content is None or isinstance(content, str) else json.dumps(content, ensure_ascii=False)
