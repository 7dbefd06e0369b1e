"""Strict stand-in for PostHog capture: legacy and V1, with the views that merging makes of arrivals."""

from lf_dagster.simulators.posthog.app import create_app
from lf_dagster.simulators.posthog.settings import DEMO_TOKENS, Behaviour, Limits, PlannedResult, Strictness
from lf_dagster.simulators.posthog.store import PosthogStore, StoredEvent

__all__ = [
    "DEMO_TOKENS",
    "Behaviour",
    "Limits",
    "PlannedResult",
    "PosthogStore",
    "StoredEvent",
    "Strictness",
    "create_app",
]
