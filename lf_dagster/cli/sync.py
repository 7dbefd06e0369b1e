"""`lf-dagster sync`: materialises hours, in this process or through Dagster's queue."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.table import Table

from lf_dagster.cli.console import errors, out, show_progress, show_table
from lf_dagster.cli.hours import Mode, chosen_hours, hours_between, run_in_flight
from lf_dagster.cli.launch import DEFAULT_URL, launch_hours
from lf_dagster.cli.projects import (
    DEFAULT_MODULE,
    ModuleOption,
    ProjectOption,
    dagster_instance,
    load_definitions,
    projects_of,
)
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour, contiguous_blocks

__all__ = ["SyncResult", "chosen_destinations", "hours_between", "sync", "sync_hours"]

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
_ROWS = "dagster/partition_row_count"
REJECTED = 3
"""Exit code: every hour is done, but a destination rejected events."""
BUSY = 4
"""Exit code: refused, since a run is working on one of the hours."""
INTERRUPTED = 130
"""Exit code: Ctrl-C, as shells have it."""


@dataclass
class SyncResult:
    """What became of some hours: facts[hour][asset name] = metadata of its last materialisation.

    `limited_at`: the first hour that was not done because the limit was reached; None: all were. `interrupted`: Ctrl-C
    ended the last run, and no other one was begun.
    """

    facts: dict[Hour, dict[str, dict[str, Any]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    limited_at: Hour | None = None
    interrupted: bool = False

    def total(self, asset: str, fact: str) -> int:
        return sum(int(facts.get(asset, {}).get(fact, 0)) for facts in self.facts.values())

    def rejected(self, destinations: Iterable[str]) -> int:
        return sum(self.total(destination, "rejected") for destination in destinations)

    @property
    def traces(self) -> int:
        """Traces that begin in the hours done."""
        return self.total("traces", _ROWS)


def sync(
    start: Annotated[str | None, typer.Option("--from", help="First hour, UTC: 2026-11-21T06, 2026-11-21 ...")] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", help="End, not included: the hour after the last one; `now`: as far as possible."),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            "--mode",
            help="incremental: the hours that are outstanding, the newest one that is over, and the one under way "
            "where sync_every_minutes is set; backfill: those from --from to --to. Both are refused (exit code 4) "
            "while a run works on one of the hours.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="Stop once the hours done have this many traces, counted in the hour that each begins in. Hours are "
            "done one by one, oldest first, and never in part: the last one may go beyond the limit. What is left is "
            "named, and the status says `limited`. Not with --launch.",
        ),
    ] = None,
    launch: Annotated[
        bool, typer.Option("--launch", help="Do not run here: queue runs in Dagster, print their ids and return.")
    ] = False,
    url: Annotated[
        str, typer.Option("--url", envvar="LF_DAGSTER_URL", help="Dagster's webserver, for --launch.")
    ] = DEFAULT_URL,
    project: ProjectOption = None,
    destination: Annotated[str | None, typer.Option("--destination", "-d", help="Only this destination.")] = None,
    resend: Annotated[bool, typer.Option("--resend", help="Send all events again, with the same ids.")] = False,
    accept_deletions: Annotated[
        bool, typer.Option("--accept-deletions", help="Take an hour even if most of its rows are gone from Langfuse.")
    ] = False,
    module: ModuleOption = DEFAULT_MODULE,
) -> None:
    """Extract, model and ship hours, here and now or (--launch) through Dagster's queue."""
    if launch and limit:
        raise ConfigError("--limit counts while it reads, here and now", hint="Leave out --limit or --launch.")
    show_progress()
    definitions = load_definitions(module)
    instance, code = dagster_instance(), 0
    for settings in projects_of(definitions, project):
        hours = chosen_hours(settings, mode, start, end)
        options = Options(chosen_destinations(settings, destination), resend, accept_deletions, mode)
        if (mode or launch) and (busy := run_in_flight(instance, settings, hours)):
            code = BUSY
            refusal = f"{settings.name}: run {busy[1]} is working on {busy[0].key}"
            errors.print(refusal, style="red", highlight=False, soft_wrap=True)
        elif launch:
            _launch(definitions, settings, hours, options, url)
        else:
            code = max(code, _run_here(definitions, instance, settings, hours, options, limit))
    raise typer.Exit(code)


@dataclass(frozen=True)
class Options:
    """What a call says about each of its runs."""

    destinations: Sequence[str]
    resend: bool = False
    accept_deletions: bool = False
    mode: Mode | None = None

    def ops(self, project: str) -> dict[str, Any]:
        """Run config of the ops that are not to run by default."""
        ops: dict[str, Any] = {}
        if self.resend:
            ops.update({f"{project}__{name}": {"config": {"resend": True}} for name in self.destinations})
        if self.accept_deletions:
            ops[f"{project}__raw"] = {"config": {"accept_deletions": True}}
        return ops

    def tags(self) -> dict[str, str]:
        """Tags by which the runs of this call are known to belong together."""
        from lf_dagster.assets.runs import REASON_TAG
        from lf_dagster.assets.syncs import SYNC_TAG

        return {SYNC_TAG: str(uuid.uuid4()), **({REASON_TAG: self.mode.value} if self.mode else {})}


