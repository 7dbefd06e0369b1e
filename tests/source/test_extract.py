"""Many hours at once: order, callbacks, failures, kills, memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from lf_dagster.config import LangfuseSettings
from lf_dagster.errors import ConfigError, ProtocolError, RequestRejected
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake
from lf_dagster.simulators.faults import Fault
from lf_dagster.source import HourExtract, LangfuseClient, extract_hours, work
from tests.source.conftest import HOUR, KEYS, Connect, Standin, World, extract, rows

HOURS = [HOUR.shift(step) for step in range(6)]
REPOSITORY = Path(__file__).parents[2]


def spread() -> World:
    world = World()
    for step in range(6):
        for number in range(step * 3):
            world.observation(f"o{step}-{number}", step * 3_600_000 + number)
        world.score(f"s{step}", step * 3_600_000)
    return world


def test_hours_are_returned_in_order_and_reported_as_they_finish(standin: Standin, connect: Connect, lake: Lake):
    standin.use(spread())
    reported: list[tuple[HourExtract, threading.Thread, bool]] = []

    def note(found: HourExtract) -> None:
        there = lake.extract_exists("p", found.stream, found.hour)
        reported.append((found, threading.current_thread(), there))

    found = extract(connect(page_size=2), lake, *HOURS, on_hour=note)
    assert [(item.hour, item.stream) for item in found] == [
        (hour, stream) for hour in HOURS for stream in ("observations", "scores")
    ]
    assert [item.rows for item in found] == [0, 1, 3, 1, 6, 1, 9, 1, 12, 1, 15, 1]
    assert sorted((item.hour, item.stream) for item, _, _ in reported) == sorted(
        (item.hour, item.stream) for item in found
    )
    assert {thread for _, thread, _ in reported} == {threading.main_thread()}
    assert all(there for _, _, there in reported)
    assert [len(rows(lake, "observations", hour)) for hour in HOURS] == [0, 3, 6, 9, 12, 15]


def test_a_rerun_makes_live_what_the_source_says_now(standin: Standin, connect: Connect, lake: Lake):
    world = World().observation("kept", 1, name="old").observation("gone", 2)
    standin.use(world)
    extract(connect(), lake)
    world.observation("kept", 1, name="new", updated=5).observation("late", 3)
    world.gone("gone")
    extract(connect(), lake)
    assert {row["id"]: json.loads(row["json"])["name"] for row in rows(lake, "observations")} == {
        "kept": "new",
        "late": "",
    }


def fail_for(standin: Standin, hour: Hour) -> None:
    """The observations of one hour answer 400 from now on."""
    original = standin._switch.app

    async def app(scope: Any, receive: Any, send: Any) -> None:
        query = scope["query_string"].decode() if scope["type"] == "http" else ""
        start = hour.start.strftime("%Y-%m-%dT%H%%3A00%%3A00.000Z")
        if f"fromStartTime={start}" in query:
            body = b'{"message":"Invalid request data"}'
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await original(scope, receive, send)

    standin._switch.app = app


def test_the_first_error_stops_the_rest_and_keeps_what_is_finished(standin: Standin, connect: Connect, lake: Lake):
    standin.use(spread())
    extract(connect(), lake, HOURS[3])
    fail_for(standin, HOURS[3])
    reported: list[HourExtract] = []
    with pytest.raises(RequestRejected) as caught:
        extract(connect(parallel_requests=1), lake, *HOURS, on_hour=reported.append)
    assert caught.value.context["hour"] == HOURS[3].key
    assert [item.hour for item in reported] == [hour for hour in HOURS[:3] for _ in range(2)]
    assert all(lake.extract_exists("p", "observations", hour) for hour in HOURS[:4])
    assert not any(lake.extract_exists("p", "observations", hour) for hour in HOURS[4:])
    assert len(rows(lake, "observations", HOURS[3])) == 9
    assert leftovers(lake) == []


def leftovers(lake: Lake) -> list[str]:
    found = [path for path in Path(lake.root).rglob("*") if path.is_file() or path.name.startswith(".")]
    return sorted(path.name for path in found if path.name != "data.parquet")


def test_an_error_in_the_callback_stops_the_rest(standin: Standin, connect: Connect, lake: Lake):
    standin.use(spread())

    class Stop(Exception):
        pass

    def stop(_: HourExtract) -> None:
        raise Stop

    with pytest.raises(Stop):
        extract(connect(parallel_requests=1), lake, *HOURS, on_hour=stop)
    assert leftovers(lake) == []
    assert not lake.extract_exists("p", "scores", HOURS[5])


def test_workers_that_wait_for_a_rate_limit_stop_when_another_fails(standin: Standin, lake: Lake):
    standin.use(spread())
    # The 429 closes the budget for both workers: it has to come while the other's request is on its way.
    limited = Fault(path="/api/public/v3/scores", status=429, body="", headers={"retry-after": "250"}, times=None)
    broken = Fault(path="/api/public/v2/observations", status=200, body="[]", content_type="application/json")
    standin.faults.add(replace(limited, delay_seconds=0.5), replace(broken, delay_seconds=1.5))
    given = {"host": standin.origin, "parallel_requests": 2, "read_path": "v2"}
    settings = LangfuseSettings.model_validate(given)
    # On the real clock: the wait for the scores would be minutes.
    with LangfuseClient(settings, env=KEYS) as client, pytest.raises(ProtocolError):
        extract(client, lake)


def test_a_worker_that_hangs_does_not_hold_up_the_error_of_another(
    standin: Standin, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(work, "PATIENCE_SECONDS", 0.05)
    standin.use(spread())
    hangs = Fault(path="/api/public/v3/scores", delay_seconds=3)
    broken = Fault(path="/api/public/v2/observations", status=200, body="[]", content_type="application/json")
    standin.faults.add(hangs, replace(broken, delay_seconds=0.1))
    settings = LangfuseSettings.model_validate({"host": standin.origin, "parallel_requests": 2, "read_path": "v2"})
    started = time.monotonic()
    with LangfuseClient(settings, env=KEYS) as client, pytest.raises(ProtocolError):
        extract(client, lake)
    assert time.monotonic() - started < 2
    assert leftovers(lake) == []


def test_a_large_hour_of_a_server_that_takes_its_time_is_read_side_by_side(
    standin: Standin, connect: Connect, lake: Lake
):
    world = World()
    for number in range(1500):
        world.observation(f"o{number:04}", number * 2000)
    standin.use(world)
    standin.faults.add(Fault(path="/api/public/v2/observations", delay_seconds=0.03, times=None))
    [found] = extract(connect(page_size=50), lake, streams=["observations"])
    queries = [parse_qs(item.query) for item in standin.requests("v2/observations")]
    assert len({query["fromStartTime"][0] for query in queries if "fromStartTime" in query}) >= 3
    assert (found.rows, found.requests < 45) == (1500, True)


def test_a_stream_that_the_read_path_does_not_have_is_named(standin: Standin, connect: Connect, lake: Lake):
    client = connect(read_path="v2")
    with pytest.raises(ConfigError, match="no stream 'traces'"):
        extract_hours(client, client.describe(), project="p", streams=["traces"], hours=[HOUR], lake=lake, run_id="r")


def test_nothing_to_do_is_done(standin: Standin, connect: Connect, lake: Lake):
    client = connect()
    source = client.describe()
    assert extract_hours(client, source, project="p", streams=["scores"], hours=[], lake=lake, run_id="r") == []


def test_a_remote_lake_gets_the_same_rows(standin: Standin, connect: Connect, lake: Lake, tmp_path: Path):
    import fsspec

    standin.use(spread())
    remote = Lake(f"memory://{tmp_path.name}")
    local_found = extract(connect(), lake, HOURS[5])
    remote_found = extract(connect(), remote, HOURS[5])
    assert [item.rows for item in remote_found] == [item.rows for item in local_found]
    assert remote.extract_facts("p", "observations", HOURS[5]) is not None
    fsspec.filesystem("memory").rm(remote.root, recursive=True)


_READER = """
import sys
from lf_dagster.config import LangfuseSettings
from lf_dagster.lake import Lake
from lf_dagster.source import LangfuseClient
from tests.source.conftest import HOUR, KEYS, extract
settings = LangfuseSettings(host=sys.argv[1], page_size=int(sys.argv[3]), parallel_requests=2)
print("reading", flush=True)
with LangfuseClient(settings, env=KEYS) as client:
    found = extract(client, Lake(sys.argv[2]), streams=["observations"])
