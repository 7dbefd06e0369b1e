"""A hand-made store: rows with few columns, each at its moment."""

import pytest

from lf_dagster.simulators.langfuse import rows, scores
from lf_dagster.simulators.langfuse.store import Project, Store
from lf_dagster.simulators.langfuse.values import epoch_ms, iso

NOON = "2026-09-07T12:00:00.000Z"
NOON_MS = epoch_ms(NOON)
MINUTE_MS = 60_000


class Hand:
    """Puts rows into a store. Times are minutes after noon."""

    def __init__(self):
        self.store = Store(Project(id="proj"))

    def observation(self, id, trace, start, *, seen=None, **columns):
        columns.setdefault("endTime", at(start + 1))
        row = rows.observation(
            id=id, trace_id=trace, start_time=at(start), project_id="proj", updatedAt=at(seen or 0), **columns
        )
        return self.store.put_observation(row, at_ms=moment(start + 1 if seen is None else seen))

    def score(self, id, time, *, seen=None, name="quality", kind="NUMERIC", **columns):
        row = scores.score(
            id=id,
            name=name,
            data_type=kind,
            timestamp=at(time),
            project_id="proj",
            updatedAt=at(seen or 0),
            **columns,
        )
        return self.store.put_score(row, at_ms=moment(time if seen is None else seen))


def moment(minutes):
    return NOON_MS + round(minutes * MINUTE_MS)


def at(minutes):
    return iso(moment(minutes))


@pytest.fixture
def hand():
    return Hand()
