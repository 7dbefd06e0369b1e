"""The instance that dagster.yaml names: the same history as Dagster's own, for a fraction of the waiting.

No `from __future__ import annotations` here: Dagster reads the annotations of asset functions as they are.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import dbapi2
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from lf_dagster.instance import KeptEventLog, ProjectInstance

REPOSITORY = Path(__file__).parents[1]
OURS = "instance_class: {module: lf_dagster.instance, class: ProjectInstance}\n"
QUIET = "telemetry: {enabled: false}\n"
HOURS = dg.HourlyPartitionsDefinition(start_date="2026-11-20-00:00", timezone="UTC")
FIRST, LAST = "2026-11-20-00:00", "2026-11-20-23:00"
SPEC = dg.AssetCheckSpec("sound", asset="counted")


@dg.asset(
    partitions_def=HOURS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[SPEC],
    tags={"kind": "test"},
)
def counted(context: dg.AssetExecutionContext) -> Iterator[Any]:
    for number, key in enumerate(context.partition_keys):
        context.add_asset_metadata({"rows": number}, partition_key=key)
    context.log_event(dg.AssetMaterialization("counted", partition=FIRST, tags={"early": "yes"}))
    yield dg.MaterializeResult(metadata={"hours": len(context.partition_keys)})
    yield dg.AssetCheckResult(passed=True, check_name="sound")


@contextmanager
def instance_in(home: Path, config: str = OURS) -> Iterator[dg.DagsterInstance]:
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(QUIET + config)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def materialize_a_day(instance: dg.DagsterInstance) -> str:
    tags = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
    result = dg.materialize([counted], instance=instance, tags=tags)
    assert result.success
    return result.run_id


def history(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """What Dagster shows of a run, its asset and its check."""
    key = dg.AssetKey("counted")
    logs = [entry for entry in instance.all_logs(run_id) if entry.dagster_event is not None]
    records = instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=100, ascending=True).records
    latest = instance.get_latest_materialization_event(key)
    checks = instance.event_log_storage.get_asset_check_execution_history(SPEC.key, limit=100)
    [asset] = instance.get_asset_records([key])
    assert latest is not None
    assert latest.asset_materialization is not None
    entry = asset.asset_entry
    return {
        "events": [
            (event.event_type_value, event.partition) for item in logs if (event := item.get_dagster_event()).step_key
        ],
        "materializations": [
            (item.partition_key, {name: value.value for name, value in item.asset_materialization.metadata.items()})
            for item in records
            if item.asset_materialization
        ],
        "partitions": instance.get_materialized_partitions(key),
        "ids": sorted(
            instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION).items()
        ),
        "planned": len(
            instance.event_log_storage.get_event_records(
                dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=key)
            )
        ),
        "latest": latest.asset_materialization.partition,
        "entry": (entry.last_materialization_storage_id, entry.last_run_id == run_id),
        "checks": [(check.status.value, check.partition) for check in checks],
    }


def opened_from_now_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQLite files that this process opens, as it opens them."""
    opened: list[str] = []
    connect = dbapi2.connect

    def noting(database: str, *arguments: Any, **options: Any) -> Any:
        opened.append(database)
        return connect(database, *arguments, **options)

    monkeypatch.setattr(dbapi2, "connect", noting)
    return opened


def test_the_history_is_what_dagster_itself_writes(tmp_path: Path):
    with instance_in(tmp_path / "theirs", "") as theirs:
        assert type(theirs.event_log_storage) is SqliteEventLogStorage
        expected = history(theirs, materialize_a_day(theirs))
    with instance_in(tmp_path / "ours") as ours:
        assert isinstance(ours.event_log_storage, KeptEventLog)
        run_id = materialize_a_day(ours)
        assert history(ours, run_id) == expected
    assert len(expected["partitions"]) == 24
    assert expected["planned"] == 24

    # Dagster alone goes on from the same files.
    with instance_in(tmp_path / "ours", "") as plain:
        assert history(plain, run_id) == expected
        materialize_a_day(plain)


