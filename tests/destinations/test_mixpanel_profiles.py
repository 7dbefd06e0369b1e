"""User profiles in Mixpanel: what they say, when they are sent, and what becomes of refusals, faults and kills."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest

from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.destinations import mixpanel_profiles
from lf_dagster.destinations.mixpanel_engage import Engage, Profile
from lf_dagster.destinations.mixpanel_profile_properties import PROPERTIES
from lf_dagster.destinations.mixpanel_profiles import ProfileRun, compare_profiles, set_profiles
from lf_dagster.errors import AuthenticationError, ConfigError, ProtocolError, RequestRejected, ServiceUnavailable
from lf_dagster.http import RetryPolicy
from lf_dagster.lake import Lake
from lf_dagster.profiles import ProfilePropertyName
from lf_dagster.simulators.faults import Fault
from lf_dagster.simulators.mixpanel import profiles as standin
from lf_dagster.warehouse import Warehouse
from tests.automation.rows import Life
from tests.automation.works import Works, works

ROOT = Path(__file__).parents[2]
TOKEN = "mp-works"
HOUR, NEXT = "2026-09-07T10:00", "2026-09-07T11:00"
LONG = "x" * 255
Make = Callable[..., Works]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Make]:
    """Runs a project over a life: the hour of 10:00, and others that are asked for."""
    with ExitStack() as running:

        def make(life: Life, *hours: str, **mixpanel: Any) -> Works:
            options = {"mixpanel": {"profiles": True, **mixpanel}}
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            made = running.enter_context(
                works(folder, life.store, start=HOUR, now="2026-09-08T04:40", source_apps=[], **options)
            )
            for hour in (HOUR, *hours):
                assert made.rerun(hour).success
            return made

        yield make


@pytest.fixture(scope="module")
def eight_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    life, folder = users(*(f"u{number}" for number in range(8))), tmp_path_factory.mktemp("eight")
    options = {"mixpanel": {"profiles": True, "parallel_requests": 1}}
    with works(folder, life.store, start=HOUR, now="2026-09-08T04:40", source_apps=[], **options) as made:
        assert made.rerun(HOUR).success
        yield made


@pytest.fixture
def eight(eight_users: Works, monkeypatch: pytest.MonkeyPatch) -> Works:
    """A project of the users u0 to u7, whose profiles were never set."""
    monkeypatch.setenv("MIXPANEL_PROJECT_TOKEN", TOKEN)
    eight_users.mixpanel.state.faults.reset()
    eight_users.mixpanel.state.standin.reset()
    eight_users.lake.remove(eight_users.lake.profiles_path("shop"))
    return eight_users


def users(*names: str, **columns: Any) -> Life:
    """A trace for each, in one hour."""
    life = Life()
    for number, name in enumerate(names):
        life.span(f"s{number}", f"07T10:{number % 60:02}:00", minutes=0.5, trace=f"t{number}", userId=name, **columns)
    return life


def run(shop: Works, **options: Any) -> ProfileRun:
    return set_profiles(
        shop.settings,
        Warehouse.of(shop.settings, shop.lake),
        shop.lake,
        **{"run_id": "run", "now": shop.clock.now, "sleep": lambda _seconds: None, **options},
    )


def held(shop: Works) -> dict[str, dict[str, Any]]:
    """Profiles that Mixpanel has."""
    return {key[1]: profile for key, profile in shop.mixpanel.state.standin.store.profiles.items()}


def requests(shop: Works) -> int:
    return len(shop.mixpanel.state.faults.requests("/engage"))


def known(shop: Works) -> dict[str, tuple[str, str | None]]:
    """Status and reason by distinct id, as the lake has them."""
    path = shop.lake.profiles_path("shop")
    rows = duckdb.sql(f"SELECT distinct_id, status, reason FROM read_parquet('{path}')").fetchall()
    return {name: (status, reason) for name, status, reason in rows}


def balanced(done: ProfileRun) -> tuple[int, int, int]:
    assert done.counts.profiles == done.sent + done.unchanged + done.rejected
    return done.sent, done.unchanged, done.rejected


def test_a_profile_sums_up_all_traces_of_its_user(shop: Make):
    life = Life()
    life.span("root", "07T10:05", minutes=2, userId="u1", sessionId="s1", environment="prod", level="ERROR")
    life.generation("g1", "07T10:05:10", cost=0.5).generation("g2", "07T10:05:20", cost=0.25, model="gpt-5")
    life.generation("g3", "07T10:05:15", cost=0.25, model="gpt-5")
    life.generation("g5", "07T11:00:30", cost=0.0, model="slow")  # of the first trace, in the hour after
    life.span("later", "07T11:10", minutes=3, trace="t2", userId="u1", sessionId="s2", environment="staging")
    life.generation("g4", "07T11:11", trace="t2", parentObservationId="later", model="claude", cost=1.0)
    life.score("q1", "07T10:06", 0.5).score("q2", "07T11:20", 1.0, traceId="t2")
    life.span("other", "07T10:30", trace="t3", userId="u2")
    done = shop(life, NEXT, HOUR)
    assert balanced(run(done)) == (2, 0, 0)
    profiles = held(done)
    assert set(profiles) == {"u1", "u2"}
    assert profiles["u1"] == {
        "langfuse_first_seen": "2026-09-07T10:05:00",
        "langfuse_last_seen": "2026-09-07T11:13:00",
        "langfuse_active_days": 1,
        "langfuse_traces": 2,
        "langfuse_sessions": 2,
        "langfuse_failed_traces": 1,
        "langfuse_cost_usd": 2.0,
        "langfuse_input_tokens": 15,
        "langfuse_output_tokens": 20,
        "langfuse_total_tokens": 35,
        "langfuse_models": ["gpt-5", "claude", "gpt-4o", "slow"],
        "langfuse_favourite_model": "gpt-5",
        "langfuse_last_model": "claude",
        "langfuse_agents": [],
        "langfuse_environments": ["prod", "staging"],
        "langfuse_source_apps": [],
        "langfuse_scores": 2,
        "langfuse_score_means": {"quality": 0.75},
        "langfuse_project_name": done.store.project.name,
        "langfuse_user_url": f"{done.settings.langfuse.host}/project/{done.store.project.id}/users/u1",
    }
    assert profiles["u2"]["langfuse_cost_usd"] is None
    assert profiles["u2"]["langfuse_models"] == []
    assert "$last_seen" not in profiles["u1"], "a run says nothing about when a user was there"
    [record] = done.mixpanel.state.faults.requests("/engage")
    assert "ip=0" in str(record)


def test_an_update_sets_properties_and_tells_nothing_of_its_sender(eight: Works, monkeypatch: pytest.MonkeyPatch):
    updates: list[dict[str, Any]] = []
    take = standin._engage_one
    monkeypatch.setattr(standin, "_engage_one", lambda state, update: updates.append(update) or take(state, update))
    run(eight)
    assert {tuple(sorted(update)) for update in updates} == {("$distinct_id", "$ignore_time", "$ip", "$set", "$token")}
    assert {(update["$ip"], update["$ignore_time"]) for update in updates} == {("0", True)}


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more than that"])
def test_a_broken_file_is_as_good_as_none(eight: Works, content: bytes, caplog: pytest.LogCaptureFixture):
    run(eight)
    Path(eight.lake.profiles_path("shop")).write_bytes(content)
    assert balanced(run(eight)) == (8, 0, 0)
    assert "cannot be read, so every profile is set again" in caplog.text
    assert balanced(run(eight)) == (0, 8, 0)


def test_a_lake_behind_a_url_keeps_what_was_set(eight: Works):
    lake = Lake("memory://profiles")
    warehouse = Warehouse.of(eight.settings, eight.lake)
    runs = [set_profiles(eight.settings, warehouse, lake, run_id="x", now=eight.clock.now) for _ in range(2)]
    assert [balanced(done) for done in runs] == [(8, 0, 0), (0, 8, 0)]


def test_a_rerun_sends_what_changed_and_leaves_the_same_values(shop: Make):
    life = users("u1", "u2", "u3").span("late", "07T11:05", trace="t9", userId="u2")
    done = shop(life)
    assert balanced(run(done)) == (3, 0, 0)
    first, asked = held(done), requests(done)
    again = run(done)
    assert (balanced(again), again.requests) == ((0, 3, 0), 0)
    assert (held(done), requests(done)) == (first, asked)
    assert run(done, resend=True).sent == 3
    assert held(done) == first

    done.rerun(NEXT)
    warehouse = Warehouse.of(done.settings, done.lake)
    assert compare_profiles(done.settings, warehouse, done.lake).due == 1
    assert balanced(run(done)) == (1, 2, 0)
    assert held(done)["u2"]["langfuse_traces"] == 2
    assert {name: held(done)[name] for name in ("u1", "u3")} == {name: first[name] for name in ("u1", "u3")}


def test_a_user_that_is_gone_keeps_the_profile_and_is_counted(shop: Make):
    done = shop(users("u1", "u2", "u3"))
    run(done)
    done.store.delete_trace("t1", at_ms=int(done.clock.now.timestamp() * 1000))
    done.rerun(HOUR)
    result = run(done)
    assert (balanced(result), result.counts.gone) == ((0, 2, 0), 1)
    assert set(held(done)) == {"u1", "u2", "u3"}


def test_profiles_have_the_distinct_ids_of_the_events(shop: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SALT", "pepper-4711")
    done = shop(users("ann@example.com", "bob@example.com"), hash_user_ids_env="SALT", profiles={"name": True})
    run(done)
    hashed = {hashlib.sha256(f"pepper-4711{name}@example.com".encode()).hexdigest() for name in ("ann", "bob")}
    assert set(held(done)) == hashed
    assert {event["properties"]["distinct_id"] for event in done.mixpanel_events().values()} == hashed
    assert {profile["$name"] for profile in held(done).values()} == hashed
    assert "langfuse_user_url" not in next(iter(held(done).values()))
    written = [Path(done.lake.profiles_path("shop")).read_bytes(), json.dumps(held(done)).encode()]
    assert not any(word in text for text in written for word in (b"ann@", b"bob@", b"pepper", TOKEN.encode()))


def test_whoever_is_nobody_has_no_profile_and_is_counted(shop: Make):
    life = users("u1", "", "  ", " Anonymous ", "0", "undefined", LONG + "a", LONG + "b", 'a"b\\c', "用户", "a\nb")
    life.span("free", "07T10:50", trace="tx").generation("g", "07T10:51", trace="tx", parentObservationId="free")
    done = shop(life)
    result = run(done)
    counts = result.counts
    assert set(held(done)) == {"u1", LONG, 'a"b\\c', "用户", "a\nb"}
    assert held(done)[LONG]["langfuse_traces"] == 2, "Mixpanel cannot tell them apart"
    assert balanced(result) == (5, 0, 0)
    assert (counts.users, counts.profiles, counts.nobody, counts.anonymous_traces) == (6, 5, 3, 3)


def test_an_id_that_mixpanel_would_cut_is_rejected_in_native_compatibility(shop: Make, tmp_path: Path):
    with works(
        tmp_path, users("u1", LONG + "a").store, start=HOUR, now="2026-09-08T04:40", source_apps=[],
        compatibility="native", mixpanel={"profiles": True},
    ) as done:  # fmt: skip
        done.rerun(HOUR)
        assert balanced(run(done)) == (1, 0, 1)
        again = run(done)
        assert (balanced(again), again.reasons) == ((0, 1, 1), {"invalid:distinct_id": 1})
        assert set(held(done)) == {"u1"}
        assert known(done)[LONG + "a"] == ("rejected", "invalid:distinct_id")


def test_a_profile_counts_the_traces_whose_events_are_sent(shop: Make):
    life = users("u1", "u2").span("test", "07T10:20", trace="t8", userId="u1", environment="test")
    life.generation("call", "07T10:21", trace="t8", parentObservationId="test", environment="test")
    life.span("judge", "07T10:22", trace="t9", userId="u3", environment="langfuse-llm-as-a-judge")
    done = shop(life, filters={"exclude_environments": ["test", "langfuse-llm-as-a-judge"]})
    assert balanced(run(done)) == (2, 0, 0)
    assert held(done)["u1"]["langfuse_traces"] == 1
    assert held(done)["u1"]["langfuse_models"] == []
    assert set(held(done)) == {"u1", "u2"}


def test_settings_choose_properties_their_prefix_and_the_name(shop: Make):
    chosen = {"properties": ["traces", "user_url", "cost_usd"], "prefix": "shop_", "name": True}
    life = users("u1")
    done = shop(life, profiles=chosen, exclude_properties=["langfuse_user_url"])
    run(done)
    assert held(done) == {"u1": {"shop_traces": 1, "shop_cost_usd": None, "$name": "u1"}}


@pytest.mark.parametrize(
    ("profiles", "named"),
    [({"properties": ["trace"]}, "first_seen"), ({"prefix": "$x"}, "prefix"), ("maybe", "mixpanel")],
)
def test_wrong_settings_are_named(profiles: Any, named: str):
    with pytest.raises(ConfigError, match=named):
        load_project({"mixpanel": {"profiles": profiles}})


def test_the_names_of_the_settings_are_the_properties():
    assert tuple(item.name for item in PROPERTIES) == get_args(ProfilePropertyName)
    assert load_project({}, {"MIXPANEL_PROJECT_TOKEN": "x", "MIXPANEL_PROFILES": "1"}).mixpanel.kept_profiles  # type: ignore[union-attr]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the stand-in refuse profiles that link to these users."""

    def refusing(*names: str) -> None:
        def set_or_not(profile: dict[str, Any], values: dict[str, Any]) -> None:
            if values["langfuse_user_url"].rpartition("/")[2] in names:
                raise ValueError(f"nothing of {TOKEN} for this one")
            profile.update(values)

        monkeypatch.setitem(standin._OPERATORS, "$set", set_or_not)

    return refusing


