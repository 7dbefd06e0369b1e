"""An hour that is planned in several shares ends as one that is planned in one go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.destinations import HourDelivery, Ledger, portions
from lf_dagster.errors import FatalError, RetryableError
from lf_dagster.events import outline_sql
from lf_dagster.simulators.faults import Fault
from lf_dagster.warehouse import Warehouse
from tests.destinations.test_real_events import HOUR, project_at, ship
from tests.destinations.world import World, balanced, mixpanel_events, posthog_events
from tests.events.events import EventProject
from tests.warehouse.extracts import v2_row

COUNTED = ("events", "delivered", "rejected", "skipped", "sent", "unchanged", "gone", "deleted", "tombstoned")


def many(count: int, *, model: str = "gpt-4o", skip: frozenset[int] = frozenset()) -> list[dict[str, Any]]:
    """Generations of a few traces: two events each, and an event per trace."""
    return [
        v2_row(
            f"g{number}",
            f"t{number % 4}",
            f"2026-11-21T05:{number:02d}:00.000Z",
            type="GENERATION",
            endTime=f"2026-11-21T05:{number:02d}:01.000Z",
            model=model if number % 3 else "other",
            userId=f"u-{number % 5}",
            traceName="chat",
        )
        for number in range(count)
        if number not in skip
    ]


def shipped(project: EventProject, world: World, states: list[list[dict[str, Any]]]) -> list[dict[str, int]]:
    """The counts of one delivery per state of the source, a minute apart."""
    found: list[dict[str, int]] = []
    for state in states:
        project.extract_v2(state, [HOUR])
        project.run_all([HOUR])
        found.append(counts(ship(project, world.destination)))
        world.clock.seconds += 60
    return found


def counts(result: HourDelivery) -> dict[str, int]:
    assert balanced(result)
    return {name: getattr(result, name) for name in COUNTED}


def ledger_rows(project: EventProject, destination: str) -> list[tuple[Any, ...]]:
    columns = "event, event_id, kind, entity_id, time_ms, identity, payload_hash, status, reason, delivered_identity"
    with project.warehouse.connect(read_only=True) as con:
        Ledger(project.lake, project.settings.name, destination).load(con, "found", [HOUR])
        return con.execute(f"SELECT {columns}, gone_at IS NULL FROM found ORDER BY ALL").fetchall()


def sent_events(app: Any) -> list[str]:
    """What Mixpanel has, without what it notes itself."""
    found = [event["properties"] for event in mixpanel_events(app)]
    return sorted(
        str({key: value for key, value in item.items() if not key.startswith(("mp_", "$mp_"))}) for item in found
    )


STATES = [
    many(20),
    many(20, model="gpt-5"),
    many(23, model="gpt-5", skip=frozenset({2, 3, 11, 19})),
    many(23, model="gpt-5", skip=frozenset({2, 3, 11, 19})),
]


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 7, 20])
def test_shares_of_an_hour_end_as_the_whole_does(
    mixpanel: World, mixpanel_app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    whole = project_at(tmp_path / "whole", mixpanel)
    expected = shipped(whole, mixpanel, STATES)
    stored = sent_events(mixpanel_app)
    monkeypatch.setattr(portions, "MOST_EVENTS", most)
    shared = project_at(tmp_path / "shared", mixpanel)
    assert shipped(shared, mixpanel, STATES) == expected
    assert expected[2]["gone"] > 0
    assert ledger_rows(shared, "mixpanel") == ledger_rows(whole, "mixpanel")
    assert sent_events(mixpanel_app) == stored


@pytest.mark.slow
def test_a_tombstone_goes_with_one_share(
    posthog: World, posthog_app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "MOST_EVENTS", 5)
    project = project_at(tmp_path, posthog, on_delete="tombstone")
    *_, third, fourth = shipped(project, posthog, STATES)
    assert third["tombstoned"] == third["deleted"] == 8
    assert (fourth["sent"], fourth["gone"]) == (0, 8)
    assert sum("langfuse_deleted" in event["properties"] for event in posthog_events(posthog_app)) == 8


def test_an_hour_of_which_a_share_was_not_sent_is_not_complete(
    mixpanel: World, mixpanel_app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "MOST_EVENTS", 10)
    project = project_at(tmp_path, mixpanel, batch_events=5)
    project.extract_v2(many(20), [HOUR])
    project.run_all([HOUR])
    mixpanel_app.state.faults.add(Fault(status=401, body="{}", content_type="application/json", path="/import", nth=4))
    with pytest.raises(FatalError):
        ship(project, "mixpanel")
    facts = Ledger(project.lake, project.settings.name, "mixpanel").facts(HOUR)
    assert facts is not None
    assert int(facts["outstanding"]) > 0
    assert "events_build" not in facts
    mixpanel_app.state.faults.clear()
    result = ship(project, "mixpanel")
    assert balanced(result)
    assert result.delivered == result.events == len(mixpanel_events(mixpanel_app)) == 44


@pytest.mark.slow
@pytest.mark.parametrize("looks", [1, 2])
def test_rows_that_became_other_rows_meanwhile_are_noticed(
    mixpanel: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """Before the first share, or before the second one: then the hour holds the first and counts as incomplete."""
    project = project_at(tmp_path, mixpanel)
    project.extract_v2(many(20), [HOUR])
    project.run_all([HOUR])
    attached = Warehouse.attached
    left = [looks]

    @contextmanager
    def rebuilt_behind(warehouse: Warehouse, con: Any) -> Iterator[None]:
        with attached(warehouse, con):
            yield
        left[0] -= 1
        if left[0] == 0:
            monkeypatch.setattr(Warehouse, "attached", attached)
            project.run_all([HOUR])

    monkeypatch.setattr(portions, "MOST_EVENTS", 10)
    monkeypatch.setattr(Warehouse, "attached", rebuilt_behind)
    with pytest.raises(RetryableError, match="made again while"):
        ship(project, "mixpanel")
    facts = Ledger(project.lake, project.settings.name, "mixpanel").facts(HOUR) or {}
    assert int(facts.get("outstanding", 44)) == 44 - 9 * (looks - 1), "44 events in five shares"
    assert "events_build" not in facts
    assert ship(project, "mixpanel").delivered == 44


def test_shares_of_an_hour_are_even_and_a_few_more_events_make_no_further_one(
    mixpanel: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_at(tmp_path, mixpanel)
    project.extract_v2(many(20), [HOUR])
    project.run_all([HOUR])
    outline = outline_sql("mixpanel", project.settings)
    with project.warehouse.connect(read_only=True) as con:
        for most, later in ((41, [0]), (39, [22, 0]), (21, [22, 0]), (10, [35, 26, 17, 8, 0])):
            monkeypatch.setattr(portions, "MOST_EVENTS", most)
            assert [part.later for part in portions.portions(con, outline, {HOUR: 44})] == later


def test_small_hours_share_a_plan(mixpanel: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = [HOUR.shift(step) for step in range(5)]
    sizes = dict(zip(hours, (3, 4, 2, 0, 9), strict=True))
    monkeypatch.setattr(portions, "MOST_EVENTS", 9)
    project = project_at(tmp_path, mixpanel)
    with project.warehouse.connect() as con:
        found = [part.hours for part in portions.portions(con, "", sizes)]
    assert found == [tuple(hours[:4]), (hours[4],)]
