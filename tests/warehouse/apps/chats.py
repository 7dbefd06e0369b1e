"""Rows of LibreChat made by hand, for shapes that the sample files do not hold. The same data on both read paths."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from tests.warehouse.apps.samples import STREAMS, Rows
from tests.warehouse.extracts import moment, v2_row

AT = "2026-11-20T09:00:{:06.3f}Z"
CONVERSATION = "7a1d4f4e-6f0e-4f55-9a43-5b7f7a3c1e01"
MESSAGE = "3f6f0a52-4c0b-4f43-8f53-0f6c1a9d2b01"
SCOPE = {"scope.name": "langfuse-sdk", "resourceAttributes.service.name": "unknown_service:node"}
TURN = {"messageId": MESSAGE, "parentMessageId": "p0", "thread_id": CONVERSATION, "run_id": MESSAGE}


def trace_id_of(message_id: str) -> str:
    """The trace id that LibreChat makes of a message id."""
    return hashlib.sha256(message_id.encode()).hexdigest()[:32]


def chat(
    trace_id: str,
    *observations: Mapping[str, Any],
    name: str | None = "AgentRun",
    tags: tuple[str, ...] = ("librechat", "agent"),
    metadata: Mapping[str, Any] = TURN,
    user: str = "user-1",
    session: str = CONVERSATION,
) -> Rows:
    """A trace of OpenTelemetry rows. Each observation gives `id`, and what differs from a span: `own` is its own
    metadata; `apart` marks a row that carries nothing of the trace, as LibreChat's labels do."""
    rows: Rows = {stream: [] for stream in STREAMS}
    every: list[str] = []
    for number, given in enumerate(observations):
        row = dict(given)
        own, apart = row.pop("own", {}), row.pop("apart", False)
        at = row.pop("at", AT.format(number))
        end = row.pop("end", AT.format(number + 0.5))
        row_tags = list(row.pop("tags", tags))
        every += row_tags
        carried = (
            {} if apart else {"userId": user, "sessionId": session, "traceName": name, "metadata": {**own, **metadata}}
        )
        base = v2_row(row.pop("id"), trace_id, at, endTime=end, tags=row_tags, metadata=own, isRootObservation=apart)
        base |= carried | row
        base["isRootObservation"] = apart or base["parentObservationId"] is None
        base["metadata"] = {**base["metadata"], **SCOPE}
        rows["v2_observations"].append(base)
        rows["legacy_observations"].append(_legacy(base, own))
    first = min(rows["legacy_observations"], key=lambda row: moment(row["startTime"]))
    rows["legacy_traces"] = [
        {
            "id": trace_id, "timestamp": first["startTime"], "name": name, "userId": user, "sessionId": session,
            "tags": sorted(set(every)), "environment": "default", "metadata": {**first["metadata"], **metadata},
            "input": first["input"], "output": first["output"], "release": None, "version": None,
        }
    ]  # fmt: skip
    return rows


def _legacy(row: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    keys = (
        "id", "traceId", "type", "name", "startTime", "endTime", "completionStartTime", "level", "statusMessage",
        "environment", "parentObservationId", "usageDetails", "costDetails", "model",
    )  # fmt: skip
    scope = {"scope": {"name": "langfuse-sdk"}, "resourceAttributes": {"service.name": "unknown_service:node"}}
    return {
        **{key: row[key] or None for key in keys},
        "input": row.get("input"),
        "output": row.get("output"),
        "metadata": {**own, **scope},
    }


def feedback(trace_id: str, at: str, *, up: bool, updated: str | None = None, **metadata: Any) -> Rows:
    """The score that LibreChat writes for a thumb: one per trace, changed in place."""
    base = {
        "id": f"feedback-{trace_id}", "projectId": "proj-lf", "name": "user-feedback", "source": "API",
        "timestamp": at, "environment": "default", "createdAt": at, "updatedAt": updated or at, "comment": None,
        "configId": None, "metadata": metadata, "authorUserId": None, "queueId": None, "dataType": "BOOLEAN",
    }  # fmt: skip
    rows: Rows = {stream: [] for stream in STREAMS}
    rows["v3_scores"] = [{**base, "value": up, "subject": {"kind": "trace", "id": trace_id}}]
    legacy = {"value": float(up), "stringValue": str(up), "traceId": trace_id, "observationId": None}
    rows["legacy_scores"] = [{**base, **legacy}]
    return rows
