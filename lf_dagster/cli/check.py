"""`lf-dagster check`: tries Langfuse and each destination and says what works and what to fix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from lf_dagster.accounting import SourceIdentity
from lf_dagster.cli.console import errors, out
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import LfDagsterError
from lf_dagster.hours import iso
from lf_dagster.lake import Lake
from lf_dagster.source import Deployment, LangfuseClient, SourceInfo, inspect_deployment, newest_row_per_stream


def check(project: ProjectOption = None, module: ModuleOption = DEFAULT_MODULE) -> None:
    """Try the connections of every project and say where its settings come from; nothing is written anywhere."""
    results = [ok for settings in projects_of(load_definitions(module), project) for ok in check_project(settings)]
    raise typer.Exit(0 if all(results) else 1)


def check_project(settings: ProjectSettings) -> list[bool]:
    """Prints the settings and a line per connection; True for each that works."""
    out.print(f"[bold]{settings.name}[/bold]")
    for line in setting_lines(settings):
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    results = [_check_langfuse(settings)]
    results += [_check_destination(settings, destination) for destination in settings.destinations]
    if not settings.destinations:
        _line("fails", "destinations", "none is set up: set MIXPANEL_PROJECT_TOKEN or POSTHOG_API_KEY")
        results.append(False)
    return results


# Settings


def setting_lines(settings: ProjectSettings, env: Mapping[str, str] = os.environ) -> Iterator[str]:
    """The settings that are not left at their default, each with what gave it and what that won over."""
    values, sources = settings.model_dump(mode="json"), dict(settings.sources)
    sources.setdefault("langfuse.host", ("default",))
    for name, (winner, *others) in sorted(sources.items()):
        over = f", over {', '.join(others)}" if others else ""
        yield f"{name} = {_shown(_value(values, name))} (from {winner}{over})"
    public = env.get(settings.langfuse.public_key_env, "").strip()
    key = f"...{public[-4:]}" if public else "not set"
    yield f"keys: {settings.langfuse.public_key_env} ({key}), {settings.langfuse.secret_key_env}"


def _value(values: Mapping[str, Any], name: str) -> Any:
    """Of a dotted name; patterns that somebody gave as keys may have dots themselves."""
    found: Any = values
    while name:
        key = max((key for key in found if f"{name}.".startswith(f"{key}.")), key=len)
        found, name = found[key], name[len(key) + 1 :]
    return found


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "on"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


# Connections


def _check_langfuse(settings: ProjectSettings) -> bool:
    try:
        with LangfuseClient(settings.langfuse) as client:
            source = client.describe()
            newest = newest_row_per_stream(client, source)
            deployment = inspect_deployment(client)
    except LfDagsterError as error:
        return _line("fails", "langfuse", str(error))
    version = source.server_version or "unknown version"
    rows = ", ".join(f"{stream} {iso(moment) if moment else 'none'}" for stream, moment in newest.items())
    _line(
        "works",
        "langfuse",
        f"Connection successful: project {source.project.name} ({source.project.id}) at {settings.langfuse.host}, "
        f"Langfuse {version}, read path {source.read_path}: {source.why}\nNewest rows: {rows}\n{_told(deployment)}",
    )
    if changed := _changed_project(settings, source):
        _line("warns", "langfuse", changed)
    return True


def _told(deployment: Deployment) -> str:
    paths = ", ".join(f"{path} {f'fails ({why})' if why else 'works'}" for path, why in deployment.served.items())
    mode = deployment.write_mode.replace("unknown", "not known")
    return f"Read paths: {paths}\nWrite mode of the server, a guess: {mode} ({deployment.why})"


def _changed_project(settings: ProjectSettings, source: SourceInfo) -> str | None:
    """Whether the keys open another Langfuse project than the one whose hours are held here."""
    held = SourceIdentity.newest(Lake(settings.data), settings.name)
    if held is None or held.project_id == source.project.id:
        return None
    return (
        f"These keys open the project {source.project.name} ({source.project.id}), but the hours held here are of "
        f"{held.project_name} ({held.project_id}). Hours that are held will not be read again. Use keys of that "
        "project, or give this one a `name` of its own."
    )


def _check_destination(settings: ProjectSettings, name: str) -> bool:
    from lf_dagster.destinations import open_destination

    try:
        with open_destination(name, settings) as destination:
            return _line("works", name, destination.check())
    except LfDagsterError as error:
        return _line("fails", name, str(error))


_MARKS = {"works": "[green]works[/green]", "warns": "[yellow]warns[/yellow]", "fails": "[red]fails[/red]"}


def _line(state: str, what: str, text: str) -> bool:
    """Prints how a connection stands; False when it fails."""
    console = out if state == "works" else errors
    console.print(f"  {_MARKS[state]}  {what}: ", end="")
    console.print(text.replace("\n", "\n         "), markup=False, highlight=False)
    return state != "fails"
