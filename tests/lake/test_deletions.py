"""Rows that a re-read no longer returns stay in the extract, marked; live rows are what the last read returned."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_dagster.errors import FatalError, RetryableError
from lf_dagster.lake import DeletionRule, ExtractFile, Lake
from tests.lake.conftest import HOUR, Row, page
from tests.lake.test_atomic import start_writer, write_old
from tests.lake.test_extracts import read, read_all, summary

T0 = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)


def at(read_number: int) -> datetime:
    return T0 + timedelta(hours=read_number)


def write(
    lake: Lake,
    ids: Sequence[str],
    number: int = 0,
    *,
    buffer: int = 10**9,
    expired: bool = False,
    max_lost_share: float = 1.0,
    **facts: str,
) -> ExtractFile:
    """The read `number` of the hour, which returned these ids."""
    rule = DeletionRule(seen_at=at(number), expired=expired, max_lost_share=max_lost_share)
    with lake.open_extract("p", "observations", HOUR, rule=rule, buffer_bytes=buffer) as writer:
        writer.set_facts(**facts)
        for id_ in ids:
            writer.add(page([row_of(id_)]))
    assert writer.file is not None
    return writer.file


def row_of(id_: str) -> Row:
    """Event time and text are a function of the id, some share an instant."""
    place = sum(id_.encode()) % 97
    return (id_, place, 1, f'{{"id":"{id_}"}}')


def live(lake: Lake) -> list[str]:
    return [row["id"] for row in read(lake)]


def marks(lake: Lake) -> dict[str, datetime]:
    return {row["id"]: row["deleted_seen_at"] for row in read_all(lake) if row["deleted_seen_at"] is not None}


@pytest.mark.parametrize("buffer", [1, 10**9])
def test_a_row_that_is_not_returned_again_is_marked_with_the_moment_of_that_read(lake: Lake, buffer: int):
    write(lake, ["a", "b", "c"])
    file = write(lake, ["c", "a", "d"], 1, buffer=buffer)
    assert sorted(live(lake)) == ["a", "c", "d"]
    assert marks(lake) == {"b": at(1)}
    [gone] = [row for row in read_all(lake) if row["id"] == "b"]
    assert summary([gone]) == [row_of("b")]
    assert gone["trace_id"] == "t-b"
    assert (file.rows, file.deleted, file.newly_deleted, file.duplicates) == (3, 1, 1, 0)


def test_the_facts_count_live_rows_and_marked_rows_apart(lake: Lake):
    write(lake, ["a", "b", "c"])
    write(lake, ["a", "b"], 1)
    write(lake, ["a"], 2)
    facts = lake.extract_facts("p", "observations", HOUR) or {}
    counted = ("rows", "distinct_ids", "deleted", "newly_deleted", "kept_expired", "duplicates")
    assert [facts[name] for name in counted] == ["1", "1", "2", "1", "0", "0"]


def test_a_mark_keeps_its_first_time_over_further_reads(lake: Lake):
    write(lake, ["a", "b", "c"])
    write(lake, ["a", "c"], 1)
    write(lake, ["a"], 2)
    file = write(lake, ["a"], 3)
    assert marks(lake) == {"b": at(1), "c": at(2)}
    assert (file.deleted, file.newly_deleted) == (2, 0)


def test_a_row_that_comes_back_is_live_and_a_later_loss_is_a_new_one(lake: Lake):
    write(lake, ["a", "b"])
    write(lake, ["a"], 1)
    file = write(lake, ["a", "b"], 2)
    assert (sorted(live(lake)), marks(lake), file.deleted) == (["a", "b"], {}, 0)
    write(lake, ["a"], 3)
    assert marks(lake) == {"b": at(3)}


def test_a_read_without_rows_marks_them_all(lake: Lake):
    write(lake, ["a", "b"])
    file = write(lake, [], 1)
    assert (live(lake), marks(lake), file.rows) == ([], {"a": at(1), "b": at(1)}, 0)


@pytest.mark.parametrize("buffer", [1, 10**9])
def test_when_nothing_is_missing_the_rows_are_those_of_a_first_read(local: Lake, tmp_path: Path, buffer: int):
    ids = [f"id-{n}" for n in range(300)]
    fresh = Lake(str(tmp_path / "fresh"))
    write(local, ids[:200])
    write(local, ids, 1, buffer=buffer)
    write(fresh, ids, 1, buffer=buffer)
    files = [pq.ParquetFile(each.extract_path("p", "observations", HOUR)) for each in (local, fresh)]
    assert files[0].read().equals(files[1].read())
    assert files[0].metadata.num_row_groups == files[1].metadata.num_row_groups
    assert local.extract_facts("p", "observations", HOUR) == fresh.extract_facts("p", "observations", HOUR)


def test_live_rows_are_in_order_and_marked_rows_follow_in_row_groups_of_their_own(local: Lake):
    ids = [f"id-{n}" for n in range(60)]
    write(local, ids)
    write(local, ids[::2], 1)
    times = [row["event_time"] for row in read(local)]
    assert times == sorted(times, reverse=True)
    assert [row["id"] for row in read_all(local)[:30]] == live(local)
    groups = pq.read_metadata(local.extract_path("p", "observations", HOUR))
    nulls = [groups.row_group(n).column(6).statistics.null_count for n in range(groups.num_row_groups)]
    assert nulls == [30, 0]


def test_missing_rows_are_found_in_whichever_row_group_they_lie(local: Lake):
    with local.open_extract("p", "observations", HOUR) as writer:
        for n in range(40):
            writer.add(page([(f"{n}", 1000 - n, 0, "x" * 2_000_000)]))
    with local.open_extract("p", "observations", HOUR, rule=DeletionRule(seen_at=at(1))) as writer:
        writer.add(page([(f"{n}", 1000 - n, 0, "short") for n in range(40) if n not in (3, 17, 18, 39)]))
    gone = [row for row in read_all(local) if row["deleted_seen_at"] is not None]
    assert [(row["id"], len(row["json"])) for row in gone] == [(id_, 2_000_000) for id_ in ("3", "17", "18", "39")]


def test_missing_rows_are_found_wherever_they_lie_in_a_large_row_group(local: Lake):
    missing = {0, 1999, 2000, 2001, 3999, 4500, 6999}
    for number, gone in enumerate((set(), missing)):
        with local.open_extract("p", "observations", HOUR, rule=DeletionRule(seen_at=at(number))) as writer:
            writer.add(page([(f"{n}", 10_000 - n, 0, f"text {n}") for n in range(7000) if n not in gone]))
    gone_rows = [row for row in read_all(local) if row["deleted_seen_at"] is not None]
    assert [(row["id"], row["json"]) for row in gone_rows] == [(f"{n}", f"text {n}") for n in sorted(missing)]


@pytest.mark.parametrize("expired", [False, True])
def test_a_file_from_before_there_were_marks_reads_as_unmarked(lake: Lake, expired: bool):
    path = lake.extract_path("p", "observations", HOUR)
    old = page([row_of("a"), row_of("b")]).drop_columns(["deleted_seen_at"])
    with lake.replacing(path) as draft:
        pq.write_table(pa.Table.from_batches([old]).replace_schema_metadata({"lf_dagster.rows": "2"}), draft)
    write(lake, ["a"], 1, expired=expired)
    assert sorted(live(lake)) == (["a", "b"] if expired else ["a"])
    assert marks(lake) == ({} if expired else {"b": at(1)})
    assert summary([row for row in read_all(lake) if row["id"] == "b"]) == [row_of("b")]


def test_a_killed_reread_marks_nothing_and_the_next_one_does(local: Lake):
    write_old(local)
    with start_writer(local) as process:
        process.send_signal(signal.SIGKILL)
    assert marks(local) == {}
    write(local, ["newer"], 2)
    assert (live(local), marks(local)) == (["newer"], {"old": at(2)})


def test_a_failed_reread_leaves_rows_and_marks(lake: Lake):
    write(lake, ["a", "b"])
    write(lake, ["a"], 1)

    def fail() -> None:
        with lake.open_extract("p", "observations", HOUR, rule=DeletionRule(seen_at=at(2))):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (live(lake), marks(lake)) == (["a"], {"b": at(1)})


def damage(lake: Lake) -> bytes:
    """Cuts the extract's file short, as a full disk or a bad copy does; returns what is left."""
    path = lake.extract_path("p", "observations", HOUR)
    with lake.open(path) as file:
        left = file.read()[:-100]
    with lake.replacing(path) as draft:
        draft.write_bytes(left)
    return left


