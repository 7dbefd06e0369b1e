"""Settings of a project: what a YAML component, the environment or Python code may say.

One frozen model per topic. Secrets are never in here: fields that end in `_env` hold the NAME of the
environment variable that holds the secret, and `secret()` reads it when it is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from lf_dagster.errors import ConfigError

DEFAULT_HOST = "https://cloud.langfuse.com"
DEFAULT_START = "2026-01-01-00:00"
"""First partition when nobody says otherwise; LANGFUSE_START overrides it."""

# contracts: environments that Langfuse itself writes to; hidden in its UI, returned by its API.
LANGFUSE_INTERNAL_ENVIRONMENTS = (
    "langfuse-prompt-experiment",
    "langfuse-llm-as-a-judge",
    "langfuse-code-eval",
    "langfuse-natural-language-filter",
    "langfuse-in-app-agent",
    "langfuse-evaluation",
    "sdk-experiment",
)

ReadPath = Literal["v2", "legacy"]
EventKind = Literal["trace", "generation", "score", "observation"]
Compatibility = Literal["documented", "native"]


def secret(variable: str, *, env: Mapping[str, str] = os.environ) -> str:
    """The value of a secret's environment variable; ConfigError with the variable's name when unset."""
    value = env.get(variable, "").strip()
    if not value:
        raise ConfigError(
            f"environment variable {variable} is not set",
            hint=f"Set {variable} for the processes that run lf_dagster (webserver, daemon, workers), e.g. in .env.",
        )
    return value


def _origin(value: str) -> str:
    text = value.strip().rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not a URL with http:// or https://: {value!r}")
    return text


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", value):
        raise ValueError(f"not a project name: {value!r}; use lower-case letters, digits and _, starting with a letter")
    return value


Origin = Annotated[str, AfterValidator(_origin)]
ProjectName = Annotated[str, AfterValidator(_name)]


class Settings(BaseModel):
    """Base: frozen, and a word that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LangfuseSettings(Settings):
    """How to read one Langfuse project."""

    host: Origin = Field(DEFAULT_HOST, description="Origin of the Langfuse deployment.")
    public_key_env: str = Field("LANGFUSE_PUBLIC_KEY", description="Name of the variable that holds the public key.")
    secret_key_env: str = Field("LANGFUSE_SECRET_KEY", description="Name of the variable that holds the secret key.")
    read_path: Literal["auto", "v2", "legacy"] = Field(
        "auto", description="API generation to read: v2 (observations v2, scores v3), legacy, or detect it."
    )
    page_size: int = Field(
        1000, ge=1, le=1000, description="Observations per request on the v2 path; server limit 1000."
    )
    parallel_requests: int = Field(4, ge=1, le=32, description="Requests in flight at once for this project.")
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        description="Budget per organisation. Langfuse Cloud: 30 (Hobby), 1000 (others), shared by all projects of "
        "the organisation. None: no client-side limit, the server's 429 is honoured.",
    )
    timeout_seconds: float = Field(100.0, gt=0, description="Per request; the server itself may take over 30 s.")
    ca_bundle: str | None = Field(None, description="Path of a CA bundle for a self-hosted server.")
    content: bool = Field(False, description="Also read inputs and outputs (slower, larger).")
    full_metadata: bool = Field(False, description="Read metadata values beyond 200 characters on the v2 path.")
    max_lost_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of an hour's rows that a re-read may lose; one that loses more (and more than 50 rows) "
        "fails and writes nothing. 1.0: any.",
    )


class Filters(Settings):
    """Which events a destination gets. A filtered event is accounted as skipped, with the filter as reason."""

    environments: tuple[str, ...] | None = Field(None, description="Only these environments.")
    exclude_environments: tuple[str, ...] = Field(
        LANGFUSE_INTERNAL_ENVIRONMENTS, description="Not these environments; default: Langfuse's internal ones."
    )
    trace_names: tuple[str, ...] | None = Field(None, description="Only traces with these names.")
    exclude_trace_names: tuple[str, ...] = Field((), description="Not traces with these names.")
    tags: tuple[str, ...] | None = Field(None, description="Only traces with at least one of these tags.")
    exclude_tags: tuple[str, ...] = Field((), description="Not traces with any of these tags.")
    observation_types: tuple[str, ...] | None = Field(None, description="Observation events of these types only.")
    levels: tuple[str, ...] | None = Field(None, description="Generation and observation events of these levels only.")
    sample_rate: float = Field(1.0, ge=0, le=1, description="Share of traces, chosen by a stable hash of the trace id.")


