"""The `filter` parameter: a JSON array of conditions, ANDed, compiled to predicates over columns (contract 4.2)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lf_dagster.simulators.langfuse import rows
from lf_dagster.simulators.langfuse.errors import ApiError, Issue, invalid_request, invalid_type
from lf_dagster.simulators.langfuse.values import loose_epoch_ms, names

Predicate = Callable[[dict[str, Any]], bool]
Getter = Callable[[dict[str, Any]], Any]

_NUMBER: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda have, want: have == want,
    ">": lambda have, want: have > want,
    "<": lambda have, want: have < want,
    ">=": lambda have, want: have >= want,
    "<=": lambda have, want: have <= want,
}
_STRING: dict[str, Callable[[str, str], bool]] = {
    "=": lambda have, want: have == want,
    "contains": lambda have, want: want in have,
    "does not contain": lambda have, want: want not in have,
    "starts with": lambda have, want: have.startswith(want),
    "ends with": lambda have, want: have.endswith(want),
    "matches": lambda have, want: want.lower() in have.lower(),
}
_OPTIONS: dict[str, Callable[[Any, Sequence[Any]], bool]] = {
    "any of": lambda have, want: have in want,
    "none of": lambda have, want: have not in want,
}
_ARRAYS: dict[str, Callable[[Sequence[Any], Sequence[Any]], bool]] = {
    "any of": lambda have, want: any(entry in have for entry in want),
    "none of": lambda have, want: not any(entry in have for entry in want),
    "all of": lambda have, want: all(entry in have for entry in want),
}


@dataclass(frozen=True)
class Condition:
    """One compiled entry: the canonical column it is about, and its test."""

    column: str
    test: Predicate


class Columns:
    """The filterable columns of one endpoint: names (with aliases) to getters."""

    def __init__(self, getters: Mapping[str, Getter], aliases: Mapping[str, str] | None = None) -> None:
        self._getters = dict(getters)
        self._aliases = dict(aliases or {})

    def compile(self, items: Sequence[Any]) -> list[Condition]:
        """The conditions of a decoded `filter`. Raises ApiError (400) for broken entries and unknown columns."""
        return [self._condition(item, index) for index, item in enumerate(items)]

    def _condition(self, item: Any, index: int) -> Condition:
        issues = _issues(item, index)
        if issues:
            raise ApiError.validation(issues)
        name: str = self._aliases.get(item["column"]) or item["column"]
        getter = self._getters.get(name)
        if getter is None:
            raise invalid_request(f"Column {item['column']} does not match a UI / CH table mapping.")
        return Condition(name, _compile(item, getter))


def _issues(item: Any, index: int) -> list[Issue]:
    if not isinstance(item, dict):
        return [invalid_type("object", item, ["filter", index])]
    return [
        invalid_type("string", item.get(key), ["filter", index, key])
        for key in ("type", "column", "operator")
        if not isinstance(item.get(key), str)
    ]


def _compile(item: dict[str, Any], getter: Getter) -> Predicate:
    kind, want = item["type"], item.get("value")
    if kind == "null":
        absent = item["operator"] == "is null"
        return lambda data: (getter(data) in (None, "")) == absent
    if kind == "boolean":
        same = item["operator"] == "="
        return lambda data: (bool(getter(data)) == bool(want)) == same
    compiler = _COMPILERS.get(kind)
    if compiler is None:
        raise invalid_request(f"Invalid filter type {kind}")
    return compiler(item, getter)


def _number(item: dict[str, Any], getter: Getter) -> Predicate:
    compare, want = _operator(_NUMBER, item), item.get("value")
    return lambda data: getter(data) is not None and compare(getter(data), want)


def _datetime(item: dict[str, Any], getter: Getter) -> Predicate:
    try:
        moment = loose_epoch_ms(item.get("value", ""))
    except (TypeError, ValueError) as error:
        raise invalid_request(f"Invalid datetime in filter on {item['column']}") from error
    compare = _operator({key: test for key, test in _NUMBER.items() if key != "="}, item)
    return lambda data: getter(data) is not None and compare(loose_epoch_ms(getter(data)), moment)


def _text(item: dict[str, Any], getter: Getter) -> Predicate:
    # string and stringOptions stand in for each other on string columns.
    want = item.get("value")
    if isinstance(want, list):
        options = _operator(_OPTIONS, item)
        return lambda data: options(getter(data) or "", want)
    compare = _operator(_STRING, item)
    return lambda data: compare(getter(data) or "", str(want))


def _listed(item: dict[str, Any], getter: Getter) -> Predicate:
    want = item.get("value") or []
    compare = _operator(_ARRAYS, item)

    def test(data: dict[str, Any]) -> bool:
        have = getter(data)
        return compare(have if isinstance(have, list) else [have or ""], want)

    return test


def _keyed(item: dict[str, Any], getter: Getter) -> Predicate:
    key, want = str(item.get("key")), item.get("value")
    if item["type"] == "stringObject":
        compare = _operator(_STRING, item)
        return lambda data: compare(str(getter(data).get(key, "")), str(want))
    numeric = _operator(_NUMBER, item)
    return lambda data: key in getter(data) and numeric(float(getter(data)[key]), want)


_COMPILERS: dict[str, Callable[[dict[str, Any], Getter], Predicate]] = {
    "datetime": _datetime,
    "string": _text,
    "stringOptions": _text,
    "arrayOptions": _listed,
    "number": _number,
    "stringObject": _keyed,
    "numberObject": _keyed,
}


def _operator(known: Mapping[str, Any], item: dict[str, Any]) -> Any:
    try:
        return known[item["operator"]]
    except KeyError as error:
        raise invalid_request(f"Invalid operator {item['operator']} for filter type {item['type']}") from error


def _column(name: str) -> Getter:
    return lambda data: data[name]


def _cost(word: str) -> Getter:
    return lambda data: rows.usage_sum(data["costDetails"], word)


def _tokens(word: str) -> Getter:
    return lambda data: rows.usage_sum(data["usageDetails"], word) or 0


def _tokens_per_second(data: dict[str, Any]) -> float | None:
    latency = rows.latency_seconds(data)
    return data["usageDetails"].get("total", 0) / latency if latency else None


_PLAIN = (
    "environment type id name traceId startTime endTime level statusMessage model modelId version release promptName "
    "promptVersion input output sessionId traceName userId parentObservationId isRootObservation metadata"
)
_UNTRACKED = (
    "ingestionApiKey ingestionSdkName ingestionSdkVersion ingestionSource evaluatorId ruleId experimentDatasetId "
    "experimentId experimentName isExperimentItemRootSpan toolDefinitions toolCalls toolNames calledToolNames"
)

OBSERVATION_COLUMNS = Columns(
    {
        **{name: _column(name) for name in _PLAIN.split()},
        **{name: (lambda _data: "") for name in _UNTRACKED.split()},
        "latency": rows.latency_seconds,
        "timeToFirstToken": rows.first_token_seconds,
        "tokensPerSecond": _tokens_per_second,
        "inputCost": _cost("input"),
        "outputCost": _cost("output"),
        "totalCost": rows.total_cost,
        "inputTokens": _tokens("input"),
        "outputTokens": _tokens("output"),
        "totalTokens": lambda data: data["usageDetails"].get("total", 0),
        "traceTags": _column("tags"),
        "hasParentObservation": lambda data: bool(data["parentObservationId"]),
        "hasInput": lambda data: bool(data["input"]),
        "hasOutput": lambda data: bool(data["output"]),
    },
    aliases={
        "providedModelName": "model",
        "tokens": "totalTokens",
        "tags": "traceTags",
        "traceEnvironment": "environment",
    },
)

TRACE_COLUMNS = Columns(
    {
        name: _column(name)
        for name in names("id timestamp name userId sessionId environment release version tags bookmarked metadata")
    },
    aliases={"traceTags": "tags", "traceName": "name"},
)

SCORE_COLUMNS = Columns(
    {
        **{
            name: _column(name)
            for name in names(
                "id timestamp environment traceId observationId sessionId name value source comment authorUserId "
                "dataType stringValue metadata"
            )
        },
        "evaluatorId": lambda _data: "",
        "booleanValue": lambda data: data["value"] == 1,
        "traceName": lambda data: (data.get("trace") or {}).get("name"),
        "userId": lambda data: (data.get("trace") or {}).get("userId"),
        "trace_tags": lambda data: (data.get("trace") or {}).get("tags", []),
    },
)


def exact(name: str, value: str) -> Condition:
    """A simple parameter: the column equals the value."""
    return Condition(name, lambda data: (data[name] or "") == value)


def one_of(name: str, values: Sequence[str]) -> Condition:
    """A list parameter: the column is one of the values."""
    wanted = frozenset(values)
    return Condition(name, lambda data: data[name] in wanted)


def combine(simple: Sequence[Condition], advanced: Sequence[Condition]) -> Predicate | None:
    """All conditions together; an advanced one replaces the simple ones on its column. None: everything passes."""
    replaced = {condition.column for condition in advanced}
    tests = [condition.test for condition in advanced]
    tests += [condition.test for condition in simple if condition.column not in replaced]
    if not tests:
        return None
    return lambda data: all(test(data) for test in tests)


def describe(items: Sequence[Any]) -> str:
    """The filter as one text, to tell cached results apart."""
    return json.dumps(items, sort_keys=True)
