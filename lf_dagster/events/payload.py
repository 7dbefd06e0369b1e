"""What a destination is sent: one JSON object per event, formed by generated SQL. What the destinations differ in is in
`mixpanel_payload` and `posthog_payload`.

Payloads are concatenated from fragments (`"key":value`), which is cheaper than building JSON; a NULL fragment
vanishes. Sub-selects follow each other: values (settings applied), cut values, fragments, payload. That stays in three
parts, since its middle is long, and copying it once less is a twentieth of what a delivery costs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lf_dagster.config import Compatibility, DestinationSettings
from lf_dagster.events.catalogue import Event, Property
from lf_dagster.events.content import concat, payload_hash, wellformed
from lf_dagster.events.cutting import MAX_CHARACTERS, cut_value, size, too_long
from lf_dagster.events.filters import skip_reason_sql
from lf_dagster.events.ids import DestinationName, event_digest_sql, event_id_sql
from lf_dagster.events.keys import iso, may_be_sent
from lf_dagster.events.nobody import UNKNOWN_USER, bare
from lf_dagster.warehouse import ALIAS
from lf_dagster.warehouse.database import identifier, literal

TRUNCATED_PROPERTY = "langfuse_truncated_properties"
"""Property that lists what was cut."""

TIME_PROPERTY = "langfuse_timestamp"
"""Property with the event's time (ISO 8601), where the event keeps the one under which it was delivered first."""


