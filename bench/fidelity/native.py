"""A model of Langfuse's own Mixpanel and PostHog integrations (contracts: langfuse.md 12 and 13).

At minute 30 of every hour: one window [last sync, now - 30 minutes) on event time, scores, then traces, then
generations; the window is never looked at again unless the run failed, which keeps the cursor. It reads the store
directly, as the integration reads its database, and it sends over HTTP, as the integration does.

Its known slips are modelled (token counts, seconds for milliseconds, no word for unknown users, events of internal
environments); `RIGHT_PROPERTIES` leaves out those by which every event would count as wrong.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any, TypeVar

import httpx

from bench.fidelity.truth import Destination, Expected, Fact, Kind, addressed, facts
from lf_dagster.simulators.langfuse.store import Store
from lf_dagster.simulators.langfuse.values import iso

T = TypeVar("T")

DELAY = timedelta(minutes=30)
ORDER: tuple[Kind, ...] = ("score", "trace", "generation")
BATCH = 1000
SLIPS = frozenset({"langfuse_input_units", "langfuse_total_units", "langfuse_latency", "langfuse_user_id"})
"""Properties that the integration never sends as its documentation says; the user is compared by distinct id."""


class SendFailed(Exception):
    """The receiver did not take a batch: the run ends and the cursor stays."""


@dataclass
class Native:
    """The integration of one project with one destination. `synced_ms`: its cursor, epoch milliseconds."""

    store: Store
    destination: Destination
    origin: str
    key: str
    synced_ms: int
    dropped: int = 0
    failures: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30), repr=False)

    def run(self, now: datetime) -> bool:
        """One run at this moment; False when it failed and the window will be sent again."""
        to_ms = self._end_ms(now)
        if to_ms <= self.synced_ms:
            return True
        found = facts(self.store, _ms(now), from_ms=self.synced_ms, to_ms=to_ms)
        try:
            for kind in ORDER:
                for batch in _batches((fact for fact in found if fact.kind == kind), BATCH):
                    self._send(batch)
                    self.sent[kind] += len(batch)
        except (SendFailed, httpx.TransportError):
            self.failures += 1
            return False
        self.synced_ms = to_ms
        return True

    def close(self) -> None:
        self._client.close()

    def _end_ms(self, now: datetime) -> int:
        end = now - DELAY
        if self.destination == "posthog":
            # Its windows end at the next UTC midnight at the latest.
            start = datetime.fromtimestamp(self.synced_ms / 1000, tz=timezone.utc)
            midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            end = min(end, midnight)
        return _ms(end)

    def _send(self, batch: list[Fact]) -> None:
        events = [addressed(fact, self.destination, self.store.project.id) for fact in batch]
        bodies = [_wire(fact) for fact in batch]
        if self.destination == "mixpanel":
            self._send_mixpanel(events, bodies)
        else:
            self._send_posthog(events, bodies)

    def _send_mixpanel(self, events: list[Expected], bodies: list[dict[str, Any]]) -> None:
        rows = [_mixpanel_row(event, body) for event, body in zip(events, bodies, strict=True)]
        answer = self._client.post(
            f"{self.origin}/import",
            params={"strict": "1"},
            auth=(self.key, ""),
            content=gzip.compress(json.dumps(rows).encode(), 1),
            headers={"content-type": "application/json", "content-encoding": "gzip"},
        )
        if answer.status_code == 400 and answer.json().get("num_records_imported", 0) > 0:
            # A partial refusal is logged and forgotten.
            self.dropped += len(answer.json()["failed_records"])
        elif answer.status_code != 200:
            raise SendFailed(f"{answer.status_code}: {answer.text[:200]}")

    def _send_posthog(self, events: list[Expected], bodies: list[dict[str, Any]]) -> None:
        batch = [_posthog_row(event, body) for event, body in zip(events, bodies, strict=True)]
        answer = self._client.post(f"{self.origin}/batch/", json={"api_key": self.key, "batch": batch})
        if answer.status_code != 200:
            raise SendFailed(f"{answer.status_code}: {answer.text[:200]}")


def _wire(fact: Fact) -> dict[str, Any]:
    """The properties as the integration sends them, slips included."""
    sent = dict(fact.properties)
    if fact.kind in ("trace", "generation") and sent["langfuse_latency"] is not None:
        sent["langfuse_latency"] /= 1000
    if fact.kind == "generation":
        sent["langfuse_input_units"] = sent["langfuse_total_units"]
        sent["langfuse_total_units"] = sent["langfuse_cost_usd"]
    sent["langfuse_user_id"] = fact.user_id
    return sent


def _mixpanel_row(event: Expected, body: dict[str, Any]) -> dict[str, Any]:
    identity = {"time": event.time_ms, "distinct_id": event.distinct_id, "$insert_id": event.event_id}
    return {"event": event.event, "properties": {**identity, **body}}


def _posthog_row(event: Expected, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "event": event.event,
        "uuid": event.event_id,
        "distinct_id": event.distinct_id,
        "timestamp": iso(event.time_ms),
        "properties": {**body, "$geoip_disable": True},
    }


def _batches(found: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(found)
    while batch := list(islice(rest, size)):
        yield batch


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
