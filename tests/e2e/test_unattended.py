"""A real daemon left alone: hours that were missed are made up, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.hours import Hour
from lf_dagster.simulators.world import Ageing, WorldSettings, build_world
from tests.e2e.dagster_stack import running_dagster, wait_for
from tests.e2e.stack import StandIns, run_cli, stand_ins

DOWN = 30


@pytest.fixture
def missed() -> Iterator[tuple[StandIns, Hour]]:
    """A Langfuse whose last 30 hours nobody has read, and the first of them."""
    first = Hour.containing(datetime.now(timezone.utc) - timedelta(minutes=50)).shift(-DOWN)
    settings = WorldSettings(seed=11, start=first.start, hours=DOWN + 2, traces_per_hour=3, ageing=Ageing.none())
    with stand_ins(build_world(settings).store) as world:
        yield world, first


def standing(environment: dict[str, str], folder: Path) -> dict[str, Any]:
    done = run_cli(["status", "--json"], environment, folder)
    # The warehouse may be busy: then there is no answer this time.
    return json.loads(done.stdout)["projects"][0] if done.returncode == 0 else {}


def run_workers() -> list[int]:
    """Processes in which Dagster runs something."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and b"execute_run" in _command_line(entry):
            found.append(int(entry.name))
    return found


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thirty_missed_hours_are_made_up_though_a_worker_and_then_the_machine_die(missed: Any, tmp_path: Path):
    world, first = missed
    environment = world.environment(tmp_path, LANGFUSE_START=first.key, LF_DAGSTER_RECONCILE="1")
    alive = tmp_path / "data" / "alive"

    def begun() -> list[Path]:
        return list(alive.iterdir()) if alive.is_dir() else []

    with running_dagster(environment, tmp_path):
        wait_for("a run's first step", begun, seconds=120)
        for worker in run_workers():
            os.kill(worker, signal.SIGKILL)
        seen = len(begun())
        wait_for("the next run", lambda: len(begun()) > seen, seconds=180)
        # Everything at once: what leaving the block does to what still runs is no shutdown.
        for worker in run_workers():
            os.kill(worker, signal.SIGSTOP)
    with running_dagster(environment, tmp_path):
        last = wait_for(
            "all hours settled",
            lambda: found if not (found := standing(environment, tmp_path)).get("outstanding", True) else None,
            seconds=400,
        )
    assert last["extracted"]["missing"] == []
    for events in (world.posthog_events(), world.mixpanel_events()):
        ids = [(event["event"], event["properties"]["langfuse_id"]) for event in events]
        assert len(ids) == len(set(ids)) > 0