def put_aside(lake: Lake) -> list[str]:
    return lake.glob(lake.extract_path("p", "observations", HOUR) + ".unreadable-*")


def test_an_extract_that_cannot_be_read_is_put_aside_by_the_next_read(lake: Lake, caplog: pytest.LogCaptureFixture):
    write(lake, ["a", "b"])
    left = damage(lake)
    with pytest.raises(FatalError, match="the extract cannot be read"):
        lake.extract_facts("p", "observations", HOUR)
    write(lake, ["a", "c"], 2, max_lost_share=0.5, read_path="v2")
    assert (sorted(live(lake)), marks(lake)) == (["a", "c"], {})
    [path] = put_aside(lake)
    assert path.endswith("/data.parquet.unreadable-20261121T100000Z")
    with lake.open(path) as file:
        assert file.read() == left, "what only it may know is not thrown away"
    assert "is put aside as data.parquet.unreadable-20261121T100000Z" in caplog.text
    assert lake.extracted_hours("p", "observations") == [HOUR]
    # The next one goes on from there.
    write(lake, ["a"], 3)
    assert (live(lake), marks(lake), len(put_aside(lake))) == (["a"], {"c": at(3)}, 1)


@pytest.mark.parametrize(
    ("ids", "options", "why"),
    [
        (["a"], {"expired": True}, "past the project's retention"),
        ([], {"max_lost_share": 0.5}, "returned no rows"),
    ],
)
def test_where_nobody_knows_what_a_read_lost_the_broken_extract_stays(lake: Lake, ids, options, why):
    write(lake, ["a", "b"])
    damage(lake)
    with pytest.raises(FatalError, match=why) as caught:
        write(lake, ids, 1, **options)
    assert "move the file away" in str(caught.value)
    assert put_aside(lake) == []
    with pytest.raises(FatalError, match="the extract cannot be read"):
        lake.extract_facts("p", "observations", HOUR)


