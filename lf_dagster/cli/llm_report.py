"""`lf-dagster report`: some days of a project as one HTML file."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from lf_dagster.cli.console import out
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError
from lf_dagster.lake import Lake
from lf_dagster.report import Period, build_report, parse_day
from lf_dagster.warehouse import Warehouse

LOCK_TIMEOUT_SECONDS = 10.0


def report(
    project: ProjectOption = None,
    start: Annotated[str | None, typer.Option("--from", help="First day, UTC: 2026-11-01.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last day, included; today by default.")] = None,
    file: Annotated[Path | None, typer.Option("--out", "-o", help="The file; PROJECT-FROM-TO.html by default.")] = None,
    module: ModuleOption = DEFAULT_MODULE,
) -> None:
    """Write adoption, cost, performance, feedback, retention and errors of some days as one HTML file.

    Without --from: as many days as the daily report has. Reads the warehouse; nothing is asked of Langfuse.
    """
    projects = projects_of(load_definitions(module), project)
    if file and len(projects) > 1:
        names = ", ".join(settings.name for settings in projects)
        raise ConfigError(f"one file for {len(projects)} projects", hint=f"Choose one with --project: {names}.")
    for settings in projects:
        period = period_of(settings, start, end, utc_now().date())
        target = file or Path(f"{settings.name}-{period.first}-{period.last}.html")
        write_report(settings, period, target)


def period_of(settings: ProjectSettings, start: str | None, end: str | None, today: date) -> Period:
    """The days of a call; ConfigError for none, and for what is no day."""
    last = parse_day(end) if end else today
    return Period(parse_day(start), last) if start else Period.ending(last, settings.report.days)


def write_report(settings: ProjectSettings, period: Period, target: Path) -> None:
    """Write a project's report and say where it is."""
    warehouse = Warehouse.of(settings, Lake(settings.data), lock_timeout_seconds=LOCK_TIMEOUT_SECONDS)
    made = build_report(settings, warehouse, period, now=utc_now())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(made.html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}", hint="Name another file with --out.") from error
    out.print(f"{settings.name}: {made.coverage}: {target}", markup=False, highlight=False, soft_wrap=True)
