"""Several processes, and processes that die: nothing is corrupted, nothing is lost, nothing leaks."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lf_dagster.simulators.faults import Fault
from tests.e2e.leaks import leaks_in_files, leaks_in_text
from tests.e2e.stack import RECORDED_FROM, RECORDED_TO, StandIns, command, run_cli
from tests.e2e.test_recorded_rows import ids, query, sync

KILLED = Path(__file__).with_name("killed_sync.py")


def state(standins: StandIns, folder: Path) -> tuple[object, ...]:
    """What everything holds, without the columns that say when and by which run it was written."""
    tables = ["observations", "traces", "generations", "scores", "trace_events", "generation_events", "score_events"]
    audit = "EXCLUDE (ingested_at, run_id)"
    rows = [query(folder, f"SELECT * {audit} FROM langfuse.{table} ORDER BY ALL") for table in tables]
    by_id = [sorted(held, key=repr) for held in (standins.mixpanel_events(), standins.posthog_events())]
    return (*rows, *by_id)


@pytest.mark.slow
def test_two_syncs_of_different_hours_at_once_both_end_well(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path)
    # Dagster's own SQLite files cannot be created by two processes at once: an hour is synced before.
    assert run_cli(["sync", "--from", RECORDED_FROM, "--to", "2026-11-21T01"], env, tmp_path).returncode == 0
    halves = [(RECORDED_FROM, "2026-11-21T03:00"), ("2026-11-21T03:00", RECORDED_TO)]
    running = [
        subprocess.Popen(
            command("sync", "--from", start, "--to", end),
            env={**env, "PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for start, end in halves
    ]
    outputs = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert query(tmp_path, "SELECT count(*) FROM langfuse.observations") == [(1320,)]
    assert len(ids(recorded.mixpanel_events())) == len(set(ids(recorded.mixpanel_events()))) > 0


@pytest.mark.slow
def test_ctrl_c_ends_a_sync_and_not_only_the_hours_under_way(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path, PATH="/usr/bin:/bin")
    recorded.mixpanel.state.faults.add(Fault(path="/import", delay_seconds=3))
    # Hour by hour, as days are one after the other.
    started = command("sync", "--from", RECORDED_FROM, "--to", RECORDED_TO, "--limit", "100000")
    with subprocess.Popen(started, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "events:" in line:  # they are on their way to Mixpanel now
                break
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Interrupted" not in said
    assert {path.parent.name for path in (tmp_path / "data" / "raw").rglob("*.parquet")} == {"hour=00"}
    assert run_cli(["sync", "--from", RECORDED_FROM, "--to", "2026-11-21T01:00"], env, tmp_path).returncode == 0
    assert len(ids(recorded.mixpanel_events())) == len(set(ids(recorded.mixpanel_events()))) > 0


@pytest.mark.slow
def test_no_secret_reaches_a_file_or_the_output(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path)
    done = run_cli(["sync", "--from", RECORDED_FROM, "--to", "2026-11-21T02:00"], env, tmp_path)
    checked = run_cli(["check"], {**env, "LANGFUSE_SECRET_KEY": "sk-lf-7d1f0c55-secret-wrong"}, tmp_path)
    assert (done.returncode, checked.returncode) == (0, 1)
    assert leaks_in_files(tmp_path) == []
    assert leaks_in_text(done.stdout, done.stderr, checked.stdout, checked.stderr) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
def test_a_rerun_after_a_kill_at_any_point_ends_in_the_same_state(recorded: StandIns, tmp_path: Path, seed: int):
    calls = int(killed_sync(recorded, tmp_path / "undisturbed", 0).stdout.rsplit("calls: ", 1)[1])
    expected = state(recorded, tmp_path / "undisturbed")
    for deadly in sorted(random.Random(seed).sample(range(1, calls), 3)):
        recorded.forget_events()
        folder = tmp_path / f"killed-{deadly}"
        killed = killed_sync(recorded, folder, deadly)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        sync(recorded, folder)
        assert state(recorded, folder) == expected, f"after a kill at call {deadly} of {calls}"


def killed_sync(standins: StandIns, folder: Path, call: int) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    return subprocess.run(
        [sys.executable, str(KILLED), str(call), "sync", "--from", RECORDED_FROM, "--to", RECORDED_TO],
        env={**standins.environment(folder), "PATH": "/usr/bin:/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