def test_a_refused_profile_is_found_kept_with_its_reason_and_tried_again(shop: Make, refuse: Callable[..., None]):
    done = shop(users(*(f"u{number}" for number in range(20))))
    refuse("u3", "u17")
    result = run(done)
    assert balanced(result) == (18, 0, 2)
    assert set(held(done)) == {f"u{number}" for number in range(20)} - {"u3", "u17"}
    [(reason, number)] = result.reasons.items()
    assert (number, reason) == (2, "refused:standin: $set is invalid: nothing of *** for this one")
    assert known(done)["u3"] == ("rejected", reason)
    assert [item["distinct_id"] for item in result.first_rejections] == ["u17", "u3"]
    properties = duckdb.sql(
        f"SELECT properties FROM read_parquet('{done.lake.profiles_path('shop')}') WHERE status = 'rejected'"
    ).fetchall()
    assert all(json.loads(text)["langfuse_traces"] == 1 for (text,) in properties)

    assert balanced(run(done)) == (0, 18, 2)
    refuse()
    assert balanced(run(done)) == (2, 18, 0)
    assert known(done)["u3"] == ("set", None)


def test_profiles_that_were_refused_before_never_stop_a_run(shop: Make, refuse: Callable[..., None]):
    names = [f"u{number}" for number in range(12)]
    done = shop(users(*names))
    refuse(*names[:10])
    assert balanced(run(done)) == (2, 0, 10)
    assert balanced(run(done)) == (0, 2, 10)


