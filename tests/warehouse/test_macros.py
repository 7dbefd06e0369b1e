"""Functions that all models share, against what Python says of the same values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lf_dagster.warehouse.models import macros_sql

_MOMENTS = st.datetimes(timezones=st.just(timezone.utc))


@pytest.fixture(scope="module", params=["UTC", "America/St_Johns"])
def con(request: pytest.FixtureRequest) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the macros, in the time zone of a run and in another one."""
    with duckdb.connect(":memory:") as con:
        con.execute(f"SET TimeZone = '{request.param}'")
        con.execute(macros_sql())
        yield con


@given(moment=_MOMENTS)
def test_the_time_of_day_is_that_of_utc_to_the_microsecond(con: duckdb.DuckDBPyConnection, moment: datetime) -> None:
    found = con.execute("SELECT utc_time($1::TIMESTAMPTZ)", [moment]).fetchall()
    assert found == [(moment.replace(tzinfo=None),)]
