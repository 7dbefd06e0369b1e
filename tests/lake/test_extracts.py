"""What goes into an extract comes out once, newest version, newest event first, with its facts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.lake import EXTRACT_SCHEMA, Lake, writer
from lf_dagster.lake.pages import PageStore
from tests.lake.conftest import HOUR, Row, page


def read(lake: Lake, stream: str = "observations", hour: Hour = HOUR) -> list[dict[str, Any]]:
    """The live rows, in the order of the file."""
    return [row for row in read_all(lake, stream, hour) if row["deleted_seen_at"] is None]


def read_all(lake: Lake, stream: str = "observations", hour: Hour = HOUR) -> list[dict[str, Any]]:
    with duckdb.connect() as con:
        lake.register(con)
        con.execute("SET TimeZone='UTC'")
        path = lake.extract_path("p", stream, hour)
        return (
            con.execute("SELECT * FROM read_parquet(?, hive_partitioning=false)", [path]).to_arrow_table().to_pylist()
        )


def summary(rows: list[dict[str, Any]]) -> list[Row]:
    def since(moment: Any) -> timedelta:
        return moment - HOUR.start

    return [
        (
            row["id"],
            round(since(row["event_time"]) / timedelta(milliseconds=1)),
            None if row["updated_at"] is None else round(since(row["updated_at"]).total_seconds()),
            row["json"],
        )
        for row in rows
    ]


def test_rows_come_back_newest_first_with_every_fact(lake: Lake):
    text = '{"id":"b", "name":"Grüße 🎉 \\u00e4",  "n":1e5}'
    with lake.open_extract("p", "observations", HOUR) as writer:
        writer.set_facts(project_id="p1", requests=3, max_lateness_seconds=None)
        writer.add(page([("b", 9, 2, text), ("a", 5, 1, "{}")]))
        writer.set_facts(run_id="r1")
    assert summary(read(lake)) == [("b", 9, 2, text), ("a", 5, 1, "{}")]
    assert lake.extract_facts("p", "observations", HOUR) == {
        "project": "p",
        "stream": "observations",
        "hour": "2026-11-21-06:00",
        "project_id": "p1",
        "requests": "3",
        "run_id": "r1",
        "rows": "2",
        "distinct_ids": "2",
        "duplicates": "0",
        "deleted": "0",
        "newly_deleted": "0",
        "kept_expired": "0",
        "max_updated_at": "2026-11-21T06:00:02+00:00",
    }
    assert writer.file is not None
    assert (writer.file.rows, writer.file.duplicates) == (2, 0)
    assert writer.file.path == lake.extract_path("p", "observations", HOUR)
    assert writer.file.bytes > 0


def test_the_layout_is_the_hive_layout_that_others_rely_on(local: Lake):
    path = local.extract_path("p", "scores", HOUR)
    assert path == f"{local.root}/raw/project=p/stream=scores/date=2026-11-21/hour=06/data.parquet"
    ledger = f"{local.root}/ledger/project=p/destination=mixpanel/date=2026-11-21/hour=06"
    assert local.ledger_path("p", "mixpanel", HOUR) == f"{ledger}/data.parquet"
    assert local.ledger_part_path("p", "mixpanel", HOUR, "0001") == f"{ledger}/part-0001.parquet"


def test_an_hour_without_rows_is_a_file_with_schema(lake: Lake):
    with lake.open_extract("p", "scores", HOUR):
        pass
    assert read(lake, "scores") == []
    facts = lake.extract_facts("p", "scores", HOUR)
    assert facts is not None
    assert facts["rows"] == "0"
    assert "max_updated_at" not in facts


def test_only_extracts_that_exist_are_listed_in_the_order_asked_for(lake: Lake):
    hours = [HOUR.shift(step) for step in (30, 0, 1, -7)]
    for hour in hours[:3]:
        with lake.open_extract("p", "observations", hour):
            pass
    assert lake.extract_paths("p", "observations", hours) == [
        lake.extract_path("p", "observations", hour) for hour in hours[:3]
    ]
    assert lake.extract_paths("other", "observations", hours) == []
    assert lake.extract_exists("p", "observations", HOUR)
    assert not lake.extract_exists("p", "observations", HOUR.shift(-7))
    assert lake.extract_facts("p", "observations", HOUR.shift(-7)) is None


@pytest.mark.parametrize("buffer", [1, 10**9])
def test_the_newest_version_wins_then_the_later_event_then_the_last_added(lake: Lake, buffer: int):
    with lake.open_extract("p", "observations", HOUR, buffer_bytes=buffer) as writer:
        writer.add(page([("new", 9, 5, "newest"), ("new", 9, 4, "old"), ("moved", 8, 1, "later event")]))
        writer.add(page([("new", 7, None, "unknown age"), ("moved", 6, 1, "earlier event"), ("tie", 5, 1, "first")]))
        writer.add(page([("tie", 5, 1, "last added")]))
    assert [row["json"] for row in read(lake)] == ["newest", "later event", "last added"]
    assert writer.file is not None
    assert writer.file.duplicates == 4


def test_a_page_of_another_shape_is_refused(local: Lake):
    wrong = pa.RecordBatch.from_pylist([{"id": "a"}])
    with pytest.raises(pa.ArrowInvalid, match="not a page"), local.open_extract("p", "scores", HOUR) as writer:
        writer.add(wrong)
    assert not local.extract_exists("p", "scores", HOUR)


versions = st.tuples(
    st.integers(0, 12).map(str), st.integers(0, 20), st.one_of(st.none(), st.integers(0, 5)), st.text(max_size=5)
)


@settings(max_examples=60, deadline=None)
@given(
    pages=st.lists(st.lists(versions, max_size=8), max_size=8),
    sort_pages=st.booleans(),
    buffer=st.sampled_from([900, 10**9, 10**9]),
)
def test_any_pages_become_one_row_per_id_in_order_whether_or_not_they_fit_into_memory(
    pages: list[list[Row]], sort_pages: bool, buffer: int
):
    if sort_pages:
        pages = [sorted(rows, key=lambda row: -row[1]) for rows in pages]
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        with lake.open_extract("p", "observations", HOUR, buffer_bytes=buffer) as writer:
            for rows in pages:
                writer.add(page(rows))
        found = summary(pq.ParquetFile(lake.extract_path("p", "observations", HOUR)).read().to_pylist())
        assert [entry.name for entry in Path(writer.file.path).parent.iterdir()] == ["data.parquet"]  # type: ignore[union-attr]
    best: dict[str, Row] = {}
    for rows in pages:
        # Within a page that is not in order, rows of one instant keep theirs.
        for row in sorted(rows, key=lambda row: -row[1]):
            if row[0] not in best or _age(row) >= _age(best[row[0]]):
                best[row[0]] = row
    assert sorted(found) == sorted(best.values())
    times = [row[1] for row in found]
    assert times == sorted(times, reverse=True)
    assert writer.file is not None
    assert writer.file.duplicates == sum(map(len, pages)) - len(best)


def _age(row: Row) -> tuple[int, int]:
    return (-1 if row[2] is None else row[2], row[1])


def test_spilling_changes_nothing_but_where_pages_wait(local: Lake):
    pages = [page([(f"{n}-{k}", 1000 - n * 10 - k, k % 3, "x" * 1000) for k in range(5)]) for n in range(40)]
    files = []
    for buffer in (20_000, 10**9):
        with local.open_extract("p", "observations", HOUR, buffer_bytes=buffer) as writer:
            scratch = Path(writer._workspace.folder)
            for rows in reversed(pages):
                writer.add(rows)
            assert bool(list(scratch.glob("part-*"))) == (buffer == 20_000)
        files.append(pq.read_table(writer.file.path, partitioning=None))  # type: ignore[union-attr]
    assert files[0].equals(files[1])
    assert files[0].schema.remove_metadata().equals(EXTRACT_SCHEMA)
    assert files[0].num_rows == 200


def test_row_groups_are_bounded_by_bytes(local: Lake):
    with local.open_extract("p", "observations", HOUR) as writer:
        for n in range(40):
            writer.add(page([(f"{n}", 1000 - n, 0, "x" * 2_000_000)]))
    metadata = pq.read_metadata(local.extract_path("p", "observations", HOUR))
    assert metadata.num_rows == 40
    assert metadata.num_row_groups == 3


def test_one_row_group_is_held_at_a_time(local: Lake, monkeypatch: pytest.MonkeyPatch):
    size, group, held = 100_000, 1_000_000, []
    read_page = PageStore.read

    def watched(*args: Any) -> pa.RecordBatch:
        held.append(pa.total_allocated_bytes())
        return read_page(*args)

    monkeypatch.setattr(writer, "_ROW_GROUP_BYTES", group)
    with local.open_extract("p", "observations", HOUR, buffer_bytes=1) as extract:
        for number in range(100):
            extract.add(page([(str(number), 1000 - number, 1, f'"{number:{size}}"')]))
        monkeypatch.setattr(PageStore, "read", watched)
    assert pq.ParquetFile(local.extract_path("p", "observations", HOUR)).num_row_groups >= 9
    assert max(held) - min(held) < 1.5 * group


class Remembering(LocalFileSystem):
    """Remembers what it has listed, as the filesystems of object stores do."""

    protocol = "remembering"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("remembering://"))

    def ls(self, path: str, detail: bool = False, **options: Any) -> Any:
        found = self._ls_from_cache(path)
        if found is None:
            found = self.dircache[path] = super().ls(path, detail=True, **options)
        return found if detail else [entry["name"] for entry in found]


def test_what_other_processes_write_behind_a_url_is_seen(tmp_path: Path):
    fsspec.register_implementation("remembering", Remembering, clobber=True)
    lake, others = Lake(f"remembering://{tmp_path}"), Lake(str(tmp_path))
    for hours in ([HOUR], [HOUR, HOUR.shift(1)]):
        with others.open_extract("p", "observations", hours[-1]) as writer:
            writer.add(page([("a", 0, 0, "{}")], hours[-1]))
        assert lake.extracted_hours("p", "observations") == hours
        assert len(lake.extract_paths("p", "observations", hours)) == len(hours)


def test_a_url_with_a_password_is_refused_without_showing_it():
    with pytest.raises(ConfigError, match="password") as caught:
        Lake("sftp://someone:pass-word@host/data")
    assert "pass-word" not in str(caught.value)
    assert "FSSPEC_SFTP_PASSWORD" in str(caught.value)
