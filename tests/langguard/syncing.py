"""What the stories of syncing share: what lies in the lake and in the warehouse, and runs of somebody else."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pyarrow.parquet as pq

from lf_dagster.cli import main
from lf_dagster.hours import parse_hour
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse
from lf_dagster.warehouse.database import ALIAS
from tests.automation.works import RANGE_END, RANGE_START, Works


def extract(shop: Works, hour: str, stream: str = "observations") -> list[tuple[str, str]]:
    """Id and JSON of each live row of an extract, as they lie in the file."""
    path = shop.lake.extract_path(shop.settings.name, stream, parse_hour(hour))
    rows = pq.read_table(path).to_pylist()
    return [(row["id"], row["json"]) for row in rows if row["deleted_seen_at"] is None]


def ids(shop: Works, hour: str) -> list[str]:
    return sorted(id for id, _ in extract(shop, hour))


def table(shop: Works, query: str) -> list[tuple[Any, ...]]:
    """Rows of the warehouse; the project's schema is `shop`."""
    with Warehouse.of(shop.settings, shop.lake).connect(read_only=True) as con:
        con.execute(f"USE {ALIAS}")
        return con.execute(query).fetchall()


def metadata(shop: Works, asset: str, hour: str) -> dict[str, Any]:
    """Metadata of the newest materialisation of an hour."""
    records = shop.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(["shop", asset]), asset_partitions=[parse_hour(hour).key]), limit=1
    ).records
    materialization = records[0].asset_materialization
    assert materialization is not None
    return {name: value.value for name, value in materialization.metadata.items()}


@dataclass
class Answer:
    """What a call of the command line came to."""

    code: object
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


class Desk:
    """The command line on a world of stand-ins, as project `langfuse`, with a Dagster instance in a folder."""

    def __init__(self, world: Works, folder: Path, **variables: str) -> None:
        settings = world.settings
        self.world = world
        self.lake = Lake(str(folder / "desk"))
        self.variables = {
            "LANGFUSE_HOST": settings.langfuse.host,
            "LANGFUSE_START": settings.start,
            "MIXPANEL_HOST": str(settings.destinations["mixpanel"].host),
            "POSTHOG_HOST": str(settings.destinations["posthog"].host),
            "LF_DAGSTER_DATA": str(folder / "desk"),
            "DAGSTER_HOME": str(folder),
            "COLUMNS": "250",
            **variables,
        }

    def call(self, *arguments: str) -> Answer:
        """`lf-dagster ...`, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.variables),
            mock.patch.object(sys, "argv", ["lf-dagster", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as ended:
                return Answer(ended.code, out.getvalue(), err.getvalue())
        raise AssertionError("the command line did not exit")

    def status(self) -> dict[str, Any]:
        """`success` and `data` of the project's status."""
        return self.call("status", "--project", "langfuse", "--json").document

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with mock.patch.dict(os.environ, self.variables), dg.DagsterInstance.get() as instance:
            yield instance

    def hours_read(self) -> list[str]:
        """Hours that were asked for from Langfuse, oldest first."""
        return sorted(hour.key for hour in self.lake.extracted_hours("langfuse", "observations"))


def somebody_runs(instance: dg.DagsterInstance, hour: str, *, project: str = "langfuse", **fields: Any) -> str:
    """A run of an hour that somebody else started; its id."""
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        asset_selection=frozenset({dg.AssetKey([project, "raw_observations"])}),
        tags={RANGE_START: parse_hour(hour).key, RANGE_END: parse_hour(hour).key},
        **{"status": dg.DagsterRunStatus.STARTED, **fields},
    )
    return instance.add_run(run).run_id
