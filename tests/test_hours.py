"""Hours: keys, parsing, blocks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour, contiguous_blocks, hour_range, iso, parse_hour

hours = st.integers(min_value=0, max_value=24 * 400).map(
    lambda n: Hour(datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(hours=n))
)


@given(hours)
def test_a_key_names_its_hour(hour: Hour):
    assert Hour.from_key(hour.key) == hour
    assert parse_hour(hour.key) == hour
    assert (hour.date, hour.hour) == tuple(hour.start.isoformat()[:13].split("T"))


@pytest.mark.parametrize(
    "text",
    ["2026-11-21-06:00", "2026-11-21T06:00", "2026-11-21T06:59:59Z", "2026-11-21T07:30+01:00", "2026-11-21 06:00"],
)
def test_an_hour_can_be_written_in_many_ways(text: str):
    assert parse_hour(text).key == "2026-11-21-06:00"


def test_a_date_means_its_first_hour():
    assert parse_hour("2026-11-21").key == "2026-11-21-00:00"


def test_nonsense_is_refused_with_an_example():
    with pytest.raises(ConfigError, match="not a time: 'yesterday'") as caught:
        parse_hour("yesterday")
    assert "2026-11-21T06:00" in str(caught.value)


def test_an_hour_must_start_on_the_hour_and_have_a_zone():
    with pytest.raises(ConfigError):
        Hour(datetime(2026, 1, 1, 0, 1, tzinfo=timezone.utc))
    with pytest.raises(ConfigError):
        Hour(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


@given(st.sets(hours, max_size=60), st.integers(min_value=1, max_value=30))
def test_blocks_cover_all_hours_once_and_have_no_gap(found: set[Hour], at_most: int):
    blocks = list(contiguous_blocks(found, at_most=at_most))
    assert [hour for block in blocks for hour in block] == sorted(found)
    for block in blocks:
        assert block == hour_range(block[0], block[-1])
        assert len(block) <= at_most


def test_iso_is_the_form_that_langfuse_writes():
    moment = datetime(2026, 11, 21, 7, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))
    assert iso(moment) == "2026-11-21T06:00:00.123Z"
