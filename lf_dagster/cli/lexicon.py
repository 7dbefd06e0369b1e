"""`lf-dagster mixpanel-lexicon`: descriptions of events and properties, for Mixpanel's data dictionary."""

from __future__ import annotations

from typing import Annotated

import typer

from lf_dagster.cli.console import out
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]


def mixpanel_lexicon(
    dry_run: DryRunOption = False, project: ProjectOption = None, module: ModuleOption = DEFAULT_MODULE
) -> None:
    """Describe the events and their properties in Mixpanel's Lexicon, as docs/events.md does."""
    for settings in with_destination(projects_of(load_definitions(module), project), "mixpanel"):
        _describe(settings, dry_run=dry_run)


def with_destination(projects: list[ProjectSettings], name: str) -> list[ProjectSettings]:
    """The projects that have the destination; ConfigError when none has it."""
    found = [settings for settings in projects if name in settings.destinations]
    if not found:
        raise ConfigError(
            f"no project sends to {name}", hint="Set MIXPANEL_PROJECT_TOKEN or POSTHOG_API_KEY, or the YAML's setting."
        )
    return found


def _describe(settings: ProjectSettings, *, dry_run: bool) -> None:
    from lf_dagster.destinations.mixpanel_lexicon import Lexicon

    with Lexicon(settings) as lexicon:
        descriptions = lexicon.compare()
        if not dry_run:
            lexicon.publish(descriptions)
    for item in descriptions:
        differing = f", {item.properties} properties" if item.properties else ""
        say(f"{settings.name}: {item.event}: {item.state}{differing}")
    changed = sum(item.state != "current" for item in descriptions)
    say(f"{settings.name}: {changed} of {len(descriptions)} events {'to be described' if dry_run else 'described'}")


def say(line: str) -> None:
    """One line of the result, as it is."""
    out.print(line, markup=False, highlight=False, soft_wrap=True)
