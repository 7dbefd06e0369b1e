"""The project's policies as checks on its traces and generations, judged at the end of the typed step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from lf_dagster.accounting import Verdict, judge_hours
from lf_dagster.assets.common import asset_key, open_warehouse
from lf_dagster.assets.hour_checks import ERROR, WARN, Finding, HourChecks, check_specs
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake
from lf_dagster.policies import CostPerTracePolicy, ErrorRatePolicy, MissingUserPolicy, Policy

POLICY_TABLES: dict[str, str] = {
    "error_rate": "traces",
    "cost_per_trace": "traces",
    "missing_user": "traces",
    "models": "generations",
}
"""The table whose asset carries the check."""


def policy_specs(settings: ProjectSettings, partitions: dg.HourlyPartitionsDefinition) -> list[dg.AssetCheckSpec]:
    """The checks of the policies that the settings give; none without policies."""
    return [
        spec
        for table, names in _by_table(settings).items()
        for spec in check_specs(
            asset_key(settings.name, table),
            {name: _description(settings.policies.active[name]) for name in names},
            partitions,
        )
    ]


def judge_policies(
    context: dg.AssetExecutionContext, settings: ProjectSettings, lake: Lake, hours: Sequence[Hour]
) -> list[HourChecks]:
    """Judges the hours by the policies whose checks this run has selected; call `results` of each when the tables are
    materialised. Without any, the warehouse is not opened."""
    selected = {check.name for check in context.selected_asset_check_keys}
    policies = {name: policy for name, policy in settings.policies.active.items() if name in selected}
    if not policies:
        return []
    verdicts = judge_hours(open_warehouse(settings, lake), settings.name, policies, hours)
    checks = {table: HourChecks(context, asset_key(settings.name, table)) for table in _by_table(settings)}
    for name, policy in policies.items():
        for hour, verdict in verdicts[name].items():
            checks[POLICY_TABLES[name]].found(hour, {name: policy_finding(policy, verdict)})
    return list(checks.values())


def results_of(checks: Sequence[HourChecks]) -> Iterator[dg.AssetCheckResult]:
    """The results of the checks of several tables."""
    for table in checks:
        yield from table.results()


def _description(policy: Policy) -> str:
    """What the policy asks for, with its limit."""
    if isinstance(policy, ErrorRatePolicy):
        return f"Policy: at most {policy.max_share:.1%} of the hour's traces have an observation of level ERROR."
    if isinstance(policy, MissingUserPolicy):
        return f"Policy: at most {policy.max_share:.1%} of the hour's traces have no user."
    if isinstance(policy, CostPerTracePolicy):
        return f"Policy: no trace of the hour costs more than {policy.max_usd:g} USD."
    return "Policy: generations of the hour use allowed models only."


def policy_finding(policy: Policy, verdict: Verdict) -> Finding:
    """What a verdict says in words and numbers: how many rows do not keep to the policy, and the first of them."""
    if isinstance(policy, ErrorRatePolicy | MissingUserPolicy):
        passed, text, more = _share(policy, verdict)
    elif isinstance(policy, CostPerTracePolicy):
        passed, text, more = _cost(policy, verdict)
    else:
        passed, text, more = _models(verdict)
    facts: dict[str, Any] = {"violations": verdict.violations, "judged": verdict.judged, **more}
    if verdict.ids:
        facts["ids"] = dg.MetadataValue.json(list(verdict.ids))
    return Finding(passed, text, facts, ERROR if policy.severity == "error" else WARN)


def _share(policy: ErrorRatePolicy | MissingUserPolicy, verdict: Verdict) -> tuple[bool, str, Mapping[str, Any]]:
    share = verdict.violations / verdict.judged if verdict.judged else 0.0
    what = "have errors" if isinstance(policy, ErrorRatePolicy) else "have no user"
    facts = {"share": round(share, 6), "max_share": policy.max_share}
    text = f"{verdict.violations} of {verdict.judged} traces {what}: {share:.1%}, allowed are {policy.max_share:.1%}"
    if verdict.judged < policy.min_traces:
        return True, f"{text}; not judged below {policy.min_traces} traces", facts
    return share <= policy.max_share, text, facts


def _cost(policy: CostPerTracePolicy, verdict: Verdict) -> tuple[bool, str, Mapping[str, Any]]:
    highest = float(verdict.worst or 0)
    facts = {"highest_usd": highest, "max_usd": policy.max_usd}
    text = f"{verdict.violations} of {verdict.judged} traces cost more than {policy.max_usd:g} USD"
    return not verdict.violations, f"{text}; the highest is {highest:g} USD", facts


def _models(verdict: Verdict) -> tuple[bool, str, Mapping[str, Any]]:
    text = f"{verdict.violations} of {verdict.judged} generations use a model that is not allowed"
    if not verdict.violations:
        return True, text, {}
    return False, f"{text}: {verdict.worst}", {"models": verdict.worst}


def _by_table(settings: ProjectSettings) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in settings.policies.active:
        found.setdefault(POLICY_TABLES[name], []).append(name)
    return found
