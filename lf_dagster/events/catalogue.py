"""The property catalogue: what each event means, loaded from the files in `kinds/`."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from lf_dagster.config import Compatibility
from lf_dagster.kinds import EXTRA_EVENTS, LLM_EVENTS, EventKind

PropertyType = Literal["string", "integer", "number", "boolean", "list", "map", "json"]
Role = Literal["user_id", "user_url", "model_provider"]

CONTEXT_COLUMNS: dict[str, str] = {
    "entity_id": "Langfuse id of what the event is about.",
    "trace_id": "Trace, where there is one.",
    "event_time": "Time of the event.",
    "user_id": "User that the event is attributed to.",
    "session_id": "Langfuse session.",
    "environment": "Langfuse environment.",
    "trace_name": "Name of the trace.",
    "tags": "Tags of the trace.",
    "observation_type": "Type of the observation; NULL for traces and scores.",
    "level": "Level of the observation; NULL for traces and scores.",
    "mixpanel_session_id": "Metadata `$mixpanel_session_id`.",
    "posthog_session_id": "Metadata `$posthog_session_id`.",
}
"""Columns of every event table beside its properties, with documentation."""

NATIVE_PREFIX = "native_"
"""Prefix of a column that holds what Langfuse's own integration sends, where it differs."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Property(_Part):
    """One property on the wire. Expressions are SQL over the event's source; units of the documented form."""

    name: str
    type: PropertyType
    doc: str
    expression: str
    unit: str | None = None
    native: str | None = None
    only: Compatibility | None = None
    omit_when_null: bool = False
    role: Role | None = None
    required: bool = False
    content: bool = False

    def is_in(self, compatibility: Compatibility) -> bool:
        """Whether this compatibility sends the property."""
        return self.only in (None, compatibility)

    def column(self, compatibility: Compatibility) -> str:
        """Column of the event table that holds the value for this compatibility."""
        name = self.name.removeprefix("$")
        return NATIVE_PREFIX + name if compatibility == "native" and self.native else name


class SkipRule(_Part):
    """Events that are accounted as skipped instead of sent."""

    reason: str
    when: str
    doc: str
    only: Compatibility | None = None


class Event(_Part):
    """One kind of event."""

    kind: EventKind
    description: str
    names: dict[str, str]
    source: str
    main: str | None = None
    moves: bool = False
    context: dict[str, str]
    native_context: dict[str, str] = Field(default_factory=dict)
    skip: tuple[SkipRule, ...] = ()
    needs: tuple[str, ...] = ()
    properties: tuple[Property, ...]

    @property
    def is_llm(self) -> bool:
        """Whether it is one of PostHog's LLM analytics."""
        return self.kind in LLM_EVENTS

    @property
    def is_extra(self) -> bool:
        """Whether it is only made on request; Langfuse's own integrations do not know it."""
        return self.kind in EXTRA_EVENTS

    @property
    def own_id(self) -> str:
        """What the event's id is made from, over the event table. Langfuse's own kinds: the entity alone, as there."""
        return f"'{self.kind}-' || entity_id" if self.is_extra else "entity_id"

    @property
    def table(self) -> str:
        """Name of the event table."""
        return f"{self.kind}_events"

    def sent(self, compatibility: Compatibility) -> list[Property]:
        """The properties that this compatibility sends, in catalogue order."""
        return [item for item in self.properties if item.is_in(compatibility)]

    def context_column(self, name: str, compatibility: Compatibility) -> str:
        """Column of the event table that holds a context value for this compatibility."""
        return NATIVE_PREFIX + name if compatibility == "native" and name in self.native_context else name


_FILES = ("langfuse", "agents", "dify", "librechat", "llm_analytics")
_PREFIXES = {"dify_": "dify", "librechat_": "librechat", "ai_": "llm_analytics"}
_AGENTS = ("agent_run", "session")


def load_catalogue(kinds: Collection[EventKind] | None = None) -> tuple[Event, ...]:
    """All events, or those of some kinds: trace, generation, score, observation, and those that are made on request.

    Reading the files takes some milliseconds, so only those of the kinds are read.
    """
    if kinds is None:
        return tuple(event for name in _FILES for event in _file(name))
    likely = {_file_of(kind) for kind in kinds}
    found = tuple(event for name in _FILES if name in likely for event in _file(name) if event.kind in kinds)
    if len(found) == len(set(kinds)):
        return found
    return tuple(event for event in load_catalogue() if event.kind in kinds)


def _file_of(kind: EventKind) -> str:
    """Where a kind is looked for first; it may stand in any file."""
    if kind in _AGENTS:
        return "agents"
    return next((name for prefix, name in _PREFIXES.items() if kind.startswith(prefix)), "langfuse")


@functools.cache
def _file(name: str) -> tuple[Event, ...]:
    file, shared = _read(name), _read("shared")
    known = {key: {**shared[key], **file.get(key, {})} for key in ("contexts", "shared")}
    return tuple(Event.model_validate(_filled(item, known)) for item in file["events"])


@functools.cache
def _read(name: str) -> dict[str, Any]:
    text = (resources.files("lf_dagster.events") / "kinds" / f"{name}.yaml").read_text(encoding="utf-8")
    # libyaml takes 8 ms for all files where Python takes 100.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _filled(event: dict[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The event with shared context and properties in place of their names."""
    own = {key: value for key, value in event.items() if key != "shared_context"}
    context = shared["contexts"].get(event.get("shared_context"), {"row": "", "columns": {}})
    return {
        **own,
        "context": {**context["columns"], **event["context"]},
        "properties": [_property(item, shared["shared"], context["row"]) for item in event["properties"]],
    }


def _property(item: str | dict[str, Any], shared: Mapping[str, Any], row: str) -> dict[str, Any]:
    if not isinstance(item, str):
        return item
    found = shared[item]
    filled = {key: found[key].replace("{row}", row) for key in ("expression", "native") if key in found}
    return {**found, **filled}
