from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.report import Period, Report, build_report
from lf_dagster.simulators.world import Ageing, WorldSettings, build_world
from tests.automation.works import works
from tests.report.page import Page
from tests.warehouse.extracts import NOW, Project

START = datetime(2026, 11, 20, tzinfo=timezone.utc)
HOURS = 30


class Shop(Project):
    """A project with reports."""

    def report(self, first: str, last: str | None = None) -> Report:
        period = Period(date.fromisoformat(first), date.fromisoformat(last or first))
        return build_report(self.settings, self.warehouse, period, now=NOW)

    def page(self, first: str, last: str | None = None) -> Page:
        return Page(self.report(first, last).html)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "data")


class World:
    """A generated world in which nothing changes any more, its hours in the warehouse, and a report on all of it."""

    def __init__(self, folder: Path) -> None:
        settings = WorldSettings(seed=11, start=START, hours=HOURS, traces_per_hour=14, ageing=Ageing.none())
        self.store = build_world(settings).store
        later = START + timedelta(days=4)
        with works(folder, self.store, start="2026-11-20T00:00", now=f"{later:%Y-%m-%dT%H:%M}") as running:
            last = START + timedelta(hours=HOURS + 3)  # traces go on after the last one has begun
            tables = ["observations", "traces", "generations", "scores", "deletions"]
            made = running.rerun(
                "2026-11-20T00", f"{last:%Y-%m-%dT%H}", only=["raw_observations", "raw_scores", *tables]
            )
            assert made.success
            self.now_ms = int(later.timestamp() * 1000)
            self.shop = Shop(folder / "data", name="shop")
        self.report = self.shop.report("2026-11-20", "2026-11-21")
        self.html = self.report.html
        self.page = Page(self.html)

    def observations(self) -> list[dict[str, Any]]:
        """What applications sent, as the stand-in stores it, without Langfuse's own environments."""
        return [row for row in self._rows("observations") if is_own(row)]

    def scores(self) -> list[dict[str, Any]]:
        return [row for row in self._rows("scores") if is_own(row)]

    def traces(self) -> dict[str, list[dict[str, Any]]]:
        """Observations by trace, the earliest first."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(self._rows("observations"), key=lambda row: row["startTime"]):
            found.setdefault(row["traceId"], []).append(row)
        return found

    def _rows(self, table: str) -> list[dict[str, Any]]:
        versions = getattr(self.store, f"visible_{table}")(self.now_ms).versions
        return [version.data for version in versions]


def is_own(row: dict[str, Any]) -> bool:
    """Whether a row is the application's own, and not of an environment that Langfuse itself writes to."""
    return row["environment"] in ("default", "production", "staging")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))
