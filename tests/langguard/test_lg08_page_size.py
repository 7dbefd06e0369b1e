"""LG-08: the size of a page changes the number of requests and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lf_dagster.config import load_project
from lf_dagster.errors import ConfigError
from lf_dagster.lake import Lake
from tests.source.conftest import Connect, Standin, World, extract, rows


def world() -> World:
    made = World()
    for number in range(7):
        # Two at each moment, so that pages end between equal times.
        made.observation(f"o{number}", number // 2 * 1000, trace=f"t{number % 3}", metadata={"n": str(number)})
        made.score(f"s{number}", number // 2 * 1000)
    for number in range(3):
        made.trace(f"t{number}", 1000)
    return made


def held(lake: Lake, streams: tuple[str, ...]) -> list[dict[str, Any]]:
    found = [{"stream": stream, **row} for stream in streams for row in rows(lake, stream)]
    return sorted(found, key=lambda row: (row["stream"], row["id"]))


@pytest.mark.parametrize(
    ("read_path", "streams"), [("v2", ("observations", "scores")), ("legacy", ("observations", "scores", "traces"))]
)
def test_lg08_page_sizes_give_equal_rows(
    standin: Standin, connect: Connect, tmp_path: Path, read_path: str, streams: tuple[str, ...]
) -> None:
    standin.use(world())
    found, requests = {}, {}
    path = "v2/observations" if read_path == "v2" else "observations"
    for size in (1, 100, 1000):
        before, lake = len(standin.requests(path)), Lake(str(tmp_path / str(size)))
        extract(connect(read_path=read_path, page_size=size), lake)
        found[size], requests[size] = held(lake, streams), len(standin.requests(path)) - before
    assert found[1] == found[100] == found[1000]
    assert [row["id"] for row in found[1] if row["stream"] == "observations"] == [f"o{number}" for number in range(7)]
    assert requests[1] >= 7 > requests[100] >= requests[1000]


@pytest.mark.parametrize("size", [0, -1, 1001])
def test_lg08_a_size_that_the_server_refuses_is_refused_at_load(size: int) -> None:
    with pytest.raises(ConfigError, match=r"langfuse\.page_size"):
        load_project({"langfuse": {"page_size": size}})
    assert load_project({"langfuse": {"page_size": 1}}).langfuse.page_size == 1
    assert load_project({"langfuse": {"page_size": 1000}}).langfuse.page_size == 1000
