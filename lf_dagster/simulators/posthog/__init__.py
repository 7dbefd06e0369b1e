"""Strict stand-in for PostHog capture: legacy and V1, with the views that merging makes of arrivals."""

from lf_dagster.simulators.posthog.app import create_app
from lf_dagster.simulators.posthog.settings import Behaviour, Limits, PlannedResult, Strictness
from lf_dagster.simulators.posthog.store import PosthogStore, StoredEvent

__all__ = ["Behaviour", "Limits", "PlannedResult", "PosthogStore", "StoredEvent", "Strictness", "create_app"]
