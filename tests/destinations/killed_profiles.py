"""Profiles set in a process of its own, to be killed: `python -m tests.destinations.killed_profiles SETTINGS`."""

from __future__ import annotations

import sys

from lf_dagster.clock import utc_now
from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import mixpanel_profiles
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse


def main() -> None:
    settings = ProjectSettings.model_validate_json(sys.argv[1])
    mixpanel_profiles.SAVE_SECONDS = 0.0  # a file per answer
    mixpanel_profiles.BATCH_PROFILES = 2
    lake = Lake(settings.data)
    mixpanel_profiles.set_profiles(settings, Warehouse.of(settings, lake), lake, run_id="killed", now=utc_now())


if __name__ == "__main__":
    main()
