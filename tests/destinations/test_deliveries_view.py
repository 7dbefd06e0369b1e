"""`deliveries` in SQL: what a ledger says of each event, whichever of its files says it last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from lf_dagster.destinations.ledger import LEDGER_SCHEMA
from lf_dagster.warehouse.query import Heading, Questions, Row
from tests.destinations.world import HOUR, World, events


def ask(world: World, text: str) -> list[Row]:
    found: list[Row] = []

    def take(_headings: Sequence[Heading], rows: Iterator[Row]) -> None:
        found.extend(rows)

    settings = world.project.model_copy(update={"warehouse": world.warehouse.location})
    Questions(settings, world.lake).run(text, take)
    return found


@pytest.mark.parametrize("destination", ["mixpanel", "posthog"])
def test_every_event_has_its_newest_state(destination: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(destination)
    world.build(HOUR)
    good, bad = events(3), events(1, raw_payload='{"x": NaN}')[0]
    world.put([*good[1:], bad])
    world.deliver()
    listed = ask(world, "SELECT destination, entity_id, status, reason FROM deliveries ORDER BY entity_id")
    assert listed == [
        (destination, "e0", "rejected", "invalid:json"),
        (destination, "e1", "delivered", None),
        (destination, "e2", "delivered", None),
    ]
    [(payload, moment)] = ask(world, "SELECT payload, event_time FROM deliveries WHERE status = 'rejected'")
    assert "NaN" in payload
    assert moment == HOUR.start

    # A delivery under way, or a killed one, has said something newer in a part.
    said = world.rows(HOUR, "entity_id = 'e1'")
    newer: list[dict[str, Any]] = [
        {**row, "status": "skipped", "reason": "held", "written_at": row["written_at"] + timedelta(hours=1)}
        for row in said
    ]
    with world.lake.workspace(world.lake.ledger_folder("shop", destination, HOUR)) as workspace:
        world.ledger.write_part(workspace, HOUR, "later", pa.Table.from_pylist(newer, schema=LEDGER_SCHEMA))
        assert ask(world, "SELECT status, reason FROM deliveries WHERE entity_id = 'e1'") == [("skipped", "held")]
    assert ask(world, "SELECT count(*) FROM deliveries") == [(3,)]
