"""Mixpanel's data dictionary (Lexicon): what the catalogue says of events and properties, for whoever builds reports.

Lexicon is read first, and only what differs is sent (contracts: mixpanel 14). A sent schema replaces the properties of
its event, so it carries those that others described; display names, tags and whatever else is kept there stay.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

from typing_extensions import Self

from lf_dagster.config import MixpanelSettings, ProjectSettings, secret
from lf_dagster.destinations.addresses import API_ORIGINS
from lf_dagster.destinations.management import RETRY, TIMEOUT_SECONDS, ManagementApi, project_number
from lf_dagster.destinations.mixpanel_profile_properties import profile_properties
from lf_dagster.errors import ConfigError
from lf_dagster.events.catalogue import Event, Property, load_catalogue
from lf_dagster.events.payload import TIME_PROPERTY, TRUNCATED_PROPERTY
from lf_dagster.http import HttpClient, RetryPolicy, basic_auth

SERVICE_ACCOUNT_ENV = "MIXPANEL_SERVICE_ACCOUNT"
"""Variable with `user:secret` of the service account, where `service_account_env` names no other."""

MOST_AT_ONCE = 3_500
"""Events and properties per request; Mixpanel takes 4,000 a minute."""

_TYPES = {"integer": "number", "list": "array", "map": "object", "date": "string"}
_ENVELOPE = (
    ("session_id", "string", "Metadata `$mixpanel_session_id`, else the Langfuse session."),
    (TIME_PROPERTY, "string", "The event's time, where the event keeps the one under which it was delivered first."),
    (TRUNCATED_PROPERTY, "array", "Properties whose value was cut to Mixpanel's limits."),
)

PROFILE = "$user"
"""Lexicon's name of what is not an event (contracts: mixpanel 14)."""

Schema = dict[str, Any]


@dataclass(frozen=True)
class Description:
    """What is said of one event, and how that stands to what Lexicon has. `properties`: how many differ there.

    Profiles are described too, as if `$user` were an event: their `entity` is another one.
    """

    event: str
    state: Literal["new", "changed", "current"]
    properties: int
    schema: Schema
    entity: Literal["event", "profile"] = "event"


