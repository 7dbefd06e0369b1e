"""A small world for deliveries: event tables that tests write by hand, a lake, and stand-ins behind real HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from lf_dagster.config import ProjectSettings
from lf_dagster.destinations import Destination, HourDelivery, Ledger, deliver, open_destination, preview
from lf_dagster.destinations.statements import KEPT_KEYS
from lf_dagster.hours import Hour, iso
from lf_dagster.http import RetryPolicy
from lf_dagster.lake import Lake
from lf_dagster.warehouse import Warehouse
from lf_dagster.warehouse.hours import record_builds
from lf_dagster.warehouse.tables import Audit

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc)
HOUR = Hour(datetime(2026, 11, 21, 6, tzinfo=timezone.utc))
MIXPANEL_TOKEN = "3f9c0d5e7b8a41c2"
POSTHOG_KEY = "phc_Qm4kP7sT2vX9zB5n"
ENV = {"MIXPANEL_PROJECT_TOKEN": MIXPANEL_TOKEN, "POSTHOG_API_KEY": POSTHOG_KEY}
NAMES = {"trace": "trace", "generation": "generation", "score": "score", "observation": "observation"}


@dataclass(frozen=True)
class Event:
    """One event of the event tables, before it gets a destination's form."""

    entity: str
    kind: str = "generation"
    hour: Hour = HOUR
    offset_ms: int = 0
    user: str = "user-1"
    properties: Mapping[str, Any] = field(default_factory=dict)
    skip_reason: str | None = None
    shares_id_with: str | None = None
    raw_payload: str | None = None
    event: str | None = None
    event_id: str | None = None
    time_ms: int | None = None

    def prepared(self, protocol: str) -> tuple[Any, ...]:
        """A row of the event tables; the payload is a template that `prepare` fills in with the key."""
        time_ms = int(self.hour.start.timestamp() * 1000) + self.offset_ms if self.time_ms is None else self.time_ms
        identifier = self.event_id or str(uuid.uuid5(uuid.NAMESPACE_OID, self.shares_id_with or self.entity))
        name = NAMES[self.kind] if self.event is None else self.event
        payload = _payload(protocol, name, identifier, time_ms, self.properties)
        day = datetime.fromtimestamp(time_ms / 1000, tz=timezone.utc).date() if abs(time_ms) < 1e14 else None
        identity = f"{self.user}|{time_ms}" if protocol == "import" else f"{self.user}|{day}"
        return (
            self.hour.start,
            self.kind,
            name,
            self.entity,
            identifier,
            time_ms,
            self.user,
            identity,
            _payload("batch", name, identifier, time_ms, self.properties),
            payload if self.raw_payload is None else self.raw_payload,
            self.skip_reason,
        )


def _payload(protocol: str, name: str, identifier: str, time_ms: int, properties: Mapping[str, Any]) -> str:
    if protocol == "import":
        known = {"time": "@TIME@", "distinct_id": "@USER@", "$insert_id": identifier, "ip": "0"}
        return json.dumps({"event": name, "properties": {**known, **properties}})
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=min(time_ms, 10**14))
    body = {"event": name, "uuid": identifier, "distinct_id": "@USER@", "timestamp": iso(moment)}
    options = {"options": {"disable_skew_correction": True}} if protocol == "v1" else {}
    own = {"$geoip_disable": True} if protocol == "v1" else {"$geoip_disable": True, "$lib": "lf_dagster"}
    return json.dumps({**body, **options, "properties": {**own, **properties}})


def events(count: int, **changes: Any) -> list[Event]:
    """Events e0, e1, ... a millisecond apart."""
    return [Event(entity=f"e{number}", offset_ms=number, **changes) for number in range(count)]


_COLUMNS = (
    *("hour", "kind", "event", "entity_id", "event_id", "time_ms", "distinct_id", "identity"),
    *("content", "payload", "skip_reason", "truncated"),
)
_TABLE = """
CREATE OR REPLACE TABLE warehouse.main.prepared_{protocol} (
    hour TIMESTAMPTZ, kind VARCHAR, event VARCHAR, entity_id VARCHAR, event_id VARCHAR, time_ms BIGINT,
    distinct_id VARCHAR, identity VARCHAR, content VARCHAR, payload VARCHAR, skip_reason VARCHAR,
    truncated VARCHAR[]
)
"""


@dataclass
class Clock:
    """The stand-ins' clock, epoch seconds."""

    seconds: float = NOW.timestamp()

    def __call__(self) -> float:
        return self.seconds


