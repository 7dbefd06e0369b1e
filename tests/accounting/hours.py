"""Holdings written down by hand: hours that lack one thing each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from lf_dagster.accounting import Delivery, Holding
from lf_dagster.accounting.needs import Look
from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.hours import Hour
from lf_dagster.warehouse import Build, extract_identity_of

H = Hour.from_key("2026-09-07-10:00")
READ_AT = H.end + timedelta(minutes=30)


def project(**explicit: Any) -> ProjectSettings:
    both = {"mixpanel": {}, "posthog": {}}
    return load_project({"name": "shop", "start": "2026-09-01-00:00", **both, **explicit})


def settled(hour: Hour = H, *, read_at: datetime | None = None, **facts: Any) -> Holding:
    """An hour that lacks nothing; `facts` go into both ledgers."""
    moment = (read_at or hour.end + timedelta(minutes=30)).isoformat()
    extracts = {stream: {"extracted_at": moment, "run_id": "r", "rows": "1"} for stream in ("observations", "scores")}
    typed = Build("typed", hour, "typed-1", extract_identity_of(extracts), hour.end, None)
    events = Build("events", hour, "events-1", "typed-1", hour.end, None)
    ledger = {"events_build": "events-1", "delivered_at": moment, **{name: str(value) for name, value in facts.items()}}
    return Holding(hour, extracts, typed, events, {name: Delivery(ledger) for name in ("mixpanel", "posthog")})


def delivery(holding: Holding, name: str, changed: Delivery) -> Holding:
    return replace(holding, deliveries={**holding.deliveries, name: changed})


def at(moment: datetime, **look: Any) -> Look:
    return Look(moment.astimezone(timezone.utc), look.pop("changed_since", {}), **look)
