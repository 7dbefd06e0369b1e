"""What the rows of some hours say to the project's policies: one grouped SELECT per policy, over all hours at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lf_dagster.config import LANGFUSE_INTERNAL_ENVIRONMENTS
from lf_dagster.hours import Hour
from lf_dagster.policies import CostPerTracePolicy, ModelsPolicy, Policy
from lf_dagster.warehouse import Warehouse
from lf_dagster.warehouse.database import ALIAS, identifier, literal
from lf_dagster.warehouse.tables import hours_filter

MOST_IDS = 10
"""How many of the rows that do not keep to a policy are named."""


@dataclass(frozen=True)
class Verdict:
    """One policy on one hour.

    `judged`: traces (or generations with a model) that were looked at, Langfuse's own environments left out;
    `violations`: those that do not keep to it; `ids`: the first of them, at most MOST_IDS; `worst`: the highest cost in
    USD, or the models that are not allowed.
    """

    judged: int = 0
    violations: int = 0
    ids: tuple[str, ...] = ()
    worst: str | None = None


@dataclass(frozen=True)
class _Question:
    """What a policy asks of which table: `violates` is a condition on a row, `order` says which rows to name first."""

    table: str
    id: str
    among: str
    violates: str
    order: str
    worst: str = "NULL::VARCHAR"


def judge_hours(
    warehouse: Warehouse, schema: str, policies: Mapping[str, Policy], hours: Sequence[Hour]
) -> dict[str, dict[Hour, Verdict]]:
    """The verdict of each policy on each hour, from the typed tables. Raises WarehouseLocked."""
    if not policies:
        return {}
    with warehouse.connect(read_only=True) as con:
        con.execute(f"SET search_path = '{ALIAS}.{schema}'")
        found = {name: con.execute(_sql(_question(name, item), hours)).fetchall() for name, item in policies.items()}
    return {name: _by_hour(rows, hours) for name, rows in found.items()}


def _by_hour(rows: Sequence[tuple], hours: Sequence[Hour]) -> dict[Hour, Verdict]:
    said = {
        Hour.containing(start): Verdict(judged, violations, tuple(ids or ()), worst)
        for start, judged, violations, ids, worst in rows
    }
    return {hour: said.get(hour, Verdict()) for hour in hours}


def _question(name: str, policy: Policy) -> _Question:
    if isinstance(policy, CostPerTracePolicy):
        costly = f"total_cost > {policy.max_usd!r}"
        return _Question("traces", "trace_id", "true", costly, "total_cost DESC, trace_id", "max(total_cost)::VARCHAR")
    if isinstance(policy, ModelsPolicy):
        forbidden = _forbidden(policy)
        models = f"array_to_string(list_sort(list(DISTINCT model) FILTER ({forbidden}))[1:{MOST_IDS}], ', ')"
        generations = "type = 'GENERATION' AND model IS NOT NULL"
        # `observations`, because only there a generation has its environment.
        return _Question("observations", "observation_id", generations, forbidden, "start_time, observation_id", models)
    violates = "n_errors > 0" if name == "error_rate" else "user_id IS NULL"
    return _Question("traces", "trace_id", "true", violates, "started_at, trace_id")


def _forbidden(policy: ModelsPolicy) -> str:
    conditions = [f"NOT ({_matches(policy.allow)})"] if policy.allow else []
    conditions += [f"({_matches(policy.deny)})"] if policy.deny else []
    return " OR ".join(conditions)


def _matches(patterns: Sequence[str]) -> str:
    return " OR ".join(f"lower(model) GLOB {literal(pattern.strip().lower())}" for pattern in patterns)


def _sql(question: _Question, hours: Sequence[Hour]) -> str:
    internal = ", ".join(map(literal, LANGFUSE_INTERNAL_ENVIRONMENTS))
    return f"""
        SELECT
            partition_hour,
            count(*),
            count(*) FILTER ({question.violates}),
            (list({identifier(question.id)} ORDER BY {question.order}) FILTER ({question.violates}))[1:{MOST_IDS}],
            {question.worst}
        FROM {question.table}
        WHERE {hours_filter("partition_hour", hours)}
            AND coalesce(environment, 'default') NOT IN ({internal})
            AND {question.among}
        GROUP BY partition_hour
    """
