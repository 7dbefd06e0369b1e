"""What PostHog keeps: an append log of arrivals, the views that merges make of it, persons and warnings."""

from __future__ import annotations

import random
import threading
from typing import Any, Literal

import msgspec

from lf_dagster.simulators.posthog.ai import is_ai, normalise, without_heavy
from lf_dagster.simulators.posthog.settings import Behaviour, Limits
from lf_dagster.simulators.posthog.timestamps import DAY, SECOND, EventTime, iso, utc_date

View = Literal["raw", "merged", "query", "ai"]
_WARNED_NOTES = {"unparsable": "ignored_invalid_timestamp", "future": "event_timestamp_in_future"}


class Arrival(msgspec.Struct):
    """An accepted event before it is stored. `time` as the timestamp pipeline left it, `size` in bytes of JSON."""

    uuid: str
    event: str
    distinct_id: str
    time: EventTime
    properties: dict[str, Any]
    set_properties: dict[str, Any]
    set_once_properties: dict[str, Any]
    size: int = 0
    historical: bool = False
    protocol: Literal["legacy", "ai", "v1"] = "legacy"
    person_processing: bool = True


class StoredEvent(msgspec.Struct):
    """One arrival as stored. `timestamp` in epoch microseconds, `arrived` in whole epoch seconds.

    `properties` include heavy AI content; views other than `ai` leave it out. `damage` is what the server changed
    without telling: `geoip`, `time:NOTE`, `token:NAME`.
    """

    project_id: int
    sequence: int
    uuid: str
    event: str
    distinct_id: str
    timestamp: int
    arrived: int
    historical: bool
    protocol: str
    person_processing: bool
    properties: dict[str, Any]
    damage: list[str]

    @property
    def identity(self) -> tuple[int, str, str, str, str]:
        """Sorting key of the ReplacingMergeTree: rows equal in it become one."""
        return (self.project_id, utc_date(self.timestamp), self.event, self.distinct_id, self.uuid)

    def shown(self, *, heavy: bool) -> dict[str, Any]:
        return {
            "uuid": self.uuid,
            "event": self.event,
            "distinct_id": self.distinct_id,
            "timestamp": iso(self.timestamp),
            "properties": dict(self.properties) if heavy or not is_ai(self.event) else without_heavy(self.properties),
        }


