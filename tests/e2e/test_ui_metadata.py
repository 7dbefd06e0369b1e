"""What the Dagster UI has to show of a project's assets: of their definitions, and of the hours that were done."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import dagster as dg
import pytest

from lf_dagster.assets.docs import render
from lf_dagster.assets.hour_chart import Bar, hour_chart
from lf_dagster.assets.meanings import AUDIT, DEFINITION, DELIVERY, EXTRACT, MEANINGS, TABLE
from lf_dagster.assets.previews import SHOWN_INLINE, preview_table
from lf_dagster.cli.projects import projects_of
from lf_dagster.cli.sync import sync_hours
from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project
from lf_dagster.hours import Hour, hour_range, parse_hour
from lf_dagster.simulators.faults import Fault
from lf_dagster.warehouse import FirstRows
from tests.automation.rows import Life
from tests.automation.works import Works, works
from tests.e2e.stack import REPOSITORY, StandIns, recorded_store, stand_ins

BOTH = {"MIXPANEL_PROJECT_TOKEN": "x", "POSTHOG_API_KEY": "phc_x"}
HOURS = hour_range(parse_hour("2026-11-21T00"), parse_hour("2026-11-21T06"))
LAYERS = {"raw": EXTRACT, "mixpanel": DELIVERY, "posthog": DELIVERY}
DAY = hour_range(parse_hour("2026-11-20T00"), parse_hour("2026-11-20T23"))
MOST_BYTES = 3_000


def specs(settings: dict[str, Any], variables: dict[str, str] | None = None) -> dict[str, dg.AssetSpec]:
    definitions = build_project_definitions(load_project({"name": "shop", **settings}, {**BOTH, **(variables or {})}))
    return {spec.key.path[-1]: spec for spec in definitions.resolve_all_asset_specs()}


# Definitions


def test_every_asset_says_what_it_is_whose_it_is_and_where_to_read_on():
    for name, spec in specs({}, {"LF_DAGSTER_OWNERS": "team:data, ada@example.com"}).items():
        assert spec.description, name
        assert spec.kinds, name
        assert spec.group_name, name
        assert list(spec.owners) == ["team:data", "ada@example.com"], name
        page = spec.metadata["docs"].value
        assert (REPOSITORY / page.partition("#")[0]).exists(), page
        assert {key for key in spec.metadata if not key.startswith("dagster/")} <= DEFINITION.keys()
        if name not in ("langfuse", "llm_report"):
            columns = spec.metadata["dagster/column_schema"].columns
            assert all(column.description for column in columns), name


def test_a_view_says_that_it_is_always_current_although_it_is_never_materialized():
    views = {name: spec for name, spec in specs({}).items() if "view" in spec.kinds}
    assert {"sessions", "users", "agents", "dify_messages", "librechat_conversations"} <= views.keys()
    for spec in views.values():
        assert '"Never materialized" is its normal state.' in (spec.description or "")


@pytest.mark.parametrize(
    ("settings", "links"),
    [
        ({}, ("https://mixpanel.com", "https://us.posthog.com")),
        (
            {"mixpanel": {"region": "eu", "project_id": "12"}, "posthog": {"project_id": "7"}},
            ("https://eu.mixpanel.com/project/12", "https://us.posthog.com/project/7"),
        ),
        ({"posthog": {"host": "https://ph.example.org"}}, ("https://mixpanel.com", "https://ph.example.org")),
    ],
)
def test_a_delivery_links_the_project_at_its_destination(settings: dict[str, Any], links: tuple[str, str]):
    found = specs(settings)
    assert tuple(found[name].metadata[f"{name}_project"].value for name in ("mixpanel", "posthog")) == links


def test_column_lineage_leads_from_a_property_to_the_fields_of_langfuses_json():
    found = specs({})

    def sources(name: str, column: str) -> set[tuple[str, str]]:
        deps = found[name].metadata["dagster/column_lineage"].deps_by_column.get(column, [])
        return {(dep.asset_key.path[-1], dep.column_name) for dep in deps}

    assert sources("mixpanel", "langfuse_cost_usd") == {
        ("trace_events", "langfuse_cost_usd"),
        ("generation_events", "langfuse_cost_usd"),
    }
    assert sources("posthog", "distinct_id") >= {("trace_events", "user_id"), ("trace_events", "entity_id")}
    assert sources("trace_events", "langfuse_cost_usd") == {("traces", "total_cost")}
    assert sources("traces", "total_cost") == {("raw_observations", "json.costDetails")}
    assert sources("raw_observations", "json.costDetails") == {("langfuse", "observations.costDetails")}
    assert sources("raw_observations", "event_time") == {("langfuse", "observations.startTime")}
    # Through the struct that a trace's score is looked up as.
    assert ("raw_observations", "json.release") not in sources("scores", "trace_user_id")
    assert ("raw_observations", "json.userId") in sources("scores", "trace_user_id")


def test_the_description_of_a_column_says_the_same_in_words():
    found = specs({})

    def described(name: str, column: str) -> str:
        columns = found[name].metadata["dagster/column_schema"].columns
        return next(item.description for item in columns if item.name == column)

    assert described("traces", "total_cost").endswith("(USD) From raw_observations: json.costDetails.")
    assert described("raw_observations", "event_time").endswith("From the API's startTime.")
    assert described("raw_observations", "json.costDetails").startswith("Read into generations.cost_input,")
    assert described("posthog", "langfuse_cost_usd").endswith(
        "(USD) From langfuse_cost_usd of trace_events, generation_events."
    )


def test_properties_that_are_not_sent_are_no_columns_of_a_delivery():
    settings = {
        "mixpanel": {"exclude_properties": ["langfuse_tags"], "hash_user_ids_env": "SALT"},
        "posthog": {"properties": ["langfuse_model"]},
    }
    found = specs(settings)
    names = {
        name: {column.name for column in found[name].metadata["dagster/column_schema"].columns}
        for name in ("mixpanel", "posthog")
    }
    assert {"langfuse_tags", "langfuse_user_url"} & names["mixpanel"] == set()
    assert {name for name in names["posthog"] if name.startswith("langfuse_")} == {"langfuse_model"}


def test_the_page_is_generated_from_the_code():
    written = (REPOSITORY / "docs" / "ui.md").read_text(encoding="utf-8")
    assert written == render(), "run: make docs"


# Hours


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dg.AssetMaterialization]]]:
    """The newest materialisation of each asset and hour of a run over seven recorded hours."""
    folder = tmp_path_factory.mktemp("ui")
    with (
        stand_ins(recorded_store()) as running,
        pytest.MonkeyPatch.context() as patch,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        _sync(running, folder, patch, instance, HOURS)
        yield {key.path[-1]: list(_of_hours(instance, key)) for key in instance.all_asset_keys()}


def _sync(running: StandIns, folder: Path, patch: pytest.MonkeyPatch, instance: Any, hours: list[Hour]) -> None:
    environment = running.environment(folder)
    for name, value in environment.items():
        patch.setenv(name, value)
    definitions = build_project_definitions(load_project({}, environment))
    [settings] = projects_of(definitions)
    assert sync_hours(definitions, instance, settings, hours, destinations=["mixpanel", "posthog"]).failures == []


def _of_hours(instance: Any, key: dg.AssetKey) -> Iterator[dg.AssetMaterialization]:
    """The newest materialisation of each hour; runs over many hours record an hour when it is done, and at the end."""
    seen: set[str] = set()
    for record in instance.fetch_materializations(key, limit=1000).records:
        found = record.asset_materialization
        if found and found.partition and found.partition not in seen:
            seen.add(found.partition)
            yield found


def texts(materialization: dg.AssetMaterialization) -> dict[str, str]:
    """Its Markdown entries."""
    entries = materialization.metadata.items()
    return {name: value.value or "" for name, value in entries if isinstance(value, dg.MarkdownMetadataValue)}


def _rows(materialization: dg.AssetMaterialization) -> int:
    rows = materialization.metadata["dagster/partition_row_count"].value
    assert isinstance(rows, int)
    return rows


def test_every_entry_is_explained(done: dict[str, list[dg.AssetMaterialization]]):
    assert done.keys() >= {"raw_observations", "raw_scores", "traces", "score_events", "mixpanel", "posthog"}
    for name, found in done.items():
        known = LAYERS.get("raw" if name.startswith("raw_") else name, TABLE)
        assert {key for item in found for key in item.metadata} <= known.keys(), name
        assert all("dagster/partition_row_count" in item.metadata for item in found)


def test_previews_and_pictures_are_small_enough_to_be_shown_at_once(done: dict[str, list[dg.AssetMaterialization]]):
    for name, found in done.items():
        for item in found:
            shown = {key: text for key, text in texts(item).items() if key != "reasons"}
            if name in ("mixpanel", "posthog"):
                assert shown.keys() == {"last_24_hours"}
            else:
                assert shown.keys() == ({"first_rows"} if _rows(item) else set()), name
            assert all(len(text) <= SHOWN_INLINE for text in shown.values()), name
            assert len(json.dumps(shown)) < MOST_BYTES


def test_a_preview_shows_rows_and_nobody(done: dict[str, list[dg.AssetMaterialization]]):
    store = recorded_store()
    versions = [*store.observations.versions, *store.scores.versions]
    # Names of models and the like stand in metadata too.
    told = ("type", "name", "traceName", "model", "level", "source", "environment")
    public = {version.data.get(name) for version in versions for name in told}
    secret = {text for version in versions for text in _personal(dict(version.data))} - public
    assert len(secret) > 100
    tables = 0
    for found in done.values():
        for item in found:
            if "first_rows" in item.metadata:
                head, line, *body = texts(item)["first_rows"].splitlines()
                tables += 1
                assert len(body) == min(5, _rows(item))
                assert head.count("|") == line.count("|") == body[0].count("|") <= 9
                cells = {cell.strip("`") for row in body for cell in row.split("|")}
                assert cells & secret == set()
    assert tables > 50
    shown = [texts(item)["first_rows"] for item in done["traces"] if "first_rows" in item.metadata]
    assert shown[0].startswith("|started_at|trace_name|user|n_observations|total_cost|trace_id|\n|---|")
    assert "`known`" in "".join(shown)


def _personal(row: dict[str, Any]) -> Iterator[str]:
    """Texts of a row that say who or what: ids of users, contents, values of metadata."""
    for name in ("userId", "authorUserId", "comment", "sessionId"):
        if row.get(name):
            yield str(row[name])
    for name in ("input", "output", "metadata"):
        yield from _leaves(row.get(name))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str) and len(value) > 3:
        yield value


def test_an_extract_links_the_project_in_langfuse(done: dict[str, list[dg.AssetMaterialization]]):
    link = done["raw_observations"][0].metadata["langfuse_project"]
    assert isinstance(link, dg.UrlMetadataValue)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/project/[\w-]+", link.value or "")


def test_the_picture_has_a_bar_for_each_hour_that_was_delivered(done: dict[str, list[dg.AssetMaterialization]]):
    last = next(item for item in done["posthog"] if item.partition == HOURS[-2].key)
    text = texts(last)["last_24_hours"]
    assert text.startswith("![events per hour](data:image/svg+xml,")
    assert "6 of 24 hours are here" in text
    assert "; 0 rejected (red)." in text
    svg = unquote(text)
    blue = re.search(r"stroke='#5b8def'[^>]* d='([^']*)'", svg)
    assert blue is not None
    assert blue[1].count("m") == 6
    assert "#d64545" not in svg
    assert "11-20 06:00 to 11-21 05:00 UTC" in svg


def test_a_full_picture_and_a_wide_table_are_still_shown_at_once():
    bars = {hour: Bar(9_000_000 - 7 * number, 1_000_001 * (number % 7) + 1) for number, hour in enumerate(DAY)}
    picture = hour_chart(bars)
    assert "24 of 24 hours are here, at most 9000000 events each" in picture
    assert unquote(picture).count("v-") == 48
    assert len(picture) <= SHOWN_INLINE
    wide = FirstRows(tuple("abcdefgh"), (("x" * 40,) * 8,) * 5)
    lines = preview_table(wide).splitlines()
    assert 3 <= len(lines) < 7
    assert len("\n".join(lines)) <= SHOWN_INLINE


def test_a_ledger_that_cannot_be_read_is_a_gap_in_the_picture(shop: Works):
    assert shop.rerun("2026-09-07T10", "2026-09-07T11").success
    Path(shop.lake.ledger_path("shop", "mixpanel", parse_hour("2026-09-07T10"))).write_bytes(b"torn")
    assert shop.rerun("2026-09-07T11").success
    assert "1 of 24 hours are here" in texts(newest(shop, "mixpanel", "2026-09-07-11:00"))["last_24_hours"]


# What went wrong shows


def story() -> Life:
    """Two hours of traces with generations, the second also with a user that looks like somebody."""
    life = Life().span("root", "07T10:05").generation("call", "07T10:06")
    life.span("second", "07T11:05", trace="ada@example.com-1", name="sk-live-123456789 | `a`", userId="ada")
    return life.generation("more", "07T11:06", trace="ada@example.com-1")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Works]:
    with works(tmp_path, story().store, start="2026-09-07T10:00", now="2026-09-07T13:10") as running:
        yield running


def newest(shop: Works, asset: str, key: str) -> dg.AssetMaterialization:
    found = _of_hours(shop.instance, dg.AssetKey(["shop", asset]))
    return next(item for item in found if item.partition == key)


def test_rejected_events_are_red_in_the_picture(shop: Works):
    standin = shop.mixpanel.state.standin
    standin.limits = type(standin.limits)(properties=26)  # generations have more
    assert shop.rerun("2026-09-07T10", "2026-09-07T11").success
    text = texts(newest(shop, "mixpanel", "2026-09-07-11:00"))["last_24_hours"]
    assert "2 of 24 hours are here, at most 2 events each; 2 rejected (red)." in text
    red = re.search(r"stroke='#d64545'[^>]* d='([^']*)'", unquote(text))
    assert red is not None
    assert red[1].count("m") == 2
    # An hour that is rerun later knows the hours of the earlier run.
    assert shop.rerun("2026-09-07T11").success
    assert texts(newest(shop, "mixpanel", "2026-09-07-11:00"))["last_24_hours"] == text


def test_names_that_tell_too_much_are_masked_and_can_be_no_markup(shop: Works):
    assert shop.rerun("2026-09-07T10", "2026-09-07T11").success
    for asset in ("raw_observations", "observations", "traces", "trace_events"):
        text = texts(newest(shop, asset, "2026-09-07-11:00"))["first_rows"]
        assert "ada" not in text
        assert "sk-live" not in text
        assert len({line.count("|") for line in text.splitlines()}) == 1, text


def audit(shop: Works, moment: str) -> tuple[bool, str]:
    """Whether the check on an audit passed, and what it says."""
    assert shop.at(moment).audit().success
    key = dg.AssetCheckKey(dg.AssetKey(["shop", "source_audit"]), "matches_langfuse")
    record = shop.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0]
    assert record.evaluation is not None
    return record.evaluation.passed, record.evaluation.description or ""


def langfuse_counts_otherwise(shop: Works) -> None:
    """The next audit hears of nine observations in the first hour and of none in the others."""
    bucket = {"time_dimension": "2026-09-07T10:00:00Z", "count_count": 9, "sum_totalCost": 0, "sum_totalTokens": 0}
    body = json.dumps({"data": [bucket]})
    shop.langfuse.state.faults.add(
        Fault(path="/api/public/v2/metrics", status=200, body=body, content_type="application/json")
    )


def test_an_audit_is_a_check_with_its_numbers(shop: Works):
    assert shop.rerun("2026-09-07T10", "2026-09-07T12").success
    says = "of 3 compared hours differ from Langfuse's own numbers"
    assert audit(shop, "2026-09-07T14:00") == (True, f"0 {says}")
    [made] = shop.instance.fetch_materializations(dg.AssetKey(["shop", "source_audit"]), limit=5).records
    assert made.asset_materialization is not None
    assert made.asset_materialization.metadata.keys() <= AUDIT.keys()

    langfuse_counts_otherwise(shop)
    assert audit(shop, "2026-09-07T16:00") == (
        False,
        f"2 {says}, 2 of those are to be read again, the first is 2026-09-07-10:00",
    )
    assert shop.at("2026-09-07T17:00").rerun("2026-09-07T10", "2026-09-07T12").success
    langfuse_counts_otherwise(shop)
    assert audit(shop, "2026-09-07T18:00") == (True, f"2 {says}, 0 of those are to be read again")


# The log of a run


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lines of ours at INFO and above."""
    own = [record for record in caplog.records if record.name.startswith("lf_dagster") and record.levelno >= 20]
    return [record.getMessage() for record in own if not record.name.startswith("lf_dagster.simulators")]


