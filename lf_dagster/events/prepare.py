"""`prepared_sql`: the events of a project as one destination would get them."""

from __future__ import annotations

import difflib
from typing import Literal

from lf_dagster.config import Compatibility, DestinationSettings, MixpanelSettings, PosthogSettings, ProjectSettings
from lf_dagster.errors import ConfigError
from lf_dagster.events.catalogue import load_catalogue
from lf_dagster.events.ids import DestinationName
from lf_dagster.events.llm_payload import LlmPayload, LlmV1Payload
from lf_dagster.events.mixpanel_payload import MixpanelPayload
from lf_dagster.events.payload import TIME_PROPERTY, TRUNCATED_PROPERTY, Payload
from lf_dagster.events.posthog_payload import PosthogPayload, PosthogV1Payload
from lf_dagster.events.tables import event_models
from lf_dagster.warehouse import ALIAS
from lf_dagster.warehouse.database import identifier, literal

Protocol = Literal["import", "v1", "batch"]

_PAYLOADS: dict[Protocol, type[Payload]] = {
    "import": MixpanelPayload,
    "batch": PosthogPayload,
    "v1": PosthogV1Payload,
}
_LLM_PAYLOADS: dict[Protocol, type[Payload]] = {"batch": LlmPayload, "v1": LlmV1Payload}
PAYLOAD_SQL = "concat(head, body, tail)"
"""SQL over the rows of `prepared_sql`: what is sent of each."""

_OPTIONAL_KEYS = {"mixpanel": ("session_id",), "posthog": ("$session_id", "$set")}


def prepared_sql(
    destination: DestinationName,
    settings: ProjectSettings,
    *,
    protocol: Protocol,
    project_id: str,
    project_name: str,
    host: str,
    user_id_salt: str | None,
    kept: str | None = None,
    portion: str | None = None,
) -> str:
    """A SELECT over the event tables that yields what the destination would be sent, one row per event.

    Columns: hour, kind, event, entity_id, event_id, time_ms, distinct_id, identity, key, payload_hash, the three parts
    of the payload (`PAYLOAD_SQL`): head, body, tail, wellformed (nothing about its JSON and its ids has to be checked),
    skip_reason, truncated. Restrict it with
    `WHERE hour IN (...)`: the condition reaches the tables. Project name and host are in the tables already. The text
    holds the salt when user ids are hashed: never log it.

    `kept` names a relation (hour, event, event_id, identity, time_ms) of events that the destination has, with the
    identity under which it has them and the time that was last sent: they are sent under that one again. `key` is the
    identity that the payload has, `identity` the one that the source's user and time give.
    `portion` names a macro over kind and row id in the event table: only events for which it holds are yielded.
    Raises ConfigError for a property name that no event has, or when hashing is on without a salt.
    """
    del project_name, host
    chosen = _settings_of(destination, settings)
    if chosen.hash_user_ids_env and not user_id_salt:
        raise ConfigError(f"{destination}: user ids are to be hashed, but the salt is empty")
    _check_property_names(destination, chosen, settings.compatibility)
    tables = {model.name: model.schema for model in event_models(settings, destination)}
    selects = [
        (_LLM_PAYLOADS if event.is_llm else _PAYLOADS)[protocol](
            event=event,
            types=tables[event.table],
            settings=chosen,
            compatibility=settings.compatibility,
            project_id=project_id,
            schema=settings.name,
            salt=user_id_salt if chosen.hash_user_ids_env else None,
            kept=kept,
            portion=portion,
        ).select()
        for event in load_catalogue(settings.kinds_for(destination))
    ]
    return "\nUNION ALL\n".join(selects)


def outline_sql(destination: str, settings: ProjectSettings) -> str:
    """A SELECT of one row per event of a destination and little more, which costs next to nothing.

    Columns: hour, kind, entity_id, row (id in its table), user_id (whose it is at the source).
    """
    selects = [
        f"SELECT partition_hour AS hour, {literal(event.kind)} AS kind, entity_id, rowid AS row, "
        f"{event.context_column('user_id', settings.compatibility)} AS user_id "
        f"FROM {ALIAS}.{identifier(settings.name)}.{event.table}"
        for event in load_catalogue(settings.kinds_for(destination))
    ]
    return "\nUNION ALL\n".join(selects)


def property_names(destination: DestinationName, compatibility: Compatibility) -> list[str]:
    """Names that `properties` and `exclude_properties` may list, sorted."""
    events = [event for event in load_catalogue() if destination in event.names]
    names = {item.name for event in events for item in event.sent(compatibility)}
    return sorted({*names, *_OPTIONAL_KEYS[destination], TIME_PROPERTY, TRUNCATED_PROPERTY})


def _settings_of(destination: DestinationName, settings: ProjectSettings) -> DestinationSettings:
    """The destination's settings; its defaults for a preview of a destination that is not set up."""
    if destination == "mixpanel":
        return settings.mixpanel or MixpanelSettings.model_validate({})
    return settings.posthog or PosthogSettings.model_validate({})


def _check_property_names(
    destination: DestinationName, settings: DestinationSettings, compatibility: Compatibility
) -> None:
    wanted = (*(settings.properties or ()), *settings.exclude_properties)
    known = property_names(destination, compatibility) if wanted else []
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            raise ConfigError(
                f"{destination}: no event has a property {name!r}",
                hint=f"Did you mean {', '.join(close)}?" if close else f"Known: {', '.join(known)}.",
            )
