"""The command line as a user meets it: what it says, and how it exits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lf_dagster.cli import main
from lf_dagster.simulators.faults import Fault
from tests.e2e.stack import StandIns, run_cli

HOUR, NEXT = "2026-11-21T00:00", "2026-11-21T01:00"


def test_check_names_the_project_and_what_answers(recorded: StandIns, tmp_path: Path):
    done = run_cli(["check"], recorded.environment(tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Connection successful: project LF Project (proj-lf)" in done.stdout
    assert "Langfuse 4.16.0, read path v2" in done.stdout
    assert "Newest rows: observations 2026-11-21T06:00:00.346Z, scores 2026-11-21T06:00:03.043Z" in done.stdout
    assert "mixpanel" in done.stdout
    assert "Capture V1" in done.stdout
    assert recorded.mixpanel_events() == recorded.posthog_events() == []


def test_check_says_what_to_fix(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path, LANGFUSE_SECRET_KEY="sk-lf-wrong", POSTHOG_API_KEY="phx_personal")
    del env["MIXPANEL_PROJECT_TOKEN"]
    done = run_cli(["check"], env, tmp_path)
    assert done.returncode == 1
    assert "Authentication failed: Invalid API credentials" in done.stderr
    assert "test" in done.stderr  # the public key's last four characters
    assert "phx_" in done.stderr
    assert "mixpanel" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "noon", "--to", NEXT], "not a time: 'noon'"),
        (["--from", NEXT, "--to", HOUR], "is before --from"),
        (["--from", "2026-01-01", "--to", NEXT], "before the project's first hour 2026-11-20-00:00"),
        (["--from", HOUR, "--to", "2999-01-01"], "has not ended yet"),
        (["--from", HOUR, "--to", NEXT, "-d", "segment"], "destination 'segment' is not set up"),
        (["--from", HOUR, "--to", NEXT, "-p", "shop"], "no project 'shop'"),
    ],
)
def test_a_wrong_call_is_answered_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    code, error = call(["sync", *arguments], tmp_path, monkeypatch, capfd, POSTHOG_API_KEY="phc_x")
    assert code == 1
    assert said in error
    assert "Traceback" not in error


def test_a_wrong_variable_is_named_when_definitions_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    code, error = call(["status"], tmp_path, monkeypatch, capfd, MIXPANEL_PROJECT_TOKEN="x", MIXPANEL_REGION="mars")
    assert code == 1
    assert "mixpanel.region" in error
    assert "(got 'mars'), from MIXPANEL_REGION" in error


def test_a_setting_that_clashes_with_another_is_answered_without_all_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    variables = {"LF_DAGSTER_SOURCE_APPS": "", "LF_DAGSTER_EXTRA_EVENTS": "dify_message", "POSTHOG_API_KEY": "phc_x"}
    _, error = call(["status"], tmp_path, monkeypatch, capfd, **variables)
    assert "source_apps has no dify" in error
    assert "got {" not in error


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DAGSTER_HOME": "/absolute/path/of/this/folder"}, "DAGSTER_HOME is no folder"),
        ({"DAGSTER_HOME": "here"}, "no absolute path: 'here'"),
        ({"LF_DAGSTER_MODULE": "shop.nowhere"}, "there is no module shop.nowhere"),
        ({"LANGFUSE_HOST": "https://ada:pass-word@langfuse.example.com"}, "a URL with a user or password"),
    ],
)
def test_a_wrong_variable_is_answered_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    variables: dict[str, str],
    said: str,
):
    code, error = call(["status"], tmp_path, monkeypatch, capfd, **variables)
    assert code == 1
    assert said in error
    assert "Traceback" not in error
    assert "pass-word" not in error


PROJECT = """\
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "broken_shop"
"""
DEFINITIONS = """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ("  mixpanel:\n    regoin: eu", ["attributes.mixpanel.regoin", "defs.yaml:4", "not permitted"]),
        ("  langfuse:\n    secret_key: sk-lf-1", ["attributes.langfuse.secret_key", "defs.yaml:4"]),
        (
            "  langfuse:\n    host: https://ada:sk-lf-1@langfuse.example.com",
            ["attributes.langfuse.host", "a URL with a user"],
        ),
        ("  mixpanel:\n\tregion: eu", ["line 4", "cannot start any token"]),
        ("  posthog:\n    host: '{{ contxt.host }}'", ["defs.yaml:4", "'contxt' not found"]),
    ],
)
def test_a_mistake_in_a_document_is_answered_with_field_and_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    attributes: str,
    said: list[str],
):
    package = tmp_path / "src" / "broken_shop"
    (package / "defs" / "shop").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text(DEFINITIONS)
    document = f"type: lf_dagster.LangfuseProject\nattributes:\n{attributes}\n"
    (package / "defs" / "shop" / "defs.yaml").write_text(document)
    monkeypatch.syspath_prepend(str(package.parent))
    for name in [name for name in sys.modules if name.partition(".")[0] == "broken_shop"]:
        monkeypatch.delitem(sys.modules, name)
    code, error = call(["status", "-m", "broken_shop.definitions"], tmp_path, monkeypatch, capfd)
    assert code == 1
    assert "Traceback" not in error
    assert [text for text in said if text not in error] == []
    assert "sk-lf-1" not in error


