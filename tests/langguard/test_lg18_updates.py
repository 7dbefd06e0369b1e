"""LG-18, conflict resolution: a later sync updates what is there; files are replaced whole, and one version remains."""

from __future__ import annotations

from pathlib import Path

from lf_dagster.hours import parse_hour
from tests.automation.rows import Life
from tests.automation.works import works
from tests.langguard.syncing import extract, table

TEN = "2026-09-07-10:00"


def test_lg18_a_changed_output_is_there_after_a_rerun_and_the_old_one_is_gone(tmp_path: Path):
    life = Life().span("root", "07T10:05", output="draft").span("root", "07T10:05", seen="07T12:00", output="final")
    with works(
        tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T11:30", langfuse={"content": True}
    ) as shop:
        shop.rerun(TEN)
        path = Path(shop.lake.extract_path("shop", "observations", parse_hour(TEN)))
        before = path.stat().st_ino
        assert table(shop, "SELECT observation_id, output FROM shop.observations") == [("root", "draft")]

        shop.at("2026-09-07T13:30").rerun(TEN)
        assert table(shop, "SELECT observation_id, output FROM shop.observations") == [("root", "final")]
        [(id, text)] = extract(shop, TEN)
        assert (id, "final" in text, "draft" in text) == ("root", True, False)
        assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing is left beside the file"
        assert path.stat().st_ino != before, "replaced, not written into"
        assert table(shop, "SELECT count(*) FROM shop.traces") == [(1,)]
        assert len(shop.mixpanel_events()) == len(shop.posthog_events()) == 1
