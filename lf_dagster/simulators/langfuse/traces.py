"""Traces: the stored columns of the legacy table, and the rows of the legacy generation (contract 8.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from lf_dagster.simulators.langfuse import rows
from lf_dagster.simulators.langfuse.store import Store, Version
from lf_dagster.simulators.langfuse.values import epoch_ms, exact_sum, names, parse_stored, seconds, stored_metadata

GROUPS = ("core", "io", "scores", "observations", "metrics")
ORDER_COLUMNS = ("id", "timestamp", "name", "userId", "release", "version", "public", "bookmarked", "sessionId")
STORED = names(
    "id projectId name timestamp environment tags bookmarked release version userId sessionId public "
    "createdAt updatedAt externalId"
)
_LOOKBACK_MS = 3_600_000
_DEFAULTS: dict[str, Any] = {
    "name": None,
    "environment": "default",
    "bookmarked": False,
    "release": None,
    "version": None,
    "userId": None,
    "sessionId": None,
    "public": False,
    "externalId": None,
    "input": None,
    "output": None,
    "recorded": None,
}
_ALLOWED = {*STORED, *_DEFAULTS, "metadata"}


def trace(*, id: str, timestamp: str, project_id: str, **columns: Any) -> dict[str, Any]:
    """The stored columns of a trace, under the names of the legacy API.

    `metadata` maps names to stored texts, `input` and `output` are stored texts, unset values are None. `recorded`
    holds what is to be served instead of what follows from the observations and scores. Raises TypeError.
    """
    fresh = {"tags": [], "metadata": {}, "createdAt": timestamp}
    data = {"id": id, "timestamp": timestamp, "projectId": project_id, **_DEFAULTS, **fresh, **columns}
    data.setdefault("updatedAt", data["createdAt"])
    unknown = data.keys() - _ALLOWED
    if unknown:
        raise TypeError(f"unknown trace columns: {sorted(unknown)}")
    return data


class LegacyView:
    """What the legacy tables hold at one moment: newest version of each id, without synthetic root rows."""

    def __init__(self, store: Store, now_ms: int) -> None:
        scanned = store.visible_observations(now_ms).versions
        real = [version for version in scanned if version.id != f"t-{version.trace_id}"]
        self.observations = list(reversed(newest(real)))
        merged = {version.id: version for version in self.observations}
        # Replaced versions that the engine has not merged yet: counted, never served.
        self.unmerged = [
            version for version in real if merged[version.id] is not version and merged[version.id].key == version.key
        ]
        self.scores = list(reversed(newest(store.visible_scores(now_ms).versions)))
        self.traces = list(reversed(store.visible_traces(now_ms).versions))
        self.by_id = {version.id: version for version in self.traces}
        self.observations_of = _grouped(self.observations)
        self.scores_of = _grouped(self.scores)
        # Corrections are scores of another kind: trace rows do not list them.
        self.graded = _grouped([version for version in self.scores if version.data["dataType"] != "CORRECTION"])

    def row(self, version: Version, groups: frozenset[str]) -> dict[str, Any]:
        """One row of `GET /traces`; groups left out show as empty lists, nulls and -1."""
        data = version.data
        known = data["recorded"] or {}
        content = self._content(data, groups)
        links: dict[str, Any] = {"observations": [], "scores": [], "totalCost": -1, "latency": -1}
        if "observations" in groups:
            links["observations"] = known.get("observations", self._ids(self.observations_of, data["id"]))
        if "scores" in groups:
            links["scores"] = known.get("scores", self._ids(self.graded, data["id"]))
        if "metrics" in groups:
            links["totalCost"] = known.get("totalCost", self.total_cost(data))
            links["latency"] = known.get("latency", self.latency(data))
        path = f"/project/{data['projectId']}/traces/{data['id']}"
        return {**content, **links, "htmlPath": path, "externalId": data["externalId"]}

    def total_cost(self, data: dict[str, Any]) -> float | int:
        """Sum of the observations' total costs in USD."""
        return exact_sum(rows.total_cost(version.data) for version in self._joined(data))

    def latency(self, data: dict[str, Any]) -> float | int:
        """Seconds from the first start to the last start or end; 0 without observations."""
        joined = self._joined(data)
        if not joined:
            return 0
        ends = [epoch_ms(version.data["endTime"]) for version in joined if version.data["endTime"] is not None]
        starts = [version.event_ms for version in joined]
        return seconds(max(starts + ends) - min(starts + ends))

    def _joined(self, data: dict[str, Any]) -> list[Version]:
        earliest = epoch_ms(data["timestamp"]) - _LOOKBACK_MS
        return [version for version in self.observations_of.get(data["id"], ()) if version.event_ms >= earliest]

    def _ids(self, found: dict[str, list[Version]], trace_id: str) -> list[str]:
        return sorted(version.id for version in found.get(trace_id, ()))

    def _content(self, data: dict[str, Any], groups: frozenset[str]) -> dict[str, Any]:
        shown = "io" in groups
        return {
            **{key: data[key] for key in STORED[:12]},
            "input": parsed_io(data["input"]) if shown else None,
            "output": parsed_io(data["output"]) if shown else None,
            "metadata": stored_metadata(data["metadata"], full=True) if shown else {},
            "createdAt": data["createdAt"],
            "updatedAt": data["updatedAt"],
        }


def newest(versions: Iterable[Version]) -> list[Version]:
    """One version per id, the last written one, in the order of event time."""
    best: dict[str, Version] = {}
    for version in versions:
        held = best.get(version.id)
        if held is None or _recency(version) >= _recency(held):
            best[version.id] = version
    return sorted(best.values(), key=lambda version: version.event_ms)


def parsed_io(text: str | None) -> Any:
    """Input and output as the legacy rows show them: parsed if they are JSON."""
    return None if text is None else parse_stored(text)


def _recency(version: Version) -> tuple[int, str]:
    return version.visible_ms, version.data["updatedAt"]


def _grouped(versions: Sequence[Version]) -> dict[str, list[Version]]:
    grouped: dict[str, list[Version]] = defaultdict(list)
    for version in versions:
        if version.trace_id is not None:
            grouped[version.trace_id].append(version)
    return dict(grouped)
