"""`lf-dagster status`: how far everything is settled, what is outstanding and why, what fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.table import Table

from lf_dagster.accounting import ProjectAccount, lag_of
from lf_dagster.cli.console import errors, out, show_table
from lf_dagster.cli.projects import (
    DEFAULT_MODULE,
    ModuleOption,
    ProjectOption,
    dagster_instance,
    load_definitions,
    projects_of,
)
from lf_dagster.cli.report import Report, counted, one_line, span
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.lake import Lake

_SHOWN = ("events", "delivered", "rejected", "skipped", "outstanding")
_REMARKS = {
    "deleted": "delivered and since deleted in Langfuse",
    "identity_changed": "delivered under a user or time that has changed since",
    "kept_back": "with a change that is not sent",
    "held": "held until their hour is old enough",
    "awaiting": "waiting until the hour of their trace is extracted",
}
"""Counts that are shown where they are not 0, and what they say of that many events."""
_MOST_FAILURES = 5
_MOST_BROKEN = 5


def status(
    project: ProjectOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 when hours fail again and again, or the lag is too large.")
    ] = False,
    module: ModuleOption = DEFAULT_MODULE,
) -> None:
    """Say how far each project is settled, what is outstanding and why, and what fails."""
    projects = projects_of(load_definitions(module), project)
    with dagster_instance() as instance:
        reports = [Report.of(settings, instance, utc_now()) for settings in projects]
        synced = _last_sync(instance, projects[0]) if as_json and project else {}
    if as_json:
        out.print_json(data={**synced, "projects": [report.document for report in reports]})
    else:
        for report in reports:
            print_report(report)
    alarms = [f"{report.found.project}: {text}" for report in reports for text in report.alarms] if check else []
    for text in alarms:
        errors.print(text, style="red", markup=False, highlight=False)
    raise typer.Exit(1 if alarms else 0)


def _last_sync(instance: Any, settings: ProjectSettings) -> dict[str, Any]:
    """What a status endpoint answers about one project: `success` and `data`."""
    from lf_dagster.assets.syncs import last_sync, sync_document

    return sync_document(instance, settings, Lake(settings.data), last_sync(instance, settings))


def print_report(report: Report) -> None:
    """The report for a person: within 100 columns, and without what is 0 or well."""
    found = report.found
    for line in _how_far(found):
        _say(line)
    if found.extracted and found.destinations:
        show_table(_destinations(found))
    for line in _remarks(found):
        _say(f"  {line}")
    if found.outstanding():
        show_table(_outstanding(report))
    for line in (*_broken(found), *_failures(report), *_audit(report)):
        _say(f"  {line}")


def _say(line: str) -> None:
    """One line, however long: what reads it may be no terminal."""
    out.print(line, markup=False, highlight=False, soft_wrap=True)


def _how_far(found: ProjectAccount) -> Iterator[str]:
    until, hours = found.settled_until(), found.extracted
    if not hours:
        yield f"{found.project}: nothing is extracted yet"
        return
    yield f"{found.project}: {f'settled up to {until.key} (UTC)' if until else 'not settled from its first hour on'}"
    rows = ", ".join(f"{count} {stream}" for stream, count in found.rows().items())
    yield f"  {counted(len(hours))} extracted, {hours[0].hour.key} to {hours[-1].hour.key}: {rows}"


def _destinations(found: ProjectAccount) -> Table:
    shown = [name for name in _SHOWN if name in _SHOWN[:4] or any(found.total(key, name) for key in found.destinations)]
    table = _table("", "settled up to", "lag", *shown)
    for column in table.columns[2:]:
        column.justify = "right"
    for name in found.destinations:
        until, lag = found.settled_until(name), lag_of(found, name)
        counts = [str(found.total(name, count)) for count in shown]
        table.add_row(name, until.key if until else "-", span(lag) if lag is not None else "-", *counts)
    return table


def _remarks(found: ProjectAccount) -> Iterator[str]:
    for name in found.destinations:
        counts = {count: found.total(name, count) for count in _REMARKS}
        said = [f"{number} {_REMARKS[count]}" for count, number in counts.items() if number]
        if said:
            yield f"{name}: {', '.join(said)}"


def _outstanding(report: Report) -> Table:
    table = _table("outstanding", "hours", "first", "why")
    for reason, facts in report.outstanding.items():
        table.add_row(reason, str(facts["hours"]), facts["first"][0], facts["means"])
    return table


def _broken(found: ProjectAccount) -> Iterator[str]:
    for hour, file in found.broken[:_MOST_BROKEN]:
        yield f"{hour.key}: {file.what} cannot be read: {file.path}: {one_line(file.reason)}"
        yield f"  {file.remedy}"
    if len(found.broken) > _MOST_BROKEN:
        yield f"and {len(found.broken) - _MOST_BROKEN} more files that cannot be read"


def _failures(report: Report) -> Iterator[str]:
    blocks = report.failures_by_block()
    for hours, failed in blocks[:_MOST_FAILURES]:
        which = hours[0].key if len(hours) == 1 else f"{hours[0].key} to {hours[-1].key}"
        yield f"{which}: failures in a row: {failed.count}, next try {failed.again_at:%Y-%m-%d %H:%M} UTC"
    if len(blocks) > _MOST_FAILURES:
        yield f"and {counted(sum(len(hours) for hours, _ in blocks[_MOST_FAILURES:]))} more that failed"
    if report.last_error and (report.failures or report.newest_failed):
        at, text = report.last_error
        yield f"last error, {at:%Y-%m-%d %H:%M} UTC: {one_line(text)}"


def _audit(report: Report) -> Iterator[str]:
    audit = report.found.audit.audited_at
    if audit is not None:
        differing = sum(item.matches is False for item in report.found.audit.hours)
        said = f", {counted(differing)} with other numbers in Langfuse" if differing else ""
        yield f"last audit {audit:%Y-%m-%d %H:%M} UTC{said}{f': {report.note}' if report.note else ''}"


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, pad_edge=True, padding=(0, 1, 0, 2))
    for column in table.columns[:-1]:
        column.no_wrap = True
    return table