def test_deletions_that_are_accepted_let_an_empty_read_take_its_place(lake: Lake):
    write(lake, ["a", "b"])
    damage(lake)
    write(lake, [], 1, max_lost_share=1.0)
    assert (live(lake), len(put_aside(lake))) == ([], 1)


def test_damage_behind_a_sound_footer_is_told_and_left(local: Lake):
    write(local, [f"id-{n}" for n in range(200)])
    path = Path(local.extract_path("p", "observations", HOUR))
    held = bytearray(path.read_bytes())
    held[4:400] = bytes(396)
    with local.replacing(str(path)) as draft:
        draft.write_bytes(held)
    with pytest.raises(FatalError, match="the extract cannot be read") as caught:
        write(local, ["id-1"], 1)
    assert "move it away and run" in str(caught.value)
    assert path.read_bytes() == held


# Retention


@pytest.mark.parametrize("buffer", [1, 10**9])
def test_rows_of_an_expired_hour_stay_live_and_in_order(lake: Lake, buffer: int):
    ids = [f"id-{n}" for n in range(40)]
    write(lake, ids)
    before = read(lake)
    file = write(lake, ids[::3], 1, expired=True, buffer=buffer)
    assert (file.rows, file.kept_expired, file.deleted) == (40, 26, 0)
    assert marks(lake) == {}
    assert sorted(read(lake), key=lambda row: row["id"]) == sorted(before, key=lambda row: row["id"])
    times = [row["event_time"] for row in read(lake)]
    assert times == sorted(times, reverse=True)
    assert (lake.extract_facts("p", "observations", HOUR) or {})["kept_expired"] == "26"


def test_an_hour_that_has_expired_once_stays_so_when_the_retention_is_lifted(lake: Lake):
    write(lake, ["a", "b", "c"])
    write(lake, ["a"], 1, expired=True)
    file = write(lake, [], 2)
    assert (sorted(live(lake)), file.kept_expired, file.newly_deleted) == (["a", "b", "c"], 3, 0)


def test_what_was_deleted_before_the_hour_expired_stays_marked(lake: Lake):
    write(lake, ["a", "b"])
    write(lake, ["a"], 1)
    file = write(lake, [], 2, expired=True)
    assert (live(lake), marks(lake)) == (["a"], {"b": at(1)})
    assert (file.rows, file.deleted, file.newly_deleted, file.kept_expired) == (1, 1, 0, 1)


# The guard


MANY = [f"id-{n}" for n in range(200)]


def test_a_read_that_lost_too_much_is_refused_and_leaves_the_file(lake: Lake):
    write(lake, MANY)
    with pytest.raises(FatalError, match="no longer returned 101 of 200 rows") as caught:
        write(lake, MANY[101:], 1, max_lost_share=0.5)
    assert caught.value.context == {"project": "p", "stream": "observations", "hour": HOUR.key}
    assert "accept_deletions: true" in str(caught.value)
    assert "--accept-deletions" in str(caught.value)
    assert sorted(live(lake)) == sorted(MANY)
    assert marks(lake) == {}


@pytest.mark.parametrize(
    ("held", "lost", "share"),
    [(200, 100, 0.5), (200, 200, 1.0), (50, 50, 0.5), (50, 50, 0.0)],
    ids=["just the share", "guard is off", "few rows", "few rows, no share"],
)
def test_a_smaller_loss_passes(local: Lake, held: int, lost: int, share: float):
    write(local, MANY[:held])
    assert write(local, MANY[lost:held], 1, max_lost_share=share).newly_deleted == lost


