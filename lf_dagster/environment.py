"""Settings that environment variables give, and which variable gave which (README, "Configuration").

The variables are a public interface.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

_LANGFUSE_VARIABLES = {
    "LF_DAGSTER_READ_PATH": "read_path",
    "LF_DAGSTER_CONTENT": "content",
    "LF_DAGSTER_METADATA": "metadata",
}
_HOST_VARIABLES = ("LANGFUSE_HOST", "LANGFUSE_BASE_URL")
"""The first one that is set wins."""

_PROJECT_VARIABLES = {
    "LANGFUSE_START": "start",
    "LF_DAGSTER_DATA": "data",
    "LF_DAGSTER_COMPATIBILITY": "compatibility",
    "LF_DAGSTER_SYNC_EVERY_MINUTES": "sync_every_minutes",
    "LF_DAGSTER_OBSERVATION_EVENTS": "observation_events",
}

_RECONCILE_VARIABLES = {
    "LF_DAGSTER_RECONCILE": "enabled",
    "LF_DAGSTER_HORIZON_HOURS": "horizon_hours",
    "LF_DAGSTER_AUDIT_EVERY_HOURS": "audit_every_hours",
    "LF_DAGSTER_RUNS_IN_FLIGHT": "runs_in_flight",
    "LF_DAGSTER_GRACE_MINUTES": "grace_minutes",
}

_CHECKS_VARIABLES = {
    "LF_DAGSTER_MAX_REJECTED_SHARE": "max_rejected_share",
    "LF_DAGSTER_FRESH_MINUTES": "fresh_minutes",
}

_REPORT_VARIABLES = {"LF_DAGSTER_REPORT": "daily", "LF_DAGSTER_REPORT_DAYS": "days"}

_SWITCHES = {"mixpanel": "MIXPANEL_PROJECT_TOKEN", "posthog": "POSTHOG_API_KEY"}
"""A destination whose variable is unset is off."""

_DESTINATION_VARIABLES = {
    "mixpanel": {
        "MIXPANEL_REGION": "region",
        "MIXPANEL_HOST": "host",
        "MIXPANEL_HOLD_HOURS": "hold_hours",
        "MIXPANEL_ON_CHANGE": "on_change",
        "MIXPANEL_PROFILES": "profiles",
        "MIXPANEL_PROJECT_ID": "project_id",
        "MIXPANEL_API_HOST": "api_host",
    },
    "posthog": {
        "POSTHOG_HOST": "host",
        "POSTHOG_HOLD_HOURS": "hold_hours",
        "POSTHOG_ON_DELETE": "on_delete",
        "POSTHOG_LLM_ANALYTICS": "llm_analytics",
        "POSTHOG_LLM_CONTENT": "llm_content",
        "POSTHOG_PROJECT_ID": "project_id",
        "POSTHOG_API_HOST": "api_host",
    },
}

_LIST_VARIABLES = {
    "LF_DAGSTER_SOURCE_APPS": "source_apps",
    "LF_DAGSTER_EXTRA_EVENTS": "extra_events",
    "LF_DAGSTER_OWNERS": "owners",
}
"""Comma-separated; set but empty means none."""
_REVISITS = "LF_DAGSTER_REVISIT_HOURS"
_EXCLUDED = "LF_DAGSTER_EXCLUDE_ENVIRONMENTS"


def environment_settings(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The settings that environment variables give, as a nested dict for `ProjectSettings`."""
    settings: dict[str, Any] = {"langfuse": _given(env, _LANGFUSE_VARIABLES), **_given(env, _PROJECT_VARIABLES)}
    if host := next((env[name] for name in _HOST_VARIABLES if env.get(name)), None):
        settings["langfuse"]["host"] = host
    settings.update({field: _split(env[name]) for name, field in _LIST_VARIABLES.items() if name in env})
    if reconcile := _reconcile_settings(env):
        settings["reconcile"] = reconcile
    if checks := _given(env, _CHECKS_VARIABLES):
        settings["checks"] = checks
    if report := _given(env, _REPORT_VARIABLES):
        settings["report"] = report
    for name, switch in _SWITCHES.items():
        if env.get(switch):
            settings[name] = _destination_settings(env, name)
    return settings


def _given(env: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, Any]:
    return {field: env[name] for name, field in variables.items() if env.get(name)}


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _reconcile_settings(env: Mapping[str, str]) -> dict[str, Any]:
    found = _given(env, _RECONCILE_VARIABLES)
    if _REVISITS in env:
        found["revisit_hours"] = _split(env[_REVISITS])
    return found


def _destination_settings(env: Mapping[str, str], name: str) -> dict[str, Any]:
    found = _given(env, _DESTINATION_VARIABLES[name])
    if "region" in found:
        found["region"] = found["region"].lower()
    if _EXCLUDED in env:
        found["filters"] = {"exclude_environments": _split(env[_EXCLUDED])}
    return found


# Sources

Sources = Mapping[str, tuple[str, ...]]
"""For each setting that somebody gave, such as `langfuse.host`: everything that gave it, the winner first."""


def sources_of(
    explicit: Mapping[str, Any], environment: Mapping[str, Any], env: Mapping[str, str], *, origin: str
) -> Sources:
    """Sources of explicit settings over those that `environment_settings` made of `env`.

    `origin` says what the explicit ones are, such as the name of a file.
    """
    given, from_env = set(setting_paths(explicit)), set(setting_paths(environment))
    variables = _variables_by_setting()
    return {
        path: ((origin,) if path in given else ()) + (_set(variables[path], env) if path in from_env else ())
        for path in sorted(given | from_env)
    }


def _set(variables: tuple[str, ...], env: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that count; an empty one does only where it means an empty list."""
    return tuple(name for name in variables if env.get(name)) or tuple(name for name in variables if name in env)


def setting_paths(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of the values in nested settings; a destination counts as one too, since it is turned on."""
    for name, value in settings.items():
        if not isinstance(value, Mapping) or name in _SWITCHES:
            yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from setting_paths(value, f"{prefix}{name}.")


def _variables_by_setting() -> dict[str, tuple[str, ...]]:
    """For each setting the variables that can give it, the winner first."""
    pairs = chain(
        (("langfuse.host", name) for name in _HOST_VARIABLES),
        _under("langfuse.", _LANGFUSE_VARIABLES),
        _under("", _PROJECT_VARIABLES),
        _under("", _LIST_VARIABLES),
        _under("reconcile.", {**_RECONCILE_VARIABLES, _REVISITS: "revisit_hours"}),
        _under("checks.", _CHECKS_VARIABLES),
        _under("report.", _REPORT_VARIABLES),
        _under("", {switch: name for name, switch in _SWITCHES.items()}),
        *(
            _under(f"{name}.", {**variables, _EXCLUDED: "filters.exclude_environments"})
            for name, variables in _DESTINATION_VARIABLES.items()
        ),
    )
    found: dict[str, tuple[str, ...]] = {}
    for setting, variable in pairs:
        found[setting] = (*found.get(setting, ()), variable)
    return found


def _under(prefix: str, variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((f"{prefix}{field}", name) for name, field in variables.items())
