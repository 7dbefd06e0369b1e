"""Strict stand-in for PostHog: legacy capture and V1, the views that merging makes of arrivals, and dashboards."""

from lf_dagster.simulators.posthog.app import create_app
from lf_dagster.simulators.posthog.settings import (
    DEMO_TOKENS,
    Behaviour,
    Limits,
    PersonalKey,
    PlannedResult,
    Strictness,
)
from lf_dagster.simulators.posthog.store import PosthogStore, StoredEvent

__all__ = [
    "DEMO_TOKENS",
    "Behaviour",
    "Limits",
    "PersonalKey",
    "PlannedResult",
    "PosthogStore",
    "StoredEvent",
    "Strictness",
    "create_app",
]
