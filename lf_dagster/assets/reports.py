"""The daily report as an asset: one HTML file per day, its key figures, and a picture of them.

No `from __future__ import annotations` here: Dagster reads the annotations of asset functions as they are.
"""

import base64
import logging
from typing import TYPE_CHECKING, Any

import dagster as dg

from lf_dagster.assets.common import WAREHOUSE_POOL, asset_key, open_lake, open_warehouse, project_step
from lf_dagster.assets.links import docs_page
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import parse_hour

if TYPE_CHECKING:
    from lf_dagster.report import Report

log = logging.getLogger(__name__)

REPORT = "llm_report"
_INPUTS = ("observations", "traces", "generations", "scores")


def build_report_asset(settings: ProjectSettings) -> dg.AssetsDefinition:
    """The asset `[project, llm_report]`, a partition per UTC day.

    It is in a group of its own: the project's group can still be materialised by picking hours, and the hourly job,
    which is that group, knows nothing of it.
    """
    # The project's first day may begin before its first hour.
    days = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)

    @dg.asset(
        key=asset_key(settings.name, REPORT),
        deps=[dg.AssetDep(asset_key(settings.name, table), partition_mapping=days) for table in _INPUTS],
        partitions_def=dg.DailyPartitionsDefinition(parse_hour(settings.start).date, timezone="UTC"),
        group_name=f"{settings.name}_report",
        kinds={"duckdb", "html"},
        pool=WAREHOUSE_POOL,
        description=f"Adoption, cost, performance, feedback, retention and errors of the {settings.report.days} days "
        "that end with the partition's day: an HTML file below `report/` in the lake.",
        owners=list(settings.owners),
        metadata=docs_page("docs/report.md"),
    )
    def llm_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        # Only a report needs it: no other run loads it.
        from lf_dagster.report import Period, build_report, parse_day

        lake, period = open_lake(settings), Period.ending(parse_day(context.partition_key), settings.report.days)
        path = lake.report_path(settings.name, context.partition_key)
        with project_step(context, settings, log=log):
            report = build_report(settings, open_warehouse(settings, lake), period, now=utc_now())
            with lake.replacing(path) as file:
                file.write_text(report.html, encoding="utf-8")
        log.info("%s: report on %s: %s", settings.name, period, path)
        return dg.MaterializeResult(metadata=report_metadata(report, path))

    return llm_report


def report_metadata(report: "Report", path: str) -> dict[str, Any]:
    """Where the file is, what it covers, the key figures that there are, and a picture."""
    from lf_dagster.report import key_figures

    figures = {item.key: item.value for item in key_figures(report.numbers) if item.value is not None}
    picture = f"![key figures and charts](data:image/png;base64,{base64.b64encode(report.png).decode()})"
    return {
        "report": dg.MetadataValue.path(path),
        "days": str(report.numbers.period),
        "coverage": report.coverage,
        **figures,
        "picture": dg.MetadataValue.md(picture),
    }
