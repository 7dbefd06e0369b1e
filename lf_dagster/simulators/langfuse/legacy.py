"""The legacy generation: traces, observations, scores and sessions with page numbers (contract 8)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import xxhash

from lf_dagster.simulators.langfuse import filters, legacy_rows, rows
from lf_dagster.simulators.langfuse import scores as score_columns
from lf_dagster.simulators.langfuse import traces as trace_columns
from lf_dagster.simulators.langfuse.context import DEPRECATION, Answer, Call, json_answer, page_answer
from lf_dagster.simulators.langfuse.errors import invalid_request, not_found
from lf_dagster.simulators.langfuse.filters import Condition
from lf_dagster.simulators.langfuse.params import Query, whole_limit
from lf_dagster.simulators.langfuse.store import Version
from lf_dagster.simulators.langfuse.traces import LegacyView

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class _Paging:
    page: int
    limit: int


def traces(call: Call) -> Answer:
    """`GET /traces`. Raises ApiError for refused parameters."""
    query = call.query
    paging = _paging(query)
    from_ms, to_ms = query.datetime("fromTimestamp"), query.datetime("toTimestamp")
    groups = _groups(query, trace_columns.GROUPS)
    column, descending = _order(query)
    conditions = _exact(query, "userId name sessionId version release")
    tags = query.csv("tags")
    if tags:
        conditions.append(Condition("tags", lambda data: set(tags) <= set(data["tags"])))
    items = query.json_list("filter")
    query.check()
    predicate = filters.combine(conditions, filters.TRACE_COLUMNS.compile(items))
    view = legacy_view(call)

    def select() -> list[Version]:
        found = _within(view.traces, from_ms, to_ms, predicate)
        return sorted(found, key=lambda version: _sortable(version.data[column]), reverse=descending)

    chosen = _remembered(call, ("traces", column, descending), select)
    page = _page(chosen, paging, call, lambda version: version.data[column])
    body = (_encode(view.row(version, groups)) for version in page)
    return _listed(call, body, paging, len(chosen))


def trace(call: Call) -> Answer:
    """`GET /traces/{traceId}`: the trace with its observations and scores in full."""
    view = legacy_view(call)
    version = view.by_id.get(call.argument)
    if version is None:
        raise not_found(f"Trace {call.argument} not found within authorized project")
    row = view.row(version, frozenset(trace_columns.GROUPS))
    observed = [_detailed(held.data) for held in sorted(view.observations_of.get(version.id, ()), key=_by_id)]
    scored = [legacy_rows.score(held.data, None, frozenset({"score"})) for held in view.scores_of.get(version.id, ())]
    tail = {"htmlPath": row.pop("htmlPath"), "totalCost": row.pop("totalCost")}
    for key in ("observations", "scores"):
        row.pop(key)
    latency = row.pop("latency")
    content = {**row, "scores": scored, "latency": latency, "observations": observed, **tail}
    return json_answer(_marked(call, content))


def observations(call: Call) -> Answer:
    """`GET /observations`. Raises ApiError for refused parameters."""
    query = call.query
    paging = _paging(query)
    from_ms, to_ms = query.datetime("fromStartTime"), query.datetime("toStartTime")
    conditions = _exact(query, "name userId traceId version parentObservationId")
    for name, options in (("type", rows.TYPES), ("level", rows.LEVELS)):
        choice = query.choice(name, options)
        if choice is not None:
            conditions.append(filters.exact(name, choice))
    items = query.json_list("filter")
    query.check()
    predicate = filters.combine(conditions, filters.OBSERVATION_COLUMNS.compile(items))
    view = legacy_view(call)
    chosen = _remembered(call, ("observations",), lambda: _within(view.observations, from_ms, to_ms, predicate))
    page = _page(chosen, paging, call, lambda version: version.event_ms)
    body = (version.render("legacy", _legacy_observation) for version in page)
    return _listed(call, body, paging, len(chosen) + len(_within(view.unmerged, from_ms, to_ms, predicate)))


def observation(call: Call) -> Answer:
    """`GET /observations/{observationId}`."""
    found = next((version for version in legacy_view(call).observations if version.id == call.argument), None)
    if found is None:
        raise not_found(f"Observation with id {call.argument} not found")
    return json_answer(_marked(call, _detailed(found.data)))


def scores(call: Call) -> Answer:
    """`GET /v2/scores`. Raises ApiError for refused parameters."""
    groups = _groups(call.query, ("score", "trace"))
    return _scores(call, groups, _any)


def trace_scores(call: Call) -> Answer:
    """`GET /scores`: the ancestor that only knows scores of traces."""

    def convert(row: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in row.items() if key not in ("sessionId", "datasetRunId")}
        if kept.get("trace") is not None:
            kept["trace"] = {key: value for key, value in kept["trace"].items() if key != "sessionId"}
        return kept

    groups = frozenset({"score", "trace"})
    return _scores(call, groups, lambda version: version.trace_id is not None, convert)


def score(call: Call) -> Answer:
    """`GET /v2/scores/{scoreId}`."""
    view = legacy_view(call)
    found = next((version for version in view.scores if version.id == call.argument), None)
    if found is None:
        raise not_found(f"Score {call.argument} not found within authorized project")
    return json_answer(_marked(call, legacy_rows.score(found.data, None, frozenset({"score"}))))


def sessions(call: Call) -> Answer:
    """`GET /sessions`: one row per session, by the time it was first written."""
    query = call.query
    paging = _paging(query)
    from_ms, to_ms = query.datetime("fromTimestamp"), query.datetime("toTimestamp")
    query.check()
    first: dict[str, dict[str, Any]] = {}
    for version in legacy_view(call).traces:
        data = version.data
        held = first.get(data["sessionId"])
        if data["sessionId"] and (held is None or data["createdAt"] < held["createdAt"]):
            first[data["sessionId"]] = data
    found = [
        {
            key: data[key] if key != "id" else data["sessionId"]
            for key in ("id", "createdAt", "projectId", "environment")
        }
        for data in sorted(first.values(), key=lambda data: data["createdAt"], reverse=True)
        if (from_ms is None or trace_columns.epoch_ms(data["createdAt"]) >= from_ms)
        and (to_ms is None or trace_columns.epoch_ms(data["createdAt"]) < to_ms)
    ]
    start = (paging.page - 1) * paging.limit
    pages = math.ceil(len(found) / paging.limit)
    meta = {"totalItems": len(found), "totalPages": pages, "page": paging.page, "limit": paging.limit}
    body = (_encode(row) for row in found[start : start + paging.limit])
    return page_answer(body, meta, deprecated=call.mode.legacy == "deprecated")


def legacy_view(call: Call) -> LegacyView:
    """The legacy tables at the moment of the call, kept until something changes."""
    return call.store.remember("legacy view", call.now_ms, lambda: LegacyView(call.store, call.now_ms))


def _scores(
    call: Call,
    groups: frozenset[str],
    wanted: Callable[[Version], bool],
    convert: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
) -> Answer:
    query = call.query
    paging = _paging(query)
    from_ms, to_ms = query.datetime("fromTimestamp"), query.datetime("toTimestamp")
    conditions = _score_conditions(query)
    items = query.json_list("filter")
    query.check()
    view = legacy_view(call)

    def trace_of(version: Version) -> dict[str, Any] | None:
        held = view.by_id.get(version.trace_id or "")
        return None if held is None else held.data

    predicate = filters.combine(conditions, filters.SCORE_COLUMNS.compile(items))

    def tested(version: Version) -> bool:
        owner = trace_of(version)
        if "trace" in groups and version.trace_id is not None and owner is None:
            return False
        return wanted(version) and (predicate is None or predicate({**version.data, "trace": owner}))

    def select() -> list[Version]:
        found = [version for version in _within(view.scores, from_ms, to_ms, None) if tested(version)]
        return sorted(found, key=_score_rank)

    chosen = _remembered(call, ("scores", sorted(groups), wanted(_NOBODY)), select)
    page = _page(chosen, paging, call, lambda version: version.event_ms)
    body = (_encode(convert(legacy_rows.score(version.data, trace_of(version), groups))) for version in page)
    return _listed(call, body, paging, len(chosen))


def _any(_version: Version) -> bool:
    return True


_NOBODY = Version(id="", trace_id=None, event_ms=0, key=(), data=None)


def _score_conditions(query: Query) -> list[Condition]:
    conditions = _exact(query, "name configId queueId sessionId traceId datasetRunId")
    for name, options in (("source", score_columns.SOURCES), ("dataType", score_columns.DATA_TYPES)):
        choice = query.choice(name, options)
        if choice is not None:
            conditions.append(filters.exact(name, choice))
    for name, column in (("scoreIds", "id"), ("observationId", "observationId")):
        values = query.csv(name)
        if values:
            conditions.append(filters.one_of(column, values))
    user = query.filled("userId")
    if user is not None:
        conditions.append(Condition("userId", lambda data: (data["trace"] or {}).get("userId") == user))
    tags = query.csv("traceTags")
    if tags:
        conditions.append(Condition("trace_tags", lambda data: set(tags) <= set((data["trace"] or {}).get("tags", []))))
    operator = query.filled("operator")
    if operator is not None and query.filled("value") is not None:
        bound = query.number("value", default=0, minimum=None)
        item = {"type": "number", "column": "value", "operator": operator, "value": bound}
        conditions += filters.SCORE_COLUMNS.compile([item])
    return conditions


def _exact(query: Query, names: str) -> list[Condition]:
    values = {name: query.filled(name) for name in names.split()}
    conditions = [filters.exact(name, value) for name, value in values.items() if value is not None]
    environments = query.csv("environment")
    if environments:
        conditions.append(filters.one_of("environment", environments))
    return conditions


def _paging(query: Query) -> _Paging:
    page = query.number("page", default=1, minimum=0, exclusive=True) if query.values.get("page") != "" else 1
    limit = query.number("limit", default=50, minimum=1, maximum=100) if query.values.get("limit") != "" else 50
    if query.issues:
        return _Paging(1, 50)
    return _Paging(whole_limit(page), whole_limit(limit))


def _groups(query: Query, known: Sequence[str]) -> frozenset[str]:
    named = query.csv("fields")
    return frozenset(known if not named else (name for name in named if name in known))


def _order(query: Query) -> tuple[str, bool]:
    text = query.filled("orderBy")
    if text is None:
        return "timestamp", True
    column, _, direction = text.rpartition(".")
    if column not in trace_columns.ORDER_COLUMNS or direction.lower() not in ("asc", "desc"):
        raise invalid_request(f"Invalid orderBy parameter: {text}")
    return column, direction.lower() == "desc"


def _within(
    versions: Iterable[Version], from_ms: int | None, to_ms: int | None, predicate: filters.Predicate | None
) -> list[Version]:
    return [
        version
        for version in versions
        if (from_ms is None or version.event_ms >= from_ms)
        and (to_ms is None or version.event_ms < to_ms)
        and (predicate is None or predicate(version.data))
    ]


def _remembered(call: Call, kind: tuple[Any, ...], select: Callable[[], list[Version]]) -> list[Version]:
    parameters = {name: value for name, value in call.query.values.items() if name not in ("page", "limit", "fields")}
    name = f"{kind} {sorted(parameters.items(), key=str)}"
    return call.store.remember(name, call.now_ms, select)


def _page(chosen: list[Version], paging: _Paging, call: Call, value: Callable[[Version], Any]) -> Sequence[Version]:
    """The rows of one page. Rows of equal sort value come in another order on every page: a tie that crosses a page
    boundary repeats some rows and loses others (contract 20)."""
    start = (paging.page - 1) * paging.limit
    stop = min(start + paging.limit, len(chosen))
    if not call.unstable_ties or start >= stop:
        return chosen[start:stop]
    low, high = start, stop
    while low > 0 and value(chosen[low - 1]) == value(chosen[start]):
        low -= 1
    while high < len(chosen) and value(chosen[high]) == value(chosen[stop - 1]):
        high += 1
    shuffled: list[Version] = []
    for _, tied in itertools.groupby(chosen[low:high], key=value):
        group = list(tied)
        crosses = len(group) > 1
        shuffled += sorted(group, key=lambda version: _shuffle(version, paging)) if crosses else group
    return shuffled[start - low : stop - low]


def _shuffle(version: Version, paging: _Paging) -> int:
    return xxhash.xxh32_intdigest(f"{paging.page}/{paging.limit}/{version.id}".encode("utf-8", "surrogatepass"))


def _listed(call: Call, body: Iterable[bytes], paging: _Paging, total: int) -> Answer:
    meta = {
        "page": paging.page,
        "limit": paging.limit,
        "totalItems": total,
        "totalPages": math.ceil(total / paging.limit),
    }
    return page_answer(body, meta, deprecated=call.mode.legacy == "deprecated")


def _marked(call: Call, content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "_deprecation": DEPRECATION} if call.mode.legacy == "deprecated" else content


def _legacy_observation(data: dict[str, Any]) -> bytes:
    return _encode(legacy_rows.observation(data))


def _detailed(data: dict[str, Any]) -> dict[str, Any]:
    row = legacy_rows.observation(data)
    return {**row, **{key: row[key] or 0 for key in ("inputPrice", "outputPrice", "totalPrice")}}


def _score_rank(version: Version) -> tuple[int, int, str]:
    recorded = version.data.get("legacy")
    # Rows that were recorded keep the order in which they were served.
    return (-version.event_ms, recorded["rank"] if recorded else -1, version.data["updatedAt"])


def _sortable(value: Any) -> Any:
    return "" if value is None else value


def _by_id(version: Version) -> str:
    return version.id