class DestinationSettings(Settings):
    """What both destinations can be told."""

    filters: Filters = Field(default_factory=Filters)  # pyright: ignore[reportArgumentType]
    properties: tuple[str, ...] | None = Field(None, description="Send only these properties (wire names).")
    exclude_properties: tuple[str, ...] = Field((), description="Never send these properties (wire names).")
    hash_user_ids_env: str | None = Field(
        None, description="Name of the variable with a salt; when given, user ids are sent as salted SHA-256."
    )
    parallel_requests: int = Field(4, ge=1, le=20, description="Requests in flight at once.")
    hold_hours: int = Field(
        0,
        ge=0,
        le=720,
        description="Events are first sent when their hour is this many hours old, so that users and costs that come "
        "late are there. 0: at once.",
    )


class MixpanelSettings(DestinationSettings):
    """Mixpanel /import (strict)."""

    region: Literal["us", "eu", "in"] = Field("us", description="Data residency of the Mixpanel project.")
    host: Origin | None = Field(None, description="Overrides the region's ingestion origin.")
    project_token_env: str = Field("MIXPANEL_PROJECT_TOKEN", description="Variable with the project token.")
    service_account_env: str | None = Field(None, description="Variable with `user:secret` of a service account.")
    project_id: str | None = Field(None, description="Mandatory with a service account.")
    batch_events: int = Field(2000, ge=1, le=2000, description="Events per request; Mixpanel's limit is 2000.")
    batch_bytes: int = Field(1_900_000, ge=1000, le=9_500_000, description="Uncompressed bytes per request.")
    on_change: Literal["resend", "keep"] = Field(
        "resend",
        description="resend: a changed event is sent again under its key, reports usually show the newest copy; keep: "
        "what Mixpanel has stays as it is.",
    )


class PosthogSettings(DestinationSettings):
    """PostHog capture."""

    host: Origin = Field("https://us.i.posthog.com", description="Capture origin: US, EU or your own.")
    api_key_env: str = Field("POSTHOG_API_KEY", description="Variable with the project API key (phc_...).")
    protocol: Literal["auto", "v1", "batch"] = Field("auto", description="Capture V1 where served, else /batch/.")
    batch_events: int = Field(1000, ge=1, le=1000, description="Events per request.")
    batch_bytes: int = Field(5_000_000, ge=1000, le=9_500_000, description="Uncompressed bytes per request.")
    on_delete: Literal["keep", "tombstone"] = Field(
        "keep",
        description="keep: events that were deleted in Langfuse stay; tombstone: they are replaced by one that has no "
        "property but `langfuse_deleted`.",
    )


