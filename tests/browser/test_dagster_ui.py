"""What people see and do in Dagster's UI: real clicks in a real browser. Each test leaves pictures in `.artefacts/`."""

from __future__ import annotations

import re

import pytest

from tests.browser.stack import Stack
from tests.browser.ui import Ui
from tests.e2e.test_backfill import STATUS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("browser")]

GROUPS = ["shop", "shop_dify", "shop_librechat", "shop_report", "support", "support_dify", "support_report"]
CHAIN = [
    "langfuse", "raw_observations", "raw_scores", "observations", "traces", "generations", "scores", "deletions",
    "trace_events", "generation_events", "score_events", "mixpanel", "posthog",
]  # fmt: skip
BACKFILLED = 6


def test_the_lineage_shows_two_projects_in_groups_and_the_chain_of_one(ui: Ui):
    ui.open("/")
    ui.click("link", "Lineage")
    boxes = {name: ui.box(ui.in_graph(name)) for name in GROUPS}
    ui.shot("1-lineage-of-two-projects")
    assert all(ui.is_legible(box) for box in boxes.values()), boxes
    assert boxes["shop"]["x"] < boxes["shop_dify"]["x"], "groups of source apps stand behind the project's own"
    assert boxes["shop_librechat"]["y"] < boxes["support_dify"]["y"], "projects stand apart"

    ui.filter('group:"shop"')
    boxes = {name: ui.box(ui.in_graph(name)) for name in CHAIN}
    ui.shot("1-lineage-of-one-project")
    assert all(ui.is_legible(box) for box in boxes.values()), boxes
    columns = ["langfuse", "raw_observations", "observations", "generation_events", "posthog"]
    assert [boxes[name]["x"] for name in columns] == sorted({boxes[name]["x"] for name in columns})


def test_an_asset_page_has_numbers_plots_over_hours_and_documented_columns(ui: Ui, stack: Stack):
    held = stack.held_by_support_posthog(stack.last)
    ui.open("/")
    ui.click("link", "Catalog")
    ui.filter('key:"support/posthog"')
    ui.click("link", "support / posthog")
    ui.sees("Latest materialization", "Freshness policy", stack.last.key)
    row = ui.page.get_by_role("row").filter(has=ui.page.get_by_text("delivered", exact=True))
    ui.sees(str(held), within=row)
    row.scroll_into_view_if_needed()
    ui.shot("2-metadata-of-a-delivery")

    ui.click("button", "Plots")
    plot = ui.page.get_by_text("delivered", exact=True).locator("xpath=ancestor::*[.//canvas][1]//canvas").first
    plot.scroll_into_view_if_needed()
    ui.waits_for("a line in the plot", lambda: ui.coloured_pixels(plot) > 100)
    ui.shot("2-plots-over-hours")

    ui.open("/assets/support/traces")
    ui.sees("Columns", "Column name", "duration_s", "TIMESTAMP WITH TIME ZONE")
    described = ui.page.get_by_role("row").filter(has=ui.page.get_by_text("duration_s", exact=True))
    assert re.search(r"ended_at minus started_at.*\(s\)", described.inner_text(), re.DOTALL)
    ui.shot("2-documented-columns")


def test_a_backfill_of_six_hours_clicked_together_ends_well_and_delivers_what_it_should(ui: Ui, stack: Stack):
    hours = [stack.first.shift(hour).key for hour in range(BACKFILLED)]
    ui.open("/")
    ui.click("link", "Jobs")
    ui.click("link", "shop_hourly")
    ui.click("button", "Materialize all")
    dialog = ui.page.get_by_role("dialog").filter(has_text="Partition selection")
    keys = dialog.get_by_role("textbox").first
    keys.fill(f"[{hours[0]}...{hours[-1]}]")
    keys.press("Enter")
    ui.sees(f"{BACKFILLED} partitions", within=dialog)
    ui.shot("3-hours-picked")
    ui.click("button", "Launch backfill", within=dialog)

    ui.click("link", "View", exact=True)  # of the notice that it was created
    ui.sees("Status", f"{BACKFILLED} partitions")
    ui.shot("3-backfill-launched")
    status = ui.page.get_by_text("Status", exact=True).locator("..")
    # The daemon looks at backfills every 30 seconds: once to launch the run, once to see that it has ended.
    ui.sees("Succeeded", within=status, seconds=240)
    ui.shot("3-backfill-succeeded")
    backfill = ui.page.url.rsplit("/", 1)[-1].partition("?")[0]
    done = stack.dagster.query(STATUS, id=backfill)["partitionBackfillOrError"]
    assert (done["status"], done["numPartitions"], len(done["runs"])) == ("COMPLETED_SUCCESS", BACKFILLED, 1)

    ui.open("/assets/shop/mixpanel")
    ui.click("tab", "Partitions")
    ui.sees(f"Materialized ({BACKFILLED})", "Failed (0)")
    ui.page.get_by_text(re.compile(r"^Missing \(\d+\)$")).click()
    ui.page.get_by_text(hours[-1], exact=True).filter(visible=True).first.click()
    ui.sees("dagster/partition_row_count", "delivered")
    ui.shot("3-hours-materialised")
    for destination, tally in stack.shop_destinations(BACKFILLED).items():
        assert tally.expected > 100
        assert (tally.missing, tally.extra, tally.doubled) == (0, 0, 0), destination
        # A trace that goes on in the next hour is what the six hours say of it.
        assert (tally.right, tally.stale) == (tally.expected - tally.stale, stack.going_on(BACKFILLED)), destination


def test_checks_that_failed_are_seen_as_such_with_the_reason(ui: Ui, stack: Stack):
    ui.open("/assets/support/mixpanel")
    ui.click("tab", "Lineage")
    ui.sees("2 / 3 Passed")
    ui.has_loaded()
    ui.shot("4-failed-checks-in-the-lineage")

    ui.click("tab", "Checks")
    ui.page.get_by_text("rejections", exact=True).first.click()
    ui.sees("Latest execution", "Failed", "max_share")
    ui.sees(re.compile(r"^\d+ of \d+ events rejected, the first as refused:properties"))
    ui.shot("4-rejections")
    ui.page.get_by_role("tab", name="Partitions").last.click()
    ui.sees("Failed (1)", "Passed (7)")
    ui.shot("4-rejections-by-hour")

    ui.open("/assets/support/traces?view=checks")
    ui.sees("cost_per_trace", "Failed", "Policy: no trace of the hour costs more than 0.001 USD.")
    ui.sees(re.compile(r"^\d+ of \d+ traces cost more than 0\.001 USD; the highest is "))
    ui.shot("4-policy")
