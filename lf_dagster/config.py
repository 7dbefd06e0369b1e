"""Settings of a project: what a YAML component, the environment or Python code may say.

One frozen model per topic. Secrets are never in here: fields that end in `_env` hold the NAME of the
environment variable that holds the secret, and `secret()` reads it when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from typing_extensions import Self

from lf_dagster.agents import AgentSettings
from lf_dagster.environment import Sources, environment_settings, sources_of
from lf_dagster.errors import ConfigError
from lf_dagster.fields import Origin, Owner, ProjectName, Time, VariableName, may_be_secret
from lf_dagster.kinds import EXTRA_EVENTS as EXTRA_EVENTS  # noqa: PLC0414 - part of this module's interface
from lf_dagster.kinds import EventKind, ExtraEvent, LlmAnalytics, kinds_shipped
from lf_dagster.policies import PolicySettings
from lf_dagster.profiles import ProfileSettings

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
Compatibility = Literal["documented", "native"]
SourceApp = Literal["dify", "librechat"]


def secret(variable: str, *, env: Mapping[str, str] = os.environ) -> str:
    """The value of a secret's environment variable; ConfigError with the variable's name when unset."""
    value = env.get(variable, "").strip()
    if not value:
        raise ConfigError(
            f"environment variable {variable} is not set",
            hint=f"Set {variable} for the processes that run lf_dagster (webserver, daemon, workers), e.g. in .env.",
        )
    return value


_HOUR_DIVISORS: list[Any] = [0, *(minutes for minutes in range(1, 31) if 60 % minutes == 0)]
HourAge = Annotated[int, Field(json_schema_extra={"exclusiveMinimum": 0})]


class Settings(BaseModel):
    """Base: frozen, and a word that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LangfuseSettings(Settings):
    """How to read one Langfuse project."""

    host: Origin = Field(DEFAULT_HOST, description="Origin of the Langfuse deployment.")
    public_key_env: VariableName = Field(
        "LANGFUSE_PUBLIC_KEY", description="Name of the variable that holds the public key."
    )
    secret_key_env: VariableName = Field(
        "LANGFUSE_SECRET_KEY", description="Name of the variable that holds the secret key."
    )
    check_key_prefixes: bool = Field(
        True, description="Refuse keys that do not begin with pk-lf- and sk-lf-; off for keys of your own choice."
    )
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
    content: bool | Literal["source_apps"] = Field(
        False,
        description="Also read inputs and outputs (slower, larger): of all rows, or of the rows of source apps alone.",
    )
    full_metadata: bool = Field(False, description="Read metadata values beyond 200 characters on the v2 path.")
    metadata: Literal["merge", "replace"] = Field(
        "merge",
        description="merge: metadata keys that a re-read no longer returns stay, with the time they were last seen; "
        "replace: metadata is what the last read returned.",
    )
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
    hash_user_ids_env: VariableName | None = Field(
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
    project_token_env: VariableName = Field("MIXPANEL_PROJECT_TOKEN", description="Variable with the project token.")
    service_account_env: VariableName | None = Field(
        None, description="Variable with `user:secret` of a service account."
    )
    project_id: str | None = Field(None, description="Mandatory with a service account.")
    api_host: Origin | None = Field(None, description="Overrides the region's origin of the management API.")
    batch_events: int = Field(2000, ge=1, le=2000, description="Events per request; Mixpanel's limit is 2000.")
    batch_bytes: int = Field(1_900_000, ge=1000, le=9_500_000, description="Uncompressed bytes per request.")
    on_change: Literal["resend", "keep"] = Field(
        "resend",
        description="resend: a changed event is sent again under its key, reports usually show the newest copy; keep: "
        "what Mixpanel has stays as it is.",
    )
    profiles: bool | ProfileSettings = Field(False, description="Also keep a profile per user: true, or how.")

    @property
    def kept_profiles(self) -> ProfileSettings | None:
        """How profiles are kept; None: they are not."""
        if isinstance(self.profiles, ProfileSettings):
            return self.profiles
        return ProfileSettings.model_validate({}) if self.profiles else None


class PosthogSettings(DestinationSettings):
    """PostHog capture."""

    host: Origin = Field("https://us.i.posthog.com", description="Capture origin: US, EU or your own.")
    api_key_env: VariableName = Field("POSTHOG_API_KEY", description="Variable with the project API key (phc_...).")
    api_host: Origin | None = Field(
        None, description="Origin of the app and its private API; default: the capture origin without its `i.`."
    )
    project_id: str | None = Field(None, description="The project's number, for the private API.")
    personal_api_key_env: VariableName = Field(
        "POSTHOG_PERSONAL_API_KEY", description="Variable with the personal API key (phx_...) for the private API."
    )
    protocol: Literal["auto", "v1", "batch"] = Field("auto", description="Capture V1 where served, else /batch/.")
    batch_events: int = Field(1000, ge=1, le=1000, description="Events per request.")
    batch_bytes: int = Field(5_000_000, ge=1000, le=9_500_000, description="Uncompressed bytes per request.")
    on_delete: Literal["keep", "tombstone"] = Field(
        "keep",
        description="keep: events that were deleted in Langfuse stay; tombstone: they are replaced by one that has no "
        "property but `langfuse_deleted`.",
    )
    llm_analytics: LlmAnalytics = Field(
        "off",
        description="Events of PostHog's LLM analytics ($ai_generation, $ai_trace ...): beside the `langfuse ...` "
        "events, or instead of those of traces, generations, scores and observations.",
    )
    llm_content: bool = Field(
        False, description="Inputs and outputs in the events of LLM analytics; needs `langfuse.content`."
    )
    llm_providers: dict[str, str] = Field(
        {}, description="Provider by pattern of the model's name ($ai_provider), where no metadata names one."
    )


class ReconcileSettings(Settings):
    """How an hour is kept right after it was first shipped: when it is read again, and how much at once."""

    enabled: bool = Field(True, description="Whether the sensor that asks for reruns is on when it is first loaded.")
    horizon_hours: int = Field(
        168, ge=1, le=960, description="How far back hours are compared with Langfuse: changes of older hours are seen "
        "by a rerun that somebody asks for."
    )  # fmt: skip
    revisit_hours: tuple[HourAge, ...] = Field(
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


class ReportSettings(Settings):
    """The report on adoption, cost, performance, feedback, retention and errors."""

    daily: bool = Field(True, description="Whether the schedule that makes a report once a day is there.")
    days: int = Field(28, ge=1, le=366, description="Days that a daily report covers, its own day the last of them.")


class ProjectSettings(Settings):
    """One Langfuse project and where its events go."""

    name: ProjectName = Field("langfuse", description="Prefix of its asset keys and name of its DuckDB schema.")
    langfuse: LangfuseSettings = Field(default_factory=LangfuseSettings)  # pyright: ignore[reportArgumentType]
    mixpanel: MixpanelSettings | None = None
    posthog: PosthogSettings | None = None
    start: Time = Field(DEFAULT_START, description="First hour, e.g. 2026-10-01-00:00 (UTC).")
    data: str = Field("data", description="Folder or Arrow/fsspec URL of the lake (extracts and ledgers).")
    warehouse: str | None = Field(None, description="DuckDB file; default: <data>/warehouse.duckdb.")
    compatibility: Compatibility = Field(
        "documented", description="documented: units as the public tables say; native: as Langfuse really sends them."
    )
    source_apps: tuple[SourceApp, ...] = Field(
        ("dify", "librechat"), description="Source apps whose tables the warehouse has; empty: none."
    )
    agents: AgentSettings = Field(
        default_factory=AgentSettings,  # pyright: ignore[reportArgumentType]
        description="How agents are recognised in traces.",
    )
    observation_events: bool = Field(False, description="Also ship one event per observation.")
    extra_events: tuple[ExtraEvent, ...] = Field(
        (), description="Also ship these events of agents, sessions and source apps."
    )
    session_idle_hours: int = Field(
        4, ge=1, le=24, description="Hours without a trace after which a session, or a conversation, is closed."
    )
    hours_per_run: int = Field(24, ge=1, le=168, description="Hours that a backfill gives to one run.")
    reconcile: ReconcileSettings = Field(default_factory=ReconcileSettings)  # pyright: ignore[reportArgumentType]
    checks: ChecksSettings = Field(default_factory=ChecksSettings)  # pyright: ignore[reportArgumentType]
    policies: PolicySettings = Field(
        default_factory=PolicySettings,  # pyright: ignore[reportArgumentType]
        description="What traces and generations should keep to; each one given is a check.",
    )
    report: ReportSettings = Field(
        default_factory=ReportSettings,  # pyright: ignore[reportArgumentType]
        description="The report of each day.",
    )
    schedule_minute: int = Field(30, ge=0, le=59, description="Minute at which the hour just ended is run.")
    sync_every_minutes: int | None = Field(
        None, ge=0, le=30, description="Minutes between reads of the hour that is under way: 1 to 30, a divisor of 60. "
        "None or 0: an hour is read once it is over.",
        json_schema_extra={"enum": _HOUR_DIVISORS},
    )  # fmt: skip
    owners: tuple[Owner, ...] = Field((), description="Dagster owners: `team:name` or an e-mail address.")
    _sources: Sources = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _events_have_their_source_app(self) -> Self:
        for kind in self.extra_events:
            app = kind.partition("_")[0]
            if app in get_args(SourceApp) and app not in self.source_apps:
                raise ValueError(f"extra_events has {kind}, but source_apps has no {app}")
        return self

    @model_validator(mode="after")
    def _llm_content_is_read(self) -> Self:
        if self.posthog and self.posthog.llm_content and not self.langfuse.content:
            raise ValueError("posthog.llm_content sends inputs and outputs, which langfuse.content does not read")
        return self

    @field_validator("start")
    @classmethod
    def _start_is_an_hour(cls, value: str) -> str:
        from lf_dagster.hours import parse_hour

        return parse_hour(value).key

    @property
    def sources(self) -> Sources:
        """Where the settings that somebody gave come from; empty when this was not made by `load_project`."""
        return self._sources

    def with_sources(self, sources: Sources) -> ProjectSettings:
        """The same settings with their sources."""
        copy = self.model_copy()
        copy._sources = sources
        return copy

    @field_validator("sync_every_minutes")
    @classmethod
    def _divides_the_hour(cls, value: int | None) -> int | None:
        if value and 60 % value:
            raise ValueError(f"a divisor of 60 (1, 2, 3, 4, 5, 6, 10, 12, 15, 20 or 30), not {value}")
        return value or None

    @property
    def event_kinds(self) -> tuple[EventKind, ...]:
        """Kinds of events that are made, for whichever destination."""
        return tuple(dict.fromkeys((*self.kinds_for("mixpanel"), *self.kinds_for("posthog"))))

    def kinds_for(self, destination: str) -> tuple[EventKind, ...]:
        """Kinds of events that a destination is sent."""
        analytics = self.posthog.llm_analytics if destination == "posthog" and self.posthog else "off"
        return kinds_shipped(self.extra_events, observations=self.observation_events, llm_analytics=analytics)

    @property
    def destinations(self) -> dict[str, MixpanelSettings | PosthogSettings]:
        both = {"mixpanel": self.mixpanel, "posthog": self.posthog}
        return {name: settings for name, settings in both.items() if settings is not None}


def load_project(
    explicit: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, *, origin: str = "Python"
) -> ProjectSettings:
    """Settings from explicit values over environment variables (`env=None`: explicit values alone).

    `origin` says where the explicit values come from. Raises ConfigError that names the field, the value and what is
    allowed.
    """
    from pydantic import ValidationError

    given, environment = dict(explicit or {}), environment_settings(env) if env is not None else {}
    sources = sources_of(given, environment, env or {}, origin=origin)
    try:
        return ProjectSettings.model_validate(_merge(environment, given)).with_sources(sources)
    except ValidationError as error:
        raise ConfigError(_explain(error, sources)) from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: Any, sources: Sources) -> str:
    return "settings are not valid:\n  " + "\n  ".join(_line(item, sources) for item in error.errors())


def _line(item: Any, sources: Sources) -> str:
    field = ".".join(str(part) for part in item["loc"])
    if not field:  # what only makes sense together; the value would be everything
        return f"project: {item['msg']}"
    said = f"{field}: {item['msg']}" + ("" if may_be_secret(item) else f" (got {item['input']!r})")
    given = max((name for name in sources if f"{field}.".startswith(f"{name}.")), key=len, default=None)
    return f"{said}, from {sources[given][0]}" if given else said
