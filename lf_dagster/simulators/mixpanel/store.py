"""What Mixpanel keeps: every accepted copy, and the views that deduplication makes of them."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any, Literal

import msgspec

from lf_dagster.simulators.mixpanel.settings import Limits
from lf_dagster.simulators.mixpanel.validate import time_in_ms

View = Literal["raw", "query", "compacted"]
Winner = Literal["newest", "oldest", "random"]
_RESERVED = frozenset(
    {
        "token", "bucket", "$bucket", "alias", "$identified_id", "$anon_id", "$distinct_ids", "mp_original_event_name",
        "mp_original_distinct_id", "$event_name", "$time",
    }
)  # fmt: skip


class StoredEvent(msgspec.Struct):
    """One accepted copy of an event as Mixpanel keeps it.

    `properties` are as stored (cut, geo-located, with the added `$mp_*` keys); `time_ms` epoch milliseconds;
    `received_ms` when it came; `damage` what the server did to it without telling: `truncated:NAME`,
    `unusable:NAME`, `reserved:NAME`, `geo:request_ip`, `clamped:time`, `hot_shard`.
    """

    project_id: int
    sequence: int
    event: str
    time_ms: int
    distinct_id: str
    insert_id: str
    received_ms: int
    properties: dict[str, Any]
    damage: list[str]

    @property
    def utc_date(self) -> str:
        return utc_date(self.time_ms)

    @property
    def identity(self) -> tuple[int, str, str, int, str]:
        """What query-time deduplication compares."""
        return (self.project_id, self.event, self.distinct_id, self.time_ms, self.insert_id)

    @property
    def day_identity(self) -> tuple[int, str, str, str, str]:
        """What compaction compares."""
        return (self.project_id, self.event, self.distinct_id, self.utc_date, self.insert_id)


def utc_date(time_ms: int) -> str:
    """UTC calendar date, `YYYY-MM-DD`, of epoch milliseconds."""
    return datetime.fromtimestamp(time_ms / 1000, tz=timezone.utc).strftime("%Y-%m-%d")


class MixpanelStore:
    """Events (guarded by a lock), profiles and schemas of all projects."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._events: list[StoredEvent] = []
        self._per_shard: Counter[tuple[int, str, int]] = Counter()
        self.profiles: dict[tuple[int, str], dict[str, Any]] = {}
        self.groups: dict[tuple[int, str, str], dict[str, Any]] = {}
        self.schemas: dict[int, dict[tuple[str, str], dict[str, Any]]] = {}

    def reset(self) -> None:
        with self._lock:
            self._events.clear()
            self._per_shard.clear()
            self.profiles.clear()
            self.groups.clear()
            self.schemas.clear()

    def add(self, project_id: int, rows: Iterable[tuple[dict[str, Any], int]], *, now_ms: int) -> int:
        """Keep validated rows, each with its size in bytes; returns how many were kept ($ignore drops silently)."""
        with self._lock:
            before = len(self._events)
            for row, size in rows:
                if "$ignore" not in row["properties"]:
                    self._events.append(self._stored(project_id, row, size, now_ms))
            return len(self._events) - before

    def events(
        self, view: View = "raw", *, project_id: int | None = None, winner: Winner = "newest", seed: int = 0
    ) -> list[dict[str, Any]]:
        """Events of a view as `{"event", "properties"}`, `time` in epoch milliseconds, in order of arrival.

        `raw` has all copies; `query` one per (event, distinct_id, time, $insert_id), the `winner` of them; `compacted`
        one per (event, distinct_id, $insert_id) and UTC day, chosen at random by `seed`.
        """
        stored = self.stored(view, project_id=project_id, winner=winner, seed=seed)
        return [{"event": item.event, "properties": dict(item.properties)} for item in stored]

    def stored(
        self, view: View = "raw", *, project_id: int | None = None, winner: Winner = "newest", seed: int = 0
    ) -> list[StoredEvent]:
        """As `events`, with what the stand-in knows besides the properties."""
        with self._lock:
            copies = [item for item in self._events if project_id is None or item.project_id == project_id]
        if view == "raw":
            return copies
        if view == "query":
            return _winners(copies, lambda item: item.identity, winner, seed)
        if view == "compacted":
            return _winners(copies, lambda item: item.day_identity, "random", seed)
        raise ValueError(f"no such view: {view}")

    def damage(self, *, project_id: int | None = None) -> Counter[str]:
        """What was done to stored events without telling the sender, counted over all copies."""
        return Counter(entry for item in self.stored(project_id=project_id) for entry in item.damage)

    def _stored(self, project_id: int, row: dict[str, Any], size: int, now_ms: int) -> StoredEvent:
        properties = dict(row["properties"])
        damage: list[str] = []
        self._cut(properties, damage)
        time_ms = time_in_ms(properties["time"])
        if time_ms > now_ms:
            time_ms = now_ms
            damage.append("clamped:time")
        distinct_id = properties.setdefault("distinct_id", _derived_distinct_id(properties))
        _locate(properties, damage)
        properties["time"] = time_ms
        properties["$import"] = True
        properties["$mp_api_endpoint"] = "api.mixpanel.com"
        properties["$mp_api_timestamp_ms"] = now_ms
        properties["mp_processing_time_ms"] = now_ms
        properties["$mp_event_size"] = size
        stored = StoredEvent(
            project_id=project_id,
            sequence=len(self._events),
            event=self._shortened(row["event"]),
            time_ms=time_ms,
            distinct_id=distinct_id,
            insert_id=properties["$insert_id"],
            received_ms=now_ms,
            properties=properties,
            damage=damage,
        )
        if distinct_id:
            self._count_shard(stored)
        return stored

    def _shortened(self, text: str) -> str:
        limit = self.limits.string_length
        if len(text) > limit:
            text = text[:limit]
        if self.limits.string_unit == "bytes" and not text.isascii():
            text = text.encode()[:limit].decode(errors="ignore")
        return text

    def _is_long(self, text: str) -> bool:
        limit = self.limits.string_length
        if len(text) > limit:
            return True
        return self.limits.string_unit == "bytes" and not text.isascii() and len(text.encode()) > limit

    def _cut(self, properties: dict[str, Any], damage: list[str]) -> None:
        """Cut long strings and names in place, as ingestion does without a word."""
        limit = self.limits.string_length
        # Counted in bytes, a string can be too long only beyond a quarter of the limit.
        suspect = limit if self.limits.string_unit == "characters" else limit // 4
        for name, value in properties.items():
            kind = type(value)
            if kind is str:
                if len(value) > suspect and self._is_long(value):
                    properties[name] = self._shortened(value)
                    damage.append(f"truncated:{name}")
            elif kind is dict or kind is list:
                self._cut_composite(properties, name, damage)
        if not _RESERVED.isdisjoint(properties):
            damage += [f"reserved:{name}" for name in properties if name in _RESERVED]
        if max(map(len, properties)) > limit:
            for name in [name for name in properties if len(name) > limit]:
                properties[self._shortened(name)] = properties.pop(name)
                damage.append(f"truncated:{self._shortened(name)}")

    def _cut_composite(self, properties: dict[str, Any], name: str, damage: list[str]) -> None:
        value = properties[name]
        if len(msgspec.json.encode(value)) > self.limits.composite_bytes:
            damage.append(f"unusable:{name}")
        shortened = self._shortened_inside(value)
        if shortened != value:
            properties[name] = shortened
            damage.append(f"truncated:{name}")

    def _shortened_inside(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._shortened(value)
        if isinstance(value, list):
            return [self._shortened_inside(item) for item in value]
        if isinstance(value, dict):
            return {self._shortened(name): self._shortened_inside(item) for name, item in value.items()}
        return value

    def _count_shard(self, stored: StoredEvent) -> None:
        shard = (stored.project_id, stored.distinct_id, stored.time_ms // 86_400_000)
        self._per_shard[shard] += 1
        if self._per_shard[shard] <= self.limits.hot_shard:
            return
        stored.properties["mp_original_event_name"] = stored.event
        stored.properties["mp_original_distinct_id"] = stored.distinct_id
        stored.event = "$hotshard_events"
        stored.distinct_id = stored.properties["distinct_id"] = ""
        stored.damage.append("hot_shard")


def _derived_distinct_id(properties: dict[str, Any]) -> str:
    user = properties.get("$user_id")
    return str(user) if user else f"$device:{properties.get('$device_id', '')}"


def _locate(properties: dict[str, Any], damage: list[str]) -> None:
    """Replace `ip` by a place; without one the sender's own address decides."""
    if "ip" not in properties:
        damage.append("geo:request_ip")
    elif properties.pop("ip") in ("0", 0):
        return
    properties.update({"$city": "Standin City", "$region": "Standin Region", "mp_country_code": "ZZ"})


def _winners(
    copies: list[StoredEvent], key: Callable[[StoredEvent], tuple[Any, ...]], winner: Winner, seed: int
) -> list[StoredEvent]:
    groups: dict[tuple[Any, ...], list[StoredEvent]] = {}
    for item in copies:
        groups.setdefault(key(item), []).append(item)
    draw = random.Random(seed)
    choose: dict[Winner, Callable[[list[StoredEvent]], StoredEvent]] = {
        "newest": lambda group: group[-1],
        "oldest": lambda group: group[0],
        "random": draw.choice,
    }
    return [choose[winner](group) for group in groups.values()]