class PosthogStore:
    """Events, persons and ingestion warnings of all projects; thread-safe."""

    def __init__(self, *, limits: Limits | None = None, seed: int = 0) -> None:
        self.limits = limits or Limits()
        self.seed = seed
        self._lock = threading.Lock()
        self._events: list[StoredEvent] = []
        self._persons: dict[tuple[int, str], dict[str, Any]] = {}
        self._warnings: list[dict[str, Any]] = []

    def reset(self) -> None:
        with self._lock:
            self._events.clear()
            self._persons.clear()
            self._warnings.clear()

    def add(self, project_id: int, arrivals: list[Arrival], *, now: int) -> None:
        """Append arrivals; `now` in epoch microseconds."""
        with self._lock:
            for arrival in arrivals:
                self._append(project_id, arrival, now)

    def warn(self, project_id: int, kind: str, **details: Any) -> None:
        """Note an ingestion warning."""
        with self._lock:
            self._warnings.append({"project_id": project_id, "type": kind, **details})

    def warnings(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Ingestion warnings, oldest first."""
        with self._lock:
            return [dict(warning) for warning in self._warnings if kind in {None, warning["type"]}]

    def persons(self, *, project_id: int | None = None) -> dict[str, dict[str, Any]]:
        """Person properties by distinct_id."""
        with self._lock:
            return {key[1]: dict(value) for key, value in self._persons.items() if project_id in {None, key[0]}}

    def unique_users(self, *events: str, project_id: int | None = None) -> int:
        """What an insight counts as unique users over these events (none given: all), once everything has merged.

        Nothing merges persons here: each distinct id is one, whether a person is kept for it or not.
        """
        return len(
            {
                (item.project_id, item.distinct_id)
                for item in self.stored("merged", project_id=project_id)
                if not events or item.event in events
            }
        )

    def events(
        self,
        view: View = "merged",
        *,
        project_id: int | None = None,
        now: int | None = None,
        behaviour: Behaviour | None = None,
    ) -> list[dict[str, Any]]:
        """Events of a view as `{"uuid", "event", "distinct_id", "timestamp", "properties"}`, in order of arrival.

        `raw` is every arrival; `merged` the state after all merges (per identity the newest arrival second, ties
        decided by seed); `query` is between the two by `behaviour.unmerged_fraction`; `ai` is the table of AI events,
        without deduplication, content of the last 30 days. `now` (epoch microseconds) hides what is not visible yet.
        """
        stored = self.stored(view, project_id=project_id, now=now, behaviour=behaviour)
        return [item.shown(heavy=view == "ai") for item in stored]

    def stored(
        self,
        view: View = "merged",
        *,
        project_id: int | None = None,
        now: int | None = None,
        behaviour: Behaviour | None = None,
    ) -> list[StoredEvent]:
        """As `events`, with what the stand-in knows besides."""
        behaviour = behaviour or Behaviour()
        with self._lock:
            rows = [item for item in self._events if project_id in {None, item.project_id}]
        if now is not None:
            delay = behaviour.historical_delay_seconds
            rows = [item for item in rows if not item.historical or item.arrived + delay <= now / SECOND]
        if view == "raw":
            return rows
        if view == "ai":
            return [item for item in rows if is_ai(item.event) and self._has_content(item, now)]
        if view in {"merged", "query"}:
            return self._merged(rows, behaviour.unmerged_fraction if view == "query" else 0.0)
        raise ValueError(f"no such view: {view}")

    def _has_content(self, item: StoredEvent, now: int | None) -> bool:
        return now is None or item.timestamp >= now - self.limits.ai_content_days * DAY

    def _merged(self, rows: list[StoredEvent], unmerged_fraction: float) -> list[StoredEvent]:
        draw = random.Random(self.seed)
        groups: dict[tuple[int, str, str, str, str], list[StoredEvent]] = {}
        for item in rows:
            groups.setdefault(item.identity, []).append(item)
        shown: list[StoredEvent] = []
        for group in groups.values():
            newest = max(item.arrived for item in group)
            winner = draw.choice([item for item in group if item.arrived == newest])
            shown += [item for item in group if item is winner or draw.random() < unmerged_fraction]
        return shown

    def _append(self, project_id: int, arrival: Arrival, now: int) -> None:
        properties = arrival.properties
        damage = [f"time:{note}" for note in arrival.time.notes if note != "offset"]
        if is_ai(arrival.event):
            damage += [f"token:{name}" for name in normalise(properties)]
        if properties.get("$geoip_disable") is not True:
            properties["$geoip_country_code"] = "ZZ"
            damage.append("geoip")
        stored = StoredEvent(
            project_id=project_id,
            sequence=len(self._events),
            uuid=arrival.uuid,
            event=arrival.event,
            distinct_id=arrival.distinct_id,
            timestamp=arrival.time.micros,
            arrived=now // SECOND,
            historical=arrival.historical,
            protocol=arrival.protocol,
            person_processing=arrival.person_processing,
            properties=properties,
            damage=damage,
        )
        self._events.append(stored)
        self._warn_about(stored)
        if arrival.person_processing:
            self._touch_person(project_id, arrival)

    def _warn_about(self, stored: StoredEvent) -> None:
        for entry in stored.damage:
            kind, _, what = entry.partition(":")
            if kind == "token":
                warning = {"type": "invalid_ai_token_property", "property": what}
            elif kind == "time" and what in _WARNED_NOTES:
                warning = {"type": _WARNED_NOTES[what]}
            else:
                continue
            self._warnings.append({"project_id": stored.project_id, "uuid": stored.uuid, **warning})

    def _touch_person(self, project_id: int, arrival: Arrival) -> None:
        person = self._persons.setdefault((project_id, arrival.distinct_id), {})
        for name, value in arrival.set_once_properties.items():
            person.setdefault(name, value)
        person.update(arrival.set_properties)
