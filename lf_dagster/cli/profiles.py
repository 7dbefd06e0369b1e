"""`lf-dagster mixpanel-profiles`: user profiles, set in Mixpanel here and now."""

from __future__ import annotations

from typing import Annotated

import typer

from lf_dagster.cli.lexicon import say, with_destination
from lf_dagster.cli.projects import DEFAULT_MODULE, ModuleOption, ProjectOption, load_definitions, projects_of
from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.errors import ConfigError
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be set, and set nothing.")]
ResendOption = Annotated[bool, typer.Option("--resend", help="Set every profile again, not only changed ones.")]

REJECTED = 3
"""Exit code when Mixpanel refused profiles, as that of `sync` for events."""


def mixpanel_profiles(
    dry_run: DryRunOption = False,
    resend: ResendOption = False,
    project: ProjectOption = None,
    module: ModuleOption = DEFAULT_MODULE,
) -> None:
    """Set a profile per user in Mixpanel, from all that the warehouse holds: those that are new or changed."""
    found = with_destination(projects_of(load_definitions(module), project), "mixpanel")
    keeping = [settings for settings in found if settings.mixpanel and settings.mixpanel.kept_profiles]
    if not keeping:
        raise ConfigError(
            "no project keeps profiles in Mixpanel",
            hint="Set MIXPANEL_PROFILES=1, or `mixpanel.profiles: true` in YAML.",
        )
    rejected = sum(_compare(each) if dry_run else _set(each, resend=resend) for each in keeping)
    if rejected:
        raise typer.Exit(REJECTED)


def _compare(settings: ProjectSettings) -> int:
    from lf_dagster.destinations.mixpanel_profiles import compare_profiles

    lake = Lake(settings.data)
    counts = compare_profiles(settings, Warehouse.of(settings, lake), lake)
    say(f"{settings.name}: {counts.due} of {counts.profiles} profiles to be set")
    return 0


def _set(settings: ProjectSettings, *, resend: bool) -> int:
    """How many were refused."""
    from lf_dagster.destinations.mixpanel_profiles import set_profiles

    lake = Lake(settings.data)
    done = set_profiles(
        settings, Warehouse.of(settings, lake), lake, run_id="mixpanel-profiles", now=utc_now(), resend=resend
    )
    for item in done.first_rejections:
        say(f"{settings.name}: {item['distinct_id']}: {item['reason']}")
    say(f"{settings.name}: {done.sent} of {done.counts.profiles} profiles set, {done.rejected} rejected")
    return done.rejected
