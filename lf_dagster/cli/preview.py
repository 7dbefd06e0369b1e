"""`lf-dagster preview`: what would be sent for an hour; nothing is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lf_dagster.accounting import SourceIdentity
from lf_dagster.cli.console import errors, out
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.cli.sync import chosen_destinations
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.hours import Hour, parse_hour


def preview(
    hour: Annotated[str, typer.Option("--hour", help="The hour, UTC: 2026-11-21T06.")],
    project: ProjectOption = None,
    destination: Annotated[str | None, typer.Option("--destination", "-d", help="Only this destination.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Events per destination.")] = 20,
    module: ModuleOption = DEFAULT_MODULE,
) -> None:
    """Show the events of an hour as they would be sent, one JSON object a line. Nothing leaves this machine.

    The hour is read from Langfuse and modelled first when it has not been extracted yet.
    """
    definitions, moment = load_definitions(module), parse_hour(hour)
    for settings in projects_of(definitions, project):
        _make_sure_it_is_modelled(definitions, settings, moment)
        for name in chosen_destinations(settings, destination):
            events = events_of(settings, name, moment, limit)
            errors.print(f"{settings.name}: {moment.key}: {len(events)} events for {name}", highlight=False)
            for event in events:
                out.print_json(data=event, indent=None, default=str)


def events_of(settings: ProjectSettings, destination: str, hour: Hour, limit: int) -> list[dict[str, Any]]:
    """The first events of the hour with what a delivery would do with each; see `destinations.preview`."""
    from lf_dagster.assets.common import open_lake, open_warehouse
    from lf_dagster.destinations import open_destination
    from lf_dagster.destinations import preview as preview_events

    lake = open_lake(settings)
    source = SourceIdentity.of(lake, settings.name, [hour])
    with open_destination(destination, settings) as opened:
        return preview_events(
            opened,
            project=settings,
            project_id=source.project_id,
            project_name=source.project_name,
            host=source.host,
            warehouse=open_warehouse(settings, lake),
            lake=lake,
            hour=hour,
            now=utc_now(),
            limit=limit,
        )


def _make_sure_it_is_modelled(definitions: Any, settings: ProjectSettings, hour: Hour) -> None:
    from lf_dagster.assets.common import open_lake
    from lf_dagster.cli.projects import dagster_instance
    from lf_dagster.cli.sync import hours_between, sync_hours
    from lf_dagster.errors import FatalError

    if open_lake(settings).extract_exists(settings.name, "observations", hour):
        return
    errors.print(f"{settings.name}: {hour.key} is not extracted yet; reading it from Langfuse", highlight=False)
    hours = hours_between(settings, hour.key, hour.key)
    result = sync_hours(definitions, dagster_instance(), settings, hours, destinations=[])
    if result.failures:
        raise FatalError(f"{hour.key} could not be read: {result.failures[0]}")