def test_refusing_everything_is_an_error_and_no_rejections(shop: Make, monkeypatch: pytest.MonkeyPatch):
    done = shop(users(*(f"u{number}" for number in range(30))))
    monkeypatch.setenv("MIXPANEL_PROJECT_TOKEN", "mp-of-somebody-else")
    with pytest.raises(RequestRejected, match="refuses every profile") as caught:
        run(done)
    assert "mp-of-somebody-else" not in str(caught.value)
    assert held(done) == {}
    assert not done.lake.exists(done.lake.profiles_path("shop"))
    assert requests(done) < 60
    monkeypatch.setenv("MIXPANEL_PROJECT_TOKEN", TOKEN)
    assert balanced(run(done)) == (30, 0, 0)


STRICT = {"code": 400, "error": "some data points in the request failed validation", "status": "Bad Request"}
FAILED = {"num_records_imported": 7, "failed_records": [{"index": 1, "field": "$set", "message": "too odd"}]}


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ({"status": 400, "body": json.dumps({**STRICT, **FAILED})}, 1),
        ({"status": 200, "body": json.dumps({"code": 200, "num_records_imported": 8, "status": "OK"})}, 1),
        ({"status": 200, "body": "1"}, 1),
        ({"status": 200, "body": json.dumps({"status": 1, "error": None})}, 1),
        # Not all were taken, and nobody says which: both halves are asked for again.
        ({"status": 200, "body": json.dumps({"status": 1, "error": None, "num_good_events": 7})}, 3),
        ({"status": 200, "body": "0"}, 3),
        ({"status": 413, "body": "too large"}, 3),
    ],
)
def test_every_form_of_answer_is_understood(eight: Works, answer: dict[str, Any], asked: int):
    eight.mixpanel.state.faults.add(Fault(path="/engage", content_type="application/json", handle=True, **answer))
    result = run(eight)
    assert (result.requests, len(held(eight))) == (asked, 8)
    if answer["status"] == 400:
        assert balanced(result) == (7, 0, 1)
        assert known(eight)["u1"] == ("rejected", "refused:$set: too odd")
    else:
        assert balanced(result) == (8, 0, 0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.unavailable(path="/engage", times=2),
        Fault.rate_limited(path="/engage", retry_after=3),
        Fault(path="/engage", cut="before"),
        Fault(path="/engage", cut="after"),
        Fault(path="/engage", cut="during"),
    ],
)
def test_what_passes_is_waited_for(eight: Works, fault: Fault):
    eight.mixpanel.state.faults.add(fault)
    result = run(eight)
    assert balanced(result) == (8, 0, 0)
    assert result.retries == result.requests - 1 > 0
    assert len(held(eight)) == 8


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(nth=3, path="/engage", status=401, body='{"error":"bad","status":"error"}'), AuthenticationError),
        (Fault(nth=3, path="/engage", status=404, body="no such page"), RequestRejected),
        (Fault.html_ok(nth=3, path="/engage"), ProtocolError),
        (Fault(nth=3, path="/engage", status=200, body='{"status', content_type="application/json"), ProtocolError),
        (Fault.unavailable(nth=3, path="/engage"), ServiceUnavailable),
    ],
)
def test_an_answer_for_the_whole_run_ends_it_and_what_was_taken_is_kept(
    eight: Works, monkeypatch: pytest.MonkeyPatch, fault: Fault, error: type[Exception]
):
    monkeypatch.setattr(mixpanel_profiles, "BATCH_PROFILES", 2)
    eight.mixpanel.state.faults.add(fault)
    with pytest.raises(error) as caught:
        run(eight, retry=RetryPolicy(attempts=1))
    assert "project=shop" in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert set(known(eight)) == set(held(eight)) == {"u0", "u1", "u2", "u3"}
    eight.mixpanel.state.faults.clear()
    assert balanced(run(eight)) == (4, 4, 0)
    assert len(held(eight)) == 8


