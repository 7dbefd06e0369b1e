"""The truth of a simulated week, on stores made by hand."""

import ast
import inspect
import uuid

from bench.fidelity import truth
from tests.fidelity.conftest import NOON_MS, moment

LATE = moment(10_000)
PERSON = {"userId": "ada", "sessionId": "s-1", "release": "r1", "traceName": "chat"}


def by_kind(store, kind, now_ms=LATE, **window):
    found = [fact for fact in truth.facts(store, now_ms, **window) if fact.kind == kind]
    return {fact.entity_id: fact for fact in found}


def properties(store, kind, entity_id):
    found = by_kind(store, kind)[entity_id].properties
    return {name.removeprefix("langfuse_"): value for name, value in found.items()}


def test_it_knows_nothing_of_the_product():
    imported = [node for node in ast.walk(ast.parse(inspect.getsource(truth))) if isinstance(node, ast.ImportFrom)]
    modules = [node.module or "" for node in imported]
    ours = [module for module in modules if module.startswith("lf_dagster")]
    assert ours
    assert all(module.startswith("lf_dagster.simulators") for module in ours)


def test_a_trace_is_added_up_over_its_observations(hand):
    hand.observation("root", "t1", 0, endTime=None, isRootObservation=True, tags=["b"], version="v1", **PERSON)
    hand.observation("call", "t1", 1, parentObservationId="root", tags=["a"], costDetails={"total": 0.25})
    hand.observation("late", "t1", 2, parentObservationId="root", costDetails={"total": 0.5, "input": 0.1})
    found = properties(hand.store, "trace", "t1")
    assert found == {
        "id": "t1",
        "trace_name": "chat",
        "cost_usd": 0.75,
        "count_observations": 3,
        "latency": 3 * 60_000,
        "version": "v1",
        "environment": "default",
        "user_id": "ada",
        "session_id": "s-1",
        "release": "r1",
        "tags": ["a", "b"],
    }
    assert by_kind(hand.store, "trace")["t1"].time_ms == NOON_MS


def test_the_synthetic_row_is_the_root_and_no_observation(hand):
    hand.observation("t-old", "old", 5, endTime=None, name="title", userId="bob", isRootObservation=True)
    hand.observation("x", "old", 4, userId="ada", traceName="chat")
    found = by_kind(hand.store, "trace")["old"]
    assert found.time_ms == moment(5)
    assert found.user_id == "bob"
    assert found.properties["langfuse_count_observations"] == 1
    assert found.properties["langfuse_trace_name"] == "chat"


def test_a_trace_of_a_synthetic_row_alone_has_no_latency_and_no_cost(hand):
    hand.observation("t-old", "old", 5, endTime=None, isRootObservation=True)
    found = properties(hand.store, "trace", "old")
    assert (found["count_observations"], found["latency"], found["cost_usd"]) == (0, None, None)
    assert found["user_id"] == "langfuse_unknown_user"


def test_without_parentless_row_the_earliest_flagged_one_is_the_root(hand):
    hand.observation("inner", "t", 0, parentObservationId="lost", userId="inner", name="a")
    hand.observation("app", "t", 1, parentObservationId="lost2", isRootObservation=True, userId="app", name="b")
    assert by_kind(hand.store, "trace")["t"].user_id == "app"
    hand.observation("real", "t", 2, userId="real", name="c")
    assert by_kind(hand.store, "trace")["t"].user_id == "real"


def test_what_the_root_does_not_say_comes_from_the_earliest_row_that_does(hand):
    hand.observation("root", "t", 0, name="handle", isRootObservation=True)
    hand.observation("two", "t", 2, parentObservationId="root", userId="second", sessionId="s")
    hand.observation("one", "t", 1, parentObservationId="root", userId="first")
    found = properties(hand.store, "trace", "t")
    assert (found["user_id"], found["session_id"], found["trace_name"]) == ("first", "s", "handle")


def test_a_generation_carries_its_tokens_and_its_traces_person(hand):
    hand.observation("root", "t", 0, isRootObservation=True, **PERSON)
    hand.observation(
        "gen",
        "t",
        1,
        type="GENERATION",
        parentObservationId="root",
        name="llm",
        model="gpt-4o",
        level="WARNING",
        version="v9",
        usageDetails={"input": 10, "input_cached_tokens": 5, "output": 7, "total": 22},
        costDetails={"input": 0.1, "output": 0.2},
        completionStartTime="2026-09-07T12:01:00.250Z",
    )
    found = properties(hand.store, "generation", "gen")
    assert [found[name] for name in ("input_units", "output_units", "total_units")] == [15, 7, 22]
    assert (found["cost_usd"], found["latency"], found["time_to_first_token"]) == (None, 60_000, 250)
    assert (found["user_id"], found["session_id"], found["release"], found["trace_name"]) == (
        "ada",
        "s-1",
        "r1",
        "chat",
    )
    assert (found["model"], found["level"], found["version"], found["generation_name"]) == (
        "gpt-4o",
        "WARNING",
        "v9",
        "llm",
    )


