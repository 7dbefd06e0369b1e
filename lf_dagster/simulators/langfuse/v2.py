"""GET /api/public/v2/observations and GET /api/public/v3/scores: the new generation (contract 4 and 5)."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from lf_dagster.simulators.langfuse import cursors, errors, filters, rows, scores
from lf_dagster.simulators.langfuse.context import Answer, Call, json_answer, page_answer
from lf_dagster.simulators.langfuse.filters import Condition, Predicate
from lf_dagster.simulators.langfuse.params import Query, whole_limit
from lf_dagster.simulators.langfuse.store import Snapshot, Version
from lf_dagster.simulators.langfuse.values import names

_PARSE_IO = (
    "parseIoAsJson=true is no longer supported on the v2 observations endpoint. Input/output fields are always "
    "returned as raw strings. Remove the parseIoAsJson parameter or set it to false."
)
_TRACE_JOIN = "{} filter requires a trace JOIN and is not supported in v3 — use v2 or omit this filter"
_SCORE_LISTS = names(
    "id name source dataType environment configId queueId authorUserId traceId sessionId observationId experimentId"
)
_SCORE_PARAMETERS = frozenset(
    [*_SCORE_LISTS, *names("limit cursor fields value valueMin valueMax fromTimestamp toTimestamp userId traceTags")]
)


def observations(call: Call) -> Answer:
    """One page of observations. Raises ApiError for refused parameters and where the endpoint is gated off."""
    query = call.query
    limit = query.number("limit", default=50, minimum=0, maximum=1000)
    from_ms, to_ms = query.datetime("fromStartTime"), query.datetime("toStartTime")
    simple = _simple_conditions(query)
    if query.text("parseIoAsJson") == "true":
        query.issues.append(errors.custom(_PARSE_IO, ["parseIoAsJson"]))
    shape = _shape(query, call)
    items = query.json_list("filter")
    query.check()
    gate_observations(call)
    advanced = filters.OBSERVATION_COLUMNS.compile(items)
    cursor = query.filled("cursor")
    below = None if cursor is None else cursors.parse_observation_cursor(cursor)
    count = whole_limit(limit)
    if call.mode.v2_observations == "empty":
        return json_answer({"data": [], "meta": {}})
    if any(condition.column == "startTime" for condition in advanced):
        from_ms = to_ms = None
    predicate = filters.combine(simple, advanced)
    snapshot = call.store.visible_observations(call.now_ms)
    page, more = _page(_descending(snapshot, from_ms, to_ms, below, predicate), count)
    meta = {}
    if more and page:
        last = page[-1]
        meta = {"cursor": cursors.observation_cursor(last.event_ms, last.trace_id or "", last.id)}
    return page_answer((version.render(shape.cache_key, shape.encode) for version in page), meta)


def gate_observations(call: Call) -> None:
    """Raises ApiError where the deployment does not offer v2 observations."""
    text = "The observations v2 API is only available in a Langfuse v4 write mode. Learn more at: https://langfuse.com/docs/v4"
    if call.mode.v2_observations == "missing":
        raise errors.not_found(text)
    if call.mode.v2_observations == "beta":
        raise errors.ApiError(501, {"message": "v2 APIs are currently in beta and not available on this deployment"})


def list_scores(call: Call) -> Answer:
    """One page of scores. Raises ApiError for refused and unknown parameters."""
    query = call.query
    limit = query.number("limit", default=50, minimum=1, maximum=100)
    groups = _score_groups(query)
    from_ms, to_ms = query.coerced_date("fromTimestamp"), query.coerced_date("toTimestamp")
    predicate = _score_predicate(query)
    query.only(_SCORE_PARAMETERS)
    for name in ("userId", "traceTags"):
        if query.values.get(name):
            query.issues.append({"code": "custom", "message": _TRACE_JOIN.format(name), "path": []})
    query.check()
    cursor = query.filled("cursor")
    below = None if cursor is None else cursors.parse_score_cursor(cursor)
    count = whole_limit(limit)
    shape = scores.Shape(groups)
    snapshot = call.store.visible_scores(call.now_ms)
    newest = _newest_of_each(_descending(snapshot, from_ms, to_ms, below, predicate))
    page, more = _page(newest, count)
    meta: dict[str, object] = {"limit": count}
    if more and page:
        meta["cursor"] = cursors.score_cursor(page[-1].event_ms, page[-1].id)
    return page_answer((version.render(shape.groups, shape.encode) for version in page), meta)


def _simple_conditions(query: Query) -> list[Condition]:
    conditions: list[Condition] = []
    for name, options in (("type", rows.TYPES), ("level", rows.LEVELS)):
        choice = query.choice(name, options)
        if choice is not None:
            conditions.append(filters.exact(name, choice))
    for name in ("name", "userId", "sessionId", "traceId", "version"):
        value = query.filled(name)
        if value is not None:
            conditions.append(filters.exact(name, value))
    parent = query.text("parentObservationId")
    if parent is not None:
        conditions.append(filters.exact("parentObservationId", parent))
    root = query.flag("isRootObservation")
    if root is not None:
        conditions.append(Condition("isRootObservation", lambda data: data["isRootObservation"] is root))
    environments = query.csv("environment")
    if environments:
        conditions.append(filters.one_of("environment", environments))
    return conditions


def _shape(query: Query, call: Call) -> rows.Shape:
    fields = query.text("fields")
    if not fields:
        groups: tuple[str, ...] = call.mode.default_groups
    else:
        groups = tuple(name for name in (part.strip() for part in fields.split(",")) if name in rows.GROUPS)
    expand = "metadata" in groups and bool(query.filled("expandMetadata"))
    return rows.Shape({"core", *groups}, expand_metadata=expand)


def _score_groups(query: Query) -> list[str]:
    text = query.filled("fields")
    groups = [] if text is None else [part.strip() for part in text.split(",")]
    for index, group in enumerate(groups):
        if group not in scores.GROUPS:
            query.issues.append(errors.invalid_value(scores.GROUPS, ["fields", index]))
    return groups


def _score_predicate(query: Query) -> Predicate | None:
    lists = {name: query.csv(name) for name in _SCORE_LISTS if query.values.get(name)}
    lists = {name: values for name, values in lists.items() if values}
    if "dataType" in lists:
        lists["dataType"] = [value.upper() for value in lists["dataType"]]
    _check_exclusive(query, lists)
    conditions = [
        filters.one_of("datasetRunId" if name == "experimentId" else name, values) for name, values in lists.items()
    ]
    conditions += _value_conditions(query, lists.get("dataType", []))
    return filters.combine(conditions, [])


def _check_exclusive(query: Query, lists: dict[str, list[str]]) -> None:
    subjects = [name for name in ("traceId", "sessionId", "experimentId") if name in lists]
    if len(subjects) > 1:
        query.issues.append(errors.custom(f"{' and '.join(subjects)} are mutually exclusive", []))
    if "observationId" in lists and "traceId" not in lists:
        query.issues.append(errors.custom("observationId requires traceId", ["observationId"]))


def _value_conditions(query: Query, data_types: list[str]) -> list[Condition]:
    found: list[Condition] = []
    wanted = query.csv("value") if query.values.get("value") else []
    if wanted:
        if len(data_types) != 1 or data_types[0] not in ("NUMERIC", "BOOLEAN", "CATEGORICAL"):
            message = "value requires exactly one dataType of NUMERIC, BOOLEAN or CATEGORICAL"
            query.issues.append(errors.custom(message, ["value"]))
        texts = frozenset(text.lower() for text in wanted)
        found.append(Condition("value", lambda data: str(scores.value(data)).lower() in texts))
    for name, sign in (("valueMin", 1), ("valueMax", -1)):
        if not query.values.get(name):
            continue
        if data_types != ["NUMERIC"]:
            query.issues.append(errors.custom(f"{name} requires dataType=NUMERIC", [name]))
        bound = query.number(name, default=0, minimum=None)
        found.append(Condition(name, lambda data, bound=bound, sign=sign: sign * (data["value"] - bound) >= 0))
    return found


def _descending(
    snapshot: Snapshot,
    from_ms: int | None,
    to_ms: int | None,
    below: tuple[object, ...] | None,
    predicate: Predicate | None,
) -> Iterator[Version]:
    low, high = snapshot.between(from_ms, to_ms)
    if below is not None:
        high = min(high, bisect.bisect_left(snapshot.keys, below))
    versions = snapshot.versions
    for index in range(high - 1, low - 1, -1):
        version = versions[index]
        if predicate is None or predicate(version.data):
            yield version


def _newest_of_each(found: Iterator[Version]) -> Iterator[Version]:
    seen: set[str] = set()
    for version in found:
        if version.id not in seen:
            seen.add(version.id)
            yield version


def _page(found: Iterator[Version], limit: int) -> tuple[list[Version], bool]:
    """Up to `limit` rows, and whether one more follows (the server asks its database for limit + 1)."""
    page: list[Version] = []
    if limit == 0:
        return page, False
    for version in found:
        if len(page) == limit:
            return page, True
        page.append(version)
    return page, False
