"""Where people open the destinations, which is not where events are sent to."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from lf_dagster.config import MixpanelSettings, PosthogSettings, ProjectSettings

API_ORIGINS = {"us": "https://mixpanel.com", "eu": "https://eu.mixpanel.com", "in": "https://in.mixpanel.com"}
"""Origins of Mixpanel's app and its management API, by region."""


def app_origin(posthog: PosthogSettings) -> str:
    """Origin of PostHog's app: on PostHog Cloud the capture host without its `i.`."""
    if posthog.api_host:
        return posthog.api_host
    parts = urlsplit(posthog.host)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(".i.posthog.com", ".posthog.com")))


def app_address(settings: ProjectSettings, destination: str) -> str:
    """The project in the destination's app; the app itself where the settings do not have the project's number."""
    chosen: MixpanelSettings | PosthogSettings = settings.destinations[destination]
    if isinstance(chosen, PosthogSettings):
        origin = app_origin(chosen)
    else:
        origin = chosen.api_host or API_ORIGINS[chosen.region]
    return f"{origin}/project/{chosen.project_id}" if chosen.project_id else origin
