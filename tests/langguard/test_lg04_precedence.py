"""LG-04: what a file says wins over LANGFUSE_HOST, that over LANGFUSE_BASE_URL, that over the default; and it shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.cli.check import setting_lines
from lf_dagster.cli.projects import load_environment, projects_of
from lf_dagster.component import build_project_definitions
from lf_dagster.component.component import settings_from_attributes
from lf_dagster.config import environment_settings, load_project
from lf_dagster.environment import setting_paths
from tests.test_config import FULL

FILE = {"langfuse": {"host": "https://file.example"}}
HOST = {"LANGFUSE_HOST": "https://host.example"}
BASE = {"LANGFUSE_BASE_URL": "https://base.example"}


@pytest.mark.parametrize(
    ("attributes", "env", "line"),
    [
        (FILE, HOST | BASE, "https://file.example (from shop/defs.yaml, over LANGFUSE_HOST, LANGFUSE_BASE_URL)"),
        (FILE, BASE, "https://file.example (from shop/defs.yaml, over LANGFUSE_BASE_URL)"),
        (FILE, {}, "https://file.example (from shop/defs.yaml)"),
        ({}, HOST | BASE, "https://host.example (from LANGFUSE_HOST, over LANGFUSE_BASE_URL)"),
        ({}, HOST, "https://host.example (from LANGFUSE_HOST)"),
        ({}, {"LANGFUSE_HOST": "", **BASE}, "https://base.example (from LANGFUSE_BASE_URL)"),
        ({}, {}, "https://cloud.langfuse.com (from default)"),
    ],
)
def test_lg04_the_winner_is_used_and_named(attributes: dict[str, Any], env: dict[str, str], line: str) -> None:
    given = {**attributes, "name": "shop", "from_environment": True}
    settings = settings_from_attributes(given, env, origin="shop/defs.yaml")
    # As the command line gets them: out of the definitions that Dagster loads.
    (found,) = projects_of(build_project_definitions(settings))
    assert f"langfuse.host = {line}" in list(setting_lines(found, env))


def test_lg04_without_from_environment_the_variables_play_no_part() -> None:
    settings = settings_from_attributes({"name": "shop"}, HOST)
    assert settings.langfuse.host == "https://cloud.langfuse.com"
    assert "langfuse.host = https://cloud.langfuse.com (from default)" in list(setting_lines(settings, HOST))


def test_lg04_keys_are_named_by_their_variables_and_never_shown() -> None:
    env = {"SHOP_PUBLIC": "pk-lf-1234abcd", "LANGFUSE_SECRET_KEY": "sk-lf-hidden"}
    settings = load_project({"langfuse": {"public_key_env": "SHOP_PUBLIC"}})
    lines = list(setting_lines(settings, env))
    assert lines[-1] == "keys: SHOP_PUBLIC (...abcd), LANGFUSE_SECRET_KEY"
    assert "hidden" not in "".join(lines)
    assert "pk-lf-" not in "".join(lines)
    assert "LANGFUSE_PUBLIC_KEY (not set)" in list(setting_lines(load_project(), {}))[-1]


def test_lg04_a_variable_of_the_process_wins_over_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("LANGFUSE_HOST=https://dotenv.example\nLANGFUSE_START=2026-09-07\n")
    monkeypatch.setenv("LANGFUSE_HOST", "https://process.example")
    monkeypatch.setenv("LANGFUSE_START", "")
    monkeypatch.delenv("LANGFUSE_START")
    load_environment()
    found = load_project({}, os.environ)
    assert (found.langfuse.host, found.start) == ("https://process.example", "2026-09-07-00:00")


def test_lg04_every_setting_that_a_variable_gives_is_traced_to_it() -> None:
    more = {"LF_DAGSTER_SOURCE_APPS": "", "LF_DAGSTER_RECONCILE": "0", "LF_DAGSTER_REVISIT_HOURS": ""}
    env = {**FULL, **more, "LF_DAGSTER_FRESH_MINUTES": "30", "MIXPANEL_HOLD_HOURS": "3", "POSTHOG_ON_DELETE": "keep"}
    sources = load_project({}, env).sources
    assert set(sources) == set(setting_paths(environment_settings(env)))
    assert {name for names in sources.values() for name in names} == set(env) - {
        "LANGFUSE_PUBLIC_KEY",
        "LANGFUSE_SECRET_KEY",
    }
    assert all(len(names) == 1 for names in sources.values())
