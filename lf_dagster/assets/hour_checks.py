"""How an asset's own step reports checks: per hour, whether it runs one hour or many."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from typing_extensions import Self

from lf_dagster.hours import Hour

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR

_MOST_LISTED = 24


def check_specs(
    key: dg.AssetKey, checks: Mapping[str, str], partitions: dg.HourlyPartitionsDefinition
) -> list[dg.AssetCheckSpec]:
    """The checks (name and description) of an asset whose own step evaluates them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=key, description=description, partitions_def=partitions)
            for name, description in checks.items()
        ]


@dataclass(frozen=True)
class Finding:
    """What one check says of one hour. `severity` counts when it did not pass."""

    passed: bool
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity = WARN


class HourChecks:
    """What the checks of one asset say during a step: collected hour by hour, reported once at its end.

    Dagster gives the result of a run over many hours to no hour, and counts the evaluation of an hour only if it names
    the hour's newest materialisation. So each hour is recorded on its own, after the materialisation: at the end of
    the step, or when it fails, for the hours that it finished.

        with HourChecks(context, key) as checks:
            checks.found(hour, findings)  # for each hour
        yield MaterializeResult(...)
        yield from checks.results()
    """

    def __init__(self, context: dg.AssetExecutionContext, key: dg.AssetKey) -> None:
        self._context = context
        self._key = key
        names = sorted(check.name for check in context.selected_asset_check_keys if check.asset_key == key)
        self._found: dict[str, dict[Hour, Finding]] = {name: {} for name in names}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self._record_hours()

    def found(self, hour: Hour, findings: Mapping[str, Finding]) -> None:
        """Takes what was found on an hour; checks that were not selected for this run are left out."""
        for name in self._found.keys() & findings.keys():
            self._found[name][hour] = findings[name]

    def results(self) -> Iterator[dg.AssetCheckResult]:
        """One result per selected check: of the hour, or of all hours of a range. Call it when Dagster has taken the
        asset's materialisations."""
        self._record_hours()
        # A range of one hour, as the command line asks for it, is that hour.
        single = len(self._context.partition_keys) == 1
        for name, found in self._found.items():
            yield _result(self._key, name, next(iter(found.values())) if single and found else _summed_up(found))

    def _record_hours(self) -> None:
        hours = {hour.key for found in self._found.values() for hour in found}
        if not hours or not self._context.has_partition_key_range:
            return
        materialised = self._context.instance.get_latest_storage_id_by_partition(
            self._key, dg.DagsterEventType.ASSET_MATERIALIZATION, hours
        )
        # Dagster takes evaluations here (contracts: dagster.md 9); the annotation does not say so.
        log_event: Any = self._context.log_event
        for name, found in self._found.items():
            for hour, finding in found.items():
                log_event(self._evaluation(name, hour, finding, materialised.get(hour.key)))

    def _evaluation(self, name: str, hour: Hour, finding: Finding, materialised: int | None) -> dg.AssetCheckEvaluation:
        target = None
        if materialised is not None:
            run_id, moment = self._context.run.run_id, time.time()
            target = AssetCheckEvaluationTargetMaterializationData(
                storage_id=materialised, run_id=run_id, timestamp=moment
            )
        return dg.AssetCheckEvaluation(
            asset_key=self._key,
            check_name=name,
            passed=finding.passed,
            metadata=finding.facts,
            target_materialization_data=target,
            severity=finding.severity,
            description=finding.text,
            partition=hour.key,
        )


def _result(key: dg.AssetKey, name: str, finding: Finding) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=finding.passed,
        metadata=finding.facts,
        severity=finding.severity,
        description=finding.text,
    )


def _summed_up(found: Mapping[Hour, Finding]) -> Finding:
    if not found:
        return Finding(True, "no hour was left to judge")
    bad = {hour: finding for hour, finding in sorted(found.items()) if not finding.passed}
    facts: dict[str, Any] = {"hours": len(found), "failed_hours": len(bad)}
    if not bad:
        return Finding(True, f"{len(found)} hours passed", facts)
    first, finding = next(iter(bad.items()))
    facts["which"] = dg.MetadataValue.json([hour.key for hour in list(bad)[:_MOST_LISTED]])
    severe = any(finding.severity == ERROR for finding in bad.values())
    text = f"{len(bad)} of {len(found)} hours did not pass; {first.key}: {finding.text}"
    return Finding(False, text, facts, ERROR if severe else WARN)
