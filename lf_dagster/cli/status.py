"""`lf-dagster status`: what is settled, what is outstanding, what was rejected."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from lf_dagster.accounting import ProjectAccount, account
from lf_dagster.cli.console import out
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.lake import Lake

_COUNTS = ("events", "delivered", "rejected", "skipped", "outstanding", "gone")


def status(
    project: ProjectOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    module: ModuleOption = DEFAULT_MODULE,
) -> None:
    """Say how far each project is settled, and what is outstanding."""
    accounts = [account(settings, Lake(settings.data)) for settings in projects_of(load_definitions(module), project)]
    if as_json:
        out.print_json(data={"projects": [as_document(item) for item in accounts]})
        return
    for item in accounts:
        _print(item)


def as_document(item: ProjectAccount) -> dict[str, Any]:
    """The account as plain data."""
    return {
        "project": item.project,
        "extracted": {
            "hours": len(item.extracted),
            "from": item.extracted[0].hour.key if item.extracted else None,
            "to": item.extracted[-1].hour.shift(1).key if item.extracted else None,
            "rows": _rows(item),
            "missing_hours": [hour.key for hour in item.missing],
        },
        "destinations": {name: _destination_document(item, name) for name in item.destinations},
    }


def _destination_document(item: ProjectAccount, name: str) -> dict[str, Any]:
    until = item.settled_until(name)
    return {
        "settled_until": until.key if until else None,
        **{count: item.total(name, count) for count in _COUNTS},
        "outstanding_hours": {hour.hour.key: hour.state for hour in item.outstanding(name)},
        "rejected_hours": {hour.hour.key: hour.rejected for hour in item.destinations[name] if hour.rejected},
    }


def _rows(item: ProjectAccount) -> dict[str, int]:
    rows: dict[str, int] = {}
    for extracted in item.extracted:
        for stream, count in extracted.rows.items():
            rows[stream] = rows.get(stream, 0) + count
    return rows


def _print(item: ProjectAccount) -> None:
    if not item.extracted:
        out.print(f"[bold]{item.project}[/bold]: nothing is extracted yet")
        return
    rows = ", ".join(f"{count} {stream}" for stream, count in _rows(item).items())
    first, last = item.extracted[0].hour.key, item.extracted[-1].hour.key
    out.print(
        f"[bold]{item.project}[/bold]: {len(item.extracted)} hours extracted, {first} to {last}: {rows}",
        highlight=False,
    )
    if item.missing:
        out.print(f"  {len(item.missing)} hours in between are missing, the first is {item.missing[0].key}")
    out.print(_table(item))


def _table(item: ProjectAccount) -> Table:
    table = Table("destination", "settled up to", *_COUNTS, "hours outstanding")
    for name in item.destinations:
        until, hours = item.settled_until(name), item.outstanding(name)
        first = f" (first {hours[0].hour.key}: {hours[0].state})" if hours else ""
        counts = [str(item.total(name, count)) for count in _COUNTS]
        table.add_row(name, until.key if until else "-", *counts, f"{len(hours)}{first}")
    return table
