"""Metadata keys that a re-read no longer returns stay beside the newest JSON, with when they were last seen."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_dagster.lake import DeletionRule, ExtractFile, Lake
from lf_dagster.lake.pages import PageStore
from tests.lake.conftest import HOUR, page
from tests.lake.test_extracts import read_all

T0 = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)
Metadata = dict[str, Any]


def at(number: int) -> str:
    return (T0 + timedelta(hours=number)).isoformat()


def text(metadata: Any, **more: Any) -> str:
    return json.dumps({"metadata": metadata, **more})


def write(
    lake: Lake,
    rows: dict[str, Metadata | str],
    number: int,
    *,
    buffer: int = 10**9,
    merge: bool = True,
    expired: bool = False,
    read_path: str = "v2",
) -> ExtractFile:
    """The read `number` of the hour, which returned these ids with this metadata (or JSON text)."""
    rule = DeletionRule(seen_at=T0 + timedelta(hours=number), expired=expired)
    with lake.open_extract("p", "observations", HOUR, rule=rule, merge_metadata=merge, buffer_bytes=buffer) as writer:
        writer.set_facts(extracted_at=at(number), read_path=read_path)
        for id_, found in rows.items():
            body = found if isinstance(found, str) else text(found)
            made = page([(id_, sum(id_.encode()), number, body)])
            writer.add(made.set_column(4, made.schema.field(4), pa.array([read_path])))
    assert writer.file is not None
    return writer.file


def gone(lake: Lake) -> dict[str, Any]:
    found = {row["id"]: row["metadata_gone"] for row in read_all(lake)}
    return {id_: None if text is None else json.loads(text) for id_, text in found.items()}


@pytest.mark.parametrize("buffer", [1, 10**9])
def test_a_key_that_is_lost_stays_with_its_value_and_the_last_read_that_had_it(lake: Lake, buffer: int):
    write(lake, {"a": {"k": 1, "plan": {"x": [1.50]}}, "b": {"k": 1}}, 0)
    write(lake, {"a": {"k": 1, "plan": {"x": [1.50]}}, "b": {"k": 1}}, 1, buffer=buffer)
    write(lake, {"a": {"k": 2, "new": True}, "b": {"k": 1}}, 2, buffer=buffer)
    assert gone(lake) == {"a": {"plan": {"value": {"x": [1.5]}, "last_seen_at": at(1)}}, "b": None}
    [row] = [row for row in read_all(lake) if row["id"] == "a"]
    assert row["json"] == text({"k": 2, "new": True})


@pytest.mark.parametrize("buffer", [1, 10**9])
def test_what_is_gone_stays_over_reads_without_change_byte_for_byte(local: Lake, buffer: int):
    write(local, {"a": {"k": 1, "z": 1, "b": 2}, "c": {"z": 0}}, 0)
    write(local, {"a": {"k": 1}, "c": {"z": 0}}, 1, buffer=buffer)
    before = read_all(local)
    write(local, {"a": {"k": 1}, "c": {"z": 0}}, 2, buffer=buffer)
    after = read_all(local)
    assert [row["metadata_gone"] for row in after] == [row["metadata_gone"] for row in before]
    assert gone(local)["a"] == {key: {"value": value, "last_seen_at": at(0)} for key, value in (("z", 1), ("b", 2))}


def test_keys_gather_over_reads_and_the_latest_value_wins(lake: Lake):
    write(lake, {"a": {"x": 1, "y": 1}}, 0)
    write(lake, {"a": {"y": 2}}, 1)
    write(lake, {"a": {}}, 2)
    assert gone(lake)["a"] == {
        "x": {"value": 1, "last_seen_at": at(0)},
        "y": {"value": 2, "last_seen_at": at(1)},
    }


def test_a_key_that_returns_is_not_gone_and_a_later_loss_is_a_new_one(lake: Lake):
    write(lake, {"a": {"x": 1}}, 0)
    write(lake, {"a": {}}, 1)
    write(lake, {"a": {"x": None}}, 2)
    assert gone(lake) == {"a": None}
    write(lake, {"a": {}}, 3)
    assert gone(lake) == {"a": {"x": {"value": None, "last_seen_at": at(2)}}}


def test_replacing_keeps_nothing(lake: Lake):
    write(lake, {"a": {"x": 1}, "b": {"x": 1}}, 0)
    write(lake, {"a": {}, "b": {}}, 1)
    write(lake, {"a": {}}, 2, merge=False, expired=True)
    assert gone(lake) == {"a": None, "b": None}


def test_the_read_paths_write_metadata_differently_and_are_not_merged(lake: Lake):
    write(lake, {"a": {"scope.name": "sdk"}}, 0)
    write(lake, {"a": {"scope": {"name": "sdk"}}}, 1, read_path="legacy")
    assert gone(lake) == {"a": None}


def test_a_row_keeps_what_is_gone_when_it_is_deleted_and_when_it_comes_back(lake: Lake):
    write(lake, {"a": {"x": 1, "y": 1}, "b": {}}, 0)
    write(lake, {"a": {"y": 1}, "b": {}}, 1)
    write(lake, {"b": {}}, 2)
    x = {"value": 1, "last_seen_at": at(0)}
    assert gone(lake)["a"] == {"x": x}
    write(lake, {"b": {}}, 3)
    write(lake, {"a": {}, "b": {}}, 4)
    # the last read that returned it is not known any more: it came before the first one that missed it
    assert gone(lake)["a"] == {"x": x, "y": {"value": 1, "last_seen_at": at(2)}}


def test_rows_past_the_retention_keep_what_is_gone(lake: Lake):
    write(lake, {"a": {"x": 1}}, 0)
    write(lake, {"a": {}}, 1)
    write(lake, {}, 2, expired=True)
    assert gone(lake) == {"a": {"x": {"value": 1, "last_seen_at": at(0)}}}


@pytest.mark.parametrize("other", ["null", "[1]", '"text"', "7"])
def test_metadata_that_is_no_object_has_no_keys(lake: Lake, other: str):
    write(lake, {"a": f'{{"metadata":{other}}}', "b": {"x": 1}}, 0)
    write(lake, {"a": {"x": 1}, "b": f'{{"metadata":{other}}}'}, 1)
    assert gone(lake) == {"a": None, "b": {"x": {"value": 1, "last_seen_at": at(0)}}}


def test_rows_that_are_no_json_do_no_harm(lake: Lake):
    write(lake, {"a": "{", "b": {"x": 1}}, 0)
    write(lake, {"a": {"x": 1}, "b": "[]"}, 1)
    assert gone(lake) == {"a": None, "b": {"x": {"value": 1, "last_seen_at": at(0)}}}


def test_a_file_from_before_there_was_the_column_takes_part(lake: Lake):
    write(lake, {"a": {"x": 1}, "b": {}}, 0)
    path = lake.extract_path("p", "observations", HOUR)
    with lake.open(path) as file:
        old = pq.read_table(file).drop_columns(["metadata_gone", "deleted_seen_at"])
    with lake.replacing(path) as draft:
        pq.write_table(old.replace_schema_metadata({"lf_dagster.extracted_at": at(0)}), draft)
    write(lake, {"a": {}}, 1)
    assert gone(lake) == {"a": {"x": {"value": 1, "last_seen_at": at(0)}}, "b": None}


def test_a_first_read_and_an_unchanged_one_are_equal(local: Lake, tmp_path: Path):
    rows: dict[str, Metadata | str] = {f"id-{n}": {"n": n} for n in range(200)}
    fresh = Lake(str(tmp_path / "fresh"))
    write(local, rows, 0)
    write(local, rows, 1)
    write(fresh, rows, 1)
    files = [pq.ParquetFile(each.extract_path("p", "observations", HOUR)).read() for each in (local, fresh)]
    assert files[0].equals(files[1])
    assert files[0].column("metadata_gone").null_count == 200


def test_pages_that_grow_beyond_the_memory_go_to_disk(tmp_path: Path):
    pages = PageStore(tmp_path, buffer_bytes=10_000)
    for number in range(20):
        pages.add(page([(f"{number}", 100 - number, 1, "{}")]))
    pages.finish()
    assert not pages.is_spilled
    refs = pages.newest_first()
    for ref in refs[::2]:
        pages.replace(ref, page([(f"new-{ref.number}", 100 - ref.number, 1, "x" * 2000)]))
    pages.finish()
    assert pages.is_spilled
    found = [pages.read(ref).column("id")[0].as_py() for ref in refs]
    assert found == [f"{'' if number % 2 else 'new-'}{number}" for number in range(20)]
    assert [array[0].as_py() for array in pages.column("id")] == found
    pages.close()


keys = st.sampled_from(["a", "b", "c", "d"])
reads_of_rows = st.dictionaries(
    st.integers(0, 5).map(lambda n: f"r{n}"), st.dictionaries(keys, st.integers(0, 2), max_size=4), min_size=6
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(reads=st.lists(st.tuples(reads_of_rows, st.sampled_from([1, 10**9, 10**9])), min_size=1, max_size=5))
def test_any_reads_keep_of_each_key_the_latest_value(reads: list[tuple[dict[str, Metadata], int]]):
    latest: dict[str, dict[str, dict[str, Any]]] = {}
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        for number, (rows, buffer) in enumerate(reads):
            write(lake, {**rows}, number, buffer=buffer)
            for id_, metadata in rows.items():
                seen = {key: {"value": value, "last_seen_at": at(number)} for key, value in metadata.items()}
                latest[id_] = {**latest.get(id_, {}), **seen}
            expected = {
                id_: {key: entry for key, entry in latest[id_].items() if key not in rows[id_]} or None for id_ in rows
            }
            assert gone(lake) == expected