with open("/proc/self/status") as status:
    peak = next(line for line in status if line.startswith("VmHWM"))
print(found[0].rows, int(peak.split()[1]) // 1024, flush=True)
"""


def start_reader(origin: str, lake: Lake, page_size: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _READER, origin, lake.root, str(page_size)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def test_a_killed_reader_leaves_the_old_hour_and_the_next_one_ends_right(
    standin: Standin, connect: Connect, lake: Lake
):
    standin.use(World().observation("old", 1))
    extract(connect(), lake)
    world = World()
    for number in range(50):
        world.observation(f"new-{number}", number)
    standin.use(world)
    # It gets a few pages, then waits for an answer that does not come.
    standin.faults.add(Fault(path="/api/public/v2/observations", nth=5, delay_seconds=60))
    with start_reader(standin.origin, lake, 5) as process:
        while len(standin.requests("v2/observations")) < 4:
            assert process.poll() is None
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGKILL)
    assert [row["id"] for row in rows(lake, "observations")] == ["old"]
    assert leftovers(lake) != []
    standin.faults.reset()
    extract(connect(), lake)
    assert len(rows(lake, "observations")) == 50
    assert leftovers(lake) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_hour(standin: Standin, lake: Lake):
    from lf_dagster.simulators.world.bulk import bulk_store

    peaks = {}
    for count in (20_000, 200_000):
        standin.use(bulk_store(hour=HOUR.start, observations=count))
        with start_reader(standin.origin, lake, 1000) as process:
            assert process.stdout is not None
            found, peak = process.stdout.read().split()[1:]
        assert int(found) >= count
        peaks[count] = int(peak)
    # Ten times the rows: some more pages in flight and buffers filled, not ten times the memory.
    assert peaks[200_000] < 600
    assert peaks[200_000] - peaks[20_000] < 250
