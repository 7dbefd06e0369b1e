"""`lf-dagster check`: tries Langfuse and each destination and says what works and what to fix."""

from __future__ import annotations

import typer

from lf_dagster.cli.console import errors, out
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import LfDagsterError
from lf_dagster.hours import iso


def check(project: ProjectOption = None, module: ModuleOption = DEFAULT_MODULE) -> None:
    """Try the connections of every project; nothing is written anywhere."""
    results = [ok for settings in projects_of(load_definitions(module), project) for ok in check_project(settings)]
    raise typer.Exit(0 if all(results) else 1)


def check_project(settings: ProjectSettings) -> list[bool]:
    """Prints a line per connection; True for each that works."""
    out.print(f"[bold]{settings.name}[/bold]")
    results = [_check_langfuse(settings)]
    results += [_check_destination(settings, destination) for destination in settings.destinations]
    if not settings.destinations:
        _line(False, "destinations", "none is set up: set MIXPANEL_PROJECT_TOKEN or POSTHOG_API_KEY")
        results.append(False)
    return results


def _check_langfuse(settings: ProjectSettings) -> bool:
    from lf_dagster.source import LangfuseClient, newest_row_per_stream

    try:
        with LangfuseClient(settings.langfuse) as client:
            source = client.describe()
            newest = newest_row_per_stream(client, source)
    except LfDagsterError as error:
        return _line(False, "langfuse", str(error))
    version = source.server_version or "unknown version"
    rows = ", ".join(f"{stream} {iso(moment) if moment else 'none'}" for stream, moment in newest.items())
    return _line(
        True,
        "langfuse",
        f"Connection successful: project {source.project.name} ({source.project.id}) at {settings.langfuse.host}, "
        f"Langfuse {version}, read path {source.read_path}: {source.why}\nNewest rows: {rows}",
    )


def _check_destination(settings: ProjectSettings, name: str) -> bool:
    from lf_dagster.destinations import open_destination

    try:
        with open_destination(name, settings) as destination:
            return _line(True, name, destination.check())
    except LfDagsterError as error:
        return _line(False, name, str(error))


def _line(ok: bool, what: str, text: str) -> bool:
    console = out if ok else errors
    mark = "[green]works[/green]" if ok else "[red]fails[/red]"
    console.print(f"  {mark}  {what}: ", end="")
    console.print(text.replace("\n", "\n         "), markup=False, highlight=False)
    return ok
