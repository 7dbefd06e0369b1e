"""`lf-dagster posthog-dashboard`: a dashboard over our events, made in PostHog and kept up to date."""

from __future__ import annotations

from lf_dagster.cli.lexicon import DryRunOption, say, with_destination
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.config import ProjectSettings


def posthog_dashboard(
    dry_run: DryRunOption = False, project: ProjectOption = None, module: ModuleOption = DEFAULT_MODULE
) -> None:
    """Make, or bring up to date, a dashboard of adoption, cost, speed, feedback and errors in PostHog."""
    for settings in with_destination(projects_of(load_definitions(module), project), "posthog"):
        _publish(settings, dry_run=dry_run)


def _publish(settings: ProjectSettings, *, dry_run: bool) -> None:
    from lf_dagster.destinations.posthog_dashboard import PosthogDashboards

    with PosthogDashboards(settings) as dashboards:
        found = dashboards.compare()
        dashboard = found.dashboard if dry_run else dashboards.publish(found)
    for tile in found.tiles:
        say(f"{settings.name}: {tile.insight.name}: {tile.state}")
    changed = sum(tile.state != "current" for tile in found.tiles)
    where = dashboards.address(dashboard) if dashboard is not None else "the dashboard is to be made"
    done = "to be written" if dry_run else "written"
    say(f"{settings.name}: {changed} of {len(found.tiles)} insights {done}: {where}")
