"""Observations: their stored columns and the row that v2/observations makes of them (contract 4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from lf_dagster.simulators.langfuse.values import epoch_ms, names, number, seconds, stored_metadata

GROUPS = ("core", "basic", "time", "io", "metadata", "model", "usage", "prompt", "metrics", "trace_context")
TYPES = (
    "GENERATION", "SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL",
)  # fmt: skip
LEVELS = ("DEBUG", "DEFAULT", "WARNING", "ERROR")

_ALL = frozenset(GROUPS)
_KEYS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (key, _ALL if group == "always" else frozenset(group.split("|")))
    for group, keys in (
        ("always", "id traceId startTime endTime projectId parentObservationId type"),
        ("basic", "name level statusMessage version environment"),
        ("time", "completionStartTime createdAt updatedAt"),
        ("io", "input output"),
        ("metadata", "metadata"),
        ("model", "model internalModelId modelParameters"),
        ("usage", "usageDetails inputUsage outputUsage totalUsage costDetails inputCost outputCost totalCost"),
        ("prompt", "promptId promptName promptVersion"),
        ("usage", "usagePricingTierId usagePricingTierName"),
        ("always", "latency timeToFirstToken"),
        ("basic", "userId sessionId isRootObservation"),
        ("trace_context", "traceName release tags"),
        ("basic", "bookmarked public"),
        ("always", "modelId inputPrice outputPrice totalPrice"),
    )
    for key in keys.split()
)
_PRICES = ("modelId", "inputPrice", "outputPrice", "totalPrice")

_DEFAULTS: dict[str, Any] = {
    "endTime": None,
    "parentObservationId": None,
    "type": "SPAN",
    "name": "",
    "level": "DEFAULT",
    "statusMessage": "",
    "version": "",
    "environment": "default",
    "completionStartTime": None,
    "input": None,
    "output": None,
    "model": "",
    "internalModelId": "",
    "modelParameters": None,
    "promptId": "",
    "promptName": "",
    "promptVersion": None,
    "usagePricingTierId": None,
    "usagePricingTierName": None,
    "userId": "",
    "sessionId": "",
    "isRootObservation": False,
    "traceName": None,
    "release": "",
    "bookmarked": False,
    "public": False,
    "modelId": None,
    "inputPrice": None,
    "outputPrice": None,
    "totalPrice": None,
}
_encode = msgspec.json.Encoder().encode


def observation(*, id: str, trace_id: str, start_time: str, project_id: str, **columns: Any) -> dict[str, Any]:
    """The stored columns of an observation, under the names of v2/observations.

    `metadata` maps names to stored texts (`values.stored_text`); unset strings are `""`; times are ISO texts with
    milliseconds; `usageDetails` and `costDetails` hold the raw buckets. Raises TypeError for unknown columns.
    """
    required = {"id": id, "traceId": trace_id, "startTime": start_time, "projectId": project_id}
    fresh = {"metadata": {}, "usageDetails": {}, "costDetails": {}, "tags": [], "createdAt": start_time}
    data = {**required, **_DEFAULTS, **fresh, **columns}
    data.setdefault("updatedAt", data["createdAt"])
    unknown = data.keys() - _STORED
    if unknown:
        raise TypeError(f"unknown observation columns: {sorted(unknown)}")
    return data


_DERIVED = frozenset(names("inputUsage outputUsage totalUsage inputCost outputCost totalCost latency timeToFirstToken"))
_STORED = (frozenset(key for key, _ in _KEYS) - _DERIVED) | {"legacy", "traceMetadataKeys"}


class Shape:
    """What a v2/observations call asked for: its field groups and whether metadata comes in full."""

    __slots__ = ("full_metadata", "groups", "keys")

    def __init__(self, groups: Iterable[str], *, expand_metadata: bool = False) -> None:
        self.groups = frozenset(groups)
        self.full_metadata = expand_metadata or "io" in self.groups
        self.keys = tuple(key for key, owners in _KEYS if not owners.isdisjoint(self.groups) or owners is _ALL)

    @property
    def cache_key(self) -> tuple[frozenset[str], bool]:
        return self.groups, self.full_metadata

    def encode(self, data: dict[str, Any]) -> bytes:
        """The row as JSON bytes."""
        return _encode(self.project(data))

    def project(self, data: dict[str, Any]) -> dict[str, Any]:
        """The row as a dict: keys of groups that were not asked for are absent."""
        derived = _derived(data, self.groups)
        if "metadata" in self.groups:
            derived["metadata"] = stored_metadata(data["metadata"], full=self.full_metadata)
        if "model" not in self.groups:
            derived.update(dict.fromkeys(_PRICES))
        return {key: derived[key] if key in derived else data[key] for key in self.keys}


def total_cost(data: dict[str, Any]) -> float | int:
    """The `total` bucket of the costs; 0 when there is none."""
    return number(data["costDetails"].get("total", 0))


def usage_sum(details: dict[str, Any], word: str) -> Any:
    """Sum over the buckets whose name contains the word; None when there is none."""
    found = [value for key, value in details.items() if word in key]
    return number(sum(found)) if found else None


def latency_seconds(data: dict[str, Any]) -> float | int | None:
    """End minus start; None while there is no end."""
    return None if data["endTime"] is None else seconds(epoch_ms(data["endTime"]) - epoch_ms(data["startTime"]))


def first_token_seconds(data: dict[str, Any]) -> float | int | None:
    """Completion start minus start; None when it is unknown."""
    if data["completionStartTime"] is None:
        return None
    return seconds(epoch_ms(data["completionStartTime"]) - epoch_ms(data["startTime"]))


def _derived(data: dict[str, Any], groups: frozenset[str]) -> dict[str, Any]:
    first_token = first_token_seconds(data) if groups & {"time", "metrics"} else None
    latency = latency_seconds(data)
    if "metrics" in groups:
        # Recomputed in SQL there: zero milliseconds become null.
        first_token = first_token or None
    derived: dict[str, Any] = {"latency": latency, "timeToFirstToken": first_token}
    if "usage" in groups:
        usage, cost = data["usageDetails"], data["costDetails"]
        derived.update(
            inputUsage=usage_sum(usage, "input") or 0,
            outputUsage=usage_sum(usage, "output") or 0,
            totalUsage=usage.get("total", 0),
            inputCost=usage_sum(cost, "input"),
            outputCost=usage_sum(cost, "output"),
            totalCost=total_cost(data),
        )
    return derived
