"""Events of source apps, agents and sessions against the strict stand-ins: taken whole and once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.config import EXTRA_EVENTS
from lf_dagster.destinations import HourDelivery, deliver, open_destination
from lf_dagster.events import load_catalogue
from lf_dagster.hours import Hour, hour_range, iso
from tests.destinations.world import ENV, World, mixpanel_events, posthog_events
from tests.events.events import HOST, EventProject
from tests.warehouse.apps.samples import extract, hours, merged, sample
from tests.warehouse.extracts import v2_row

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc)
NAMES = {
    destination: {event.names[destination] for event in load_catalogue() if event.is_extra}
    for destination in ("mixpanel", "posthog")
}


def loaded(folder: Path, world: World) -> tuple[EventProject, list[Hour]]:
    rows = merged(sample("dify"), sample("librechat"))
    project = EventProject(folder / "data", extra_events=EXTRA_EVENTS, **{world.destination: {"host": world.origin}})
    wanted = hour_range(hours(rows)[0], hours(rows)[-1].shift(6))
    extract(project, rows, "v2", wanted)
    project.run_all(wanted)
    return project, wanted


def ship(project: EventProject, destination: str, wanted: Sequence[Hour], **options: Any) -> list[HourDelivery]:
    with open_destination(destination, project.settings, env=ENV) as opened:
        return deliver(
            opened,
            project=project.settings,
            project_id="proj-lf",
            project_name="LF Project",
            host=HOST,
            warehouse=project.warehouse,
            lake=project.lake,
            hours=wanted,
            run_id="run",
            now=NOW,
            **options,
        )


def test_mixpanel_takes_them_all_and_only_once(mixpanel: World, mixpanel_app: Any, tmp_path: Path) -> None:
    project, wanted = loaded(tmp_path, mixpanel)
    done = ship(project, "mixpanel", wanted)
    assert sum(item.rejected for item in done) == 0
    held = Counter(event["event"] for event in mixpanel_events(mixpanel_app))
    assert held.keys() >= NAMES["mixpanel"]
    assert not mixpanel_app.state.standin.store.damage()
    assert sum(item.sent for item in ship(project, "mixpanel", wanted)) == 0
    assert Counter(event["event"] for event in mixpanel_events(mixpanel_app)) == held


@pytest.mark.parametrize("protocol", ["v1", "batch"])
def test_posthog_takes_them_all_and_only_once(posthog: World, posthog_app: Any, tmp_path: Path, protocol: str) -> None:
    project, wanted = loaded(tmp_path, posthog)
    settings = {"host": posthog.origin, "protocol": protocol}
    project = EventProject(tmp_path / "data", extra_events=EXTRA_EVENTS, posthog=settings)
    done = ship(project, "posthog", wanted)
    assert sum(item.rejected for item in done) == 0
    held = Counter(event["event"] for event in posthog_events(posthog_app))
    assert held.keys() >= NAMES["posthog"]
    assert not [item for item in posthog_app.state.standin.store.stored("raw") if item.damage]
    assert sum(item.sent for item in ship(project, "posthog", wanted)) == 0
    assert Counter(event["event"] for event in posthog_events(posthog_app)) == held


def test_a_visit_waits_for_missing_hours_even_with_a_user(mixpanel: World, mixpanel_app: Any, tmp_path: Path) -> None:
    """Its event is known by the visit's beginning, which an hour that is not there yet may move."""
    hour, closing = Hour.from_key("2026-11-21-02:00"), Hour.from_key("2026-11-21-06:00")
    project = EventProject(tmp_path / "data", extra_events=["session"], mixpanel={"host": mixpanel.origin})
    rows = [v2_row("o", "t", iso(hour.start), sessionId="s", userId="u")]
    wanted = hour_range(hour, closing)
    project.extract_v2(rows, wanted)
    project.run_all(wanted)
    gaps = {closing: {"session": hour.shift(-1), "trace": hour.shift(-1)}, hour: {"trace": hour.shift(-1)}}
    waited = ship(project, "mixpanel", wanted, waits=gaps)
    assert sum((Counter(item.reasons) for item in waited), Counter()) == {"awaiting_trace": 1}
    assert [event["event"] for event in mixpanel_events(mixpanel_app)] == ["[Langfuse] Trace"]
    ship(project, "mixpanel", wanted)
    assert {event["event"] for event in mixpanel_events(mixpanel_app)} == {"[Langfuse] Trace", "[Langfuse] Session"}