def test_a_demo_leaves_a_folder_alone_that_holds_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    code, error = call(["demo", "--folder", ".", "--hours", "1"], tmp_path, monkeypatch, capfd)
    assert (code, f"{tmp_path} holds something else than a demo" in error) == (1, True)
    assert (tmp_path / "data" / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    code, error = call(["demo", "--folder", "file/demo", "--hours", "1"], tmp_path, monkeypatch, capfd)
    assert code == 1
    assert "Not a directory" in error
    assert "file/demo" in error
    assert "Traceback" not in error


def test_an_env_file_of_another_encoding_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / ".env").write_text("LANGFUSE_START=2026-11-20\n", encoding="utf-16")
    code, error = call(["status"], tmp_path, monkeypatch, capfd)
    assert (code, f"{tmp_path / '.env'} is not UTF-8" in error, "Traceback" in error) == (1, True, False)


def test_a_sync_before_the_first_hour_has_ended_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    variables = {"LANGFUSE_START": "2999-01-01", "POSTHOG_API_KEY": "phc_x", "LF_DAGSTER_DATA": str(tmp_path / "data")}
    code, error = call(["sync", "--mode", "incremental"], tmp_path, monkeypatch, capfd, **variables)
    assert "no hour has ended yet: the first is 2999-01-01-00:00" in error
    assert code == 0


