"""LG-11: tokens, costs, models and latencies of generations, and their sums per trace."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.automation.rows import Life
from tests.langguard.readpaths import both_read_paths, legacy_trace, query, read


def life() -> Life:
    """Two calls of a model, and Dify's suggested questions, whose usage counts characters."""
    found = Life().span("root", "07T10:05", minutes=5)
    streamed = {"completionStartTime": "2026-09-07T10:06:01.500Z"}
    found.generation("first", "07T10:06", cost=0.25, **streamed)
    found.generation("second", "07T10:07", cost=0.5, model="o1")
    characters = {"usageDetails": {"input": 2, "output": 3, "total": 180}, "costDetails": {}}
    found.generation("questions", "07T10:08", name="suggested_question", model="", **characters)
    legacy_trace(found, "t", "07T10:05")
    return found


@both_read_paths
def test_lg11_generations_have_tokens_costs_models_and_latencies(tmp_path: Path, mode: str) -> None:
    with read(tmp_path, life(), mode) as shop:
        rows = query(
            shop,
            "SELECT observation_id, model, input_tokens, output_tokens, total_tokens, cost_total, latency_s, ttft_s, "
            "usage_unit FROM generations ORDER BY observation_id",
        )
    named = {row.pop("observation_id"): row for row in rows}
    calls = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "latency_s": 60.0, "usage_unit": "tokens"}
    assert named["first"] == {**calls, "model": "gpt-4o", "cost_total": Decimal("0.25"), "ttft_s": 61.5 - 60.0}
    assert named["second"] == {**calls, "model": "o1", "cost_total": Decimal("0.5"), "ttft_s": None}
    assert (named["questions"]["model"], named["questions"]["usage_unit"]) == (None, "characters")


@pytest.mark.slow
@both_read_paths
def test_lg11_sums_of_a_trace_are_those_of_its_rows_without_characters(tmp_path: Path, mode: str) -> None:
    with read(tmp_path, life(), mode) as shop:
        (row,) = query(
            shop,
            "SELECT input_tokens, output_tokens, total_tokens, total_cost, n_generations, duration_s FROM traces",
        )
    assert row == {
        "input_tokens": 6,
        "output_tokens": 8,
        "total_tokens": 14,
        "total_cost": Decimal("0.75"),
        "n_generations": 3,
        "duration_s": 300.0,
    }
