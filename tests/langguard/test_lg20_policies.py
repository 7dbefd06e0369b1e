"""LG-20: policies are checks on traces and generations, judged for each hour and again with each rerun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from lf_dagster.component import build_project_definitions
from lf_dagster.config import load_project
from lf_dagster.errors import ConfigError
from lf_dagster.warehouse import Warehouse
from tests.automation.rows import Life
from tests.automation.test_checks import facts, said
from tests.automation.works import Works, works

TEN, ELEVEN = "2026-09-07-10:00", "2026-09-07-11:00"

DOCUMENT = """
policies:
  error_rate: {max_share: 0.05, min_traces: 20}
  cost_per_trace: {max_usd: 0.5, severity: error}
  models: {allow: ["gpt-4o*", "text-*"], deny: ["*-preview"]}
  missing_user: {max_share: 0.1}
"""


@contextmanager
def shop_with(folder: Path, life: Life, **policies: Any) -> Iterator[Works]:
    """A shop at 12:40 that starts at 10:00, with these policies."""
    with works(folder, life.store, start="2026-09-07T10:00", now="2026-09-07T12:40", policies=policies) as running:
        yield running


def checks_of(definitions: dg.Definitions) -> set[str]:
    keys = definitions.get_repository_def().asset_graph.asset_check_keys
    return {f"{key.asset_key.path[-1]}:{key.name}" for key in keys}


def failing_turn(life: Life, trace: str, start: str, **columns: Any) -> None:
    """One failed call of LibreChat: six rows of level ERROR, one trace."""
    life.span(f"{trace}-root", start, trace=trace, level="ERROR", **columns)
    for number in range(5):
        parent = {"parentObservationId": f"{trace}-root"}
        life.span(f"{trace}-{number}", start, trace=trace, level="ERROR", **parent, **columns)


def test_lg20_the_yaml_gives_a_check_each_and_none_without() -> None:
    with_policies = load_project({"name": "shop", **yaml.safe_load(DOCUMENT)})
    assert with_policies.policies.models is not None
    assert with_policies.policies.models.deny == ("*-preview",)
    known = checks_of(build_project_definitions(load_project({"name": "shop"})))
    assert not {name for name in known if name.startswith(("traces:", "generations:"))}
    assert checks_of(build_project_definitions(with_policies)) - known == {
        *("traces:error_rate", "traces:cost_per_trace", "traces:missing_user"),
        "generations:models",
    }


@pytest.mark.parametrize(
    ("policies", "field"),
    [
        ({"error_rate": {"max_share": 5}}, "policies.error_rate.max_share"),
        ({"cost_per_trace": {}}, "policies.cost_per_trace.max_usd"),
        ({"models": {}}, "give `allow`, `deny`, or both"),
        ({"models": {"deny": [" "]}}, "an empty pattern matches no model"),
        ({"latency": {"max_s": 3}}, "policies.latency"),
    ],
)
def test_lg20_a_policy_that_says_nothing_sensible_is_refused(policies: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_project({"policies": policies})
    assert field in str(caught.value)


def test_lg20_the_error_rate_counts_traces_and_not_rows(tmp_path: Path) -> None:
    life = Life()
    for number in range(19):
        life.span(f"ok{number}", "07T10:05", trace=f"ok{number}")
    failing_turn(life, "bad", "07T10:06")
    failing_turn(life, "alone", "07T11:06")
    failing_turn(life, "judge", "07T11:07", environment="langfuse-llm-as-a-judge")
    with shop_with(tmp_path, life, error_rate={"max_share": 0.04, "min_traces": 2}) as shop:
        assert shop.rerun("2026-09-07T10", "2026-09-07T11").success
        found = said(shop, "traces", "error_rate")
    assert facts(found[TEN]) == {"violations": 1, "judged": 20, "share": 0.05, "max_share": 0.04, "ids": ["bad"]}
    assert (found[TEN].passed, found[TEN].severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found[TEN].description == "1 of 20 traces have errors: 5.0%, allowed are 4.0%"
    assert found[ELEVEN].passed, "a single trace is too few to judge"
    assert facts(found[ELEVEN])["judged"] == 1, "Langfuse's own environments are left out"
    assert facts(found[None])["which"] == [TEN]


def test_lg20_costs_of_single_traces_name_the_dearest_ten(tmp_path: Path) -> None:
    life = Life()
    for number in range(12):
        life.generation(f"g{number}", "07T10:05", trace=f"t{number:02d}", cost=1 + number, parentObservationId=None)
    life.generation("cheap", "07T11:05", trace="cheap", cost=0.5, parentObservationId=None)
    with shop_with(tmp_path, life, cost_per_trace={"max_usd": 0.5, "severity": "error"}) as shop:
        assert shop.rerun("2026-09-07T10", "2026-09-07T11").success
        found = said(shop, "traces", "cost_per_trace")
    assert (found[TEN].passed, found[TEN].severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert facts(found[TEN])["violations"] == 12
    assert facts(found[TEN])["highest_usd"] == 12.0
    assert facts(found[TEN])["ids"] == [f"t{number:02d}" for number in range(11, 1, -1)]
    assert found[ELEVEN].passed, "as much as is allowed"


def test_lg20_models_are_matched_by_patterns_in_any_case(tmp_path: Path) -> None:
    life = Life()
    for number, model in enumerate(("gpt-4o", "GPT-4o-mini", "gpt-4o-preview", "o1", "", "text-davinci")):
        life.generation(f"g{number}", f"07T10:0{number}", model=model)
    life.span("model of a span", "07T10:06", model="o1")
    policy = yaml.safe_load(DOCUMENT)["policies"]["models"]
    with shop_with(tmp_path, life, models=policy) as shop:
        assert shop.rerun("2026-09-07T10").success
        found = said(shop, "generations", "models")[TEN]
    assert not found.passed
    assert facts(found) == {"violations": 2, "judged": 5, "models": "gpt-4o-preview, o1", "ids": ["g2", "g3"]}


@pytest.mark.slow
def test_lg20_a_rerun_judges_the_hour_again(tmp_path: Path) -> None:
    life = Life().span("root", "07T10:05").span("known", "07T10:05", trace="u", userId="ada")
    life.span("root", "07T10:05", seen="07T13:00", userId="bob")
    with shop_with(tmp_path, life, missing_user={"max_share": 0.1}) as shop:
        assert shop.rerun("2026-09-07T10").success
        before = said(shop, "traces", "missing_user")[TEN]
        assert (before.passed, facts(before)["ids"]) == (False, ["t"])
        assert shop.at("2026-09-07T14:00").rerun("2026-09-07T10").success
        after = said(shop, "traces", "missing_user")[TEN]
    assert (after.passed, facts(after)["violations"]) == (True, 0)
    assert before.target_materialization_data != after.target_materialization_data


def test_lg20_an_hour_without_rows_passes(tmp_path: Path) -> None:
    with shop_with(tmp_path, Life(), **yaml.safe_load(DOCUMENT)["policies"]) as shop:
        assert shop.rerun("2026-09-07T10").success
        for asset, name in (("traces", "error_rate"), ("traces", "cost_per_trace"), ("generations", "models")):
            found = said(shop, asset, name)[TEN]
            assert (found.passed, facts(found)["judged"]) == (True, 0)


def test_lg20_hours_cost_one_query_for_each_policy_and_none_where_none_is_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    connect = Warehouse.connect

    def counted(self: Warehouse, *, read_only: bool = False, **options: Any) -> Any:
        opened.append(read_only)
        return connect(self, read_only=read_only, **options)

    life = Life().span("root", "07T10:05")
    with shop_with(tmp_path, life, **yaml.safe_load(DOCUMENT)["policies"]) as shop:
        assert shop.rerun("2026-09-07T10", "2026-09-07T11", only=["raw_observations", "raw_scores"]).success
        monkeypatch.setattr(Warehouse, "connect", counted)
        assert shop.rerun("2026-09-07T10", "2026-09-07T11", only=["observations", "scores"]).success
        assert opened.count(True) == 0, "no check is selected"
        assert shop.rerun("2026-09-07T10", "2026-09-07T11", only=["traces"]).success
        assert opened.count(True) == 1, "one look for all policies and hours"
