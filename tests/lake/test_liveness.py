"""Marks of living runs: only a dead process leaves one that nobody holds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from lf_dagster.lake import Lake, hold, is_dead

SCRIPT = """
import sys, time
from lf_dagster.lake import Lake, hold
hold(Lake(sys.argv[1]), "run")
print("held", flush=True)
time.sleep(60)
"""


def test_a_run_is_dead_once_its_process_was_killed_and_not_before(tmp_path: Path):
    lake = Lake(str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "held\n"
        assert not is_dead(lake, "run")
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        assert is_dead(lake, "run")


def test_a_mark_of_another_machine_says_nothing(tmp_path: Path):
    (tmp_path / "alive").mkdir()
    (tmp_path / "alive" / "run").write_text("elsewhere\n00000000-1111-2222-3333-444444444444")
    assert not is_dead(Lake(str(tmp_path)), "run")


def test_a_mark_of_this_machine_before_it_was_started_anew_is_dead(tmp_path: Path):
    (tmp_path / "alive").mkdir()
    (tmp_path / "alive" / "run").write_text(f"{socket.gethostname()}\n00000000-1111-2222-3333-444444444444")
    assert is_dead(Lake(str(tmp_path)), "run")


def test_nothing_is_said_of_runs_without_mark_and_of_this_process(tmp_path: Path):
    lake = Lake(str(tmp_path))
    assert not is_dead(lake, "unknown")
    hold(lake, "mine")
    hold(lake, "mine")
    assert not is_dead(lake, "mine")


def test_a_remote_lake_has_no_marks():
    lake = Lake("memory://alive")
    hold(lake, "run")
    assert not is_dead(lake, "run")


def test_marks_of_long_ago_are_tidied_away_unless_they_are_held(tmp_path: Path):
    lake = Lake(str(tmp_path))
    hold(lake, "held")
    (tmp_path / "alive" / "old").touch()
    long_ago = time.time() - 3 * 86400
    for name in ("old", "held"):
        os.utime(tmp_path / "alive" / name, (long_ago, long_ago))
    hold(lake, "new")
    assert sorted(path.name for path in (tmp_path / "alive").iterdir()) == ["held", "new"]
