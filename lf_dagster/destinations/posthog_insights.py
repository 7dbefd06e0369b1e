"""What the PostHog dashboard shows: insights over our events, as PostHog's queries (contracts: posthog 13).

Events that are sent again count twice in PostHog until it has merged them. So events are counted by their distinct
ids; sums and averages are right once PostHog has merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lf_dagster.config import PosthogSettings, ProjectSettings
from lf_dagster.events.catalogue import Event, load_catalogue

Query = dict[str, Any]
MAIN_KINDS = ("trace", "generation", "score")

_DATES = {"date_from": "-30d"}
_COUNT = {"math": "hogql", "math_hogql": "count(DISTINCT uuid)"}
_MOST_VALUES = 10


@dataclass(frozen=True)
class Insight:
    """One tile. `key` names it for ever; `needs`: properties of which it is made, by kind of event."""

    key: str
    name: str
    description: str
    query: Query
    needs: tuple[tuple[str, str], ...] = ()


def insights(settings: ProjectSettings) -> list[Insight]:
    """The insights that the project's settings leave something to show for, in the order of the dashboard."""
    posthog = settings.posthog
    if posthog is None:
        return []
    sent = {
        (event.kind, item.name)
        for event in load_catalogue()
        for item in event.sent(settings.compatibility)
        if _is_sent(posthog, item.name)
    }
    return [insight for insight in _all(settings) if sent.issuperset(insight.needs)]


def _is_sent(posthog: PosthogSettings, name: str) -> bool:
    return name not in posthog.exclude_properties and (posthog.properties is None or name in posthog.properties)


def _all(settings: ProjectSettings) -> Iterator[Insight]:
    events = {event.kind: _Series(event) for event in load_catalogue()}
    trace, generation, score = (events[kind] for kind in MAIN_KINDS)
    milliseconds = settings.compatibility == "documented"
    yield from _adoption(trace)
    yield from _cost(trace, generation)
    yield from _speed(generation, "duration_ms" if milliseconds else "duration")
    yield from _feedback(score)
    yield from _errors(generation)


def _adoption(trace: _Series) -> Iterator[Insight]:
    yield Insight(
        "active_users",
        "Active users",
        "Users with at least one trace, a day and in the 7 days before.",
        _trend([trace.of("A day", math="dau"), trace.of("In 7 days", math="weekly_active")]),
    )
    yield Insight(
        "traces", "Traces by name", "Traces a day.", _by("langfuse_trace_name", trace.of("Traces", **_COUNT)),
        (("trace", "langfuse_trace_name"),),
    )  # fmt: skip
    entity = {"id": trace.event, "name": trace.event, "type": "events"}
    retention = {
        "targetEntity": entity,
        "returningEntity": entity,
        "retentionType": "retention_first_time",
        "period": "Week",
        "totalIntervals": 9,
    }
    yield Insight(
        "retention",
        "Retention",
        "Of the users with their first trace in a week, how many had traces in the weeks after.",
        _shown({"kind": "RetentionQuery", "retentionFilter": retention}),
    )


def _cost(trace: _Series, generation: _Series) -> Iterator[Insight]:
    dollars = {"aggregationAxisPrefix": "$", "decimalPlaces": 2}
    yield Insight(
        "cost_by_model",
        "Cost by model",
        "US dollars a day, as Langfuse knows them.",
        _by(
            "langfuse_model", generation.of("Cost", math="sum", math_property="langfuse_cost_usd"),
            display="ActionsStackedBar", **dollars,
        ),
        (("generation", "langfuse_cost_usd"), ("generation", "langfuse_model")),
    )  # fmt: skip
    yield Insight(
        "cost_by_user",
        "Cost by user",
        "US dollars in 30 days.",
        _by(
            "langfuse_user_id", trace.of("Cost", math="sum", math_property="langfuse_cost_usd"),
            display="ActionsTable", **dollars,
        ),
        (("trace", "langfuse_cost_usd"), ("trace", "langfuse_user_id")),
    )  # fmt: skip
    units = (("Input", "langfuse_input_units"), ("Output", "langfuse_output_units"))
    yield Insight(
        "tokens",
        "Tokens",
        "Tokens a day.",
        _trend([generation.of(name, math="sum", math_property=unit) for name, unit in units]),
        tuple(("generation", unit) for _, unit in units),
    )


def _speed(generation: _Series, unit: str) -> Iterator[Insight]:
    axis = {"aggregationAxisFormat": unit}
    parts = (("Median", "median"), ("90 %", "p90"), ("99 %", "p99"))
    yield Insight(
        "latency",
        "Latency of generations",
        "Median, 90th and 99th percentile.",
        _trend([generation.of(name, math=math, math_property="langfuse_latency") for name, math in parts], **axis),
        (("generation", "langfuse_latency"),),
    )
    for key, name, measure in (
        ("latency_by_model", "Latency by model", "langfuse_latency"),
        ("first_token_by_model", "Time to first token by model", "langfuse_time_to_first_token"),
    ):
        yield Insight(
            key,
            name,
            "95th percentile.",
            _by("langfuse_model", generation.of("95 %", math="p95", math_property=measure), **axis),
            (("generation", measure), ("generation", "langfuse_model")),
        )


def _feedback(score: _Series) -> Iterator[Insight]:
    by_name = (("score", "langfuse_score_name"),)
    yield Insight(
        "score_values",
        "Scores",
        "Mean value a day by the score's name, of scores with a number.",
        _by("langfuse_score_name", score.of("Mean", math="avg", math_property="langfuse_score_value")),
        (*by_name, ("score", "langfuse_score_value")),
    )
    yield Insight(
        "score_counts", "Scores by name", "Scores a day.", _by("langfuse_score_name", score.of("Scores", **_COUNT)),
        by_name,
    )  # fmt: skip


def _errors(generation: _Series) -> Iterator[Insight]:
    failed = [{"key": "langfuse_level", "type": "event", "operator": "exact", "value": ["ERROR"]}]
    of_level = (("generation", "langfuse_level"),)
    yield Insight(
        "error_rate",
        "Failed generations",
        "Share of the generations that have level ERROR.",
        _trend(
            [generation.of("Failed", **_COUNT, properties=failed), generation.of("All", **_COUNT)],
            formula="A / B", aggregationAxisFormat="percentage_scaled",
        ),
        of_level,
    )  # fmt: skip
    yield Insight(
        "errors_by_model",
        "Failed generations by model",
        "Generations of level ERROR a day.",
        _by(
            "langfuse_model", generation.of("Failed", **_COUNT, properties=failed), display="ActionsStackedBar"
        ),
        (*of_level, ("generation", "langfuse_model")),
    )  # fmt: skip


class _Series:
    """Series over one kind of event."""

    def __init__(self, event: Event) -> None:
        self.event = event.names["posthog"]

    def of(self, label: str, **aggregation: Any) -> Query:
        return {"kind": "EventsNode", "event": self.event, "name": self.event, "custom_name": label, **aggregation}


def _trend(series: list[Query], *, display: str = "ActionsLineGraph", **shown: Any) -> Query:
    return _shown(
        {
            "kind": "TrendsQuery",
            "series": series,
            "interval": "day",
            "dateRange": _DATES,
            "trendsFilter": {"display": display, **shown},
        }
    )


def _by(prop: str, series: Query, **shown: Any) -> Query:
    query = _trend([series], **shown)
    query["source"]["breakdownFilter"] = {
        "breakdown": prop,
        "breakdown_type": "event",
        "breakdown_limit": _MOST_VALUES,
    }
    return query


def _shown(source: Query) -> Query:
    return {"kind": "InsightVizNode", "source": source}
