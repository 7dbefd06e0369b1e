"""Scores: their stored columns and the rows that v3/scores makes of them (contract 5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from lf_dagster.simulators.langfuse.values import names, number, stored_metadata

GROUPS = ("core", "details", "subject", "annotation")
DATA_TYPES = ("NUMERIC", "CATEGORICAL", "BOOLEAN", "TEXT", "CORRECTION")
SOURCES = ("API", "EVAL", "ANNOTATION")

_KEYS: tuple[tuple[str, str], ...] = (
    *((key, "core") for key in names("id projectId name source timestamp environment createdAt updatedAt")),
    *((key, "details") for key in names("comment configId metadata")),
    *((key, "annotation") for key in names("authorUserId queueId")),
    ("subject", "subject"),
    ("dataType", "core"),
    ("value", "core"),
)
_DEFAULTS: dict[str, Any] = {
    "source": "API",
    "environment": "default",
    "comment": None,
    "configId": None,
    "authorUserId": None,
    "queueId": None,
    "traceId": None,
    "observationId": None,
    "sessionId": None,
    "datasetRunId": None,
    "executionTraceId": None,
    "stringValue": None,
    "value": 0,
}
_REQUIRED = frozenset(
    {"id", "name", "dataType", "timestamp", "projectId", "createdAt", "updatedAt", "metadata", "legacy"}
)
_encode = msgspec.json.Encoder().encode


def score(*, id: str, name: str, data_type: str, timestamp: str, project_id: str, **columns: Any) -> dict[str, Any]:
    """The stored columns of a score, under the names of the legacy API.

    `value` is the stored number (0 or 1 for BOOLEAN, 0 for texts), `stringValue` the text of CATEGORICAL, TEXT and
    CORRECTION scores and `True`/`False` of BOOLEAN ones; `metadata` maps names to stored texts.
    Raises TypeError for unknown columns.
    """
    required = {"id": id, "name": name, "dataType": data_type, "timestamp": timestamp, "projectId": project_id}
    data = {**required, **_DEFAULTS, "metadata": {}, "createdAt": timestamp, **columns}
    data.setdefault("updatedAt", data["createdAt"])
    unknown = data.keys() - _REQUIRED - _DEFAULTS.keys()
    if unknown:
        raise TypeError(f"unknown score columns: {sorted(unknown)}")
    return data


class Shape:
    """What a v3/scores call asked for."""

    __slots__ = ("groups", "keys")

    def __init__(self, groups: Iterable[str]) -> None:
        self.groups = frozenset(groups) | {"core"}
        self.keys = tuple(key for key, group in _KEYS if group in self.groups)

    def encode(self, data: dict[str, Any]) -> bytes:
        """The row as JSON bytes."""
        return _encode(self.project(data))

    def project(self, data: dict[str, Any]) -> dict[str, Any]:
        """The row as a dict with the keys of the asked groups."""
        derived: dict[str, Any] = {"value": value(data), "subject": subject(data)}
        if "details" in self.groups:
            derived["metadata"] = stored_metadata(data["metadata"], full=True)
        return {key: derived[key] if key in derived else data[key] for key in self.keys}


def value(data: dict[str, Any]) -> Any:
    """The typed value: a number, true or false, or a text."""
    if data["dataType"] == "NUMERIC":
        return number(data["value"])
    if data["dataType"] == "BOOLEAN":
        return data["value"] == 1
    return data["stringValue"]


def subject(data: dict[str, Any]) -> dict[str, Any] | None:
    """What the score is about; with several ids set: experiment, observation, session, trace."""
    if data["datasetRunId"] is not None:
        return {"kind": "experiment", "id": data["datasetRunId"]}
    if data["observationId"] is not None:
        trace = {} if data["traceId"] is None else {"traceId": data["traceId"]}
        return {"kind": "observation", "id": data["observationId"], **trace}
    if data["sessionId"] is not None:
        return {"kind": "session", "id": data["sessionId"]}
    return None if data["traceId"] is None else {"kind": "trace", "id": data["traceId"]}
