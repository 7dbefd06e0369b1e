"""docs/librechat.md and docs/agents.md show what their queries really give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lf_dagster.agents import NAME_KEYS, NAME_PATTERNS
from lf_dagster.component.component import settings_from_attributes
from lf_dagster.config import EXTRA_EVENTS
from lf_dagster.warehouse import load_models
from tests.warehouse.apps.samples import READ_PATHS, loaded, merged, sample
from tests.warehouse.apps.test_dify_docs import as_table

DOCS = Path(__file__).parents[3] / "docs"
_QUERY = re.compile(r"```sql\n(?P<sql>.*?)```\n\n(?P<table>(?:\|[^\n]*\|\n)+)", re.DOTALL)


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("read_path", READ_PATHS)
def test_the_queries_give_what_the_pages_show(read_path: str, tmp_path: Path) -> None:
    project = loaded(tmp_path, merged(sample("librechat"), sample("dify")), read_path)
    for name in ("librechat", "agents"):
        found = list(_QUERY.finditer(page(name)))
        assert len(found) == 3
        for query in found:
            assert as_table(project.query(query["sql"])) == query["table"]


def test_the_page_names_every_table_and_event() -> None:
    tables = {model.name for model in load_models("apps") if model.app == "librechat"}
    kinds = {kind for kind in EXTRA_EVENTS if kind.startswith("librechat_")}
    assert set(re.findall(r"^\| `(librechat_\w+)` \|", page("librechat"), re.MULTILINE)) == tables | kinds


def test_the_settings_that_the_page_shows_are_taken() -> None:
    import yaml

    shown = re.search(r"```yaml\n(.*?)```", page("agents"), re.DOTALL)
    assert shown
    attributes = yaml.safe_load(shown[1])["attributes"]
    settings = settings_from_attributes(attributes, {})
    assert settings.agents.metadata_keys == NAME_KEYS
    assert settings.agents.name_patterns == (*NAME_PATTERNS, "(?P<agent>.+) run")
