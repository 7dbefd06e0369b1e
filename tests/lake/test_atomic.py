"""Readers see the old file or the new one, whatever happens to the writer (I2)."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from lf_dagster.errors import ConfigError
from lf_dagster.lake import Lake
from tests.lake.conftest import HOUR, page
from tests.lake.test_extracts import read, summary

OLD = [("old", 1, 1, "old")]


def write_old(lake: Lake) -> None:
    with lake.open_extract("p", "observations", HOUR) as writer:
        writer.add(page(OLD))  # type: ignore[arg-type]


def names(lake: Lake) -> list[str]:
    return sorted(entry.name for entry in Path(lake.extract_path("p", "observations", HOUR)).parent.iterdir())


class Stop(Exception):
    pass


@pytest.mark.parametrize("buffer", [1, 10**9])
def test_a_failure_in_the_block_leaves_the_old_file_and_nothing_else(lake: Lake, buffer: int):
    write_old(lake)

    def fail() -> None:
        with lake.open_extract("p", "observations", HOUR, buffer_bytes=buffer) as writer:
            writer.add(page([("new", 2, 2, "new")]))
            raise Stop

    with pytest.raises(Stop):
        fail()
    assert summary(read(lake)) == OLD
    if lake.is_local:
        assert names(lake) == ["data.parquet"]


_WRITER = """
import sys
from lf_dagster.lake import Lake
from tests.lake.conftest import HOUR, page
with Lake(sys.argv[1]).open_extract("p", "observations", HOUR, buffer_bytes=1) as writer:
    writer.add(page([("new", 2, 2, "new")]))
    print("writing", flush=True)
    sys.stdin.readline()
    for n in range(int(sys.argv[2])):
        writer.add(page([(f"n{n}", 2, 2, "x" * 1000)]))
print("done", flush=True)
"""


def start_writer(lake: Lake, rows: int = 0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, lake.root, str(rows)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_clears_up(local: Lake):
    write_old(local)
    with start_writer(local) as process:
        process.send_signal(signal.SIGKILL)
    assert summary(read(local)) == OLD
    assert len(names(local)) == 2
    with local.open_extract("p", "observations", HOUR) as writer:
        writer.add(page([("newer", 3, 3, "newer")]))
    assert names(local) == ["data.parquet"]
    assert summary(read(local)) == [("newer", 3, 3, "newer")]


def test_a_live_writer_in_another_process_keeps_its_scratch_files(local: Lake):
    with start_writer(local) as process:
        write_old(local)
        assert summary(read(local)) == OLD
        process.communicate("go on\n")
    assert process.returncode == 0
    assert summary(read(local)) == [("new", 2, 2, "new")]
    assert names(local) == ["data.parquet"]


def test_a_full_disk_leaves_the_old_file(local: Lake):
    write_old(local)
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
    )
    code = limited + _WRITER
    done = subprocess.run(
        [sys.executable, "-c", code, local.root, "500"], input="go\n", capture_output=True, text=True,
        cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "OSError" in done.stderr
    assert summary(read(local)) == OLD
    assert names(local) == ["data.parquet"]


def test_writers_of_one_hour_side_by_side_end_with_one_whole_file(local: Lake):
    ready = threading.Barrier(4)

    def write(number: int) -> None:
        with local.open_extract("p", "observations", HOUR, buffer_bytes=1) as writer:
            ready.wait()
            for k in range(20):
                writer.add(page([(f"{number}-{k}", 100 - k, 1, str(number))]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({row[3] for row in summary(read(local))}) == 1
    assert len(read(local)) == 20
    assert names(local) == ["data.parquet"]


def test_several_threads_may_add_to_one_writer(local: Lake):
    with local.open_extract("p", "observations", HOUR, buffer_bytes=10_000) as writer:

        def add(number: int) -> None:
            for k in range(50):
                writer.add(page([(f"{number}-{k}", number * 100 + 99 - k, 1, "x" * 100)]))

        threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    times = [row[1] for row in summary(read(local))]
    assert len(times) == 200
    assert times == sorted(times, reverse=True)


def test_replacing_shows_the_new_file_only_when_the_block_ends_well(lake: Lake):
    path = f"{lake.root}/ledger/x/part-1.parquet"
    with lake.replacing(path) as draft:
        draft.write_bytes(b"one")
        assert not lake.exists(path)
    assert lake.exists(path)

    def fail() -> None:
        with lake.replacing(path) as draft:
            draft.write_bytes(b"two")
            raise Stop

    with pytest.raises(Stop):
        fail()
    assert lake.glob(f"{lake.root}/ledger/x/*") == lake.glob(f"{lake.root}/ledger/x/part-*.parquet")
    lake.remove(path)
    lake.remove(path)
    assert not lake.exists(path)


def test_parts_of_a_ledger_are_listed_in_order(lake: Lake):
    for part in ("0002", "0001", "0010"):
        with lake.replacing(lake.ledger_part_path("p", "posthog", HOUR, part)) as draft:
            draft.write_bytes(b"")
    with lake.replacing(lake.ledger_path("p", "posthog", HOUR)) as draft:
        draft.write_bytes(b"")
    listed = [path.rsplit("-", 1)[1] for path in lake.ledger_part_paths("p", "posthog", HOUR)]
    assert listed == ["0001.parquet", "0002.parquet", "0010.parquet"]
    assert all(lake.exists(path) for path in lake.ledger_part_paths("p", "posthog", HOUR))


def test_a_spool_is_a_local_folder_that_goes_when_the_delivery_ends(lake: Lake):
    with lake.spool() as folder:
        (folder / "batch.parquet").write_bytes(b"x")
        assert folder.is_dir()
    assert not folder.exists()


def test_a_root_of_an_unknown_kind_is_a_matter_of_settings():
    with pytest.raises(ConfigError, match="gopher"):
        Lake("gopher://hole/lake")


def test_a_file_url_and_a_relative_folder_are_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert Lake("data").root == str(tmp_path / "data")
    assert Lake(f"file://{tmp_path}/data").root == str(tmp_path / "data")
    assert Lake("data").is_local


def test_an_upload_that_another_writer_ends_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch):
    lake = Lake(f"memory://lake-{uuid.uuid4().hex}")
    other = f"{lake.root}/folder/_uploading-of-another-writer"
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file(other, b"")

    def modified(_filesystem: Any, path: str) -> datetime:
        filesystem.mv(path, f"{lake.root}/folder/theirs")
        raise FileNotFoundError(path)

    monkeypatch.setattr(MemoryFileSystem, "modified", modified)
    with lake.replacing(f"{lake.root}/folder/ours") as file:
        file.write_bytes(b"")
    assert [path.rpartition("/")[2] for path in lake.glob(f"{lake.root}/folder/*")] == ["ours", "theirs"]
