"""An asset that does nothing, by the hour: what a run costs that is Dagster's alone."""

from __future__ import annotations

import dagster as dg


@dg.asset(partitions_def=dg.HourlyPartitionsDefinition(start_date="2020-01-01-00:00", timezone="UTC"))
def nothing() -> None:
    """Does nothing."""


defs = dg.Definitions(
    assets=[nothing],
    jobs=[dg.define_asset_job("noop_hourly", selection=[nothing])],
    executor=dg.in_process_executor,
)
