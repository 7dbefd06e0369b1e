"""Events of agents, sessions and source apps: what they say, and that it stays right whatever the order of hours."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from lf_dagster.config import EXTRA_EVENTS, ExtraEvent, load_project
from lf_dagster.errors import ConfigError
from lf_dagster.events import load_catalogue
from lf_dagster.hours import Hour, hour_range, iso
from tests.events.events import EventProject
from tests.warehouse.apps.samples import Rows, extract, hours, merged, real, sample
from tests.warehouse.extracts import moment, v2_row, v3_score

H = Hour.from_key("2026-11-21-05:00")
EXTRA = [event for event in load_catalogue() if event.is_extra]


def project_of(folder: Path, *kinds: str, **settings: Any) -> EventProject:
    return EventProject(folder, extra_events=kinds or EXTRA_EVENTS, **settings)


def loaded(folder: Path, rows: Rows, read_path: str = "v2") -> EventProject:
    project = project_of(folder / read_path)
    wanted = hour_range(hours(rows)[0], hours(rows)[-1].shift(24))
    extract(project, rows, read_path, wanted)
    project.run_all(wanted)
    return project


def sent(project: EventProject, *kinds: str, destination: str = "mixpanel") -> list[dict[str, Any]]:
    """Properties of the events of these kinds that are sent, by time."""
    protocol = "import" if destination == "mixpanel" else "v1"
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    rows = project.prepared(destination, protocol, where=f"kind IN ({listed}) AND skip_reason IS NULL")
    return [json.loads(row["payload"])["properties"] for row in sorted(rows, key=lambda row: row["time_ms"])]


def table_rows(project: EventProject, kind: str) -> list[dict[str, Any]]:
    skipped = ("ingested_at", "run_id")
    rows = project.query(f"SELECT * FROM {kind}_events ORDER BY entity_id")
    return [{name: value for name, value in row.items() if name not in skipped} for row in rows]


# What is made


def test_nothing_extra_is_made_unless_it_is_asked_for(tmp_path: Path) -> None:
    project = EventProject(tmp_path)
    project.extract_v2([v2_row("a", "t", iso(H.start))], [H])
    project.run_all([H])
    made = {row["table_name"] for row in project.query("SELECT table_name FROM information_schema.tables")}
    assert not made & {event.table for event in EXTRA}


def test_an_event_needs_its_source_app() -> None:
    with pytest.raises(ConfigError, match="extra_events has dify_message, but source_apps has no dify"):
        load_project({"source_apps": ["librechat"], "extra_events": ["dify_message"]})
    assert load_project({}, {"LF_DAGSTER_EXTRA_EVENTS": "session,agent_run"}).extra_events == ("session", "agent_run")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EventProject]:
    folder = tmp_path_factory.mktemp("samples")
    rows = merged(sample("dify"), sample("librechat"))
    return {read_path: loaded(folder, rows, read_path) for read_path in ("v2", "legacy")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", get_args(ExtraEvent))
def test_the_samples_give_events_of_every_kind_alike_on_both_read_paths(
    samples: dict[str, EventProject], kind: str
) -> None:
    found = {read_path: table_rows(project, kind) for read_path, project in samples.items()}
    assert found["v2"]
    ids = {read_path: [row["entity_id"] for row in rows] for read_path, rows in found.items()}
    assert ids["v2"] == ids["legacy"]
    # The hour of a trace is that of its own time on the legacy path; it is the partition alone.
    differing = {
        name
        for ours, theirs in zip(found["v2"], found["legacy"], strict=True)
        for name in ours
        if ours[name] != theirs[name]
    }
    assert differing <= {"read_path", "partition_hour", "lf_partition", "langfuse_tags", "tags"}


@pytest.mark.parametrize("destination", ["mixpanel", "posthog"])
def test_no_text_that_a_person_or_a_model_wrote_is_sent(samples: dict[str, EventProject], destination: str) -> None:
    texts = {text for text in _contents(samples["v2"]) if len(text) > 12}
    assert len(texts) > 20
    for properties in sent(samples["v2"], *EXTRA_EVENTS, destination=destination):
        payload = json.dumps(properties, ensure_ascii=False)
        assert not [text for text in texts if text in payload]


def _contents(project: EventProject) -> Iterable[str]:
    for row in project.query(
        "SELECT input, output FROM observations UNION ALL SELECT query, answer FROM dify_messages"
    ):
        yield from (text for text in row.values() if text)


def test_events_of_one_entity_have_ids_of_their_own(samples: dict[str, EventProject]) -> None:
    rows = samples["v2"].prepared()
    assert len({row["event_id"] for row in rows if row["kind"] != "generation"}) == len(
        [row for row in rows if row["kind"] != "generation"]
    )


def test_a_tenant_id_is_nobody(samples: dict[str, EventProject]) -> None:
    tenants = {row["tenant_id"] for row in samples["v2"].query("SELECT tenant_id FROM dify_generate_names")}
    people = {row["distinct_id"] for row in samples["v2"].prepared()}
    assert tenants
    assert not tenants & people


def test_characters_are_no_tokens(samples: dict[str, EventProject]) -> None:
    questions = [
        item for item in sent(samples["v2"], "generation") if item["langfuse_generation_name"] == "suggested_question"
    ]
    assert questions
    assert all(item["langfuse_total_units"] is None for item in questions)


def test_one_failed_call_is_one_failed_turn(tmp_path: Path) -> None:
    project = loaded(tmp_path, sample("librechat", "agent_run_error"))
    errors = project.query("SELECT count(*) AS n FROM observations WHERE level = 'ERROR'")[0]["n"]
    assert errors > 3
    assert [item["librechat_status"] for item in sent(project, "librechat_turn")] == ["error"]
    [conversation] = sent(project, "librechat_conversation")
    assert (conversation["librechat_turns"], conversation["librechat_failed_turns"]) == (1, 1)
    assert [item["langfuse_is_error"] for item in sent(project, "agent_run")] == [True]


# Whatever the order of hours


def settle(project: EventProject, order: Sequence[Hour]) -> int:
    """Run hours one by one, and those that become stale until none is; returns the runs that this took."""
    waiting, runs = list(order), 0
    while waiting:
        hour = waiting.pop(0)
        touched = project.run([hour]).touched_hours
        project.run_events([hour])
        known = set(order)
        waiting += [each for each in sorted(touched & known) if each not in waiting]
        runs += 1
        assert runs < 20 * len(order), "hours make each other stale for ever"
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("read_path", ["v2", "legacy"])
@pytest.mark.parametrize("seed", [0, 1])
def test_hour_by_hour_in_any_order_gives_what_all_at_once_gives(tmp_path: Path, read_path: str, seed: int) -> None:
    rows = merged(spread(sample("dify"), seed), spread(sample("librechat"), seed + 7))
    hours_held = hours(rows)
    wanted = hour_range(hours_held[0], hours_held[-1].shift(8))
    at_once = project_of(tmp_path / "at-once")
    extract(at_once, rows, read_path, wanted)
    at_once.run_all(wanted)
    one_by_one = project_of(tmp_path / "one-by-one")
    extract(one_by_one, rows, read_path, wanted)
    order = list(wanted)
    random.Random(seed).shuffle(order)
    settle(one_by_one, order)
    for kind in EXTRA_EVENTS:
        assert table_rows(one_by_one, kind) == table_rows(at_once, kind), kind


def spread(rows: Rows, seed: int) -> Rows:
    """The rows with their times moved by up to two hours, each on its own: traces now lie in several hours."""
    moved = random.Random(seed)
    shifts: dict[str, int] = {}

    def shifted(row: dict[str, Any]) -> dict[str, Any]:
        # The same row moves alike on both read paths.
        minutes = shifts.setdefault(row["id"], moved.randrange(-120, 120))
        return {key: _moved(value, minutes) if key in _TIMES else value for key, value in row.items()}

    streams: Mapping[str, list[dict[str, Any]]] = rows
    return {stream: [shifted(row) for row in found] for stream, found in streams.items()}


_TIMES = ("startTime", "endTime", "completionStartTime")


def _moved(text: str | None, minutes: int) -> str | None:
    return None if text is None else iso(moment(text) + timedelta(minutes=minutes))


# Visits


def turn(number: int, hour: Hour, minute: int = 0, **more: Any) -> dict[str, Any]:
    start, end = f"{hour.start:%Y-%m-%dT%H}:{minute:02}:00.000Z", f"{hour.start:%Y-%m-%dT%H}:{minute:02}:30.000Z"
    return v2_row(f"o{number}", f"t{number}", start, endTime=end, sessionId="s", userId="u", **more)


def visits(project: EventProject) -> list[tuple[str, int, float]]:
    return [
        (item["lf_partition"], item["langfuse_turns"], item["langfuse_duration"]) for item in sent(project, "session")
    ]


@pytest.mark.slow
def test_a_visit_is_an_event_of_the_hour_in_which_it_closes(tmp_path: Path) -> None:
    project = project_of(tmp_path, "session")
    wanted = hour_range(H, H.shift(12))
    project.extract_v2([turn(1, H), turn(2, H.shift(1), 30), turn(3, H.shift(7))], wanted)
    for hour in wanted:
        assert project.run([hour]).touched_hours == frozenset(), "in order nothing has to be done twice"
        project.run_events([hour])
    assert visits(project) == [(H.shift(5).key, 2, 5_430_000), (H.shift(11).key, 1, 30_000)]
    assert [item["time"] for item in sent(project, "session")] == [
        int(hour.start.timestamp() * 1000) for hour in (H, H.shift(7))
    ]


def test_a_late_trace_joins_two_visits(tmp_path: Path) -> None:
    project = project_of(tmp_path, "session")
    wanted = hour_range(H, H.shift(12))
    known = [turn(1, H), turn(3, H.shift(6))]
    project.extract_v2(known, wanted)
    project.run_all(wanted)
    assert len(visits(project)) == 2
    project.extract_v2([*known, turn(2, H.shift(3))], wanted)
    touched = project.run([H.shift(3)]).touched_hours
    assert touched == {H.shift(4), H.shift(7), H.shift(10)}
    project.run_all(sorted(touched))
    assert visits(project) == [(H.shift(10).key, 3, 6 * 3_600_000 + 30_000)]


def test_a_visit_without_end_is_the_same_event_whatever_hours_are_run_with_its_own(tmp_path: Path) -> None:
    project = project_of(tmp_path, "session")
    wanted = hour_range(H, H.shift(75))
    project.extract_v2([turn(number, H.shift(number)) for number in range(70)], wanted)
    project.run_all(wanted)
    closing = H.shift(69 + 4)
    # Traces up to 60 hours before the closing hour: 13 to 69.
    assert [visit[:2] for visit in visits(project)] == [(closing.key, 57)]
    together = visits(project)
    for again in ([closing], hour_range(closing.shift(-20), closing)):
        project.run_events(again)
        assert visits(project) == together


def test_the_pause_that_ends_a_visit_can_be_set(tmp_path: Path) -> None:
    project = project_of(tmp_path, "session", session_idle_hours=1)
    wanted = hour_range(H, H.shift(6))
    project.extract_v2([turn(1, H), turn(2, H.shift(1), 30)], wanted)
    project.run_all(wanted)
    assert [visit[:2] for visit in visits(project)] == [(H.shift(1).key, 1), (H.shift(2).key, 1)]


# Feedback


def feedback(value: bool, at: Hour, trace_id: str) -> dict[str, Any]:
    row = v3_score(f"feedback-{trace_id}", iso(at.start), trace_id=trace_id, name="user-feedback", dataType="BOOLEAN")
    return {**row, "value": value}


@pytest.mark.slow
def test_feedback_flipped_and_cleared_days_later_is_followed_by_the_turn_s_event(tmp_path: Path) -> None:
    rows = sample("librechat", "agent_run_ephemeral")
    trace_id = rows["v2_observations"][0]["traceId"]
    first = hours(rows)[0]
    late = first.shift(24 * 9)
    project = project_of(tmp_path, "librechat_turn", "librechat_feedback")
    project.extract_v2(rows["v2_observations"], hours(rows))
    project.run_all(hours(rows))

    def rate(*scores: dict[str, Any]) -> frozenset[Hour]:
        project.extract_v2([], [late], scores)
        touched = project.run([late]).touched_hours
        project.run_events([late])
        for hour in sorted(touched):
            project.run_all([hour])
        return touched

    def rating() -> tuple[str | None, list[str]]:
        [properties] = sent(project, "librechat_turn")
        return properties["librechat_feedback"], [
            item["librechat_rating"] for item in sent(project, "librechat_feedback")
        ]

    assert rating() == (None, [])
    assert rate(feedback(True, late, trace_id)) == {first}
    assert rating() == ("thumbsUp", ["thumbsUp"])
    assert rate(feedback(True, late, trace_id)) == frozenset(), "the same once more changes nothing"
    rate(feedback(False, late, trace_id))
    assert rating() == ("thumbsDown", ["thumbsDown"])
    rate()
    assert rating() == (None, [])


@pytest.mark.slow
def test_a_real_server_s_rows_make_events_without_complaint(tmp_path: Path) -> None:
    project = loaded(tmp_path, real())
    made = Counter(row["kind"] for row in project.prepared())
    assert made.keys() >= {"dify_workflow_run", "librechat_turn", "agent_run", "session"}
