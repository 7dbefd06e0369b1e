"""Whatever a destination answers, in whatever order: events = delivered + rejected + skipped (I5)."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lf_dagster.destinations import BatchOutcome, Limits, Rule
from lf_dagster.destinations.batching import Batch
from lf_dagster.errors import FatalError, ServiceUnavailable
from lf_dagster.http import HttpStats
from tests.destinations.world import HOUR, NOW, Event, World, balanced, events


class Moody:
    """A destination that gives any legal outcome, decided by a seed; remembers every event that it took."""

    name: ClassVar[str] = "mixpanel"
    separator: ClassVar[str] = "\n"
    hot_key_limit: ClassVar[int | None] = None
    protocol = "import"
    assumed_protocol = "import"
    unique_ids = False
    origin = "http://moody.test"

    def __init__(self, seed: int, *, batch: int, failing: float) -> None:
        self.limits = Limits(events=batch, bytes=10_000, parallel=3)
        self._random = random.Random(seed)
        self._failing = failing
        self.taken: set[str] = set()

    def __enter__(self) -> Moody:
        return self

    def __exit__(self, kind: Any, value: Any, tb: Any) -> None:
        return None

    def rules(self, now: datetime) -> list[Rule]:
        return [Rule("invalid:odd", "entity_id LIKE '%7'")]

    def segment(self, now: datetime) -> str:
        return "time_ms % 2"

    def check(self) -> str:
        return "fine"

    def send(self, batch: Batch, *, stats: HttpStats, cancelled: Callable[[], bool]) -> BatchOutcome:
        stats.attempt(status=200, sent=len(batch.body), received=0)
        if self._random.random() < self._failing:
            raise ServiceUnavailable("down")
        if len(batch) > 1 and self._random.random() < 0.2:
            return BatchOutcome.split(batch, "refused:split")
        rejected, notes, pending = {}, {}, []
        for row in range(len(batch)):
            mood = self._random.random()
            if mood < 0.1:
                rejected[row] = "refused:mood"
            elif mood < 0.2 and batch.attempt < 4:
                pending.append(row)
            elif mood < 0.3:
                notes[row] = "warning:mood"
        self.taken |= {item for row, item in enumerate(batch.ids()) if row not in rejected and row not in pending}
        again = (batch.again(pending, attempt=batch.attempt + 1),) if pending else ()
        return BatchOutcome(rejected=rejected, notes=notes, pending=pending, again=again)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 40),
    batch=st.integers(1, 9),
    failing=st.sampled_from([0.0, 0.0, 0.2]),
)
def test_every_event_is_accounted_for_whatever_the_answers(seed: int, count: int, batch: int, failing: float) -> None:
    draw = random.Random(seed)
    hours = [HOUR, HOUR.shift(1)]
    items = [
        Event(
            entity=f"e{number}",
            hour=draw.choice(hours),
            offset_ms=number,
            skip_reason=draw.choice([None, None, None, "filtered:tag"]),
        )
        for number in range(count)
    ]
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), "mixpanel", "http://unused.test")
        world.put(items)
        moody = Moody(seed, batch=batch, failing=failing)
        for run in range(12):
            try:
                results = world.deliver(hours, run=f"run-{run}", opened=moody)
            except ServiceUnavailable:
                _check_facts_after_failure(world, items)
                continue
            break
        else:
            return
        assert all(balanced(result) for result in results)
        assert sum(result.events for result in results) == len(items)
        delivered = {row["event_id"] for hour in hours for row in world.rows(hour, "status = 'delivered'")}
        assert delivered <= moody.taken


def _check_facts_after_failure(world: World, items: list[Event]) -> None:
    for hour in (HOUR, HOUR.shift(1)):
        facts = world.ledger.facts(hour)
        if facts is not None:
            counts = {name: int(facts[name]) for name in ("delivered", "rejected", "skipped", "outstanding", "events")}
            assert counts["events"] == sum(item.hour == hour for item in items)
            assert (
                counts["delivered"] + counts["rejected"] + counts["skipped"] + counts["outstanding"] >= counts["events"]
            )


def test_an_imbalance_is_an_error_and_leaves_the_ledger_as_it_was(mixpanel: World, monkeypatch: Any) -> None:
    mixpanel.put(events(4))
    mixpanel.deliver()
    before = mixpanel.ledger.facts(HOUR)
    mixpanel.put(events(6))

    def loses_one(batch: Batch, outcome: BatchOutcome, **options: Any) -> Any:
        return original(batch, outcome, **options).slice(1)

    from lf_dagster.destinations import shipment

    original = shipment.receipts
    monkeypatch.setattr(shipment, "receipts", loses_one)
    with pytest.raises(FatalError, match=r"does not balance: 6 events, but 5 delivered"):
        mixpanel.deliver(run="run-2")
    assert mixpanel.ledger.facts(HOUR) == before
    monkeypatch.undo()
    result = mixpanel.deliver(run="run-3")[0]
    assert (result.sent, result.delivered) == (1, 6)


def test_the_numbers_of_a_run_are_those_of_the_wire(mixpanel: World, mixpanel_app: Any) -> None:
    mixpanel.options = {"batch_events": 3}
    hours = [HOUR, HOUR.shift(1)]
    mixpanel.put([Event(entity=f"{hour}{n}", hour=hour, offset_ms=n) for hour in hours for n in range(7)])
    results = mixpanel.deliver(hours)
    seen = mixpanel_app.state.faults.requests("/import")
    assert sum(result.requests for result in results) == len(seen) == 6
    assert sum(result.bytes for result in results) == sum(request.request_bytes for request in seen)
    assert all(result.duration_seconds > 0 for result in results)
    assert NOW.tzinfo is not None
