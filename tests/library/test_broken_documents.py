"""A mistake in a `defs.yaml` is shown with file, line and reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.library.environment import Library

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("library")]

DOCUMENT = """\
type: lf_dagster.LangfuseProject

attributes:
  name: shop
  start: 2026-11-20
  langfuse:
    host: https://us.cloud.langfuse.com
    secret_key_env: SHOP_SECRET_KEY
  mixpanel:
    region: eu
    hold_hours: 3
{added}
requirements:
  env: [POSTHOG_ORIGIN]
"""

# What is changed, the line that is wrong, its path, and words of the reason.
SEEN_BY_CHECK_YAML = {
    "an unknown key": ("mixpanle:\n    region: eu", 12, "attributes.mixpanle", "was unexpected"),
    "an unknown destination": ("amplitude:\n    key: 1", 12, "attributes.amplitude", "was unexpected"),
    "an unknown key in a block": ("region: eu -> regoin: eu", 10, "attributes.mixpanel.regoin", "was unexpected"),
    "an unknown value": ("region: eu -> region: mars", 10, "attributes.mixpanel.region", "not one of ['us', 'eu'"),
    "an unknown event": ("extra_events: [agent]", 12, "attributes.extra_events.0", "not one of"),
    "a text for a number": ("hold_hours: 3 -> hold_hours: soon", 11, "attributes.mixpanel.hold_hours", "'integer'"),
    "a text for a list": (
        "posthog:\n    filters:\n      tags: beta", 14, "attributes.posthog.filters.tags", "'array'"
    ),
    "a number for a text": ("posthog:\n    project_id: 17", 13, "attributes.posthog.project_id", "'string'"),
    "a word for a switch": (
        "langfuse:\n -> langfuse:\n    content: some\n", 7, "attributes.langfuse.content", "not one of"
    ),
    "a number out of range": ("schedule_minute: 75", 12, "attributes.schedule_minute", "maximum of 59"),
    "minutes that do not divide an hour": ("sync_every_minutes: 7", 12, "attributes.sync_every_minutes", "not one of"),
    "an age of nothing": (
        "reconcile:\n    revisit_hours: [0]", 13, "attributes.reconcile.revisit_hours.0", "less than or equal to"
    ),
    "no hour": ("start: 2026-11-20 -> start: tomorrow", 5, "attributes.start", "does not match"),
    "no name": ("name: shop -> name: The Shop", 4, "attributes.name", "does not match"),
    "no origin": ("posthog:\n    host: eu.posthog.com", 13, "attributes.posthog.host", "does not match"),
    "a key for its variable": (
        "SHOP_SECRET_KEY -> sk-lf-1", 8, "attributes.langfuse.secret_key_env", "does not match"
    ),
    "no owner": ("owners: [bob]", 12, "attributes.owners.0", "does not match"),
    "a pattern without group": (
        "agents:\n    name_patterns: ['run .+']", 13, "attributes.agents.name_patterns.0", "does not match"
    ),
    "a share of two": (
        "policies:\n    error_rate:\n      max_share: 2", 14, "attributes.policies.error_rate.max_share", "maximum of 1"
    ),
}  # fmt: skip
SEEN_WHEN_LOADED = {
    "a broken pattern": (
        "agents:\n    name_patterns: ['(?P<agent>.+']", 13, "attributes.agents.name_patterns", "unterminated subpattern"
    ),
    "an event without its app": (
        "source_apps: []\n  extra_events: [dify_message]", 3, "attributes", "source_apps has no dify"
    ),
    "an empty block": ("posthog:", 12, "attributes.posthog", "write `posthog: {}`"),
    "a policy that says nothing": ("policies:\n    models: {}", 13, "attributes.policies.models", "`allow`, `deny`"),
    "a template of what is not there": (
        "posthog:\n    host: '{{ contxt.host }}'", 13, "attributes.posthog.host", "'contxt' not found"
    ),
}  # fmt: skip
FINE = {
    "as it is": "",
    "a block of defaults": "posthog: {}",
    "off whatever the environment says": "from_environment: true\n  posthog:",
    "templates": "posthog:\n    host: '{{ env.POSTHOG_ORIGIN }}'\n  data: '{{ context.project_root }}/data'",
}
GIVEN_BY_TEMPLATE = "posthog:\n    host: '{{ env.SHOP_NOWHERE }}'"


def changed(change: str) -> str:
    """The document with something added, or (`old -> new`) replaced."""
    old, arrow, new = change.partition(" -> ")
    if not arrow:
        return DOCUMENT.format(added=f"  {change}")
    text = DOCUMENT.format(added="")
    assert old in text
    return text.replace(old, new, 1)


@pytest.fixture(scope="module")
def checked(library: Library, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    folder = tmp_path_factory.mktemp("broken")
    every = {name: case[0] for name, case in {**SEEN_BY_CHECK_YAML, **SEEN_WHEN_LOADED}.items()}
    documents = {name: changed(text) for name, text in {**every, **FINE, "nowhere": GIVEN_BY_TEMPLATE}.items()}
    cases = folder / "cases.json"
    cases.write_text(json.dumps(documents))
    script = Path(__file__).with_name("check_documents.py")
    project = library.project(folder, "broken")
    done = library.run(
        *(str(library.python), str(script), str(project), str(cases)),
        cwd=project,
        env={"POSTHOG_ORIGIN": "https://eu.i.posthog.com", "LF_DAGSTER_READ_PATH": "v2"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SEEN_BY_CHECK_YAML)
def test_check_yaml_shows_file_line_and_reason(checked: dict[str, dict[str, object]], name: str):
    _, line, path, reason = SEEN_BY_CHECK_YAML[name]
    found = checked[name]
    assert found["exit_code"] == 1
    [first, *rest] = [text for text in str(found["yaml"]).splitlines() if "defs.yaml:" in text]
    assert f"defs/shop/defs.yaml:{line} - lf_dagster.LangfuseProject {path} " in first
    assert reason in first
    assert rest == []
    # Whoever does not check sees it when Dagster loads the project.
    assert f"defs/shop/defs.yaml:{line}" in str(found["defs"])


@pytest.mark.parametrize("name", SEEN_WHEN_LOADED)
def test_what_makes_no_sense_together_is_shown_when_definitions_load(checked: dict[str, dict[str, object]], name: str):
    _, line, path, reason = SEEN_WHEN_LOADED[name]
    text = str(checked[name]["defs"])
    assert f"defs/shop/defs.yaml:{line}" in text
    assert path in text
    assert reason in text


def test_what_a_template_gives_is_judged_with_field_and_file(checked: dict[str, dict[str, object]]):
    text = str(checked["nowhere"]["defs"])
    assert "posthog.host: Input should be a valid string (got None)" in text
    assert "defs/shop/defs.yaml" in text
    assert "It comes from a template or an environment variable." in text


@pytest.mark.parametrize("name", FINE)
def test_what_is_right_passes_both(checked: dict[str, dict[str, object]], name: str):
    assert (checked[name]["exit_code"], checked[name]["defs"]) == (0, "")


def test_a_key_in_the_place_of_its_variable_is_not_repeated(checked: dict[str, dict[str, object]]):
    assert "sk-lf-1" not in str(checked["a key for its variable"]["defs"])
