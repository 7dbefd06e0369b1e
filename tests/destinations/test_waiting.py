"""Which events wait for which hour while history is incomplete."""

from __future__ import annotations

from pathlib import Path

import pytest

from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.destinations import waits_for_traces
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake

H = Hour.from_key("2026-09-20-12:00")
NEAR = {"trace", "generation", "agent_run"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def settings(start: Hour) -> ProjectSettings:
    return load_project({"name": "shop", "start": start.key, "extra_events": ["agent_run", "session"]})


def extract(lake: Lake, *hours: Hour) -> None:
    for hour in hours:
        with lake.open_extract("shop", "observations", hour):
            pass


def test_complete_history_waits_for_nothing(lake: Lake):
    extract(lake, *(H.shift(-step) for step in range(4)))
    assert waits_for_traces(settings(H.shift(-3)), lake, [H]) == {}


def test_each_kind_waits_for_the_oldest_gap_that_it_looks_back_to(lake: Lake):
    extract(lake, H, H.shift(-1), H.shift(-4))
    [waits] = waits_for_traces(settings(H.shift(-1000)), lake, [H]).values()
    assert waits == {**dict.fromkeys(NEAR, H.shift(-6)), "session": H.shift(-60), "score": H.shift(-720)}


def test_a_gap_far_back_holds_scores_and_visits_alone(lake: Lake):
    extract(lake, *(H.shift(-step) for step in range(20) if step != 10))
    gap = H.shift(-10)
    assert waits_for_traces(settings(H.shift(-19)), lake, [H]) == {H: {"score": gap, "session": gap}}


def test_nothing_waits_for_hours_before_the_project(lake: Lake):
    assert waits_for_traces(settings(H), lake, [H]) == {}
