"""Counts per hour: four calls on the v2 path, a handful of totals on the legacy one."""

from __future__ import annotations

import pytest

from lf_dagster.errors import RateLimited, ReadPathUnavailable
from lf_dagster.hours import hour_range
from lf_dagster.simulators.langfuse import Limits, Store
from lf_dagster.simulators.langfuse.limits import V2_METRICS
from lf_dagster.source import legacy_numbers, v2_numbers
from tests.source.conftest import HOUR, World

ONE_HOUR_MS = 3_600_000
DAY = hour_range(HOUR, HOUR.shift(23))


@pytest.fixture
def week() -> World:
    world = World()
    cost = {"usageDetails": {"input": 7, "total": 10}, "costDetails": {"input": 0.25, "total": 0.5}}
    for step in (0, 0, 3, 23):
        number = len(world.store.observations.versions)
        world.observation(f"o{number}", step * ONE_HOUR_MS + number, type="GENERATION", **cost)
    world.score("s1", 5, value=0.25)
    world.score("s2", 6, value=1, data_type="BOOLEAN", stringValue="True")
    world.score("s3", ONE_HOUR_MS, value=0, data_type="CATEGORICAL", stringValue="ok")
    return world


def test_one_call_per_view_counts_every_hour(standin, connect, week):
    standin.use(week)
    found = v2_numbers(connect(), DAY)
    assert len(standin.requests("v2/metrics")) == len(standin.requests()) == 4
    assert list(found) == DAY
    first = found[HOUR]
    assert (first["observations"], first["cost"], first["tokens"]) == (2, 1.0, 20)
    assert (first["boolean_scores"], first["boolean_values"], first["categorical_scores"]) == (1, 1, 0)
    assert found[HOUR.shift(1)]["categorical_scores"] == 1
    assert [hour for hour in DAY if found[hour]["observations"]] == [HOUR, HOUR.shift(3), HOUR.shift(23)]


def test_the_hour_after_the_last_is_not_counted(standin, connect, week):
    standin.use(week)
    week.observation("next", 24 * ONE_HOUR_MS)
    assert sum(numbers["observations"] for numbers in v2_numbers(connect(), DAY).values()) == 4


def test_a_used_up_quota_is_said_at_once(standin, connect, week, time):
    standin.use(week, limits=Limits.of(3, 86400, bucket=V2_METRICS))
    with pytest.raises(RateLimited):
        v2_numbers(connect(), DAY)
    assert time.slept == []


def test_a_server_without_metrics_says_so(standin, connect, week):
    standin.use(week, mode="v3-legacy")
    with pytest.raises(ReadPathUnavailable):
        v2_numbers(connect(), DAY)


def legacy(*rows: tuple[int, int]) -> tuple[World, dict]:
    """A world with so many observations in so many hours, and what is held when all of it is."""
    world = World()
    held = {hour: {"observations": 0, "scores": 0, "traces": 0} for hour in DAY}
    for step, count in rows:
        for number in range(count):
            world.observation(f"o{step}-{number}", step * ONE_HOUR_MS + number)
        held[HOUR.shift(step)]["observations"] = count
    return world, held


def test_an_unchanged_day_of_a_legacy_server_costs_a_call_per_stream(standin, connect):
    world, held = legacy((0, 2), (5, 3))
    standin.use(world, mode="v3-legacy")
    assert legacy_numbers(connect(), held, most_calls=60) == held
    assert len(standin.requests()) == 3


def test_only_the_halves_that_differ_are_looked_into(standin, connect):
    world, held = legacy((0, 2), (5, 3), (17, 1))
    standin.use(world, mode="v3-legacy")
    world.observation("late", 5 * ONE_HOUR_MS + 99)
    found = legacy_numbers(connect(), held, most_calls=60)
    assert found[HOUR.shift(5)]["observations"] == 4
    assert {hour for hour in DAY if found[hour] != held[hour]} == {HOUR.shift(5)}
    assert len(standin.requests("observations")) <= 11


def test_hours_beyond_the_calls_that_are_allowed_are_left_out(standin, connect):
    world, held = legacy((0, 2), (5, 3))
    standin.use(world, mode="v3-legacy")
    world.observation("late", 5 * ONE_HOUR_MS + 99)
    found = legacy_numbers(connect(), held, most_calls=4)
    assert len(standin.requests()) == 4
    assert set(found) < set(DAY)
    assert all(found[hour] == held[hour] for hour in found)


def test_a_world_without_rows_counts_zero(standin, connect):
    standin.use(Store())
    assert {sum(numbers.values()) for numbers in v2_numbers(connect(), DAY).values()} == {0.0}
