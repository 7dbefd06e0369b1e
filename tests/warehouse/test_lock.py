"""One writer at a time, bounded waiting that names the holder, and no damage from a kill (invariants I7, I12)."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lf_dagster.errors import ConfigError, WarehouseLocked
from lf_dagster.hours import Hour
from lf_dagster.warehouse import Warehouse
from tests.warehouse.extracts import Project, v2_row

HOUR = Hour.from_key("2026-11-21-05:00")

HOLD = """
import sys
from lf_dagster.warehouse import Warehouse
with Warehouse(sys.argv[1]).connect(read_only=sys.argv[2] == "read"):
    print("held", flush=True)
    sys.stdin.readline()
"""

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import lf_dagster.warehouse.typed as typed
from lf_dagster.warehouse.tables import replace_hours
from tests.warehouse.extracts import Project
from lf_dagster.hours import Hour

def replace_then_die(con, model, *args, **kwargs):
    rows = replace_hours(con, model, *args, **kwargs)
    if model.name == "scores":
        os.kill(os.getpid(), signal.SIGKILL)
    return rows

typed.replace_hours = replace_then_die
Project(Path(sys.argv[1])).run([Hour.from_key("2026-11-21-05:00")], run_id="killed")
"""


@contextmanager
def held_by_another_process(path: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.stdin.close()
            holder.wait()


class Clock:
    """Time that passes only when somebody sleeps; `at` runs something at a moment."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, Any] = {}

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()


def test_waiting_for_another_process_is_bounded_and_names_it(tmp_path: Path) -> None:
    path, clock = tmp_path / "warehouse.duckdb", Clock()
    warehouse = Warehouse(str(path), lock_timeout_seconds=30, clock=clock, sleep=clock.sleep)
    with held_by_another_process(path, "write") as holder:
        with pytest.raises(WarehouseLocked) as raised, warehouse.connect():
            pass
        assert f"process {holder.pid} (" in str(raised.value)
        assert "python" in str(raised.value)
        assert "Waited 30 s" in str(raised.value)
    assert 30 <= clock.now < 32
    with warehouse.connect() as con:
        assert con.execute("SELECT 1").fetchone() == (1,)


def test_a_writer_goes_on_as_soon_as_the_other_one_is_done(tmp_path: Path) -> None:
    path, clock = tmp_path / "warehouse.duckdb", Clock()
    with held_by_another_process(path, "write") as holder:

        def release() -> None:
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()
            holder.wait()

        clock.at[5.0] = release
        with Warehouse(str(path), clock=clock, sleep=clock.sleep).connect() as con:
            con.execute("CREATE TABLE warehouse.main.t (i INT)")
    assert clock.now < 8


def test_readers_of_two_processes_do_not_wait_for_each_other(tmp_path: Path) -> None:
    path, clock = tmp_path / "warehouse.duckdb", Clock()
    warehouse = Warehouse(str(path), clock=clock, sleep=clock.sleep)
    with warehouse.connect():
        pass
    with held_by_another_process(path, "read"), warehouse.connect(read_only=True):
        assert clock.now == 0
    with held_by_another_process(path, "read"):
        with pytest.raises(WarehouseLocked), warehouse.connect():
            pass
        assert clock.now > 100


def test_threads_of_one_process_wait_for_each_other(tmp_path: Path) -> None:
    path, clock = tmp_path / "warehouse.duckdb", Clock()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with Warehouse(str(path)).connect():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    waiting = Warehouse(str(path), lock_timeout_seconds=10, clock=clock, sleep=clock.sleep)
    with pytest.raises(WarehouseLocked, match=f"this process \\({os.getpid()}\\)"), waiting.connect():
        pass
    clock.at[clock.now + 5] = lambda: (leave.set(), thread.join())
    with waiting.connect() as con:
        assert con.execute("SELECT 1").fetchone() == (1,)


def test_reading_before_anything_was_written_says_what_to_do(tmp_path: Path) -> None:
    warehouse = Warehouse(str(tmp_path / "none.duckdb"))
    assert not warehouse.exists()
    with pytest.raises(ConfigError, match="does not exist yet"), warehouse.connect(read_only=True):
        pass
    assert not (tmp_path / "none.duckdb").exists()


def test_a_broken_file_is_not_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "broken.duckdb").write_bytes(b"no database" * 1000)
    with pytest.raises(duckdb.Error), Warehouse(str(tmp_path / "broken.duckdb"), clock=clock).connect():
        pass
    assert clock.now == 0


def test_a_kill_in_the_middle_of_the_transaction_leaves_the_old_rows_and_a_rerun_ends_right(project: Project) -> None:
    folder = Path(project.settings.data)
    project.extract_v2([v2_row("old", "t1", "2026-11-21T05:00:00Z")], [HOUR])
    project.run([HOUR], run_id="first")
    project.extract_v2([v2_row("new", "t2", "2026-11-21T05:00:00Z")], [HOUR])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(folder)], check=False, capture_output=True, cwd=Path.cwd()
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert {row["observation_id"] for row in project.table("observations")} == {"old"}
    assert {row["trace_id"] for row in project.table("traces")} == {"t1"}
    project.run([HOUR], run_id="third")
    assert {row["observation_id"] for row in project.table("observations")} == {"new"}
    assert {row["trace_id"] for row in project.table("traces")} == {"t2"}


def test_spill_directories_of_killed_processes_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    warehouse = Warehouse(str(tmp_path / "w.duckdb"))
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True)
    template = warehouse._spill_directory()
    left = template.with_name(template.name.replace(str(os.getpid()), dead.stdout.decode().strip()))
    living = template.with_name(template.name.replace(f"{os.getpid()}-", f"{os.getppid()}-"))
    left.mkdir()
    living.mkdir()
    with warehouse.connect():
        assert not left.exists()
        assert living.exists()
    assert [path.name for path in tmp_path.iterdir() if "spill" in path.name] == [living.name]


def test_an_error_rolls_the_whole_run_back(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import lf_dagster.warehouse.typed as typed

    project.extract_v2([v2_row("old", "t1", "2026-11-21T05:00:00Z")], [HOUR])
    project.run([HOUR])
    project.extract_v2([v2_row("new", "t2", "2026-11-21T05:00:00Z")], [HOUR])
    replace = typed.replace_hours

    def fail_at_traces(con: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        if model.name == "traces":
            raise OSError("disk full")
        return replace(con, model, *args, **kwargs)

    monkeypatch.setattr(typed, "replace_hours", fail_at_traces)
    with pytest.raises(OSError, match="disk full"):
        project.run([HOUR])
    assert {row["observation_id"] for row in project.table("observations")} == {"old"}


def test_no_progress_is_drawn_into_what_is_printed(tmp_path: Path) -> None:
    # DuckDB draws where there is a terminal and no script, as in a Python prompt.
    ask = (
        "import sys\nfrom lf_dagster.warehouse import Warehouse\n"
        "with Warehouse(sys.argv[1]).connect() as con:\n"
        "    print(con.execute(\"SELECT current_setting('enable_progress_bar')\").fetchall())\n"
    )
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", ask, str(tmp_path / "w.duckdb")], stdout=theirs, stderr=theirs, check=True
        )
        assert os.read(ours, 1000).strip() == b"[(False,)]"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_session_holds_the_file_only_while_it_is_attached(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with Warehouse(str(path)).connect() as con:
        con.execute("CREATE TABLE warehouse.main.t AS SELECT 1 AS a")
    write = f"from lf_dagster.warehouse import Warehouse\nwith Warehouse({str(path)!r}, lock_timeout_seconds=0.1)"
    write += ".connect() as con: con.execute('INSERT INTO warehouse.main.t VALUES (2)')"
    reader = Warehouse(str(path))
    with reader.session() as con:
        con.execute("CREATE TEMP TABLE kept AS SELECT 7 AS b")
        with reader.attached(con):
            assert con.execute("SELECT count(*) FROM warehouse.main.t").fetchall() == [(1,)]
            held = subprocess.run([sys.executable, "-c", write], capture_output=True, text=True, check=False)
            assert f"is held by process {os.getpid()}" in held.stderr
        subprocess.run([sys.executable, "-c", write], check=True)
        with reader.attached(con):
            assert con.execute("SELECT a, b FROM warehouse.main.t, kept ORDER BY a").fetchall() == [(1, 7), (2, 7)]
        with pytest.raises(ZeroDivisionError), reader.attached(con):
            raise ZeroDivisionError
        subprocess.run([sys.executable, "-c", write], check=True)
