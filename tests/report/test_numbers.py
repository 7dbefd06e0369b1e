"""The numbers of a report are those of what applications sent, computed here from the stand-in's rows in Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from lf_dagster.report import formats
from tests.report.conftest import HOURS, World, is_own

NOBODY = {"", "0", "None", "null", "anonymous"}
"""Ids of the generated world that stand for nobody."""


def observed(world: World) -> list[dict[str, Any]]:
    """Observations without the rows that stand for legacy traces."""
    return [row for row in world.observations() if row["id"] != f"t-{row['traceId']}"]


def generations(world: World) -> list[dict[str, Any]]:
    return [row for row in observed(world) if row["type"] == "GENERATION"]


def own_traces(world: World) -> dict[str, list[dict[str, Any]]]:
    return {trace: rows for trace, rows in world.traces().items() if is_own(rows[0])}


def user_of(rows: list[dict[str, Any]]) -> str:
    return next((row["userId"] for row in rows if row["userId"]), "")


def session_of(rows: list[dict[str, Any]]) -> str:
    return next((row["sessionId"] for row in rows if row["sessionId"]), "")


def cost_of(row: dict[str, Any]) -> float:
    return float(row["costDetails"].get("total", 0) or 0)


def latency_of(row: dict[str, Any], until: str = "endTime") -> float | None:
    if row[until] is None:
        return None
    took = (moment(row[until]) - moment(row["startTime"])).total_seconds()
    return took if took >= 0 else None


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def quantile(values: list[float | None], at: float) -> float:
    return float(np.quantile([value for value in values if value is not None], at))


def test_key_figures(world: World):
    traces, seen, called = own_traces(world), observed(world), generations(world)
    users = {user_of(rows) for rows in traces.values()} - NOBODY
    sessions = {row["sessionId"] for rows in traces.values() for row in rows} - {""}
    errors = sum(row["level"] == "ERROR" for row in seen)
    tokens = sum(
        value for row in called for key, value in row["usageDetails"].items() if "input" in key or "output" in key
    )
    assert world.page.figures == {
        "traces": len(traces),
        "users": len(users),
        "sessions": len(sessions),
        "cost": pytest.approx(sum(map(cost_of, seen))),
        "generations": len(called),
        "tokens": tokens,
        "latency_p50": pytest.approx(quantile([latency_of(row) for row in called], 0.5)),
        "ttft_p50": pytest.approx(quantile([latency_of(row, "completionStartTime") for row in called], 0.5), abs=1e-3),
        "error_rate": pytest.approx(errors / len(seen)),
        "scores": len(world.scores()),
    }


def test_traces_users_and_sessions_of_each_hour(world: World):
    expected: dict[str, tuple[set, set, set]] = defaultdict(lambda: (set(), set(), set()))
    for trace, rows in own_traces(world).items():
        hour = rows[0]["startTime"][:13].replace("T", " ") + ":00"
        traces, users, sessions = expected[hour]
        traces.add(trace)
        users.update({user_of(rows)} - NOBODY)
        sessions.update({session_of(rows)} - {""})
    shown = world.page.rows("traces-over-time")
    assert len(shown) == 48, "two days by the hour"
    assert {row["hour"]: int(row["traces"]) for row in shown if row["traces"] not in ("0", formats.NONE)} == {
        hour: len(traces) for hour, (traces, _, _) in expected.items()
    }
    active = world.page.rows("users-over-time")
    found = {row["hour"]: (row["active users"], row["sessions"]) for row in active if row["hour"] in expected}
    assert found == {hour: (str(len(users)), str(len(sessions))) for hour, (_, users, sessions) in expected.items()}


def test_hours_that_were_not_run_are_unknown_and_not_zero(world: World):
    shown = [row["traces"] for row in world.page.rows("traces-over-time")]
    assert formats.NONE not in shown[: HOURS + 4]
    assert set(shown[HOURS + 4 :]) == {formats.NONE}
    assert world.report.coverage == "34 of 48 hours are in the warehouse"


def test_new_users_are_counted_once(world: World):
    users = {user_of(rows) for rows in own_traces(world).values()} - NOBODY
    assert sum(
        int(row["new users"]) for row in world.page.rows("new-users-over-time") if row["new users"] != formats.NONE
    ) == len(users)


def test_cost_and_tokens_by_model(world: World):
    calls, without, tokens = (Counter[str]() for _ in range(3))
    cost: dict[str, float] = defaultdict(float)
    for row in observed(world):
        if row["type"] != "GENERATION" and not row["model"]:
            continue
        model = row["model"]
        calls[model] += 1
        cost[model] += cost_of(row)
        without[model] += "total" not in row["costDetails"]
        if row["type"] == "GENERATION":
            tokens[model] += sum(value for key, value in row["usageDetails"].items() if "output" in key)
    shown = world.page.rows("cost-by-model")
    assert {row["Model"] for row in shown} == set(calls)
    for row in shown:
        model = row["Model"]
        assert row["Cost"] == formats.usd(cost[model])
        assert row["Share"] == formats.share(cost[model] / sum(cost.values()))
        assert row["Calls"] == formats.count(calls[model])
        assert row["Calls without cost"] == formats.count(without[model])
        if tokens[model]:
            assert row["Tokens out"] == formats.count(tokens[model])
    assert [row["Model"] for row in shown][: len(cost) - 2] == sorted(cost, key=lambda name: -cost[name])[
        : len(cost) - 2
    ]


def test_cost_of_each_hour_adds_up_to_the_total_of_each_model(world: World):
    assert {line.label for line in world_cost(world)} == {
        row["model"] for row in observed(world) if cost_of(row) and row["model"]
    }
    for line in world_cost(world):
        expected = sum(cost_of(row) for row in observed(world) if row["model"] == line.label)
        assert sum(value or 0 for value in line.values) == pytest.approx(expected)


def world_cost(world: World) -> Any:
    from lf_dagster.report.plots import cost_plot

    return cost_plot(world.report.numbers).series


def test_cost_by_user(world: World):
    cost: dict[str, float] = defaultdict(float)
    for rows in own_traces(world).values():
        cost[user_of(rows)] += sum(map(cost_of, rows))
    for nobody in NOBODY:
        cost.pop(nobody, None)
    dearest = sorted(cost.items(), key=lambda item: -item[1])[:10]
    shown = world.page.rows("cost-by-user")
    assert [(row["User"], row["Cost"]) for row in shown] == [(user, formats.usd(usd)) for user, usd in dearest]


def test_latency_and_speed_by_model(world: World):
    by_model: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in generations(world):
        by_model[row["model"]].append(row)
    shown = world.page.rows("performance-by-model")
    assert {row["Model"]: row["Generations"] for row in shown} == {
        model: str(len(rows)) for model, rows in by_model.items()
    }
    for row in shown:
        rows = by_model[row["Model"]]
        for name, at in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            assert row[f"Latency {name}"] == formats.seconds(quantile([latency_of(each) for each in rows], at))
        speeds = [
            sum(value for key, value in each["usageDetails"].items() if "output" in key) / took
            for each in rows
            if (took := latency_of(each)) and each["usageDetails"]
        ]
        assert row["Tokens/s, median"] == formats.rate(quantile([*speeds], 0.5))
        assert row["Errors"] == str(sum(each["level"] == "ERROR" for each in rows))


def test_latency_of_each_hour(world: World):
    by_hour: dict[str, list[float | None]] = defaultdict(list)
    for row in generations(world):
        by_hour[row["startTime"][:13].replace("T", " ") + ":00"].append(latency_of(row))
    for row in world.page.rows("latency-over-time"):
        values = by_hour.get(row["hour"])
        wanted = [formats.seconds(quantile(values, at)) if values else formats.NONE for at in (0.5, 0.9, 0.99)]
        assert [row["p50"], row["p90"], row["p99"]] == wanted


def test_scores_by_name(world: World):
    values: dict[str, list[float]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for row in world.scores():
        counts[row["name"]] += 1
        if row["dataType"] in ("NUMERIC", "BOOLEAN"):
            values[row["name"]].append(float(row["value"]))
    shown = {row["Score"]: row for row in world.page.rows("scores")}
    assert {name: int(row["Scores"]) for name, row in shown.items()} == counts
    for name, row in shown.items():
        given = values.get(name)
        assert row["Mean"] == (formats.mean(sum(given) / len(given)) if given else formats.NONE)
    tones = Counter(row["stringValue"] for row in world.scores() if row["name"] == "tone")
    assert tones[shown["tone"]["Most frequent"]] == max(tones.values())


def test_a_traces_score_counts_for_each_of_its_models_and_an_observations_for_its_own(world: World):
    models: dict[str, set[str]] = defaultdict(set)
    own: dict[tuple[str, str], str] = {}
    for row in observed(world):
        if row["model"]:
            own[row["traceId"], row["id"]] = row["model"]
            if row["type"] == "GENERATION":
                models[row["traceId"]].add(row["model"])
    expected: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in world.scores():
        if row["dataType"] not in ("NUMERIC", "BOOLEAN") or row["traceId"] is None:
            continue
        of_observation = own.get((row["traceId"], row["observationId"]))
        for model in {of_observation} - {None} if row["observationId"] else models[row["traceId"]]:
            expected[model or "", row["name"]].append(float(row["value"]))
    shown = {
        (row["Model"], name): row[name]
        for row in world.page.rows("scores-by-model")
        for name in ("quality", "helpful")
        if row[name]
    }
    assert shown == {
        key: f"{formats.mean(sum(given) / len(given))} ({len(given)})" for key, given in expected.items() if given
    }


def test_retention_of_users_by_day(world: World):
    days: dict[str, set[str]] = defaultdict(set)
    for rows in own_traces(world).values():
        if user_of(rows) not in NOBODY:
            days[user_of(rows)].add(rows[0]["startTime"][:10])
    cohorts: dict[str, list[set[str]]] = defaultdict(list)
    for seen in days.values():
        cohorts[min(seen)].append(seen)
    shown = world.page.rows("retention")
    assert {row["First seen"]: row["Users"] for row in shown} == {day: str(len(them)) for day, them in cohorts.items()}
    for row in shown:
        them, first = cohorts[row["First seen"]], datetime.fromisoformat(row["First seen"])
        back = sum(f"{first + timedelta(days=1):%Y-%m-%d}" in seen for seen in them)
        later = f"{back / len(them):.0%}" if first.day == 20 else ""
        assert (row["day 0"], row["day 1"]) == ("100%", later), "what is still to come is left blank"


def test_errors_by_name(world: World):
    seen, failed = Counter(), Counter()
    for row in observed(world):
        seen[row["name"], row["type"]] += 1
        failed[row["name"], row["type"]] += row["level"] == "ERROR"
    shown = {(row["Name"], row["Type"]): row for row in world.page.rows("errors-by-name")}
    assert {key: int(row["Errors"]) for key, row in shown.items()} == {
        key: count for key, count in failed.items() if count
    }
    for key, row in shown.items():
        assert row["Rate"] == formats.share(failed[key] / seen[key])


def test_top_sessions_users_and_agents(world: World):
    sessions, users, agents = Counter(), Counter(), Counter()
    for rows in own_traces(world).values():
        sessions[session_of(rows)] += 1
        users[user_of(rows)] += 1
        agents[next((row["name"] for row in rows if row["type"] == "AGENT"), "")] += 1
    for counted, table, head in (
        (sessions, "top-sessions", "Session"),
        (users, "top-users", "User"),
        (agents, "top-agents", "Agent"),
    ):
        for nobody in NOBODY:
            counted.pop(nobody, None)
        wanted = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:10]
        assert [(row[head], int(row["Traces"])) for row in world.page.rows(table)] == wanted
