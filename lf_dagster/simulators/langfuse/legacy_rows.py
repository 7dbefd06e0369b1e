"""Observations and scores as the legacy generation serves them (contract 8.2 and 8.3)."""

from __future__ import annotations

from typing import Any

from lf_dagster.simulators.langfuse import rows
from lf_dagster.simulators.langfuse.traces import parsed_io
from lf_dagster.simulators.langfuse.values import names, number, parse_stored, stored_metadata

_NESTED = ("scope.attributes", "scope", "resourceAttributes", "attributes")
_SAME = names(
    "id traceId startTime endTime projectId parentObservationId type environment name level statusMessage version "
    "createdAt updatedAt"
)


def observation(data: dict[str, Any]) -> dict[str, Any]:
    """The legacy row of a stored observation: the recorded one if there is one, else converted from its columns."""
    recorded = data.get("legacy")
    if recorded is not None and "id" in recorded:
        return recorded
    row = {key: _nullable(data[key]) for key in _SAME}
    if row["parentObservationId"] == f"t-{data['traceId']}":
        row["parentObservationId"] = None
    if data["type"] == "EVENT":
        row["endTime"] = None
    row.update(input=parsed_io(data["input"]), output=parsed_io(data["output"]), metadata=own_metadata(data))
    row.update({"model": _nullable(data["model"]), "modelParameters": _parameters(data)})
    row["completionStartTime"] = data["completionStartTime"]
    row.update({key: _nullable(data[key]) for key in ("promptId", "promptName", "promptVersion")})
    row.update(latency=rows.latency_seconds(data), timeToFirstToken=rows.first_token_seconds(data))
    if data["type"] == "EVENT":
        row["latency"] = None
    return {**row, **_usage(data), **(recorded or {})}


def own_metadata(data: dict[str, Any]) -> dict[str, Any]:
    """The observation's own metadata: without the trace's keys, dotted OTel groups nested with texts as values."""
    texts = {key: text for key, text in data["metadata"].items() if key not in data.get("traceMetadataKeys", ())}
    return nested_metadata(texts)


def nested_metadata(texts: dict[str, str]) -> dict[str, Any]:
    """Stored metadata of an OTel row in the nesting of the legacy tables."""
    found: dict[str, Any] = {}
    for key, text in texts.items():
        group = next((name for name in _NESTED if key.startswith(f"{name}.")), None)
        if group is None:
            found[key] = parse_stored(text)
        elif group == "scope.attributes":
            found.setdefault("scope", {}).setdefault("attributes", {})[key[len(group) + 1 :]] = text
        else:
            found.setdefault(group, {})[key[len(group) + 1 :]] = text
    if "scope" in found:
        found["scope"].setdefault("attributes", {})
    return found


def score(data: dict[str, Any], trace: dict[str, Any] | None, groups: frozenset[str]) -> dict[str, Any]:
    """A row of `GET /v2/scores`; `trace` is the stored trace of the score, if it exists."""
    recorded = data.get("legacy")
    row = dict(recorded["row"]) if recorded is not None else _converted_score(data)
    if "trace" in groups:
        if recorded is None or row["traceId"] is not None:
            row["trace"] = embedded_trace(trace)
    else:
        row.pop("trace", None)
    return row


def embedded_trace(trace: dict[str, Any] | None) -> dict[str, Any] | None:
    """The part of a trace that legacy score rows carry."""
    if trace is None:
        return None
    return {key: trace[key] for key in ("userId", "tags", "environment", "sessionId")}


def _converted_score(data: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: data[key] for key in names("id projectId environment name")}
    if data["dataType"] != "TEXT":
        row["value"] = number(data["value"])
    row.update({key: data[key] for key in names("source authorUserId comment")})
    row["metadata"] = stored_metadata(data["metadata"], full=True)
    keys = (
        "configId queueId executionTraceId createdAt updatedAt timestamp traceId observationId sessionId datasetRunId "
        "stringValue dataType"
    )
    return {**row, **{key: data[key] for key in keys.split()}}


def _usage(data: dict[str, Any]) -> dict[str, Any]:
    usage, cost = data["usageDetails"], data["costDetails"]
    sent = rows.usage_sum(usage, "input") or 0
    received = rows.usage_sum(usage, "output") or 0
    total = usage.get("total", 0)
    prices = {key: _price(data[key]) for key in ("inputPrice", "outputPrice", "totalPrice")}
    return {
        "usageDetails": usage,
        "costDetails": cost,
        "usagePricingTierId": None,
        "usagePricingTierName": None,
        "modelId": data["modelId"],
        **prices,
        "calculatedInputCost": rows.usage_sum(cost, "input"),
        "calculatedOutputCost": rows.usage_sum(cost, "output"),
        "calculatedTotalCost": rows.total_cost(data),
        "unit": "TOKENS",
        "promptTokens": sent,
        "completionTokens": received,
        "totalTokens": total,
        "usage": {"unit": "TOKENS", "input": sent, "output": received, "total": total},
    }


def _parameters(data: dict[str, Any]) -> Any:
    # Spans and events have no such column in the legacy pipeline; their empty map comes from the events table.
    if not data["modelParameters"] and data["type"] in ("SPAN", "EVENT"):
        return None
    return data["modelParameters"]


def _price(text: str | None) -> float | None:
    return None if text is None else float(text)


def _nullable(value: Any) -> Any:
    return None if value == "" else value