def call(
    arguments: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    **variables: str,
) -> tuple[object, str]:
    """Runs the command line in this process: its exit code and what it wrote to stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["lf-dagster", *arguments])
    for name, value in {"LANGFUSE_START": "2026-11-20-00:00", "COLUMNS": "400", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capfd.readouterr().err.replace("\n", " ")


def test_preview_shows_events_and_sends_none(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path)
    done = run_cli(["preview", "--hour", HOUR, "--limit", "3"], env, tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["action"] for event in events] == ["send"] * 6
    assert {event["payload"]["event"] for event in events} <= {
        *("[Langfuse] Trace", "[Langfuse] Generation", "[Langfuse] Score"),
        *("langfuse trace", "langfuse generation", "langfuse score"),
    }
    assert recorded.mixpanel_events() == recorded.posthog_events() == []


def at(folder: Path, moment: str) -> dict[str, str]:
    """Variables of a project that starts with HOUR, at a moment such as `2026-11-21T01:50`."""
    clock = folder / "clock"
    clock.write_text(f"{moment}:00+00:00")
    return {"LANGFUSE_START": "2026-11-21-00:00", "LF_DAGSTER_CLOCK": str(clock)}


def project_status(env: dict[str, str], folder: Path) -> dict[str, Any]:
    done = run_cli(["status", "--json"], env, folder)
    assert done.returncode == 0, done.stderr
    [project] = json.loads(done.stdout)["projects"]
    return project


@pytest.mark.slow
def test_status_before_and_after_a_sync(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path, **at(tmp_path, "2026-11-21T01:50"))
    before = run_cli(["status", "--check"], env, tmp_path)
    assert "nothing is extracted yet" in before.stdout
    assert before.returncode == 0, "50 minutes after its end an hour may be missing"
    assert run_cli(["sync", "--from", HOUR, "--to", NEXT], env, tmp_path).returncode == 0
    project = project_status(env, tmp_path)
    assert project["extracted"]["hours"] == 1
    assert project["extracted"]["rows"] == {"observations": 231, "scores": 38}
    assert project["settled_until"] == "2026-11-21-01:00"
    for name, held in (("mixpanel", recorded.mixpanel_events()), ("posthog", recorded.posthog_events())):
        found = project["destinations"][name]
        assert found["settled_until"] == "2026-11-21-01:00"
        assert found["delivered"] == len(held) > 0
        assert found["events"] == found["delivered"] + found["rejected"] + found["skipped"]
        assert found["outstanding_hours"] == found["rejected_hours"] == {}


@pytest.mark.slow
def test_status_check_fails_when_the_lag_is_too_large(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path, **at(tmp_path, "2026-11-21T02:31"))
    del env["DAGSTER_HOME"]
    done = run_cli(["status", "--check"], env, tmp_path)
    assert done.returncode == 1
    assert "langfuse: the lag is 2 h 31 min, allowed are 2 h 30 min" in done.stderr
    assert run_cli(["status"], env, tmp_path).returncode == 0


def test_a_sync_without_rows_says_why(recorded: StandIns, tmp_path: Path):
    env = recorded.environment(tmp_path)
    done = run_cli(["sync", "--from", "2026-11-20T05", "--to", "2026-11-20T06"], env, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "has data, all of it after 2026-11-20T05:00:00.000Z" in done.stderr.replace("\n", " ")


@pytest.mark.slow
def test_a_failing_destination_fails_the_sync_and_keeps_the_other(recorded: StandIns, tmp_path: Path):
    recorded.mixpanel.state.faults.add(
        Fault(path="/import", times=None, status=401, body='{"code":401,"error":"Invalid credentials"}')
    )
    env = recorded.environment(tmp_path, LANGFUSE_START="2026-11-21-00:00")
    done = run_cli(["sync", "--from", HOUR, "--to", NEXT], env, tmp_path)
    assert done.returncode == 1
    assert "mixpanel" in done.stderr.lower()
    assert len(recorded.posthog_events()) > 0
    project = project_status(env, tmp_path)
    assert list(project["destinations"]["mixpanel"]["outstanding_hours"]) == ["2026-11-21-00:00"]
    assert project["destinations"]["posthog"]["outstanding_hours"] == {}

    recorded.mixpanel.state.faults.clear()
    assert run_cli(["sync", "--from", HOUR, "--to", NEXT], env, tmp_path).returncode == 0
    assert len(recorded.mixpanel_events()) == len(recorded.posthog_events())


@pytest.mark.slow
def test_rejected_events_are_kept_and_the_exit_code_says_so(recorded: StandIns, tmp_path: Path):
    limits = recorded.mixpanel.state.standin.limits
    env = recorded.environment(tmp_path)
    recorded.mixpanel.state.standin.limits = type(limits)(properties=24)
    done = run_cli(["sync", "--from", HOUR, "--to", NEXT, "-d", "mixpanel"], env, tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    project = project_status(env, tmp_path)
    found = project["destinations"]["mixpanel"]
    assert found["rejected"] > 0
    assert found["rejected_hours"] == {"2026-11-21-00:00": found["rejected"]}