def test_answers_that_come_after_the_first_error_count(eight: Works, monkeypatch: pytest.MonkeyPatch):
    def set_half(_engage: Engage, profiles: list[Profile], *, cancelled: Callable[[], bool]) -> dict[str, str]:
        if profiles[0].distinct_id == "u0":
            raise ServiceUnavailable("gone for now")
        while not cancelled():
            time.sleep(0.01)
        return {}

    monkeypatch.setattr(mixpanel_profiles, "BATCH_PROFILES", 4)
    monkeypatch.setattr(Engage, "set", set_half)
    two = eight.settings.model_dump()
    two["mixpanel"]["parallel_requests"] = 2
    settings = ProjectSettings.model_validate(two)
    with pytest.raises(ServiceUnavailable):
        set_profiles(settings, Warehouse.of(settings, eight.lake), eight.lake, run_id="x", now=eight.clock.now)
    assert known(eight) == {f"u{number}": ("set", None) for number in range(4, 8)}


def test_the_body_is_bounded_in_number_and_size(eight: Works, monkeypatch: pytest.MonkeyPatch):
    assert run(eight).requests == 1
    monkeypatch.setattr(mixpanel_profiles, "BATCH_BYTES", 3_000)
    assert run(eight, resend=True).requests in {3, 4}
    monkeypatch.setattr(mixpanel_profiles, "BATCH_BYTES", 1_000_000)
    monkeypatch.setattr(mixpanel_profiles, "BATCH_PROFILES", 3)
    assert run(eight, resend=True).requests == 3