@pytest.mark.parametrize("hours", [1, 24])
def test_a_runs_log_is_a_story_of_a_few_lines(
    recorded: StandIns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hours: int
):
    caplog.set_level(logging.INFO, "lf_dagster")
    with dg.DagsterInstance.ephemeral() as instance:
        _sync(recorded, tmp_path, monkeypatch, instance, hour_range(HOURS[-2].shift(1 - hours), HOURS[-2]))
    lines = told(caplog)
    for part in ("reading", "observations in", "scores in", "typed:", "events:", "mixpanel:", "posthog:"):
        assert [line for line in lines if part in line], part
    assert len(lines) <= 10


def test_rows_that_cannot_be_read_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    life = Life().span("root", "07T10:05")
    for number in range(60):
        life.generation(f"dear {number}", "07T10:06", cost=1e12)
    caplog.set_level(logging.INFO, "lf_dagster")
    with works(tmp_path, life.store, start="2026-09-07T10:00", now="2026-09-07T13:10") as shop:
        assert shop.rerun("2026-09-07T10").success
        [problems] = [
            record.asset_materialization.metadata["problems"].value
            for record in shop.instance.fetch_materializations(dg.AssetKey(["shop", "traces"]), limit=1).records
            if record.asset_materialization
        ]
    lines = told(caplog)
    assert len(lines) <= 30, lines
    assert "shop: typed: 55 more rows could not be read as they should" in lines
    assert isinstance(problems, list)
    assert len(problems) == 20


def test_every_group_of_entries_is_in_the_page():
    page = (REPOSITORY / "docs" / "ui.md").read_text(encoding="utf-8")
    for where, entries in MEANINGS.items():
        assert f"### {where}\n" in page
        assert all(f"| `{name}` | {meaning}" in page for name, meaning in entries.items())
