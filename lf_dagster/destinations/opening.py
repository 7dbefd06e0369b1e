"""Opens a project's destination by its name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from lf_dagster.config import MixpanelSettings, ProjectSettings
from lf_dagster.destinations.base import Destination
from lf_dagster.destinations.mixpanel import Mixpanel
from lf_dagster.destinations.posthog import Posthog
from lf_dagster.errors import ConfigError
from lf_dagster.http import RetryPolicy


def open_destination(
    name: str,
    settings: ProjectSettings,
    *,
    env: Mapping[str, str] = os.environ,
    retry: RetryPolicy | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Destination:
    """The project's destination `mixpanel` or `posthog`, to be used as a context manager. Nothing is sent yet.

    `retry` and `sleep` replace the destination's own policy and clock. Raises ConfigError when the destination is not
    set up, or when the variable of a secret is unset or holds the wrong kind of key.
    """
    chosen = settings.destinations.get(name)
    if chosen is None:
        raise ConfigError(
            f"project {settings.name} has no destination {name!r}",
            hint=f"Set up: {', '.join(settings.destinations) or 'none'}.",
        )
    if isinstance(chosen, MixpanelSettings):
        return Mixpanel(chosen, env=env, retry=retry, sleep=sleep)
    return Posthog(chosen, env=env, retry=retry, sleep=sleep)