def test_events_of_a_run_share_a_few_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with instance_in(tmp_path) as instance:
        materialize_a_day(instance)
        opened = opened_from_now_on(monkeypatch)
        run_id = materialize_a_day(instance)
    events = [name for name in opened if name.endswith((f"{run_id}.db", "runs/index.db"))]
    # Dagster itself opens one for each of a hundred events, and one more for each of what it asks meanwhile.
    assert 0 < len(events) < 10, events


def test_no_more_files_stay_open_than_are_worth_it(tmp_path: Path):
    with instance_in(tmp_path) as instance:
        for number in range(20):
            instance.report_engine_event("hello", job_name="job", run_id=f"run-{number}")
        folder = os.path.realpath(tmp_path)
        names = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
        held = {name for name in names if name.startswith(folder) and name.endswith(".db")}
        assert len(held) <= 8 + 2  # and Dagster's own of runs and schedules
        assert len(instance.all_logs("run-0")) == 1
    assert not list(tmp_path.rglob("run-*.db-wal")), "what a process held open is written back when it ends"


_KILLED = """
import os, signal, sys
import dagster as dg
instance = dg.DagsterInstance.from_config(sys.argv[1])
for number in range(50):
    instance.report_engine_event(f"event {number}", job_name="job", run_id="killed")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_no_event(tmp_path: Path):
    with instance_in(tmp_path) as instance:
        instance.report_engine_event("before", job_name="job", run_id="killed")
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], cwd=REPOSITORY, check=False)
    assert done.returncode == -signal.SIGKILL
    for config in (OURS, ""):
        with instance_in(tmp_path, config) as instance:
            assert len(instance.all_logs("killed")) == 51


def test_whoever_watches_a_run_sees_its_events_while_it_runs(tmp_path: Path):
    seen: list[str] = []
    with instance_in(tmp_path) as writing, instance_in(tmp_path) as watching:
        writing.report_engine_event("first", job_name="job", run_id="watched")
        watching.watch_event_logs("watched", None, lambda entry, _cursor: seen.append(entry.message))
        for number in range(3):
            writing.report_engine_event(f"event {number}", job_name="job", run_id="watched")
            _wait_for(lambda number=number: any(f"event {number}" in text for text in seen))


def test_writers_at_once_lose_nothing(tmp_path: Path):
    planned = AssetMaterializationPlannedData(dg.AssetKey("shared"), partition="a", partitions_subset=None)
    with instance_in(tmp_path) as one, instance_in(tmp_path) as other:

        def write(instance: dg.DagsterInstance, run_id: str) -> None:
            for _ in range(25):
                event = DagsterEvent.build_asset_materialization_planned_event("job", "step", planned)
                instance.report_dagster_event(event, run_id)

        threads = [
            threading.Thread(target=write, args=(instance, run_id))
            for instance, name in ((one, "one"), (other, "other"))
            for run_id in (f"run-{name}", "run-shared")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = dg.EventRecordsFilter(
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=dg.AssetKey("shared")
        )
        assert len(one.event_log_storage.get_event_records(wanted)) == 100
        assert [len(other.all_logs(f"run-{name}")) for name in ("one", "other", "shared")] == [25, 25, 50]


def test_a_child_process_does_not_touch_connections_of_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with instance_in(tmp_path) as instance:
        instance.report_engine_event("parent", job_name="job", run_id="forked")
        child = os.fork()
        if not child:
            status = 1
            try:
                opened = opened_from_now_on(monkeypatch)
                instance.report_engine_event("child", job_name="job", run_id="forked")
                status = 0 if any(name.endswith("forked.db") for name in opened) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        instance.report_engine_event("parent", job_name="job", run_id="forked")
        assert len(instance.all_logs("forked")) == 3


def test_the_shipped_file_names_it(tmp_path: Path):
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance, ProjectInstance)
        assert isinstance(instance.event_log_storage, KeptEventLog)


def test_storage_of_ones_own_wins(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    with instance_in(tmp_path / "home", f"{OURS}storage: {{sqlite: {{base_dir: {elsewhere}}}}}\n") as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        materialize_a_day(instance)
    assert list(elsewhere.rglob("index.db"))


def _wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