def test_scores_have_typed_values_and_the_person_of_their_trace(hand):
    hand.observation("root", "t", 0, isRootObservation=True, tags=["vip"], **PERSON)
    hand.score("n", 5, value=0.5, comment="good", traceId="t")
    hand.score("b", 5, kind="BOOLEAN", value=0, stringValue="False", traceId="t", observationId="root")
    hand.score("c", 5, kind="CATEGORICAL", value=1.0, stringValue="great", sessionId="s-9")
    hand.score("lost", 5, value=1, traceId="nobody-knows")
    found = {name: properties(hand.store, "score", name) for name in ("n", "b", "c", "lost")}
    assert [found[name]["score_value"] for name in ("n", "b", "c")] == [0.5, 0, None]
    assert [found[name]["score_string_value"] for name in ("n", "b", "c")] == [None, "False", "great"]
    assert (found["n"]["score_comment"], found["n"]["user_id"], found["n"]["tags"]) == ("good", "ada", ["vip"])
    assert (found["b"]["trace_id"], found["b"]["trace_name"]) == ("t", "chat")
    assert (found["c"]["trace_id"], found["c"]["session_id"], found["c"]["user_id"]) == (
        None,
        "s-9",
        "langfuse_unknown_user",
    )
    assert (found["lost"]["trace_id"], found["lost"]["trace_name"]) == ("nobody-knows", None)


def test_corrections_and_scores_about_nothing_are_no_events(hand):
    hand.score("fixed", 1, kind="CORRECTION", stringValue="better", traceId="t")
    hand.score("nothing", 1, value=1)
    assert by_kind(hand.store, "score") == {}


def test_it_is_the_truth_of_a_moment(hand):
    hand.observation("root", "t", 0, seen=10, isRootObservation=True, userId="")
    hand.observation("root", "t", 0, seen=50, isRootObservation=True, userId="ada")
    hand.store.delete_trace("t", at_ms=moment(100))
    seen = [by_kind(hand.store, "trace", moment(minute)).get("t") for minute in (9, 10, 50, 100)]
    assert [fact and fact.user_id for fact in seen] == [None, None, "ada", None]
    assert [fact is None for fact in seen] == [True, False, False, True]


def test_a_window_is_on_event_time(hand):
    for minute in (0, 30, 60):
        hand.observation(f"o{minute}", f"t{minute}", minute, isRootObservation=True)
        hand.score(f"s{minute}", minute, value=1, traceId="t0")
    found = truth.facts(hand.store, LATE, from_ms=moment(30), to_ms=moment(60))
    assert {fact.entity_id for fact in found} == {"t30", "s30"}
    scored = next(fact for fact in found if fact.kind == "score")
    assert scored.properties["langfuse_trace_id"] == "t0"


def test_ids_names_and_persons_are_those_of_the_destination(hand):
    hand.observation("a", "known", 0, isRootObservation=True, userId="ada")
    hand.observation("b", "nobody", 0, isRootObservation=True, userId=" NULL ")
    project = hand.store.project.id
    found = {name: truth.expected(truth.facts(hand.store, LATE), name, project) for name in truth.NAMES}
    mixpanel_id = str(uuid.uuid5(uuid.UUID("8f7c3e42-9a1b-4d5f-8e2a-1c6b9d3f4e7a"), "proj-known"))
    posthog_id = str(uuid.uuid5(uuid.UUID("0f6c91df-d035-4813-b838-9741ba38ef0b"), "proj-nobody"))
    assert found["mixpanel"]["[Langfuse] Trace", mixpanel_id].distinct_id == "ada"
    assert found["posthog"]["langfuse trace", posthog_id].distinct_id == posthog_id
    assert sorted(event.distinct_id for event in found["mixpanel"].values()) == ["", "ada"]
    assert {event.properties["langfuse_user_id"] for event in found["posthog"].values()} == {"ada", " NULL "}


def test_internal_environments_are_expected_only_when_asked_for(hand):
    hand.observation("a", "t", 0, isRootObservation=True, environment="langfuse-evaluation")
    found = truth.facts(hand.store, LATE)
    assert truth.expected(found, "posthog", "proj") == {}
    assert len(truth.expected(found, "posthog", "proj", internal=True)) == 1
