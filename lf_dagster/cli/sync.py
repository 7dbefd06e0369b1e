"""`lf-dagster sync`: materialises hours in this process, through Dagster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.table import Table

from lf_dagster.cli.console import errors, out, show_progress
from lf_dagster.cli.projects import (
    DEFAULT_MODULE,
    ModuleOption,
    ProjectOption,
    dagster_instance,
    load_definitions,
    projects_of,
)
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour, contiguous_blocks, hour_range, parse_hour

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
_ROWS = "dagster/partition_row_count"
REJECTED = 3
"""Exit code: every hour is done, but a destination rejected events."""


@dataclass
class SyncResult:
    """What became of some hours: facts[hour][asset name] = metadata of its last materialisation."""

    facts: dict[Hour, dict[str, dict[str, Any]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def total(self, asset: str, fact: str) -> int:
        return sum(int(facts.get(asset, {}).get(fact, 0)) for facts in self.facts.values())

    def rejected(self, destinations: Iterable[str]) -> int:
        return sum(self.total(destination, "rejected") for destination in destinations)


def sync(
    start: Annotated[str, typer.Option("--from", help="First hour, UTC: 2026-11-21T06, 2026-11-21 ...")],
    end: Annotated[str, typer.Option("--to", help="End, not included: the hour after the last one.")],
    project: ProjectOption = None,
    destination: Annotated[str | None, typer.Option("--destination", "-d", help="Only this destination.")] = None,
    resend: Annotated[bool, typer.Option("--resend", help="Send all events again, with the same ids.")] = False,
    accept_deletions: Annotated[
        bool, typer.Option("--accept-deletions", help="Take an hour even if most of its rows are gone from Langfuse.")
    ] = False,
    module: ModuleOption = DEFAULT_MODULE,
) -> None:
    """Extract, model and ship the hours from --from up to --to, here and now."""
    show_progress()
    definitions = load_definitions(module)
    instance, code = dagster_instance(), 0
    for settings in projects_of(definitions, project):
        hours = hours_between(settings, start, end)
        destinations = chosen_destinations(settings, destination)
        result = sync_hours(
            definitions,
            instance,
            settings,
            hours,
            destinations=destinations,
            resend=resend,
            accept_deletions=accept_deletions,
        )
        out.print(result_table(settings.name, result, destinations))
        out.print(summary(settings.name, result, destinations, len(hours)), highlight=False)
        for failure in result.failures:
            errors.print(failure, style="red", markup=False, highlight=False)
        if not result.failures and result.total("raw_observations", _ROWS) == 0:
            errors.print(why_empty(settings, hours), markup=False, highlight=False)
        code = max(code, 1 if result.failures else 0) or (REJECTED if result.rejected(destinations) else 0)
    raise typer.Exit(code)


def why_empty(settings: ProjectSettings, hours: Sequence[Hour]) -> str:
    """Why hours that were read have no observations, in words; asks Langfuse a few small questions."""
    from lf_dagster.source import LangfuseClient, explain_empty

    with LangfuseClient(settings.langfuse) as client:
        return explain_empty(client, None, hours=hours).text


def hours_between(settings: ProjectSettings, start: str, end: str) -> list[Hour]:
    """The hours in [start, end); one hour when both are the same. ConfigError outside the project's partitions."""
    first, stop = parse_hour(start), parse_hour(end)
    last = max(first, stop.shift(-1))
    if stop < first:
        raise ConfigError(f"--to {end} is before --from {start}")
    if first < parse_hour(settings.start):
        raise ConfigError(
            f"{first.key} is before the project's first hour {settings.start}",
            hint="Set LANGFUSE_START (or `start:` in defs.yaml) to an earlier hour.",
        )
    if last.end > utc_now():
        raise ConfigError(f"{last.key} has not ended yet", hint="Only hours that are over can be synced.")
    return hour_range(first, last)


def chosen_destinations(settings: ProjectSettings, only: str | None) -> list[str]:
    """The destinations to ship to; ConfigError when the one asked for is off."""
    known = list(settings.destinations)
    if only is not None and only not in known:
        raise ConfigError(
            f"destination {only!r} is not set up for project {settings.name}",
            hint=f"Set up: {', '.join(known) or 'none'}. MIXPANEL_PROJECT_TOKEN or POSTHOG_API_KEY turn one on.",
        )
    return [only] if only else known