def _launch(definitions: Any, settings: ProjectSettings, hours: Sequence[Hour], options: Options, url: str) -> None:
    """One line per run: its id, first and last hour."""
    selection = _selection(definitions, settings, options.destinations)
    runs = launch_hours(
        url,
        settings,
        hours,
        selection=selection,
        run_config={"ops": options.ops(settings.name)},
        tags=options.tags(),
    )
    for run_id, block in runs:
        out.print(f"{run_id} {block[0].key} {block[-1].key}", highlight=False, soft_wrap=True)


def _run_here(
    definitions: Any,
    instance: Any,
    settings: ProjectSettings,
    hours: Sequence[Hour],
    options: Options,
    limit: int | None,
) -> int:
    """Runs the hours, prints what became of them, returns the exit code."""
    destinations = options.destinations
    result = sync_hours(
        definitions,
        instance,
        settings,
        hours,
        destinations=destinations,
        resend=options.resend,
        accept_deletions=options.accept_deletions,
        limit=limit,
        tags=options.tags(),
    )
    show_table(result_table(settings.name, result, destinations))
    done = [hour for hour in hours if result.limited_at is None or hour < result.limited_at]
    out.print(summary(settings.name, result, destinations, len(done)), highlight=False)
    for failure in result.failures:
        errors.print(failure, style="red", markup=False, highlight=False)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not hours:
        errors.print(f"no hour has ended yet: the first is {settings.start}", markup=False, highlight=False)
    elif not result.failures and result.total("raw_observations", _ROWS) == 0:
        errors.print(why_empty(settings, done), markup=False, highlight=False)
    if result.failures:
        return 1
    return REJECTED if result.rejected(destinations) else 0


def why_empty(settings: ProjectSettings, hours: Sequence[Hour]) -> str:
    """Why hours that were read have no observations, in words; asks Langfuse a few small questions."""
    from lf_dagster.source import LangfuseClient, explain_empty

    with LangfuseClient(settings.langfuse) as client:
        return explain_empty(client, None, hours=hours).text


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
    limit: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> SyncResult:
    """Runs the project's job over the hours, `hours_per_run` at a time; a failed block does not stop the next, an
    interrupted one does.

    With a `limit`, hour by hour, until the hours done have that many traces. `tags` go onto every run.
    """
    job = definitions.resolve_job_def(f"{settings.name}_hourly")
    selection = _selection(definitions, settings, destinations)
    config = {
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        "ops": Options(destinations, resend, accept_deletions).ops(settings.name),
    }
    result = SyncResult()
    blocks = list(contiguous_blocks(hours, at_most=1 if limit else settings.hours_per_run))
    for number, block in enumerate(blocks, start=1):
        run = job.execute_in_process(
            instance=instance,
            asset_selection=selection,
            tags={**(tags or {}), RANGE_START: block[0].key, RANGE_END: block[-1].key},
            run_config=config,
            raise_on_error=False,
        )
        _collect(result, run)
        if result.interrupted:
            break
        if limit and result.traces >= limit and number < len(blocks):
            _note_limit(instance, run.run_id, result, blocks[number][0])
            break
    return result


def _selection(definitions: Any, settings: ProjectSettings, destinations: Sequence[str]) -> list[Any]:
    """The assets of the project's job, but destinations that are not chosen."""
    import dagster as dg

    job = definitions.resolve_job_def(f"{settings.name}_hourly")
    left_out = {dg.AssetKey([settings.name, name]) for name in set(settings.destinations) - set(destinations)}
    return sorted(set(job.asset_layer.executable_asset_keys) - left_out)


def _note_limit(instance: Any, run_id: str, result: SyncResult, not_done: Hour) -> None:
    """Puts it onto the last run too, which is where the status finds it."""
    from lf_dagster.assets.syncs import LIMITED_TAG

    result.limited_at = not_done
    instance.add_run_tags(run_id, {LIMITED_TAG: not_done.key})


def _collect(result: SyncResult, run: Any) -> None:
    if _was_interrupted(run):
        result.interrupted = True
        result.failures.append("interrupted: the same command does what is left")
    for event in run.all_events:
        if event.is_step_materialization and event.partition is not None:
            materialization = event.step_materialization_data.materialization
            facts = {name: value.value for name, value in materialization.metadata.items()}
            hour = result.facts.setdefault(Hour.from_key(event.partition), {})
            hour.setdefault(materialization.asset_key.path[-1], {}).update(facts)
        elif event.is_step_failure and not result.interrupted:
            data = event.step_failure_data
            described = data.user_failure_data.description if data.user_failure_data else None
            result.failures.append(described or _innermost(data.error))


def _was_interrupted(run: Any) -> bool:
    """Whether Ctrl-C ended the run: for Dagster a failure of its own kind, or what *Terminate* in the UI asked for."""
    from dagster._core.events import DagsterEventType, RunFailureReason

    by_type = {event.event_type: event for event in run.all_events}
    failure = by_type.get(DagsterEventType.RUN_FAILURE)
    reason = failure.job_failure_data.failure_reason if failure else None
    return reason is RunFailureReason.UNEXPECTED_TERMINATION or DagsterEventType.RUN_CANCELED in by_type


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
    if result.limited_at is not None:
        lines.append(f"  limited: {result.traces} traces read; {result.limited_at.key} is the first hour not done")
    return "\n".join(lines if destinations else [*lines, "  no destination is set up"])