def test_a_killed_run_is_taken_up_by_the_next_one(shop: Make):
    done = shop(users(*(f"u{number}" for number in range(40))), parallel_requests=2)
    done.mixpanel.state.faults.add(Fault(path="/engage", delay_seconds=0.05, times=None))
    settings = done.settings.model_dump_json()
    process = subprocess.Popen([sys.executable, "-m", "tests.destinations.killed_profiles", settings], cwd=ROOT)
    until = time.monotonic() + 30
    while len(held(done)) < 12:
        assert time.monotonic() < until
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -9
    done.mixpanel.state.faults.clear()
    acknowledged = len(known(done))
    assert 0 < acknowledged < 40
    assert balanced(run(done)) == (40 - acknowledged, acknowledged, 0)
    killed = held(done)
    assert len(killed) == 40
    assert run(done, resend=True).sent == 40
    assert held(done) == killed
    assert list((Path(done.settings.data) / "spool").iterdir()) == []


def test_what_is_missing_is_said(shop: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    off = shop(users("u1"), profiles=False)
    with pytest.raises(ConfigError, match="keeps no profiles"):
        run(off)
    assert requests(off) == 0
    on = ProjectSettings.model_validate({**off.settings.model_dump(), "name": "other", "mixpanel": {"profiles": True}})
    with pytest.raises(ConfigError, match="has no tables of other"):
        set_profiles(on, Warehouse.of(on, off.lake), off.lake, run_id="x", now=off.clock.now)
    monkeypatch.delenv("MIXPANEL_PROJECT_TOKEN")
    with pytest.raises(ConfigError, match="MIXPANEL_PROJECT_TOKEN is not set"):
        set_profiles(on, Warehouse.of(on, off.lake), off.lake, run_id="x", now=off.clock.now)


def test_numbers_that_nobody_can_have_stop_nothing(shop: Make):
    life = users("u1").score("odd", "07T10:06", 1e300, traceId="t0").score("fine", "07T10:07", 2.0, traceId="t0")
    life.span("s9", "07T10:40", trace="t9", userId="u1").generation(
        "g9", "07T10:41", trace="t9", parentObservationId="s9", cost=1e5, model="m" * 300
    )
    done = shop(life)
    run(done)
    profile = held(done)["u1"]
    assert (profile["langfuse_scores"], profile["langfuse_score_means"]) == (2, {"quality": 2.0})
    assert profile["langfuse_favourite_model"] == "m" * 255