class Lexicon:
    """Lexicon of one Mixpanel project. Use as a context manager.

    Raises ConfigError when the project's number or the service account is not set, or not what it should be.
    """

    def __init__(
        self,
        settings: ProjectSettings,
        *,
        env: Mapping[str, str] = os.environ,
        retry: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        mixpanel = _mixpanel(settings)
        number = project_number(
            mixpanel.project_id,
            setting="mixpanel.project_id",
            variable="MIXPANEL_PROJECT_ID",
            where="Mixpanel, Project Settings, Overview",
        )
        user, password = _service_account(mixpanel, env)
        self._path = f"/api/app/projects/{number}/schemas"
        self._http = HttpClient(
            mixpanel.api_host or API_ORIGINS[mixpanel.region],
            auth=basic_auth(user, password),
            secrets=[password, f"{user}:{password}"],
            timeout=TIMEOUT_SECONDS,
            retry=retry or RETRY,
            sleep=sleep,
            setting="mixpanel.api_host",
        )
        self._api = ManagementApi(
            self._http,
            "Mixpanel",
            access="Lexicon takes a service account that is Owner or Admin of the project; a project token cannot "
            "write it. Organization Settings, Service Accounts.",
            address="Check mixpanel.region, or mixpanel.api_host where you set it.",
            project="Check mixpanel.project_id and mixpanel.region.",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def compare(self) -> list[Description]:
        """What there is to say of each event that the project sends, and of profiles where it keeps them, beside what
        Lexicon has now."""
        held = self._held()
        events = (event for event in load_catalogue() if event.kind in self._settings.kinds_for("mixpanel"))
        found = [_compared(name, schema, held.get(("event", name))) for name, schema in self._schemas(events)]
        if (profile := self._profile()) is not None:
            described = _compared(PROFILE, profile, held.get(("profile", PROFILE)))
            found.append(replace(described, entity="profile"))
        return found

    def publish(self, descriptions: Sequence[Description]) -> None:
        """Sends those that are not current."""
        for share in _shares([item for item in descriptions if item.state != "current"]):
            entries = [{"entityType": item.entity, "name": item.event, "schemaJson": item.schema} for item in share]
            # Without `truncate`, which would delete what others described.
            self._api.call("POST", self._path, endpoint="schemas", body={"entries": entries})

    def _held(self) -> dict[tuple[str, str], Schema]:
        answer = self._api.call("GET", self._path, endpoint="schemas")
        try:
            return {(entry["entityType"], entry["name"]): entry["schemaJson"] for entry in answer["results"]}
        except (KeyError, TypeError):
            raise self._api.odd("schemas") from None

    def _schemas(self, events: Iterator[Event]) -> Iterator[tuple[str, Schema]]:
        for event in events:
            sent = [item for item in event.sent(self._settings.compatibility) if self._wants(item)]
            properties = {item.name: self._described(item) for item in sent}
            properties |= {name: {"type": kind, "description": text} for name, kind, text in _ENVELOPE}
            yield event.names["mixpanel"], {"description": _text(event.description), "properties": properties}

    def _profile(self) -> Schema | None:
        mixpanel = _mixpanel(self._settings)
        if mixpanel.kept_profiles is None:
            return None
        sent = profile_properties(mixpanel.kept_profiles, mixpanel)
        said = {name: {"type": _TYPES.get(item.type, item.type), "description": item.doc} for name, item in sent}
        return {"description": "A user of what Langfuse traces.", "properties": said}

    def _described(self, item: Property) -> Schema:
        # The catalogue knows the units of the documented form.
        other_form = self._settings.compatibility == "native" and item.native
        unit = f" In {item.unit}." if item.unit and not other_form else ""
        return {"type": _TYPES.get(item.type, item.type), "description": f"{_text(item.doc)}{unit}"}

    def _wants(self, item: Property) -> bool:
        mixpanel = _mixpanel(self._settings)
        allowed = mixpanel.properties is None or item.name in mixpanel.properties
        hidden = item.role == "user_url" and mixpanel.hash_user_ids_env
        return allowed and item.name not in mixpanel.exclude_properties and not hidden


def _mixpanel(settings: ProjectSettings) -> MixpanelSettings:
    if settings.mixpanel is None:
        raise ConfigError(
            f"project {settings.name} has no Mixpanel", hint="Set MIXPANEL_PROJECT_TOKEN, or `mixpanel` in YAML."
        )
    return settings.mixpanel


def _service_account(settings: MixpanelSettings, env: Mapping[str, str]) -> tuple[str, str]:
    variable = settings.service_account_env or SERVICE_ACCOUNT_ENV
    user, _, password = secret(variable, env=env).partition(":")
    if not (user and password):
        raise ConfigError(
            f"environment variable {variable} does not hold a service account",
            hint="Write it as user:secret, as Mixpanel shows both when the account is made.",
        )
    return user, password


def _text(text: str) -> str:
    return " ".join(text.split())


def _compared(event: str, wanted: Schema, held: Schema | None) -> Description:
    if held is None:
        return Description(event, "new", len(wanted["properties"]), wanted)
    theirs = held.get("properties") or {}
    differing = [
        name for name, said in wanted["properties"].items() if {**theirs.get(name, {}), **said} != theirs.get(name)
    ]
    if not differing and held.get("description") == wanted["description"]:
        return Description(event, "current", 0, held)
    merged = {**theirs, **{name: {**theirs.get(name, {}), **said} for name, said in wanted["properties"].items()}}
    schema = {"description": wanted["description"], "properties": merged}
    return Description(event, "changed", len(differing), schema)


def _shares(descriptions: Sequence[Description]) -> Iterator[list[Description]]:
    share: list[Description] = []
    size = 0
    for item in descriptions:
        weight = 1 + len(item.schema["properties"])
        if share and size + weight > MOST_AT_ONCE:
            yield share
            share, size = [], 0
        share.append(item)
        size += weight
    if share:
        yield share