@dataclass(frozen=True)
class Payload(ABC):
    """Generates the SELECT of one event kind for one destination; subclasses know the destination's rules.

    `types`: SQL types of the event table's columns. `salt`: user ids are sent as SHA-256 of salt and id. `kept`: the
    relation of the keys under which the destination has events, `portion`: the macro that chooses events (see there).
    """

    event: Event
    types: dict[str, str]
    settings: DestinationSettings
    compatibility: Compatibility
    project_id: str
    schema: str
    salt: str | None
    kept: str | None = None
    portion: str | None = None

    destination: ClassVar[DestinationName] = "mixpanel"
    session_property: ClassVar[str] = "session_id"

    @property
    @abstractmethod
    def bad_ids(self) -> tuple[str, ...]:
        """Ids, trimmed and in lower case, that count as no user."""

    max_distinct_id: ClassVar[int] = MAX_CHARACTERS

    @property
    def documented(self) -> bool:
        return self.compatibility == "documented"

    @property
    def properties(self) -> list[Property]:
        """The catalogue properties that are sent, in their order."""
        return [
            item
            for item in self.event.sent(self.compatibility)
            if self.wants(item.name) and not (item.role == "user_url" and self.salt)
        ]

    @property
    def property_types(self) -> dict[str, str]:
        """SQL types of the columns `p0`, `p1`, ... that hold them."""
        return {f"p{n}": self.types[item.column(self.compatibility)] for n, item in enumerate(self.properties)}

    def wants(self, name: str) -> bool:
        """Whether the allow and deny lists let a property through; protocol keys are never asked."""
        allowed = self.settings.properties is None or name in self.settings.properties
        return allowed and name not in self.settings.exclude_properties

    def select(self) -> str:
        """The whole SELECT, with the columns that `prepared_sql` promises."""
        name = literal(self.event.names[self.destination])
        body = f"SELECT *, {concat(self.body())} AS body FROM ({self._keyed()})"
        return (
            f"SELECT hour, {literal(self.event.kind)} AS kind, {name} AS event, entity_id, event_id, time_ms, "
            f"distinct_id, identity, key, {self.payload_hash()} AS payload_hash, {concat(self.head())} AS head, body, "
            f"{concat(self.tail())} AS tail, {wellformed(self.property_types)} AS wellformed, skip_reason, truncated "
            f"FROM ({body})"
        )

    # What the destinations differ in

    @abstractmethod
    def session(self) -> str:
        """The session value over the event table; NULL when there is none."""

    @abstractmethod
    def distinct_id(self) -> str: ...

    @abstractmethod
    def identity(self) -> str:
        """What the destination tells events apart by, beside event name and id."""

    @abstractmethod
    def kept_id(self, identity: str) -> str:
        """The distinct id that an identity begins with."""

    @abstractmethod
    def kept_values(self) -> dict[str, str]:
        """Column -> its value for an event that is sent under another `key` than its `identity`.

        `kept_ms` is the time that the ledger has of the event.
        """

    @abstractmethod
    def body(self) -> Iterator[str]:
        """Fragments of the properties object, without the braces."""

    @abstractmethod
    def hashed(self) -> Iterator[str]:
        """Values whose change means that the event has to be sent again; independent of the protocol."""

    @abstractmethod
    def head(self) -> Iterator[str]:
        """Fragments of what stands before the body in an event."""

    @abstractmethod
    def tail(self) -> Iterator[str]:
        """Fragments of what stands behind it."""

    def payload_hash(self) -> str:
        """The hash of `hashed`."""
        return payload_hash(self.hashed())

    # Values

    def digest(self) -> str:
        """The digest that the event's id is formed of, over the event table."""
        return event_digest_sql(self.destination, self.project_id, self.event.own_id)

    def skip_reason(self) -> str:
        """Why the event is not sent, over the event table; NULL when it is."""
        return skip_reason_sql(self.event, self.settings.filters, self.compatibility)

    def context(self, name: str) -> str:
        return self.event.context_column(name, self.compatibility)

    def known_user(self) -> str:
        """The user id that identifies, or NULL for none and for ids that the destination would refuse.

        Native follows Langfuse, which lets a blank id pass, and at PostHog any id.
        """
        user = self.context("user_id")
        missing = f"{user} = ''" if not self.documented else f"{bare(user)} = ''"
        bad = ", ".join(map(literal, self.bad_ids))
        # DuckDB makes a join of a long IN, which costs more than it saves.
        refused = f" OR list_contains([{bad}], lower({bare(user)}))" if bad else ""
        return f"CASE WHEN NOT ({missing}{refused}) THEN {self._hashed(user)} END"

    def is_identified(self) -> str:
        """Whether the event belongs to a person; Langfuse also wants a link to the user."""
        known = f"{self.known_user()} IS NOT NULL"
        url = next((item for item in self.properties if item.role == "user_url"), None)
        if self.documented or url is None:
            return known
        return f"({known} AND {url.column(self.compatibility)} IS NOT NULL)"

    def _hashed(self, user: str) -> str:
        return f"sha256({literal(self.salt)} || {user})" if self.salt else user

    def value(self, item: Property) -> str:
        """A property's value over the event table."""
        column = item.column(self.compatibility)
        if item.role != "user_id":
            return column
        hashed = self._hashed(column)
        return f"coalesce({hashed}, {literal(UNKNOWN_USER)})" if self.documented else hashed

    def values(self) -> Iterator[str]:
        """Columns over the event table."""
        yield from ("partition_hour AS hour", "entity_id", "event_time", "epoch_ms(event_time) AS time_ms")
        yield f"{self.digest()} AS digest"
        yield f"{self.known_user()} AS user_sent"
        yield f"{self.is_identified()} AS identified"
        yield f"{self.session()} AS session_sent"
        yield f"{self.skip_reason()} AS skip_reason"
        yield from (f"{self.value(item)} AS p{number}" for number, item in enumerate(self.properties))

    def _values(self) -> str:
        table = f"{ALIAS}.{identifier(self.schema)}.{self.event.table}"
        # Here and not around the whole: DuckDB does not move such a filter below the forming of the payloads.
        where = f" WHERE {self.portion}({literal(self.event.kind)}, rowid)" if self.portion else ""
        return f"SELECT {', '.join(self.values())} FROM {table}{where}"

    # Cutting

    def cuttable(self) -> dict[str, tuple[str, str, int]]:
        """Columns that may be too long: column -> (property name, kind of value, limit)."""
        return {"user_sent": ("distinct_id", "string", self.max_distinct_id)}

    def cut(self) -> str:
        """Values with what is too long cut (documented), the names of what is too long, and the event id."""
        cuttable = self.cuttable()
        cuts = [f"{cut_value(column, kind, limit)} AS {column}" for column, (_, kind, limit) in cuttable.items()]
        star = f"* REPLACE ({', '.join(cuts)})" if cuts and self.documented else "*"
        sizes = ", ".join(size(column, kind) for column, (_, kind, _) in cuttable.items())
        names = ", ".join(
            f"CASE WHEN {too_long(column, kind, limit)} THEN {literal(name)} END"
            for column, (name, kind, limit) in cuttable.items()
        )
        lowest = min(limit for _, _, limit in cuttable.values())
        # Sizes in bytes are cheap to take; characters are counted only where bytes are too many.
        truncated = (
            f"CASE WHEN greatest({sizes}, 0) > {lowest} "
            f"THEN list_filter([{names}]::VARCHAR[], lambda name: name IS NOT NULL) ELSE [] END"
        )
        return f"SELECT {star}, {event_id_sql('digest')} AS event_id, {truncated} AS truncated FROM ({self._values()})"

    # Keys

    def _keyed(self) -> str:
        """The cut values with `identity`, what the source says now, and `key`, under which the event is sent.

        They differ where the destination has the event under another one: it stays the same event for the
        destination only if what makes up the key stays as it was.
        """
        named = f"SELECT *, {self.distinct_id()} AS distinct_id, time_ms AS source_ms FROM ({self.cut()})"
        source = f"SELECT *, {self.identity()} AS identity FROM ({named})"
        if self.kept is None:
            return f"SELECT *, identity AS key FROM ({source})"
        joined = (
            f"SELECT source.*, coalesce(kept.key, source.identity) AS key, kept.kept_ms FROM ({source}) AS source "
            f"LEFT JOIN ({self.kept_keys()}) AS kept ON kept.hour = source.hour AND kept.event_id = source.event_id"
        )
        replaced = ", ".join(
            f"CASE WHEN key <> identity THEN {value} ELSE {column} END AS {column}"
            for column, value in self.kept_values().items()
        )
        return f"SELECT * REPLACE ({replaced}) FROM ({joined})"

    def kept_keys(self) -> str:
        """A SELECT of hour, event_id, key and kept_ms: the events that the destination has.

        Once user ids are hashed, one that was delivered in clear is not sent again.
        """
        return (
            f"SELECT hour, event_id, identity AS key, time_ms AS kept_ms FROM {self.kept} "
            f"WHERE event = {literal(self.event.names[self.destination])} AND {self.may_stay()}"
        )

    def may_stay(self) -> str:
        """Whether a delivered identity may be sent again."""
        return may_be_sent(self.kept_id("identity"), hashed=self.salt is not None)

    # Fragments

    def time_fragment(self) -> Iterator[str]:
        """The event's time, where it is sent under an earlier one."""
        if self.kept is not None and self.wants(TIME_PROPERTY):
            key = literal(f',"{TIME_PROPERTY}":"')
            yield f"""CASE WHEN time_ms <> source_ms THEN {key} || {iso("source_ms")} || '"' END"""

    def property_fragments(self) -> Iterator[str]:
        """`,"name":value` of each catalogue property; what was cut comes by itself."""
        for item, (column, sql_type) in zip(self.properties, self.property_types.items(), strict=True):
            if item.name == TRUNCATED_PROPERTY:
                continue
            value = self._json(column, sql_type)
            key = literal(f',"{item.name}":')
            if item.omit_when_null:
                yield f"{key} || {value}"
            else:
                yield f"{key}, coalesce({value}, 'null')"

    def truncated_fragment(self) -> Iterator[str]:
        if self.documented and self.wants(TRUNCATED_PROPERTY):
            key = literal(f',"{TRUNCATED_PROPERTY}":')
            yield f"CASE WHEN len(truncated) > 0 THEN {key} || to_json(truncated)::VARCHAR END"

    def _json(self, column: str, sql_type: str) -> str:
        if sql_type == "BIGINT":
            return f"{column}::VARCHAR"
        if sql_type == "DOUBLE" or sql_type.startswith("DECIMAL"):
            # JSON knows neither infinity nor NaN
            return f"CASE WHEN isfinite({column}::DOUBLE) THEN {column}::DOUBLE::VARCHAR END"
        return f"to_json({column})::VARCHAR"
