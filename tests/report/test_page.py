"""The page: whole in one file, readable at any width, harmless whatever the data says, and never without a word."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.errors import ConfigError
from lf_dagster.report import formats
from tests.report.browser import look
from tests.report.conftest import Shop, World
from tests.report.page import Page
from tests.warehouse.extracts import hours_of, recorded, v2_row, v3_score

CHARTS = {
    *("traces-over-time", "users-over-time", "new-users-over-time", "cost-over-time", "cost-per-trace"),
    *("latency-over-time", "ttft-over-time", "speed-over-time", "score-1-over-time", "score-2-over-time"),
    "errors-over-time",
}
DAY = "2026-11-20"
EVIL = '<script>alert("x")</script>'


def generation(id_: str, at: str, **columns: Any) -> dict[str, Any]:
    """A generation of two seconds that costs a dollar, in a trace of its own."""
    row = {
        "type": "GENERATION", "model": "gpt-4o", "endTime": at.replace("00.000Z", "02.000Z"),
        "completionStartTime": at.replace("00.000Z", "01.000Z"), "isRootObservation": True,
        "usageDetails": {"input": 10, "output": 20, "total": 30}, "costDetails": {"total": 1.0}, "totalCost": 1.0,
    }  # fmt: skip
    return v2_row(id_, f"trace-{id_}", at, **{**row, **columns})


def fill(shop: Shop, rows: list[dict[str, Any]], scores: list[dict[str, Any]] | None = None) -> Shop:
    given = scores or []
    hours = sorted({*hours_of(rows), *hours_of(given, "scores")})
    shop.extract_v2(rows, hours, given)
    shop.run(hours)
    return shop


@pytest.mark.slow
@pytest.mark.parametrize(("width", "columns"), [(1280, 3), (900, 2), (400, 1)])
def test_a_browser_shows_all_charts_and_nothing_sticks_out(world: World, tmp_path: Path, width: int, columns: int):
    page = tmp_path / "report.html"
    page.write_text(world.html)
    seen = look(page, width, name="report")
    assert (seen["width"], seen["columns"]) == (width, columns)
    assert set(seen["drawn"]) == CHARTS
    assert seen["overflow"] == 0
    assert seen["spilling"] == []
    assert seen["console"] == []
    assert seen["requests"] == []
    assert seen["smallest"] > 9, "pixels of the smallest text in a chart"
    assert len(seen["ids"]) == len(set(seen["ids"]))
    assert seen["background"] == "rgb(245, 247, 250)"


@pytest.mark.slow
def test_it_is_dark_where_the_reader_wants_it_dark(world: World, tmp_path: Path):
    page = tmp_path / "report.html"
    page.write_text(world.html)
    seen = look(page, 1280, name="report-dark", dark=True)
    assert seen["dark"]
    assert seen["background"] == "rgb(18, 22, 29)"
    drawn = re.sub(r"<style>.*?</style>", "", world.html, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-f]{6}\b", drawn), "every colour of a drawing is one of the theme"


@pytest.mark.slow
def test_names_from_the_data_are_text_and_nothing_else(shop: Shop, tmp_path: Path):
    rows = [
        generation(f"{EVIL}{number}", f"{DAY}T0{number}:00:00.000Z", model=model, name=EVIL, userId=model, level=level,
                   sessionId=model, metadata={"agent_name": model})
        for number, (model, level) in enumerate([
            (EVIL, "ERROR"), ('"><img src=x onerror=alert(1)>', "DEFAULT"),
            ("_private $\\frac{1}$ {{ 7*7 }}", "DEFAULT"), ("x" * 5000, "DEFAULT"), ("文心\n<b>", "DEFAULT"),
        ])
    ]  # fmt: skip
    scores = [v3_score("s", f"{DAY}T00:30:00.000Z", trace_id=f"trace-{EVIL}0", name="</title><script>evil()</script>")]
    report = fill(shop, rows, scores).report(DAY)
    html = report.html
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert EVIL in {row["Model"] for row in page.rows("cost-by-model")}
    assert "x" * 500 not in html
    file = tmp_path / "report.html"
    file.write_text(html)
    seen = look(file, 400, name="report-names")
    assert (seen["scripts"], seen["console"], seen["overflow"], seen["spilling"]) == (0, [], 0, [])
    assert report.png.startswith(b"\x89PNG")


def test_it_needs_nothing_from_outside(world: World):
    assert "://" not in world.html
    assert not {"script", "img", "link", "iframe", "object"} & set(world.page.tags)
    assert "default-src 'none'" in world.html
    assert len(world.html) < 1_000_000


def test_the_same_numbers_give_the_same_page(world: World):
    assert world.shop.report("2026-11-20", "2026-11-21").html == world.html


def test_nothing_of_what_was_said_is_on_it(shop: Shop):
    rows = [
        generation("g", f"{DAY}T10:00:00.000Z", input="secret-input", output="secret-output", level="ERROR",
                   statusMessage="secret-status", metadata={"k": "secret-metadata"})
    ]  # fmt: skip
    scores = [
        v3_score("s", f"{DAY}T10:05:00.000Z", trace_id="trace-g", comment="secret-comment"),
        v3_score("c", f"{DAY}T10:05:00.000Z", trace_id="trace-g", dataType="CORRECTION", value="secret-correction"),
        v3_score("c1", f"{DAY}T10:05:00.000Z", trace_id="trace-g", dataType="CATEGORICAL", value="fine"),
        *(
            v3_score(f"t{number}", f"{DAY}T10:05:00.000Z", trace_id="trace-g", dataType="TEXT", value="secret-text")
            for number in range(2)
        ),
    ]
    page = fill(shop, rows, scores).report(DAY).html
    assert "correction" in page
    assert "secret" not in page


def test_empty_views_say_why(shop: Shop):
    page = fill(shop, [v2_row("a", "t", f"{DAY}T10:00:00.000Z", isRootObservation=True)]).page(DAY)
    assert page.charts == {"traces-over-time"}
    for card, why in {
        "users-over-time": "No trace in these days has a user or a session.",
        "cost-over-time": "No observation in these days has a cost",
        "cost-by-user": "No trace with a user has a cost",
        "latency-over-time": "No generation in these days has a start and an end.",
        "ttft-over-time": "only streamed ones do",
        "performance-by-model": "No generations in these days.",
        "scores": "No scores in these days.",
        "retention": "No user was first seen in these days.",
        "errors-over-time": "No observation in these days has level ERROR.",
        "top-agents": "No agent was recognised",
    }.items():
        assert why in page.empty[card], card
    assert page.figures["traces"] == 1
    assert page.figures["latency_p50"] is None
    assert page.figures["cost"] == 0


@pytest.mark.parametrize(
    ("day", "said"),
    [
        (DAY, "Langfuse had no traces and no scores in them"),
        ("2026-11-21", "None of these days' hours is in the warehouse"),
    ],
)
def test_a_day_without_anything_says_whether_it_was_run(shop: Shop, day: str, said: str):
    hours = hours_of([v2_row("a", "t", f"{DAY}T10:00:00.000Z")])
    shop.extract_v2([], hours)
    shop.run(hours)
    page = shop.page(day)
    assert said in page.text
    assert not page.charts
    assert shop.report(day).png.startswith(b"\x89PNG")


@pytest.mark.slow
def test_figures_are_compared_with_the_days_before_where_both_are_known(shop: Shop):
    rows = [generation("old", "2026-11-19T10:00:00.000Z", userId="a")]
    rows += [generation(f"new{number}", f"{DAY}T10:0{number}:00.000Z", userId="a") for number in range(3)]
    page = fill(shop, rows).page(DAY)
    assert page.text.count("+200 % on the day before") == 4, "traces, cost, generations, tokens"
    assert "±0 % on the day before" in page.text, "users"
    assert "on the day before" not in shop.page("2026-11-19").text, "nothing is known of that day"
    fill(shop, [generation("later", f"{DAY}T11:00:00.000Z")])
    assert "on the day before" not in shop.page(DAY).text, "half as many hours are known of that day"


def test_retention_by_week(shop: Shop):
    weeks = {"a": ("11-02", "11-09", "11-16"), "b": ("11-04", "11-16"), "c": ("11-10",)}
    rows = [
        generation(f"{user}{day}", f"2026-{day}T10:00:00.000Z", userId=user)
        for user, days in weeks.items()
        for day in days
    ]
    page = fill(shop, [*rows, generation("old", "2026-10-01T10:00:00.000Z", userId="d")]).page(
        "2026-11-02", "2026-11-22"
    )
    assert page.rows("retention") == [
        {"First seen": "2026-11-02", "Users": "2", "week 0": "100%", "week 1": "50%", "week 2": "100%"},
        {"First seen": "2026-11-09", "Users": "1", "week 0": "100%", "week 1": "0%", "week 2": ""},
    ]


def test_users_are_hashed_where_a_destination_gets_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shop = Shop(tmp_path, mixpanel={}, posthog={"hash_user_ids_env": "SALT"})
    fill(shop, [generation("g", f"{DAY}T10:00:00.000Z", userId="jane@example.com", sessionId="s")])
    with pytest.raises(ConfigError, match="SALT is not set"):
        shop.report(DAY)
    monkeypatch.setenv("SALT", "pepper")
    html = shop.report(DAY).html
    page = Page(html)
    shown = hashlib.sha256(b"pepperjane@example.com").hexdigest()[:16]
    assert "jane" not in html
    assert "pepper" not in html
    for table, head in (("cost-by-user", "User"), ("top-users", "User"), ("top-sessions", "User")):
        assert [row[head] for row in page.rows(table)] == [shown], table


def test_environments_of_langfuse_itself_do_not_count(shop: Shop):
    rows = [
        generation("mine", f"{DAY}T10:00:00.000Z"),
        generation("judge", f"{DAY}T10:00:00.000Z", environment="langfuse-llm-as-a-judge"),
    ]
    page = fill(shop, rows).page(DAY)
    assert (page.figures["traces"], page.figures["cost"], page.figures["generations"]) == (1, 1, 1)


def test_a_clock_that_jumped_is_no_duration(shop: Shop):
    rows = [
        generation("good", f"{DAY}T10:00:00.000Z"),
        generation("bad", f"{DAY}T10:00:00.000Z", endTime=f"{DAY}T09:59:00.000Z", completionStartTime=None),
    ]
    assert fill(shop, rows).page(DAY).figures["latency_p50"] == 2.0


def test_what_the_legacy_api_served_counts_as_much(shop: Shop):
    """It gives categories a number too, which is no mean of anything."""
    rows = {kind: recorded()[f"legacy_{kind}"] for kind in ("traces", "observations", "scores")}
    kinds = {row["name"]: row["dataType"] for row in rows["scores"]}
    scores = [{**row, "value": 3} if row["dataType"] == "CATEGORICAL" else row for row in rows["scores"]]
    hours = {*hours_of(rows["observations"]), *hours_of(rows["traces"], "traces"), *hours_of(scores, "scores")}
    shop.extract_legacy(rows["traces"], rows["observations"], sorted(hours), scores)
    shop.run(sorted(hours))
    page = shop.page("2026-11-21")
    assert page.figures["traces"] == len(rows["traces"])
    assert page.figures["scores"] == len(scores)
    shown = {row["Score"]: row["Mean"] != formats.NONE for row in page.rows("scores")}
    assert shown == {name: kind in ("NUMERIC", "BOOLEAN") for name, kind in kinds.items()}


def test_a_number_beyond_all_bounds_breaks_nothing(shop: Shop):
    numbers = {"endless": (1.7e308, 1.7e308), "both": (1.7e308, 1.7e308, -1.7e308, -1.7e308), "good": (1,)}
    scores = [
        v3_score(f"{name}{number}", f"{DAY}T10:05:00.000Z", trace_id="trace-g", name=name, value=value)
        for name, values in numbers.items()
        for number, value in enumerate(values)
    ]
    usage = {"usageDetails": {"input": 2**62}}
    rows = [generation(id_, f"{DAY}T10:00:00.000Z", userId="u", **usage) for id_ in "ghij"]
    page = fill(shop, rows, scores).page(DAY)
    assert page.figures["tokens"] == 2**64
    assert {row["Score"]: row["Scores"] for row in page.rows("scores")} == {"endless": "2", "both": "4", "good": "1"}
    assert {key for key in page.charts if key.startswith("score")} == {"score-3-over-time"}
    assert "one that a chart can show" in page.empty["score-1-over-time"]


def test_an_observation_that_began_anew_in_another_hour_counts_in_both_and_no_more(shop: Shop):
    rows = [generation("g", f"{DAY}T{hour}:00:00.000Z") for hour in ("10", "11")]
    page = fill(shop, rows).page(DAY)
    [model] = page.rows("cost-by-model")
    assert (model["Calls"], model["Cost"], model["Share"], model["Tokens in"]) == ("2", "$2.00", "100.0 %", "20")
    assert page.figures["cost"] == 2


def test_who_was_seen_earlier_in_the_first_week_is_not_new(shop: Shop):
    days = {"early": "2026-08-17", "new": "2026-08-20", "late": DAY}
    rows = [generation(user, f"{day}T10:00:00.000Z", userId=user) for user, day in days.items()]
    page = fill(shop, rows).page("2026-08-20", DAY)
    shown = [row["new users"] for row in page.rows("new-users-over-time")]
    assert [new for new in shown if new not in ("0", formats.NONE)] == ["1", "1"]


@pytest.mark.slow
def test_steps_get_longer_with_the_days(shop: Shop):
    fill(shop, [generation("g", f"{DAY}T10:00:00.000Z")])
    for first, grain, steps in (
        (DAY, "hour", 24),
        ("2026-11-17", "hour", 96),
        ("2026-11-16", "day", 5),
        ("2026-08-21", "day", 92),
        ("2026-08-20", "week", 14),
        ("2025-11-20", "week", 53),
    ):
        shown = shop.page(first, DAY).rows("traces-over-time")
        assert (len(shown), next(iter(shown[0]))) == (steps, grain)
        assert [row["traces"] for row in shown if row["traces"] not in (formats.NONE, "0")] == ["1"]


def test_tables_are_bounded(shop: Shop):
    rows = [
        generation(f"g{at}", f"{DAY}T{at % 24:02d}:00:00.000Z", model=f"m{at:02d}", userId=f"u{at:02d}", level="ERROR",
                   sessionId=f"s{at:02d}", name=f"n{at:02d}", metadata={"agent_name": f"a{at:02d}"})
        for at in range(30)
    ]  # fmt: skip
    page = fill(shop, rows).page(DAY)
    tables = ("cost-by-model", "cost-by-user", "performance-by-model", "errors-by-name", "top-sessions", "top-users")
    assert {len(page.rows(table)) for table in (*tables, "top-agents")} == {10}
    heads = page.tables["cost-over-time"][0]
    assert heads == ["hour", "m00", "m01", "m02", "m03", "m04", "all others"]
