"""Turns rows that a real server answered into stored columns, so that both generations can serve them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from isal import igzip

from lf_dagster.simulators.langfuse import rows, scores, traces
from lf_dagster.simulators.langfuse.store import Project, Store
from lf_dagster.simulators.langfuse.values import names, stored_text

_ABSENT = object()
_DERIVED_USAGE = names("inputUsage outputUsage totalUsage inputCost outputCost totalCost latency timeToFirstToken")


def load_recorded(path: str | Path, *, project: Project | None = None) -> Store:
    """A store of recorded rows: gzip JSON with the keys `v2_observations`, `v3_scores`, `legacy_traces`,
    `legacy_observations` and `legacy_scores`, each a list of rows as the endpoints returned them.

    v2 rows must hold every field group. Legacy rows are served as recorded; where none is given, it is derived, and
    `trace_metadata_keys` (`{"traceId", "keys"}`) says which metadata keys of its observations belong to the trace
    alone (default: those of its `t-` row).
    """
    content = msgspec.json.decode(igzip.decompress(Path(path).read_bytes()))
    return from_rows(content, project=project)


def from_rows(content: Mapping[str, Sequence[dict[str, Any]]], *, project: Project | None = None) -> Store:
    """Like `load_recorded`, from rows in memory."""
    store = Store(project)
    _observations(store, content)
    legacy_scores = {row["id"]: (rank, row) for rank, row in enumerate(content.get("legacy_scores", ()))}
    for row in content.get("v3_scores", ()):
        store.put_score(stored_score(row, legacy=legacy_scores.get(row["id"])))
    for row in content.get("legacy_traces", ()):
        store.put_trace(stored_trace(row))
    return store


def _observations(store: Store, content: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    observed = content.get("v2_observations", ())
    recorded = {row["id"]: row for row in content.get("legacy_observations", ())}
    roots = {row["traceId"]: row for row in observed if row["id"] == f"t-{row['traceId']}"}
    named = {entry["traceId"]: entry["keys"] for entry in content.get("trace_metadata_keys", ())}
    for row in observed:
        root = roots.get(row["traceId"])
        legacy = recorded.get(row["id"])
        if root is None:
            stored = stored_observation(row, legacy=legacy)
            stored["traceMetadataKeys"] = named.get(row["traceId"], [])
        else:
            stored = stored_observation(row, legacy=legacy or _before_propagation(row, root))
            stored["traceMetadataKeys"] = _inherited(row, root)
        store.put_observation(stored)


def _before_propagation(row: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """What the legacy tables hold of a row that the dual write path copied with its trace's version filled in."""
    own_version = None if row["version"] == root["version"] else row["version"]
    return {"version": own_version or None, "modelParameters": row["modelParameters"] or None}


def _inherited(row: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    return [key for key, value in root["metadata"].items() if row["metadata"].get(key, _ABSENT) == value]


def stored_observation(row: Mapping[str, Any], *, legacy: dict[str, Any] | None = None) -> dict[str, Any]:
    """Stored columns of a v2/observations row with all groups; `legacy` is its recorded legacy row."""
    columns = {key: value for key, value in row.items() if key not in _DERIVED_USAGE}
    columns["metadata"] = {key: stored_text(value) for key, value in row["metadata"].items()}
    if legacy is not None:
        columns["legacy"] = legacy
    identity = {name: columns.pop(key) for name, key in _IDENTITY.items()}
    return rows.observation(**identity, **columns)


_IDENTITY = {"id": "id", "trace_id": "traceId", "start_time": "startTime", "project_id": "projectId"}


def stored_score(row: Mapping[str, Any], *, legacy: tuple[int, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Stored columns of a v3/scores row with all groups; `legacy` is its rank and row in the legacy list."""
    value = row["value"]
    text = row["dataType"] in ("CATEGORICAL", "TEXT", "CORRECTION")
    columns: dict[str, Any] = {
        key: row[key] for key in names("source environment comment configId authorUserId queueId createdAt updatedAt")
    }
    columns.update(_subject_ids(row["subject"]))
    columns["value"] = 0 if text else float(value)
    columns["stringValue"] = value if text else str(value) if row["dataType"] == "BOOLEAN" else None
    columns["metadata"] = {key: stored_text(entry) for key, entry in row["metadata"].items()}
    if legacy is not None:
        rank, recorded = legacy
        columns["value"] = recorded.get("value", columns["value"])
        columns["legacy"] = {"rank": rank, "row": recorded}
    return scores.score(
        id=row["id"],
        name=row["name"],
        data_type=row["dataType"],
        timestamp=row["timestamp"],
        project_id=row["projectId"],
        **columns,
    )


def stored_trace(row: Mapping[str, Any]) -> dict[str, Any]:
    """Stored columns of a legacy trace row; its lists and metrics are kept as recorded unless they are sentinels."""
    columns = {key: row[key] for key in traces.STORED if key in row}
    columns["metadata"] = {key: stored_text(value) for key, value in row["metadata"].items()}
    columns["input"] = None if row["input"] is None else stored_text(row["input"])
    columns["output"] = None if row["output"] is None else stored_text(row["output"])
    columns["recorded"] = {key: row[key] for key in ("observations", "scores", "totalCost", "latency") if key in row}
    identity = {"id": columns.pop("id"), "timestamp": columns.pop("timestamp"), "project_id": columns.pop("projectId")}
    return traces.trace(**identity, **columns)


def _subject_ids(subject: Mapping[str, Any]) -> dict[str, Any]:
    if subject["kind"] == "observation":
        return {"observationId": subject["id"], "traceId": subject.get("traceId")}
    column = {"trace": "traceId", "session": "sessionId", "experiment": "datasetRunId"}[subject["kind"]]
    return {column: subject["id"]}
