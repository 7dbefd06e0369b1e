"""GET /api/public/v2/metrics and the legacy GET /api/public/metrics: counts and sums per time bucket (contract 6)."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from lf_dagster.simulators.langfuse import errors, filters, legacy, rows
from lf_dagster.simulators.langfuse.context import DEPRECATION, Answer, Call, json_answer
from lf_dagster.simulators.langfuse.errors import ApiError, Issue
from lf_dagster.simulators.langfuse.filters import Columns
from lf_dagster.simulators.langfuse.store import Version
from lf_dagster.simulators.langfuse.traces import newest
from lf_dagster.simulators.langfuse.values import epoch_ms, exact_sum, iso, names, number

VIEWS = ("observations", "scores-numeric", "scores-categorical", "scores-boolean")
_GRANULARITIES = ("auto", "minute", "hour", "day", "week", "month")
_AGGREGATIONS = ("sum", "avg", "count", "max", "min", "p50", "p75", "p90", "p95", "p99", "uniq", "histogram")
_HIGH_CARDINALITY = frozenset({"id", "traceId", "userId", "sessionId", "parentObservationId"})
_SCORE_TYPES = {
    "scores-numeric": ("NUMERIC", "BOOLEAN"),
    "scores-categorical": ("CATEGORICAL",),
    "scores-boolean": ("BOOLEAN",),
}
_STEPS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_GONE = "The metrics v2 API is only available in a Langfuse v4 write mode. Learn more at: https://langfuse.com/docs/v4"

Measure = Callable[[dict[str, Any]], Any]


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else number(round(value * 1000, 3))


_OBSERVATION_MEASURES: dict[str, Measure] = {
    "count": lambda _data: 1,
    "latency": lambda data: _milliseconds(rows.latency_seconds(data)),
    "timeToFirstToken": lambda data: _milliseconds(rows.first_token_seconds(data)),
    "totalCost": rows.total_cost,
    "inputCost": lambda data: rows.usage_sum(data["costDetails"], "input"),
    "outputCost": lambda data: rows.usage_sum(data["costDetails"], "output"),
    "totalTokens": lambda data: data["usageDetails"].get("total", 0),
    "inputTokens": lambda data: rows.usage_sum(data["usageDetails"], "input") or 0,
    "outputTokens": lambda data: rows.usage_sum(data["usageDetails"], "output") or 0,
    "traceId": lambda data: data["traceId"],
    "userId": lambda data: data["userId"] or None,
    "sessionId": lambda data: data["sessionId"] or None,
}
_SCORE_MEASURES: dict[str, Measure] = {"count": lambda _data: 1, "value": lambda data: data["value"]}
_TRACE_MEASURES: dict[str, Measure] = {"count": lambda _data: 1}
_DIMENSIONS = {
    "observations": names(
        "id traceId userId sessionId parentObservationId type name level environment version release traceName tags "
        "statusMessage providedModelName promptName promptVersion isRootObservation"
    ),
    "scores": names("id name source dataType environment traceId sessionId observationId configId stringValue"),
    "traces": names("id name userId sessionId environment release version tags"),
}
_ALIASES = {"providedModelName": "model"}


@dataclass(frozen=True)
class _Metric:
    name: str
    column: str
    measure: Measure
    aggregation: str


@dataclass(frozen=True)
class _Plan:
    """A checked query."""

    view: str
    dimensions: tuple[str, ...]
    metrics: tuple[_Metric, ...]
    filters: tuple[dict[str, Any], ...]
    granularity: str | None
    from_ms: int
    to_ms: int
    order_by: tuple[tuple[str, bool], ...]
    row_limit: int


def new_metrics(call: Call) -> Answer:
    """`GET /v2/metrics`. Raises ApiError for refused queries and where the endpoint is gated off."""
    plan = _plan(call, VIEWS)
    if not call.mode.v2_metrics:
        raise errors.not_found(_GONE)
    _check_cardinality(plan)
    return json_answer({"data": _answer(call, plan)})


def legacy_metrics(call: Call) -> Answer:
    """`GET /metrics`: the same over the legacy tables, with the view `traces` besides."""
    plan = _plan(call, ("traces", *VIEWS))
    body: dict[str, Any] = {"data": _answer(call, plan, old=True)}
    if call.mode.legacy == "deprecated":
        body["_deprecation"] = DEPRECATION
    return json_answer(body)


def _answer(call: Call, plan: _Plan, *, old: bool = False) -> list[dict[str, Any]]:
    name = f"metrics {old} {call.query.text('query')}"
    return call.store.remember(name, call.now_ms, lambda: _compute(call, plan, old))


def _compute(call: Call, plan: _Plan, old: bool) -> list[dict[str, Any]]:
    if plan.view == "observations":
        # The new tables are counted without merging versions (contract 20).
        source = legacy.legacy_view(call).observations if old else call.store.visible_observations(call.now_ms).versions
        columns = filters.OBSERVATION_COLUMNS
    elif plan.view == "traces":
        source, columns = legacy.legacy_view(call).traces, filters.TRACE_COLUMNS
    else:
        wanted = _SCORE_TYPES[plan.view]
        scores = newest(call.store.visible_scores(call.now_ms).versions)
        source = [version for version in scores if version.data["dataType"] in wanted]
        columns = filters.SCORE_COLUMNS
    chosen = _select(source, plan, columns)
    return _ordered(_grouped(chosen, plan), plan)


def _select(source: Iterable[Version], plan: _Plan, columns: Columns) -> list[Version]:
    predicate = filters.combine([], columns.compile(plan.filters))
    # Both bounds are inclusive here, unlike everywhere else.
    return [
        version
        for version in source
        if plan.from_ms <= version.event_ms <= plan.to_ms and (predicate is None or predicate(version.data))
    ]


def _grouped(chosen: Sequence[Version], plan: _Plan) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    named = set(plan.dimensions) | {metric.column for metric in plan.metrics}
    identified = not named.isdisjoint(_HIGH_CARDINALITY)
    for version in chosen:
        bucket = None if plan.granularity is None else _bucket(version.event_ms, plan.granularity)
        data = version.data if identified else version.measures
        values = tuple(_hashable(data[_ALIASES.get(name, name)]) for name in plan.dimensions)
        groups[(bucket, *values)].append(data)
    if not plan.dimensions and plan.granularity is None:
        groups.setdefault((None,), [])
    if plan.granularity in _STEPS and not plan.dimensions and not plan.order_by:
        for bucket in range(
            _bucket(plan.from_ms, plan.granularity), _bucket(plan.to_ms, plan.granularity), _STEPS[plan.granularity]
        ):
            groups.setdefault((bucket,), [])
    return [_row(key, members, plan) for key, members in sorted(groups.items(), key=lambda item: _rank(item[0]))]


def _row(key: tuple[Any, ...], members: list[dict[str, Any]], plan: _Plan) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(plan.dimensions, key[1:], strict=True))
    if plan.granularity is not None:
        row["time_dimension"] = _bucket_text(key[0], plan.granularity)
    for metric in plan.metrics:
        row[metric.name] = _aggregate(metric, [metric.measure(data) for data in members])
    return row


def _aggregate(metric: _Metric, values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return 0
    whole = _WHOLE.get(metric.aggregation)
    return _percentile(known, int(metric.aggregation[1:])) if whole is None else whole(known)


_WHOLE: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "uniq": lambda known: len(set(known)),
    "sum": exact_sum,
    "avg": lambda known: number(exact_sum(known) / len(known)),
    "max": lambda known: number(max(known)),
    "min": lambda known: number(min(known)),
    "histogram": lambda known: [[min(known), max(known), len(known)]],
}


def _percentile(known: list[Any], percent: int) -> float | int:
    ordered = sorted(known)
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return number(ordered[low] + (ordered[high] - ordered[low]) * (position - low))


def _ordered(found: list[dict[str, Any]], plan: _Plan) -> list[dict[str, Any]]:
    for field, descending in reversed(plan.order_by):
        found.sort(key=lambda row: _rank((row.get(field),)), reverse=descending)
    return found[: plan.row_limit]


def _plan(call: Call, views: Sequence[str]) -> _Plan:
    text = call.query.text("query")
    if text is None:
        call.query.issues.append(errors.invalid_type("string", None, ["query"]))
    call.query.check()
    try:
        asked = json.loads(text or "")
    except ValueError as error:
        raise errors.invalid_request("Invalid JSON in query parameter") from error
    if not isinstance(asked, dict):
        raise ApiError.validation([errors.invalid_type("object", asked, ["query"])])
    issues: list[Issue] = []
    if asked.get("view") not in views:
        issues.append(errors.invalid_value(views, ["query", "view"]))
    granularity = (asked.get("timeDimension") or {}).get("granularity")
    if granularity is not None and granularity not in _GRANULARITIES:
        issues.append(errors.invalid_value(_GRANULARITIES, ["query", "timeDimension", "granularity"]))
    bounds = [_bound(asked, name, issues) for name in ("fromTimestamp", "toTimestamp")]
    row_limit = (asked.get("config") or {}).get("row_limit", 100)
    _check_row_limit(row_limit, issues)
    if issues:
        raise ApiError.validation(issues)
    return _Plan(
        view=asked["view"],
        dimensions=_dimensions(asked),
        metrics=_metrics(asked),
        filters=tuple(asked.get("filters") or ()),
        granularity=_resolved(granularity, bounds[0], bounds[1]),
        from_ms=bounds[0],
        to_ms=bounds[1],
        order_by=tuple((item["field"], item["direction"] == "desc") for item in asked.get("orderBy") or ()),
        row_limit=row_limit,
    )


def _dimensions(asked: dict[str, Any]) -> tuple[str, ...]:
    family = asked["view"].partition("-")[0]
    names = tuple(item.get("field") for item in asked.get("dimensions") or ())
    for name in names:
        if name not in _DIMENSIONS[family]:
            raise errors.invalid_request(f"Invalid dimension {name}. Must be one of {', '.join(_DIMENSIONS[family])}")
    return names


def _metrics(asked: dict[str, Any]) -> tuple[_Metric, ...]:
    family = asked["view"].partition("-")[0]
    known = {"observations": _OBSERVATION_MEASURES, "scores": _SCORE_MEASURES, "traces": _TRACE_MEASURES}[family]
    found: list[_Metric] = []
    for item in asked.get("metrics") or ():
        measure, aggregation = item.get("measure"), item.get("aggregation")
        if measure not in known:
            raise errors.invalid_request(f"Invalid measure {measure}. Must be one of {', '.join(known)}")
        if aggregation not in _AGGREGATIONS:
            raise errors.invalid_request(
                f"Invalid aggregation {aggregation}. Must be one of {', '.join(_AGGREGATIONS)}"
            )
        found.append(_Metric(f"{aggregation}_{measure}", measure, known[measure], aggregation))
    return tuple(found)


def _check_row_limit(row_limit: Any, issues: list[Issue]) -> None:
    path = ["query", "config", "row_limit"]
    if not isinstance(row_limit, int):
        issues.append(errors.invalid_type("number", row_limit, path))
    elif row_limit < 1:
        issues.append(errors.too_small(1, path))
    elif row_limit > 1000:
        issues.append(errors.too_big(1000, path))


def _check_cardinality(plan: _Plan) -> None:
    heavy = [name for name in plan.dimensions if name in _HIGH_CARDINALITY]
    measured = {metric.name for metric in plan.metrics}
    ranked = any(field in measured for field, _ in plan.order_by)
    if heavy and (plan.granularity is not None or not ranked):
        raise errors.invalid_request(f"High cardinality dimensions {', '.join(heavy)} are not supported for this query")


def _bound(asked: dict[str, Any], name: str, issues: list[Issue]) -> int:
    try:
        return epoch_ms(asked.get(name, ""))
    except (TypeError, ValueError):
        issues.append(errors.invalid_datetime(["query", name]))
        return 0


def _resolved(granularity: str | None, from_ms: int, to_ms: int) -> str | None:
    if granularity != "auto":
        return granularity
    span = to_ms - from_ms
    return "minute" if span < 6 * _STEPS["hour"] else "hour" if span < 3 * _STEPS["day"] else "day"


def _bucket(moment_ms: int, granularity: str) -> int:
    if granularity in _STEPS:
        return moment_ms - moment_ms % _STEPS[granularity]
    day = datetime.fromtimestamp(moment_ms / 1000, tz=timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    start = day.replace(day=1) if granularity == "month" else day - timedelta(days=day.weekday())
    return int(start.timestamp() * 1000)


def _bucket_text(moment_ms: int, granularity: str) -> str:
    text = iso(moment_ms)
    return f"{text[:19]}Z" if granularity in ("minute", "hour") else text[:10]


def _rank(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        (value is not None, str(type(value)) if isinstance(value, str) else "", value or 0) for value in values
    )


def _hashable(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
