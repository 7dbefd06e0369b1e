"""One project's rows through a run, on either read path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.hours import iso
from lf_dagster.simulators.langfuse.modes import resolve
from lf_dagster.simulators.langfuse.traces import trace
from lf_dagster.warehouse import Warehouse
from tests.automation.rows import Life, moment
from tests.automation.works import Works, works

both_read_paths = pytest.mark.parametrize("mode", ["v4-dual", "v3-legacy"], ids=["v2", "legacy"])


def legacy_trace(life: Life, id: str, at: str, **columns: Any) -> None:
    """The row that the legacy API has of a trace, beside its observations."""
    life.store.put_trace(trace(id=id, timestamp=iso(moment(at)), project_id="proj-lf", **columns))


@contextmanager
def read(folder: Path, life: Life, mode: str, **langfuse: Any) -> Iterator[Works]:
    """The hour 10:00 of a project on a server of this mode, read and modelled."""
    with works(folder, life.store, start="2026-09-07T10:00", now="2026-09-07T12:40", langfuse=langfuse) as shop:
        shop.langfuse.state.server.mode = resolve(mode)
        assert shop.rerun("2026-09-07T10").success
        yield shop


def query(shop: Works, sql: str) -> list[dict[str, Any]]:
    """Rows of a query over the project's tables."""
    with Warehouse.of(shop.settings, shop.lake).connect(read_only=True) as con:
        con.execute(f"SET search_path = 'warehouse.{shop.settings.name}'")
        return con.execute(sql).to_arrow_table().to_pylist()
