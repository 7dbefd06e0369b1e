"""What a destination should hold for a state of the Langfuse store: an independent reading of the contracts.

Traces are rebuilt from observations (contracts: langfuse.md 11, source-apps.md 5.1), properties have the form that
docs/events.md calls documented. Nothing here knows the product; the only import is the stand-ins' store.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lf_dagster.simulators.langfuse.scores import subject
from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.langfuse.traces import newest
from lf_dagster.simulators.langfuse.values import epoch_ms

Destination = Literal["mixpanel", "posthog"]
Kind = Literal["trace", "generation", "score"]
Row = dict[str, Any]

NAMES: dict[Destination, dict[Kind, str]] = {
    "mixpanel": {"trace": "[Langfuse] Trace", "generation": "[Langfuse] Generation", "score": "[Langfuse] Score"},
    "posthog": {"trace": "langfuse trace", "generation": "langfuse generation", "score": "langfuse score"},
}
NAMESPACES: dict[Destination, uuid.UUID] = {
    "mixpanel": uuid.UUID("8f7c3e42-9a1b-4d5f-8e2a-1c6b9d3f4e7a"),
    "posthog": uuid.UUID("0f6c91df-d035-4813-b838-9741ba38ef0b"),
}
INTERNAL_ENVIRONMENTS = frozenset(
    {
        "langfuse-prompt-experiment",
        "langfuse-llm-as-a-judge",
        "langfuse-code-eval",
        "langfuse-natural-language-filter",
        "langfuse-in-app-agent",
        "langfuse-evaluation",
        "sdk-experiment",
    }
)
UNKNOWN_USER = "langfuse_unknown_user"
REFUSED_IDS: dict[Destination, frozenset[str]] = {
    "mixpanel": frozenset(
        {
            "undefined", "null", "nil", "none", "unknown", "n/a", "na", "anon", "anonymous", "false", "true", "0",
            "-1", "00000000-0000-0000-0000-000000000000", "<nil>", "[]", "{}", "lmy47d",
        }
    ),
    "posthog": frozenset(
        {
            "0", "00000000-0000-0000-0000-000000000000", "[object object]", "anonymous", "anonymous-user", "backend",
            "distinct_id", "distinctid", "email", "false", "guest", "id", "nan", "none", "not_authenticated", "null",
            "system", "true", "undefined", "user",
        }
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """One event, whichever destination it goes to. `time_ms` epoch milliseconds; `properties` by wire name."""

    kind: Kind
    entity_id: str
    time_ms: int
    user_id: str | None
    environment: str
    properties: Row = field(hash=False)


@dataclass(frozen=True)
class Expected:
    """An event as one destination should hold it."""

    event: str
    event_id: str
    time_ms: int
    distinct_id: str
    properties: Row = field(hash=False)


def facts(store: Store, now_ms: int, *, from_ms: int | None = None, to_ms: int | None = None) -> list[Fact]:
    """Every event of what the store shows at that moment, of event times in [from, to) when these are given."""
    observations = newest(store.visible_observations(now_ms).versions)
    scored = newest(store.visible_scores(now_ms).versions)
    inside = [version for version in scored if _within(version.event_ms, from_ms, to_ms)]
    wanted = {version.trace_id for version in observations if _near(version.event_ms, from_ms, to_ms)}
    wanted |= {version.trace_id for version in inside}
    grouped: dict[str, list[Row]] = defaultdict(list)
    for version in observations:
        if version.trace_id in wanted and version.trace_id:
            grouped[version.trace_id].append(version.data)
    traces = {trace_id: rebuilt_trace(rows) for trace_id, rows in grouped.items()}
    found = [_trace_fact(trace) for trace in traces.values()]
    for trace_id, rows in grouped.items():
        found += [_generation_fact(row, traces[trace_id]) for row in rows if row["type"] == "GENERATION"]
    found += [_score_fact(version.data, traces) for version in inside if _is_sent(version.data)]
    return [fact for fact in found if _within(fact.time_ms, from_ms, to_ms)]


def expected(
    found: Iterable[Fact], destination: Destination, project_id: str, *, internal: bool = False
) -> dict[tuple[str, str], Expected]:
    """What the destination should hold, by (event name, event id).

    Langfuse's internal environments are left out, as the default filter does, unless `internal` keeps them.
    """
    events: dict[tuple[str, str], Expected] = {}
    for fact in found:
        if internal or fact.environment not in INTERNAL_ENVIRONMENTS:
            event = addressed(fact, destination, project_id)
            events[(event.event, event.event_id)] = event
    return events


def addressed(fact: Fact, destination: Destination, project_id: str) -> Expected:
    """The event with name, id and person of a destination."""
    event_id = str(uuid.uuid5(NAMESPACES[destination], f"{project_id}-{fact.entity_id}"))
    known = fact.user_id if (fact.user_id or "").strip() else None
    if known is not None and known.strip().lower() in REFUSED_IDS[destination]:
        known = None
    nobody = "" if destination == "mixpanel" else event_id
    return Expected(
        event=NAMES[destination][fact.kind],
        event_id=event_id,
        time_ms=fact.time_ms,
        distinct_id=nobody if known is None else known,
        properties=fact.properties,
    )


@dataclass(frozen=True)
class Trace:
    """A trace as rebuilt from its rows; None where no row says anything."""

    id: str
    name: str | None
    time_ms: int
    user_id: str | None
    session_id: str | None
    environment: str
    release: str | None
    version: str | None
    tags: list[str]
    observations: int
    latency_ms: int | None
    cost: float | None


def rebuilt_trace(rows: Sequence[Row]) -> Trace:
    """The trace of these observations (all of one trace, one version each).

    Root: the synthetic row, else the earliest without parent, else the earliest that is flagged. A value is the
    root's, else that of the earliest row that has one; tags are the union.
    """
    ordered = sorted(rows, key=lambda row: (epoch_ms(row["startTime"]), row["id"]))
    root = _root(ordered)
    real = [row for row in ordered if not _is_synthetic(row)]
    first = [row for row in (root, *ordered) if row is not None]
    starts = [epoch_ms(row["startTime"]) for row in real]
    ends = [max(epoch_ms(row["startTime"]), epoch_ms(row["endTime"] or row["startTime"])) for row in real]
    costs = [cost for row in ordered if (cost := row["costDetails"].get("total")) is not None]
    synthetic = root is not None and _is_synthetic(root)
    return Trace(
        id=ordered[0]["traceId"],
        name=_first(first, "traceName") or (None if root is None else root["name"] or None),
        time_ms=epoch_ms(root["startTime"]) if root is not None and synthetic else min(starts),
        user_id=_first(first, "userId"),
        session_id=_first(first, "sessionId"),
        environment=_first(first, "environment") or "default",
        release=_first(first, "release"),
        version=_first(first, "version"),
        tags=sorted({tag for row in ordered for tag in row["tags"]}),
        observations=len(real),
        latency_ms=max(ends) - min(starts) if real else None,
        cost=sum(costs) if costs else None,
    )


def _root(ordered: Sequence[Row]) -> Row | None:
    ways = (
        _is_synthetic,
        lambda row: row["parentObservationId"] is None,
        lambda row: row["isRootObservation"],
    )
    return next((row for is_root in ways for row in ordered if is_root(row)), None)


def _is_synthetic(row: Row) -> bool:
    return row["id"] == f"t-{row['traceId']}"


def _first(rows: Sequence[Row], column: str) -> Any:
    return next((row[column] for row in rows if row[column]), None)


def _trace_fact(trace: Trace) -> Fact:
    properties = {
        "langfuse_id": trace.id,
        "langfuse_trace_name": trace.name,
        "langfuse_cost_usd": trace.cost,
        "langfuse_count_observations": trace.observations,
        "langfuse_latency": trace.latency_ms,
        "langfuse_version": trace.version,
        "langfuse_environment": trace.environment,
        **_of_trace(trace),
    }
    return Fact("trace", trace.id, trace.time_ms, trace.user_id, trace.environment, properties)


def _generation_fact(row: Row, trace: Trace) -> Fact:
    start = epoch_ms(row["startTime"])
    usage, cost = row["usageDetails"], row["costDetails"]
    properties = {
        "langfuse_id": row["id"],
        "langfuse_generation_name": row["name"] or None,
        "langfuse_trace_name": trace.name,
        "langfuse_trace_id": trace.id,
        "langfuse_cost_usd": cost.get("total"),
        "langfuse_input_units": _tokens(usage, "input"),
        "langfuse_output_units": _tokens(usage, "output"),
        "langfuse_total_units": usage.get("total", sum(usage.values())) if usage else None,
        "langfuse_latency": None if row["endTime"] is None else epoch_ms(row["endTime"]) - start,
        "langfuse_time_to_first_token": _after(start, row["completionStartTime"]),
        "langfuse_version": row["version"] or None,
        "langfuse_model": row["model"] or None,
        "langfuse_level": row["level"],
        "langfuse_environment": row["environment"],
        **_of_trace(trace),
    }
    return Fact("generation", row["id"], start, trace.user_id, row["environment"], properties)


def _score_fact(row: Row, traces: dict[str, Trace]) -> Fact:
    about = subject(row) or {}
    trace_id = about["id"] if about.get("kind") == "trace" else about.get("traceId")
    trace = traces.get(trace_id or "")
    kind = row["dataType"]
    shared = _of_trace(trace)
    if about.get("kind") == "session":
        shared["langfuse_session_id"] = about["id"]
    properties = {
        "langfuse_id": row["id"],
        "langfuse_score_name": row["name"],
        "langfuse_score_value": row["value"] if kind in ("NUMERIC", "BOOLEAN") else None,
        "langfuse_score_string_value": None if kind == "NUMERIC" else row["stringValue"],
        "langfuse_score_data_type": kind,
        "langfuse_score_comment": row["comment"] or None,
        "langfuse_trace_name": None if trace is None else trace.name,
        "langfuse_trace_id": trace_id,
        "langfuse_environment": row["environment"],
        **shared,
    }
    user = None if trace is None else trace.user_id
    return Fact("score", row["id"], epoch_ms(row["timestamp"]), user, row["environment"], properties)


def _of_trace(trace: Trace | None) -> Row:
    if trace is None:
        return {
            "langfuse_user_id": UNKNOWN_USER,
            "langfuse_session_id": None,
            "langfuse_release": None,
            "langfuse_tags": [],
        }
    return {
        "langfuse_user_id": trace.user_id or UNKNOWN_USER,
        "langfuse_session_id": trace.session_id,
        "langfuse_release": trace.release,
        "langfuse_tags": trace.tags,
    }


def _is_sent(row: Row) -> bool:
    return row["dataType"] != "CORRECTION" and subject(row) is not None


def _tokens(usage: dict[str, int], word: str) -> int | None:
    return sum(count for key, count in usage.items() if word in key.lower()) if usage else None


def _after(start_ms: int, moment: str | None) -> int | None:
    return None if moment is None else epoch_ms(moment) - start_ms


_LONGEST_TRACE_MS = 6 * 3_600_000


def _within(moment_ms: int, from_ms: int | None, to_ms: int | None) -> bool:
    return (from_ms is None or moment_ms >= from_ms) and (to_ms is None or moment_ms < to_ms)


def _near(moment_ms: int, from_ms: int | None, to_ms: int | None) -> bool:
    return _within(
        moment_ms,
        None if from_ms is None else from_ms - _LONGEST_TRACE_MS,
        None if to_ms is None else to_ms + _LONGEST_TRACE_MS,
    )