def sync_hours(
    definitions: Any,
    instance: Any,
    settings: ProjectSettings,
    hours: Sequence[Hour],
    *,
    destinations: Sequence[str],
    resend: bool = False,
    accept_deletions: bool = False,
) -> SyncResult:
    """Runs the project's job over the hours, `hours_per_run` at a time; a failed block does not stop the next."""
    import dagster as dg

    job = definitions.resolve_job_def(f"{settings.name}_hourly")
    left_out = {dg.AssetKey([settings.name, name]) for name in set(settings.destinations) - set(destinations)}
    selection = sorted(set(job.asset_layer.executable_asset_keys) - left_out)
    result = SyncResult()
    for block in contiguous_blocks(hours, at_most=settings.hours_per_run):
        run = job.execute_in_process(
            instance=instance,
            asset_selection=selection,
            tags={RANGE_START: block[0].key, RANGE_END: block[-1].key},
            run_config=_run_config(settings.name, destinations, resend=resend, accept_deletions=accept_deletions),
            raise_on_error=False,
        )
        _collect(result, run)
    return result


def _run_config(project: str, destinations: Sequence[str], *, resend: bool, accept_deletions: bool) -> dict[str, Any]:
    ops: dict[str, Any] = {}
    if resend:
        ops.update({f"{project}__{destination}": {"config": {"resend": True}} for destination in destinations})
    if accept_deletions:
        ops[f"{project}__raw"] = {"config": {"accept_deletions": True}}
    return {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, "ops": ops}


def _collect(result: SyncResult, run: Any) -> None:
    for event in run.all_events:
        if event.is_step_materialization and event.partition is not None:
            materialization = event.step_materialization_data.materialization
            facts = {name: value.value for name, value in materialization.metadata.items()}
            hour = result.facts.setdefault(Hour.from_key(event.partition), {})
            hour.setdefault(materialization.asset_key.path[-1], {}).update(facts)
        elif event.is_step_failure:
            data = event.step_failure_data
            described = data.user_failure_data.description if data.user_failure_data else None
            result.failures.append(described or _innermost(data.error))


def _innermost(error: Any) -> str:
    """The message of the first cause: what really happened, without what wrapped it."""
    while error is not None and error.cause is not None:
        error = error.cause
    return "unknown failure" if error is None else error.message.strip()


def result_table(project: str, result: SyncResult, destinations: Sequence[str]) -> Table:
    """A row per hour: extracted rows, events, and what each destination has. Fits into 80 columns."""
    table = Table(title=f"{project}: hours in UTC", title_justify="left", box=None, pad_edge=False)
    table.add_column("hour", no_wrap=True)
    for name in ("extracted", "events"):
        table.add_column(name, justify="right", no_wrap=True)
    for destination in destinations:
        for name in _SHOWN:
            table.add_column(f"{destination}\n{name}", justify="right", no_wrap=True)
    for hour, facts in sorted(result.facts.items()):
        table.add_row(hour.key, *_cells(facts, destinations))
    return table


_SHOWN = ("delivered", "rejected")


def _cells(facts: dict[str, dict[str, Any]], destinations: Sequence[str]) -> list[str]:
    extracted = [values[_ROWS] for name, values in facts.items() if name.startswith("raw_") and _ROWS in values]
    events = [values[_ROWS] for name, values in facts.items() if name.endswith("_events") and _ROWS in values]
    shipped = [str(facts.get(destination, {}).get(name, "-")) for destination in destinations for name in _SHOWN]
    return [str(sum(counts)) if counts else "-" for counts in (extracted, events)] + shipped


def summary(project: str, result: SyncResult, destinations: Sequence[str], hours: int) -> str:
    """What a person reads first: a line for the hours, a line for each destination."""
    lines = [f"{project}: {hours} hours {'failed' if result.failures else 'done'}"]
    for destination in destinations:
        sent, held = result.total(destination, "sent"), result.total(destination, "delivered")
        rejected, skipped = result.total(destination, "rejected"), result.total(destination, "skipped")
        lines.append(
            f"  {destination}: {sent} events sent, {held} delivered in all, {rejected} rejected, {skipped} skipped"
        )
    return "\n".join(lines if destinations else [*lines, "  no destination is set up"])
