"""The source audit as an asset: which hours still match Langfuse.

No `from __future__ import annotations` here: Dagster reads the annotations of asset functions as they are.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg

from lf_dagster.accounting import Audit, audit_source
from lf_dagster.accounting.audit import AUDIT_SCHEMA
from lf_dagster.assets.checks import AUDIT_CHECKS, audit_findings
from lf_dagster.assets.common import asset_key, open_lake, open_warehouse, project_step
from lf_dagster.assets.heatmap import heat_map
from lf_dagster.assets.links import docs_page
from lf_dagster.assets.standing import standing
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.source import LangfuseClient

log = logging.getLogger(__name__)

_MOST_LISTED = 40


_COLUMNS = {
    "audited_at": "When the audit was made, UTC.",
    "hour": "The hour, UTC.",
    "state": "settled, stale, undelivered or missing.",
    "reasons": "Why it is not settled; docs/reconcile.md lists them.",
    "extracted_at": "When the extract of the hour was made, UTC.",
    "compared_at": "When the numbers below were read from Langfuse and set beside ours, UTC.",
    "matches": "Whether they are the same.",
    "source_since": "Since which audit Langfuse has given these numbers, UTC.",
    "source": "Langfuse's numbers: counts, costs (USD) and tokens. From the API's metrics.",
    "held": "Ours. From observations and scores.",
}


def build_audit_asset(settings: ProjectSettings) -> dg.AssetsDefinition:
    """The asset `[project, source_audit]`, without partitions: each materialisation is one audit."""

    key = asset_key(settings.name, "source_audit")

    @dg.asset(
        key=key,
        deps=[asset_key(settings.name, f"raw_{stream}") for stream in ("observations", "scores")],
        group_name=settings.name,
        kinds={"langfuse", "parquet"},
        description="Compares every hour of the horizon with Langfuse's own counts, costs and tokens: which hours are "
        "missing, stale (and why) or settled. The history is kept as Parquet below `audit/` in the lake.",
        owners=list(settings.owners),
        metadata={"dagster/column_schema": _schema(), **docs_page("docs/reconcile.md")},
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=text) for name, text in AUDIT_CHECKS.items()],
    )
    def source_audit(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        lake, now = open_lake(settings), utc_now()
        warehouse = open_warehouse(settings, lake)
        with (
            project_step(context, settings, log=log),
            LangfuseClient(settings.langfuse) as client,
        ):
            audit = audit_source(settings, lake, warehouse, client, now=now)
            facts = standing(context.instance, settings, lake, warehouse, now=now)
        _log(settings.name, audit)
        yield dg.MaterializeResult(metadata={**audit_metadata(audit), **facts})
        for name, finding in audit_findings(audit).items():
            yield dg.AssetCheckResult(
                check_name=name,
                passed=finding.passed,
                metadata=finding.facts,
                severity=finding.severity,
                description=finding.text,
            )

    return source_audit


def _schema() -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(item.name, str(item.type), _COLUMNS[item.name]) for item in AUDIT_SCHEMA])


def audit_metadata(audit: Audit) -> dict[str, Any]:
    """Counts of states, a picture of the hours by day, and the hours that are not settled."""
    states = Counter(item.state for item in audit.hours)
    facts: dict[str, Any] = {
        "hours": len(audit.hours),
        "compared": sum(item.compared_at == audit.audited_at for item in audit.hours),
        **{state: states.get(state, 0) for state in ("settled", "stale", "undelivered", "missing")},
        "differing": sum(item.matches is False for item in audit.hours),
    }
    if audit.hours:
        facts["picture"] = dg.MetadataValue.md(heat_map({item.hour: item.state for item in audit.hours}))
        facts["not_settled"] = dg.MetadataValue.md(_table(audit))
    if audit.note:
        facts["note"] = audit.note
    return facts


def _table(audit: Audit) -> str:
    open_hours = [item for item in audit.hours if item.state != "settled"]
    if not open_hours:
        return "Every hour is settled."
    rows = [f"| {item.hour.key} | {item.state} | {', '.join(item.reasons)} |" for item in open_hours[:_MOST_LISTED]]
    more = f"\n\n{len(open_hours) - _MOST_LISTED} more" if len(open_hours) > _MOST_LISTED else ""
    return "\n".join(["| hour | state | why |", "|---|---|---|", *rows]) + more


def _log(project: str, audit: Audit) -> None:
    states = Counter(item.state for item in audit.hours)
    counted = ", ".join(f"{count} {state}" for state, count in states.most_common())
    log.info("%s: audit of %d hours: %s", project, len(audit.hours), counted or "nothing to look at")
    if audit.note:
        log.warning("%s: audit: %s", project, audit.note)