def test_the_share_is_of_the_live_rows(local: Lake):
    write(local, MANY)
    write(local, MANY[:100], 1)
    with pytest.raises(FatalError, match="no longer returned 60 of 100 rows"):
        write(local, MANY[:40], 2, max_lost_share=0.5)


def test_rows_that_expired_are_no_loss(local: Lake):
    write(local, MANY)
    assert write(local, [], 1, expired=True, max_lost_share=0.0).kept_expired == 200


# Other projects and read paths


def test_the_extract_of_another_project_is_not_overwritten(lake: Lake):
    write(lake, ["a"], project_id="one", project_name="One")
    with pytest.raises(FatalError, match=r"is of Langfuse project one \(One\), the keys open two \(Two\)") as caught:
        write(lake, ["b"], 1, project_id="two", project_name="Two")
    assert "Put back the keys" in str(caught.value)
    assert caught.value.context["hour"] == HOUR.key
    assert (live(lake), marks(lake)) == (["a"], {})


def test_rows_that_only_the_other_read_path_has_are_not_taken_for_deleted(lake: Lake):
    def synthetic(trace: str) -> pa.RecordBatch:
        rows = page([(f"t-{trace}", 3, 1, "{}")])
        return rows.set_column(1, rows.schema.field(1), pa.array([trace]))

    for number, traces in enumerate([("x", "y"), ("y",)]):
        with lake.open_extract("p", "observations", HOUR, rule=DeletionRule(seen_at=at(number))) as writer:
            writer.set_facts(read_path="v2")
            for rows in (*map(synthetic, traces), page([row_of("a"), row_of("b")])):
                writer.add(rows)
    file = write(lake, ["a"], 2, read_path="legacy")
    assert (live(lake), marks(lake)) == (["a"], {"t-x": at(1), "b": at(2)})
    assert (file.deleted, file.newly_deleted) == (2, 1)


ids = st.integers(0, 12).map(lambda n: f"i{n}")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(reads=st.lists(st.tuples(st.sets(ids), st.sampled_from([1, 10**9, 10**9])), min_size=1, max_size=5))
def test_any_reads_leave_the_last_one_live_and_mark_what_was_seen_before(reads: list[tuple[set[str], int]]):
    first_missing: dict[str, datetime] = {}
    seen: set[str] = set()
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        for number, (returned, buffer) in enumerate(reads):
            file = write(lake, sorted(returned), number, buffer=buffer)
            newly = {id_ for id_ in seen - returned if id_ not in first_missing}
            first_missing = {id_: time for id_, time in first_missing.items() if id_ not in returned}
            first_missing |= dict.fromkeys(newly, at(number))
            seen |= returned
            rows = pq.ParquetFile(file.path).read().to_pylist()
            assert {row["id"]: row["deleted_seen_at"] for row in rows} == {**dict.fromkeys(returned), **first_missing}
            assert (file.rows, file.deleted, file.newly_deleted) == (len(returned), len(first_missing), len(newly))
            assert sorted(summary(rows)) == sorted(map(row_of, seen))


def test_a_read_that_another_one_has_overtaken_replaces_nothing(lake: Lake):
    begun, later = datetime.now(timezone.utc) - timedelta(minutes=9), timedelta(minutes=5)

    def overtaken() -> None:
        with lake.open_extract("p", "observations", HOUR, rule=DeletionRule(seen_at=begun)) as slow:
            slow.add(page([("a", 0, 0, "old")]))
            with lake.open_extract("p", "observations", HOUR, rule=DeletionRule(seen_at=begun + later)) as quick:
                quick.add(page([("a", 0, 1, "new"), ("b", 1, 1, "new")]))
                quick.set_facts(extracted_at=(begun + later).isoformat())

    with pytest.raises(RetryableError, match="another run has read this hour"):
        overtaken()
    assert [(row["id"], row["json"]) for row in read(lake)] == [("b", "new"), ("a", "new")]


def test_an_extract_of_a_clock_that_was_ahead_is_replaced(lake: Lake):
    ahead = datetime.now(timezone.utc) + timedelta(days=1)
    with lake.open_extract("p", "observations", HOUR, rule=DeletionRule(seen_at=ahead)) as writer:
        writer.add(page([("a", 0, 0, "old")]))
        writer.set_facts(extracted_at=ahead.isoformat())
    with lake.open_extract("p", "observations", HOUR) as writer:
        writer.add(page([("a", 0, 1, "new")]))
    assert [row["json"] for row in read(lake)] == ["new"]
