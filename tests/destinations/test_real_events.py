"""The real event tables against strict stand-ins: what the events package prepares is taken whole and undamaged."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.destinations import HourDelivery, deliver, open_destination
from lf_dagster.hours import Hour
from tests.destinations.world import ENV, World, mixpanel_events, posthog_events
from tests.events.events import HOST, EventProject
from tests.warehouse.extracts import v2_row

HOUR = Hour.from_key("2026-11-21-05:00")
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc)


def project_at(folder: Path, world: World, **options: Any) -> EventProject:
    settings = {"host": world.origin, **options}
    return EventProject(folder / "data", observation_events=True, **{world.destination: settings})


def rows(user: str | None = "u-42", **changes: Any) -> list[dict[str, Any]]:
    common = {"userId": user, "sessionId": "s-1", "traceName": "chat", "tags": ["b", "a"]}
    generation = {"type": "GENERATION", "endTime": "2026-11-21T05:00:01.625Z", "model": "gpt-4o", **common, **changes}
    return [
        v2_row("root", "t1", "2026-11-21T05:00:00.000Z", **common),
        v2_row("g1", "t1", "2026-11-21T05:00:00.125Z", **generation),
        v2_row("g2", "t1", "2026-11-21T05:30:00.125Z", **generation),
    ]


def ship(project: EventProject, destination: str) -> HourDelivery:
    with open_destination(destination, project.settings, env=ENV) as opened:
        (result,) = deliver(
            opened,
            project=project.settings,
            project_id="proj-lf",
            project_name="LF Project",
            host=HOST,
            warehouse=project.warehouse,
            lake=project.lake,
            hours=[HOUR],
            run_id="run",
            now=NOW,
        )
    return result


def test_mixpanel_takes_every_kind_of_event_undamaged(mixpanel: World, mixpanel_app: Any, tmp_path: Path) -> None:
    project = project_at(tmp_path, mixpanel)
    project.extract_v2(rows(), [HOUR])
    project.run_all([HOUR])
    result = ship(project, "mixpanel")
    assert result.rejected == 0
    assert result.delivered == result.events == 6
    assert {event["event"] for event in mixpanel_events(mixpanel_app)} == {
        *("[Langfuse] Trace", "[Langfuse] Generation", "[Langfuse] Observation")
    }
    assert not mixpanel_app.state.standin.store.damage()
    assert ship(project, "mixpanel").sent == 0


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["v1", "batch"])
def test_posthog_takes_every_kind_of_event_and_a_change_replaces_it(
    posthog: World, posthog_app: Any, tmp_path: Path, protocol: str
) -> None:
    project = project_at(tmp_path, posthog, protocol=protocol)
    project.extract_v2(rows(), [HOUR])
    project.run_all([HOUR])
    result = ship(project, "posthog")
    assert (result.rejected, result.delivered) == (0, 6)
    assert len(posthog_events(posthog_app)) == 6
    assert not [item for item in posthog_app.state.standin.store.stored("raw") if item.damage]

    posthog.clock.seconds += 60
    project.extract_v2(rows(model="gpt-5"), [HOUR])
    project.run_all([HOUR])
    assert ship(project, "posthog").sent == 4
    models = [event["properties"].get("langfuse_model") for event in posthog_events(posthog_app)]
    assert models.count("gpt-5") == 4
    assert len(models) == 6


def test_the_protocol_does_not_change_what_counts_as_changed(posthog: World, tmp_path: Path) -> None:
    project = project_at(tmp_path, posthog, protocol="v1")
    project.extract_v2(rows(), [HOUR])
    project.run_all([HOUR])
    ship(project, "posthog")
    same = project_at(tmp_path, posthog, protocol="batch")
    assert ship(same, "posthog").unchanged == 6


def test_a_user_that_comes_late_is_counted_and_not_doubled(mixpanel: World, mixpanel_app: Any, tmp_path: Path) -> None:
    project = project_at(tmp_path, mixpanel)
    for user in (None, "u-42"):
        project.extract_v2(rows(user), [HOUR])
        project.run_all([HOUR])
        result = ship(project, "mixpanel")
    assert (result.sent, result.reasons) == (6, {"identity_changed": 6})
    assert len(mixpanel_events(mixpanel_app)) == 6
    assert {event["properties"]["langfuse_user_id"] for event in mixpanel_events(mixpanel_app)} == {"u-42"}


BLANK = ("\t", "\r\n", "\u2028", "anonymous\n", "\tNULL")
"""User ids that are nobody's: a destination looks at them without the blanks on either side."""


def test_tabs_and_line_ends_around_a_user_id_cost_no_event(
    mixpanel: World, posthog: World, mixpanel_app: Any, posthog_app: Any, tmp_path: Path
) -> None:
    at = "2026-11-21T05:00:00.000Z"
    for world in (mixpanel, posthog):
        project = project_at(tmp_path / world.destination, world)
        project.extract_v2([v2_row(f"o{n}", f"t{n}", at, userId=user) for n, user in enumerate(BLANK)], [HOUR])
        project.run_all([HOUR])
        result = ship(project, world.destination)
        assert (result.rejected, result.delivered, result.reasons) == (0, 2 * len(BLANK), {})
    assert {event["properties"]["distinct_id"] for event in mixpanel_events(mixpanel_app)} == {""}
    assert {event["properties"]["langfuse_user_id"] for event in mixpanel_events(mixpanel_app)} == set(BLANK)
    assert all(event["properties"]["$process_person_profile"] is False for event in posthog_events(posthog_app))