class ReconcileSettings(Settings):
    """How an hour is kept right after it was first shipped: when it is read again, and how much at once."""

    enabled: bool = Field(True, description="Whether the sensor that asks for reruns is on when it is first loaded.")
    horizon_hours: int = Field(
        168, ge=1, le=960, description="How far back hours are compared with Langfuse: changes of older hours are seen "
        "by a rerun that somebody asks for."
    )  # fmt: skip
    revisit_hours: tuple[int, ...] = Field(
        (3, 24, 168),
        description="Ages at which an hour is read again, since edits leave no trace that could be asked for.",
    )
    audit_every_hours: int = Field(
        2, ge=0, le=24, description="How often counts and costs of all hours are compared with Langfuse's metrics; at "
        "most four calls each time, of 100 a day on the smallest plan. 0: never."
    )  # fmt: skip
    runs_in_flight: int = Field(2, ge=1, le=16, description="Runs of this project that may wait or run at once.")
    grace_minutes: int = Field(
        15, ge=0, description="How long after its scheduled run an hour may be missing before it is asked for."
    )

    @field_validator("revisit_hours")
    @classmethod
    def _ages_rise(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(age <= 0 for age in value):
            raise ValueError(f"ages in hours, greater than 0, not {value}")
        return tuple(sorted(set(value)))


class ChecksSettings(Settings):
    """What the checks on the assets of an hour take for good."""

    max_rejected_share: float = Field(
        0.01, ge=0, le=1, description="Share of an hour's events that a destination may reject without a warning."
    )
    fresh_minutes: int = Field(
        60, ge=1, description="Minutes after its scheduled run within which an hour has to be at a destination."
    )


class ProjectSettings(Settings):
    """One Langfuse project and where its events go."""

    name: ProjectName = Field("langfuse", description="Prefix of its asset keys and name of its DuckDB schema.")
    langfuse: LangfuseSettings = Field(default_factory=LangfuseSettings)  # pyright: ignore[reportArgumentType]
    mixpanel: MixpanelSettings | None = None
    posthog: PosthogSettings | None = None
    start: str = Field(DEFAULT_START, description="First hour, e.g. 2026-10-01-00:00 (UTC).")
    data: str = Field("data", description="Folder or Arrow/fsspec URL of the lake (extracts and ledgers).")
    warehouse: str | None = Field(None, description="DuckDB file; default: <data>/warehouse.duckdb.")
    compatibility: Compatibility = Field(
        "documented", description="documented: units as the public tables say; native: as Langfuse really sends them."
    )
    observation_events: bool = Field(False, description="Also ship one event per observation.")
    hours_per_run: int = Field(24, ge=1, le=168, description="Hours that a backfill gives to one run.")
    reconcile: ReconcileSettings = Field(default_factory=ReconcileSettings)  # pyright: ignore[reportArgumentType]
    checks: ChecksSettings = Field(default_factory=ChecksSettings)  # pyright: ignore[reportArgumentType]
    schedule_minute: int = Field(30, ge=0, le=59, description="Minute at which the hour just ended is run.")
    owners: tuple[str, ...] = Field((), description="Dagster owners: `team:name` or an e-mail address.")

    @field_validator("start")
    @classmethod
    def _start_is_an_hour(cls, value: str) -> str:
        from lf_dagster.hours import parse_hour

        return parse_hour(value).key

    @property
    def event_kinds(self) -> tuple[EventKind, ...]:
        kinds: tuple[EventKind, ...] = ("trace", "generation", "score")
        return (*kinds, "observation") if self.observation_events else kinds

    @property
    def destinations(self) -> dict[str, MixpanelSettings | PosthogSettings]:
        both = {"mixpanel": self.mixpanel, "posthog": self.posthog}
        return {name: settings for name, settings in both.items() if settings is not None}


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def environment_settings(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The settings that environment variables give, as a nested dict for `ProjectSettings`.

    The variables are a public interface; README lists them. A destination whose variables are unset is off.
    """
    settings: dict[str, Any] = {"langfuse": {}}
    if host := env.get("LANGFUSE_HOST") or env.get("LANGFUSE_BASE_URL"):
        settings["langfuse"]["host"] = host
    if read_path := env.get("LF_DAGSTER_READ_PATH"):
        settings["langfuse"]["read_path"] = read_path
    for variable, field in _PROJECT_VARIABLES.items():
        if env.get(variable):
            settings[field] = env[variable]
    if env.get("LF_DAGSTER_OBSERVATION_EVENTS"):
        settings["observation_events"] = env["LF_DAGSTER_OBSERVATION_EVENTS"]
    if reconcile := _reconcile_settings(env):
        settings["reconcile"] = reconcile
    if checks := {field: env[name] for name, field in _CHECKS_VARIABLES.items() if env.get(name)}:
        settings["checks"] = checks
    for name, destination in _destination_settings(env).items():
        if "LF_DAGSTER_EXCLUDE_ENVIRONMENTS" in env:
            excluded = _split(env["LF_DAGSTER_EXCLUDE_ENVIRONMENTS"])
            destination["filters"] = {"exclude_environments": excluded}
        settings[name] = destination
    return settings


_PROJECT_VARIABLES = {
    "LANGFUSE_START": "start",
    "LF_DAGSTER_DATA": "data",
    "LF_DAGSTER_COMPATIBILITY": "compatibility",
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


def _reconcile_settings(env: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {field: env[name] for name, field in _RECONCILE_VARIABLES.items() if env.get(name)}
    if "LF_DAGSTER_REVISIT_HOURS" in env:
        found["revisit_hours"] = _split(env["LF_DAGSTER_REVISIT_HOURS"])
    return found


_DESTINATION_VARIABLES = {
    "mixpanel": {"MIXPANEL_HOLD_HOURS": "hold_hours", "MIXPANEL_ON_CHANGE": "on_change"},
    "posthog": {"POSTHOG_HOLD_HOURS": "hold_hours", "POSTHOG_ON_DELETE": "on_delete"},
}


def _destination_settings(env: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if env.get("MIXPANEL_PROJECT_TOKEN"):
        found["mixpanel"] = {}
        if region := env.get("MIXPANEL_REGION"):
            found["mixpanel"]["region"] = region.lower()
        if host := env.get("MIXPANEL_HOST"):
            found["mixpanel"]["host"] = host
    if env.get("POSTHOG_API_KEY"):
        found["posthog"] = {"host": env["POSTHOG_HOST"]} if env.get("POSTHOG_HOST") else {}
    for name, destination in found.items():
        variables = _DESTINATION_VARIABLES[name]
        destination.update({field: env[variable] for variable, field in variables.items() if env.get(variable)})
    return found


def load_project(explicit: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> ProjectSettings:
    """Settings from explicit values over environment variables (`env=None`: explicit values alone).

    Raises ConfigError that names the field, the value and what is allowed.
    """
    from pydantic import ValidationError

    merged = _merge(environment_settings(env) if env is not None else {}, dict(explicit or {}))
    try:
        return ProjectSettings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: Any) -> str:
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'project'}: {item['msg']} (got {item['input']!r})"
        for item in error.errors()
    ]
    return "settings are not valid:\n  " + "\n  ".join(lines)