@dataclass
class World:
    """One project with its event tables, lake and one destination at `origin`."""

    folder: Path
    destination: str
    origin: str
    options: dict[str, Any] = field(default_factory=dict)
    lake_root: str | None = None
    slept: list[float] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=lambda: dict(ENV))
    clock: Clock = field(default_factory=lambda: Clock())
    prepare: Callable[[str], str] = field(default_factory=lambda: prepare)

    @property
    def lake(self) -> Lake:
        return Lake(self.lake_root or str(self.folder / "lake"))

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(str(self.folder / "warehouse.duckdb"))

    @property
    def project(self) -> ProjectSettings:
        settings = {"host": self.origin, **self.options}
        return ProjectSettings.model_validate({"name": "shop", self.destination: settings})

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.lake, "shop", self.destination)

    def put(self, items: Iterable[Event]) -> None:
        """The event tables hold exactly these events from now on."""
        items = list(items)
        with self.warehouse.connect() as con:
            for protocol in ("import",) if self.destination == "mixpanel" else ("v1", "batch"):
                con.execute(_TABLE.format(protocol=protocol))
                rows = [(*item.prepared(protocol), []) for item in items]
                columns = [list(column) for column in zip(*rows, strict=True)]
                if rows:
                    con.register("given", pa.Table.from_arrays([*map(pa.array, columns[:-1])], _COLUMNS[:-1]))
                    con.execute(f"INSERT INTO warehouse.main.prepared_{protocol} SELECT *, [] FROM given")

    def build(self, *hours: Hour) -> str:
        """Event tables of these hours were made by the models; returns the build's id."""
        with self.warehouse.connect() as con:
            con.execute("CREATE SCHEMA IF NOT EXISTS warehouse.shop")
            audit = Audit(project_id="proj-1", project_name="Shop", run_id="models", now=NOW)
            return record_builds(con, "shop", "events", dict.fromkeys(hours, "typed"), audit)

    def open(self, *, retry: RetryPolicy | None = None) -> Destination:
        return open_destination(self.destination, self.project, env=self.env, retry=retry, sleep=self.slept.append)

    def deliver(
        self,
        hours: Iterable[Hour] = (HOUR,),
        *,
        run: str = "run-1",
        now: datetime = NOW,
        opened: Destination | None = None,
        **options: Any,
    ) -> list[HourDelivery]:
        # PostHog keeps the newest arrival by the second: runs lie apart.
        self.clock.seconds += 60
        with opened or self.open() as destination:
            return deliver(
                destination,
                project=self.project,
                project_id="proj-1",
                project_name="Shop",
                host="http://langfuse.test",
                warehouse=self.warehouse,
                lake=self.lake,
                hours=list(hours),
                run_id=run,
                now=now,
                prepare=self.prepare,
                **options,
            )

    def preview(self, **options: Any) -> list[dict[str, Any]]:
        with self.open() as destination:
            return preview(
                destination,
                project=self.project,
                project_id="proj-1",
                project_name="Shop",
                host="http://langfuse.test",
                warehouse=self.warehouse,
                lake=self.lake,
                hour=HOUR,
                now=NOW,
                prepare=self.prepare,
                **options,
            )

    def rows(self, hour: Hour = HOUR, where: str = "true") -> list[dict[str, Any]]:
        """The newest ledger rows of an hour."""
        with self.warehouse.connect(read_only=True) as con:
            self.lake.register(con)
            self.ledger.load(con, "found", [hour])
            table = con.execute(f"SELECT * FROM found WHERE {where} ORDER BY time_ms, event, event_id").to_arrow_table()
        return table.to_pylist()

    def statuses(self, hour: Hour = HOUR) -> dict[str, str]:
        """Entity id to `status` or `status:reason`, of events that are still among the source's."""
        rows = self.rows(hour, "gone_at IS NULL")
        return {row["entity_id"]: row["status"] + (f"|{row['reason']}" if row["reason"] else "") for row in rows}


_KEPT_ID = "regexp_replace(kept.identity, '[|][^|]*$', '')"
_KEPT_TIME = "regexp_extract(kept.identity, '[0-9]+$')::BIGINT"
_OTHER_DAY = "right(kept.identity, 10) <> right(p.identity, 10)"
_STAMP = """'"timestamp": "' || strftime(make_timestamp(kept.time_ms * 1000), '%Y-%m-%dT%H:%M:%S.%gZ') || '"'"""


def prepare(protocol: str) -> str:
    """The event tables, each event under its key where the destination has it; within its day at PostHog."""
    if protocol == "import":
        time, moved = f"coalesce({_KEPT_TIME}, p.time_ms)", "payload"
    else:
        time = f"if({_OTHER_DAY}, kept.time_ms, p.time_ms)"
        moved = f"""if({_OTHER_DAY}, regexp_replace(payload, '"timestamp": "[^"]*"', {_STAMP}), payload)"""
    filled = """replace(replace(payload, '"@TIME@"', time_ms::VARCHAR), '"@USER@"', to_json(distinct_id)::VARCHAR)"""
    return f"""
        SELECT * EXCLUDE (payload, content), 'w-' || md5(concat(content, distinct_id, time_ms)) AS payload_hash,
            '' AS head, {filled} AS body, '' AS tail, false AS wellformed
        FROM (
            SELECT p.* REPLACE (
                    coalesce({_KEPT_ID}, p.distinct_id) AS distinct_id, {time} AS time_ms, {moved} AS payload
                ), coalesce(kept.identity, p.identity) AS key
            FROM warehouse.main.prepared_{protocol} AS p
            LEFT JOIN {KEPT_KEYS} AS kept ON kept.hour = p.hour AND kept.event = p.event AND kept.event_id = p.event_id
        )
    """


def mixpanel_events(app: Any, view: str = "query") -> list[dict[str, Any]]:
    """What the Mixpanel stand-in holds: `raw` every copy, `query` one per identity."""
    return app.state.standin.store.events(view)


def posthog_events(app: Any, view: str = "merged") -> list[dict[str, Any]]:
    """What the PostHog stand-in holds: `raw` every copy, `merged` one per identity."""
    return app.state.standin.store.events(view)


def only(results: list[HourDelivery]) -> HourDelivery:
    (result,) = results
    return result


def balanced(result: HourDelivery) -> bool:
    return result.events == result.delivered + result.rejected + result.skipped
