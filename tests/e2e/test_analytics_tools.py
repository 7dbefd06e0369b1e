"""`mixpanel-lexicon` and `posthog-dashboard` as a user calls them, and the page about them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.config import ProjectSettings
from lf_dagster.destinations.posthog_insights import insights
from lf_dagster.simulators import mixpanel, posthog
from lf_dagster.simulators.mixpanel.settings import ServiceAccount
from lf_dagster.simulators.server import serve_all
from tests.e2e.sql_world import call
from tests.e2e.stack import REPOSITORY

PAGE = (REPOSITORY / "docs" / "analytics-tools.md").read_text(encoding="utf-8")
SECRETS = {"MIXPANEL_SERVICE_ACCOUNT": "sa:sa-secret-4711", "POSTHOG_PERSONAL_API_KEY": "phx_secret4711"}


@pytest.fixture
def tools() -> dict[str, Any]:
    account = ServiceAccount(username="sa", secret="sa-secret-4711", project_ids=frozenset({7}))
    key = posthog.PersonalKey(key="phx_secret4711", project_ids=(9,))
    return {
        "mixpanel": mixpanel.create_app(service_accounts=[account]),
        "posthog": posthog.create_app(personal_keys=[key]),
    }


@pytest.fixture
def env(tools: dict[str, Any], tmp_path: Path) -> Iterator[dict[str, str]]:
    with serve_all(tools) as origins:
        yield {
            **SECRETS,
            "LANGFUSE_START": "2026-11-20-00:00",
            "LF_DAGSTER_DATA": str(tmp_path),
            "MIXPANEL_PROJECT_TOKEN": "token",
            "MIXPANEL_PROJECT_ID": "7",
            "MIXPANEL_API_HOST": origins["mixpanel"],
            "POSTHOG_API_KEY": "phc_x",
            "POSTHOG_PROJECT_ID": "9",
            "POSTHOG_API_HOST": origins["posthog"],
        }


def test_lexicon_is_written_once(env: dict[str, str], tools: dict[str, Any]) -> None:
    held = tools["mixpanel"].state.standin.store.schemas
    dry = call(env, "mixpanel-lexicon", "--dry-run")
    assert (dry.code, held.get(7)) == (0, {})
    assert "langfuse: 3 of 3 events to be described" in dry.out
    first, second = call(env, "mixpanel-lexicon"), call(env, "mixpanel-lexicon")
    assert re.search(r"langfuse: \[Langfuse\] Trace: new, \d+ properties\n", first.out)
    assert first.out.endswith("langfuse: 3 of 3 events described\n")
    assert second.out.endswith("langfuse: 0 of 3 events described\n")
    assert len(held[7]) == 3
    assert not any(value in first.out + first.err + second.out for value in SECRETS.values())


def test_the_dashboard_is_made_once(env: dict[str, str], tools: dict[str, Any]) -> None:
    store = tools["posthog"].state.standin.private
    dry = call(env, "posthog-dashboard", "--dry-run")
    assert (dry.code, store.writes) == (0, 0)
    assert "13 of 13 insights to be written: the dashboard is to be made" in dry.out
    first, second = call(env, "posthog-dashboard"), call(env, "posthog-dashboard")
    [dashboard] = store.live(9, "dashboard")
    address = f"{env['POSTHOG_API_HOST']}/project/9/dashboard/{dashboard['id']}"
    assert first.out.endswith(f"langfuse: 13 of 13 insights written: {address}\n")
    assert second.out.endswith(f"langfuse: 0 of 13 insights written: {address}\n")
    assert not any(value in first.out + first.err + second.out for value in SECRETS.values())


@pytest.mark.parametrize(
    ("command", "without", "said"),
    [
        ("mixpanel-lexicon", "MIXPANEL_SERVICE_ACCOUNT", "MIXPANEL_SERVICE_ACCOUNT is not set"),
        ("mixpanel-lexicon", "MIXPANEL_PROJECT_ID", "Set MIXPANEL_PROJECT_ID"),
        ("mixpanel-lexicon", "MIXPANEL_PROJECT_TOKEN", "no project sends to mixpanel"),
        ("posthog-dashboard", "POSTHOG_PERSONAL_API_KEY", "POSTHOG_PERSONAL_API_KEY is not set"),
        ("posthog-dashboard", "POSTHOG_API_KEY", "no project sends to posthog"),
    ],
)
def test_what_is_missing_is_said(env: dict[str, str], command: str, without: str, said: str) -> None:
    done = call({name: value for name, value in env.items() if name != without}, command)
    assert done.code == 1
    assert said in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_the_page_lists_every_insight() -> None:
    every = insights(ProjectSettings.model_validate({"name": "shop", "posthog": {}}))
    [table] = re.findall(r"\| Insight \| Shows \|\n\|---\|---\|\n((?:\|.*\|\n)+)", PAGE)
    assert table == "".join(f"| {insight.name} | {insight.description} |\n" for insight in every)
