"""LG-22: a rate limit is waited for as long as the server asks; one that stays says what to change."""

from __future__ import annotations

import pytest

from lf_dagster.errors import RateLimited
from lf_dagster.lake import Lake
from lf_dagster.simulators.faults import Fault
from tests.source.conftest import HOUR, Connect, FakeTime, Standin, World, extract, rows


def refusal(seconds: int, times: int | None) -> Fault:
    headers = {"Retry-After": str(seconds), "X-RateLimit-Limit": "30"}
    return Fault(
        path="/api/public/v2/observations",
        status=429,
        body='{"message":"Rate limit exceeded"}',
        content_type="application/json",
        headers=headers,
        times=times,
    )


def test_lg22_the_wait_that_is_asked_for_is_kept_and_the_read_succeeds(
    standin: Standin, connect: Connect, lake: Lake, time: FakeTime
) -> None:
    standin.use(World().observation("o", 5)).faults.add(refusal(7, 1))
    began = time.now
    extract(connect(read_path="v2"), lake)
    assert [row["id"] for row in rows(lake, "observations")] == ["o"]
    assert time.now - began >= 7


@pytest.mark.parametrize("seconds", [7, 4000], ids=["again and again", "longer than a run waits"])
def test_lg22_a_limit_that_stays_names_itself_and_the_settings_to_change(
    standin: Standin, connect: Connect, lake: Lake, seconds: int
) -> None:
    standin.use(World().observation("o", 5)).faults.add(refusal(seconds, None))
    with pytest.raises(RateLimited) as caught:
        extract(connect(read_path="v2"), lake)
    said = str(caught.value)
    assert said.startswith("Rate limit exceeded")
    assert "The limit is 30 requests" in said
    for setting in ("`sync_every_minutes`", "`page_size`"):
        assert setting in said
    assert not lake.extract_exists("p", "observations", HOUR)
