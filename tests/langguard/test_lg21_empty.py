"""LG-21: a project without rows is explained, each cause in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from lf_dagster.cli.sync import why_empty
from lf_dagster.hours import Hour
from lf_dagster.source import explain_empty
from tests.automation.rows import Life
from tests.automation.works import works
from tests.source.conftest import HOUR, KEYS, Connect, Standin, World

JUDGE = "langfuse-llm-as-a-judge"


def both(at: float, environment: str = "default") -> World:
    """A trace that both read paths have."""
    return World().observation("o", at, environment=environment).trace("t", at, environment=environment)


@pytest.mark.parametrize("read_path", ["v2", "legacy"])
@pytest.mark.parametrize(
    ("world", "reason", "said"),
    [
        (World(), "no_data_at_all", "has no data at all"),
        (both(-5000), "data_before_window", "none in 2025-08-21T06:00:00.000Z"),
        (both(3_700_000), "data_after_window", "all of it after"),
        (both(5, environment=JUDGE), "environment_filter", JUDGE),
        (both(5), "has_data", "read the hours again"),
    ],
    ids=["nothing", "before", "after", "environment", "data"],
)
def test_lg21_each_kind_of_emptiness_is_told_apart(
    standin: Standin, connect: Connect, read_path: str, world: World, reason: str, said: str
) -> None:
    standin.use(world)
    found = explain_empty(connect(read_path=read_path), None, hours=[HOUR])
    assert found.reason == reason
    assert said in found.text


@pytest.mark.parametrize(
    ("mode", "read_path", "reason", "said"),
    [
        ("v3-legacy", "v2", "v2_unavailable", "v4 write mode"),
        ("v4-events_only", "legacy", "legacy_unavailable", "events_only mode"),
    ],
)
def test_lg21_a_read_path_that_is_not_served_is_no_empty_project(
    standin: Standin, connect: Connect, mode: str, read_path: str, reason: str, said: str
) -> None:
    standin.use(both(5), mode=mode)
    found = explain_empty(connect(read_path=read_path), None, hours=[HOUR])
    assert found.reason == reason
    assert said in found.text


def test_lg21_wrong_keys_and_a_dead_host_are_no_empty_project(connect: Connect) -> None:
    wrong = connect({**KEYS, "LANGFUSE_SECRET_KEY": "sk-lf-other"})
    assert explain_empty(wrong, None, hours=[HOUR]).reason == "wrong_key"
    assert explain_empty(connect(host="http://127.0.0.1:9"), None, hours=[HOUR]).reason == "unreachable"


def test_lg21_a_sync_without_rows_says_why(tmp_path: Path) -> None:
    life = Life().span("root", "07T10:05")
    with works(tmp_path, life.store, start="2026-09-07T08:00", now="2026-09-07T11:40") as shop:
        assert shop.rerun("2026-09-07T08").success
        said = why_empty(shop.settings, [Hour.from_key("2026-09-07-08:00")])
    assert "'LF Project' (proj-lf)" in said
    assert "all of it after 2026-09-07T08:00:00.000Z" in said
