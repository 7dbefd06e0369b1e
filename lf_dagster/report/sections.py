"""From numbers to the five views of a report, and what is beside them. Every card says what it shows and its unit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import date, timedelta

from lf_dagster.report import formats
from lf_dagster.report.charts import Line, Plot, svg
from lf_dagster.report.parts import Cell, Chart, Column, Heat, Nothing, Part, Section, Table
from lf_dagster.report.plots import (
    cost_per_trace_plot,
    cost_plot,
    error_plot,
    latency_plot,
    new_users_plot,
    speed_plot,
    steps,
    traces_plot,
    users_plot,
)
from lf_dagster.report.queries import Numbers, Row

UserName = Callable[[str | None], str | None]
"""How a user id is shown."""

_HASH_SHOWN = 16


def user_names(salt: str | None) -> UserName:
    """Ids as they are; with a salt, the beginning of what the destinations get: SHA-256 of salt and id."""

    def hashed(user: str | None) -> str | None:
        return user and hashlib.sha256(f"{salt}{user}".encode()).hexdigest()[:_HASH_SHOWN]

    return hashed if salt else lambda user: user


def sections(numbers: Numbers, user: UserName) -> list[Section]:
    """All views, in the order of the page."""
    return [
        _adoption(numbers),
        _cost(numbers, user),
        _performance(numbers),
        _feedback(numbers),
        _retention(numbers),
        _errors(numbers),
        _top(numbers, user),
    ]


def _chart(key: str, title: str, why: str, plot: Plot, note: str = "") -> Part:
    """A chart, or the reason why there is none."""
    return Nothing(key, title, why) if plot.empty else Chart(key, title, plot, svg(plot, key), note)


def _table(
    key: str,
    title: str,
    why: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    note: str = "Top 10.",
    size: int = 1,
) -> Part:
    """A table, or the reason why there is none."""
    return Table(key, title, columns, rows, note, size) if rows else Nothing(key, title, why, size)


def _adoption(numbers: Numbers) -> Section:
    per, users = numbers.period.grain, users_plot(numbers)
    active = f"Active users and sessions per {per}"
    nobody = not any(value for line in users.series for value in line.values)
    return Section("adoption", "Adoption", "Who uses it, and how much.", [
        _chart("traces-over-time", f"Traces per {per}", "No traces in these days.", traces_plot(numbers)),
        Nothing("users-over-time", active, "No trace in these days has a user or a session.")
        if nobody else _chart("users-over-time", active, "", users),
        _chart("new-users-over-time", f"New users per {per}", "No user was first seen in these days.",
               new_users_plot(numbers), "Never seen before in this warehouse."),
    ])  # fmt: skip


def _cost(numbers: Numbers, user: UserName) -> Section:
    per, total = numbers.period.grain, numbers["kpis"][0]["cost"] or 0
    models = [{**row, "share": row["cost"] / total if total else None} for row in numbers["cost_by_model"]]
    users = [{**row, "user": user(row["user_id"])} for row in numbers["cost_by_user"]]
    none = "No observation in these days has a cost: Langfuse knows no price for the models, or none was sent."
    return Section("cost", "Cost", "What it costs, by model and by user. US dollars, as Langfuse has them.", [
        _chart("cost-over-time", f"Cost per {per} by model (USD)", none, cost_plot(numbers)),
        _chart("cost-per-trace", f"Mean cost of a trace per {per} (USD)", none, cost_per_trace_plot(numbers)),
        _table("cost-by-user", "Cost by user (USD)", "No trace with a user has a cost in these days.", [
            Column("user", "User", "text"), Column("cost", "Cost", "usd", bar=True), Column("traces", "Traces"),
            Column("tokens", "Tokens"),
        ], users),
        _table("cost-by-model", "Cost by model (USD)", "No model was called in these days.", [
            Column("model", "Model", "text"), Column("cost", "Cost", "usd", bar=True),
            Column("share", "Share", "share"), Column("calls", "Calls"), Column("input_tokens", "Tokens in"),
            Column("output_tokens", "Tokens out"), Column("without_cost", "Calls without cost"),
        ], models, note="Top 10. Tokens are those of generations.", size=3),
    ])  # fmt: skip


def _performance(numbers: Numbers) -> Section:
    per = numbers.period.grain
    no_tokens = "No generation in these days has both output tokens and a duration."
    return Section("performance", "Performance", "How long generations take. p90: nine of ten are quicker.", [
        _chart("latency-over-time", f"Latency of generations per {per} (seconds)",
               "No generation in these days has a start and an end.", latency_plot(numbers, "latency")),
        _chart("ttft-over-time", f"Time to first token per {per} (seconds)",
               "No generation in these days says when its first token came: only streamed ones do.",
               latency_plot(numbers, "ttft")),
        _chart("speed-over-time", f"Median output tokens per second, per {per}", no_tokens, speed_plot(numbers)),
        _table("performance-by-model", "Latency, time to first token (TTFT) and speed by model",
               "No generations in these days.", [
                   Column("model", "Model", "text"), Column("generations", "Generations"),
                   *(Column(f"latency_{each}", f"Latency {each}", "seconds") for each in ("p50", "p90", "p99")),
                   *(Column(f"ttft_{each}", f"TTFT {each}", "seconds") for each in ("p50", "p90", "p99")),
                   Column("tokens_per_s_p50", "Tokens/s, median", "rate", bar=True), Column("errors", "Errors"),
               ], numbers["performance_by_model"], note="Top 10 by generations.", size=3),
    ])  # fmt: skip


def _feedback(numbers: Numbers) -> Section:
    rows = [{**row, "kind": (row["data_type"] or "").lower()} for row in numbers["scores"]]
    none = "No scores in these days."
    table = _table("scores", "Scores by name", none, [
        Column("name", "Score", "text"), Column("kind", "Type", "text"), Column("scores", "Scores", bar=True),
        Column("mean", "Mean", "mean"), Column("lowest", "Lowest", "mean"), Column("highest", "Highest", "mean"),
        Column("category", "Most frequent", "text"), Column("share", "Its share", "share"),
    ], rows, size=3, note="Top 10. The mean of a boolean score is the share of yes. Texts are counted and never shown.",
    )  # fmt: skip
    charts = _score_charts(numbers) or [
        Nothing("score-1-over-time", "Scores over time", none if not rows else "No score in these days is a number.")
    ]
    about = "What users, evaluators and annotators say."
    # Beside the charts, so that rows of three columns are full.
    return Section("feedback", "Feedback", about, [*charts, _scores_by_model(numbers, 3 - len(charts) % 3), table])


def _score_charts(numbers: Numbers) -> list[Part]:
    every, per = steps(numbers["adoption"]), numbers.period.grain
    found: dict[int, list[Row]] = {}
    for row in numbers["scores_over_time"]:
        found.setdefault(row["rank"], []).append(row)
    parts: list[Part] = []
    for rank, rows in sorted(found.items()):
        means = {row["bucket"]: row["mean"] for row in rows}
        name, kind = formats.text(rows[0]["name"]), rows[0]["data_type"]
        what = f"Share of yes in “{name}”" if kind == "BOOLEAN" else f"Mean of “{name}”"
        plot = Plot(
            "lines", every, [Line("mean", [means.get(step) for step in every], rank - 1)],
            "share" if kind == "BOOLEAN" else "mean", per,
        )  # fmt: skip
        given = sum(row["scores"] for row in rows)
        note = f"{formats.count(given)} {'score' if given == 1 else 'scores'}."
        why = "No value of this score is one that a chart can show."
        parts.append(_chart(f"score-{rank}-over-time", f"{what} per {per}", why, plot, note))
    return parts


def _scores_by_model(numbers: Numbers, size: int) -> Part:
    rows = numbers["scores_by_model"]
    title = "Mean score by model"
    if not rows:
        why = "No numeric or boolean score in these days is of a trace with a model."
        return Nothing("scores-by-model", title, why, size)
    names = sorted({row["name"] for row in rows})
    means = {(row["model"], row["name"]): row for row in rows}
    ranges = {name: [row["mean"] for row in rows if row["name"] == name] for name in names}

    def cell(model: str, name: str) -> Cell | None:
        row = means.get((model, name))
        if row is None:
            return None
        low, high = min(ranges[name]), max(ranges[name])
        shade = 0.15 + 0.6 * (row["mean"] - low) / (high - low) if high > low else 0.15
        return Cell(formats.mean(row["mean"]), shade, formats.count(row["scores"]))

    models = sorted({row["model"] for row in rows})
    shown = [(formats.text(model), [cell(model, name) for name in names]) for model in models]
    note = "In brackets: how many. A trace's score counts for each model that the trace used. Darker: higher."
    heads = [formats.text(name) for name in names]
    return Heat("scores-by-model", title, "Model", heads, shown, note, size)


def _retention(numbers: Numbers) -> Section:
    unit, rows = numbers.period.cohort, numbers["retention"]
    title = f"Users that came back, by the {unit} in which they were first seen"
    part: Part = Nothing("retention", title, "No user was first seen in these days.")
    if rows:
        cohorts: dict[date, dict[int, Row]] = {}
        for row in rows:
            cohorts.setdefault(row["cohort"], {})[row["later"]] = row
        step = timedelta(days=1 if unit == "day" else 7)
        furthest = max(int((numbers.period.last - cohort) / step) for cohort in cohorts)
        heads = ["Users", *(f"{unit} {number}" for number in range(furthest + 1))]
        shown = [
            (f"{cohort:%Y-%m-%d}", _cohort(by, int((numbers.period.last - cohort) / step), furthest))
            for cohort, by in cohorts.items()
        ]
        note = f"{unit.capitalize()} 0 is the first one" + ("; weeks begin on Monday" if unit == "week" else "")
        part = Heat("retention", title, "First seen", heads, shown, f"{note}. The newest {unit} may be under way.", 3)
    return Section("retention", "Retention", "Whether those who try it come back.", [part])


def _cohort(found: dict[int, Row], known: int, furthest: int) -> list[Cell | None]:
    size = found[0]["size"]
    cells: list[Cell | None] = [Cell(formats.count(size), 0.0)]
    for later in range(furthest + 1):
        users = found[later]["users"] if later in found else 0
        cells.append(Cell(f"{users / size:.0%}", users / size) if later <= known else None)
    return cells


def _errors(numbers: Numbers) -> Section:
    none = "No observation in these days has level ERROR."
    calm = not any(row["errors"] for row in numbers["errors_over_time"])
    title = f"Error rate of observations per {numbers.period.grain}"
    if not any(row["observations"] for row in numbers["errors_over_time"]):
        none = "No observations in these days."
    return Section("errors", "Errors", "What fails, and how often: observations with level ERROR.", [
        Nothing("errors-over-time", title, none) if calm
        else _chart("errors-over-time", title, none, error_plot(numbers)),
        _table("errors-by-name", "Errors by name of the observation", none, [
            Column("name", "Name", "text"), Column("type", "Type", "text"), Column("errors", "Errors", bar=True),
            Column("rate", "Rate", "share"), Column("traces", "Traces"), Column("last_at", "Last (UTC)", "moment"),
        ], numbers["errors_by_name"], size=2),
    ])  # fmt: skip


def _top(numbers: Numbers, user: UserName) -> Section:
    sessions = [
        {**row, "user": user(row["user_id"]) if row["users"] < 2 else f"{row['users']} users"}
        for row in numbers["top_sessions"]
    ]
    users = [{**row, "user": user(row["user_id"])} for row in numbers["top_users"]]
    last = Column("last_hour", "Last hour (UTC)", "moment")
    common = [Column("errors", "Errors"), Column("cost", "Cost", "usd"), last]
    return Section("top", "Sessions, users, agents", "Those with most traces.", [
        _table("top-sessions", "Top sessions by traces", "No trace in these days has a session.", [
            Column("session_id", "Session", "text"), Column("traces", "Traces", bar=True),
            Column("user", "User", "text"), *common,
        ], sessions, size=3),
        _table("top-users", "Top users by traces", "No trace in these days has a user.", [
            Column("user", "User", "text"), Column("traces", "Traces", bar=True),
            Column("sessions", "Sessions"), *common,
        ], users, size=3),
        _table("top-agents", "Top agents by traces", "No agent was recognised in the traces of these days.", [
            Column("agent_name", "Agent", "text"), Column("traces", "Traces", bar=True), Column("users", "Users"),
            Column("failed", "Traces with errors"), Column("duration_p50", "Median duration", "seconds"),
            Column("cost", "Cost", "usd"),
        ], numbers["top_agents"], note="Top 10. The agent that a trace is of.", size=3),
    ])  # fmt: skip
