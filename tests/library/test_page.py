"""docs/library.md, done as it says, from a wheel, in a new Dagster project, against the stand-ins."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest
import yaml

from tests.e2e.stack import SECRETS, StandIns, recorded_store, stand_ins
from tests.library.environment import Library, blocks, files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("library")]

NAME = "shop_assistant"
NOT_RUN = {
    "pip": "the fixtures install the wheel, without the network",
    "create-dagster": "the fixtures do",
    "cd": "each command gets its folder",
    "export": "the variable is part of the environment",
    "dg dev": "tests/e2e/test_unattended.py runs what it starts",
}


@dataclass
class Walk:
    """A project in which the page was followed: what each command gave, by its text."""

    project: Path
    library: Library
    standins: StandIns
    env: dict[str, str]
    given: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    def follow(self, block: str, env: Mapping[str, str] | None = None) -> None:
        """Runs the commands of a block of the page, each of which must succeed."""
        for line in block.splitlines():
            if not line.startswith(tuple(NOT_RUN)):
                done = self.library.run(*shlex.split(line), cwd=self.project, env={**self.env, **(env or {})})
                assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
                self.given[line] = done

    def output(self, beginning: str) -> str:
        """What a command printed."""
        [found] = [done for line, done in self.given.items() if line.startswith(beginning)]
        return found.stdout + found.stderr

    def write(self, path: str) -> None:
        """A file of the page, in its place."""
        (self.project / path).write_text(files()[path])

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with duckdb.connect(str(self.project / "data" / "warehouse.duckdb"), read_only=True) as warehouse:
            return warehouse.execute(sql).fetchall()


def instance(folder: Path, text: str) -> dict[str, str]:
    """A Dagster instance with a `dagster.yaml`."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text(text)
    return {"DAGSTER_HOME": str(folder)}


def point_at_stand_ins(document: Path, origins: Mapping[str, str]) -> None:
    """The scaffolded document with the stand-ins' hosts, and the first hour of the page."""
    [page] = [code for code in blocks("yaml") if code.startswith("type:")]
    text = document.read_text()
    start = yaml.safe_load(text)["attributes"]["start"]
    text = text.replace(f"start: {start}", f"start: {yaml.safe_load(page)['attributes']['start']}")
    assert text.startswith(page)
    text = text.replace("https://cloud.langfuse.com", origins["langfuse"])
    document.write_text(text.replace("region: us", f"host: {origins['mixpanel']}"))


@pytest.fixture(scope="module")
def walk(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The page from beginning to end: first with an empty `dagster.yaml`, then with the page's."""
    folder = tmp_path_factory.mktemp("walk")
    _, scaffold, checks, hours, beside, pool, second = blocks("console")[1:]
    env = {
        f"{NAME.upper()}_LANGFUSE_PUBLIC_KEY": "pk-lf-test",
        **{f"{NAME.upper()}_{name}": value for name, value in SECRETS.items()},
        "LF_DAGSTER_MODULE": "analytics.definitions",
    }
    with stand_ins(recorded_store()) as standins:
        walk = Walk(library.project(folder, "analytics"), library, standins, env)
        walk.follow(scaffold)
        document = walk.project / "src" / "analytics" / "defs" / NAME / "defs.yaml"
        point_at_stand_ins(document, standins.origins)
        walk.write("src/analytics/definitions.py")
        walk.follow(checks)
        walk.follow(hours, instance(folder / "empty", ""))
        walk.write("src/analytics/defs/own.py")
        walk.write("src/analytics/defs/storage.py")
        [post_processing] = [code for code in blocks("yaml") if code.startswith("post_processing:")]
        document.write_text(f"{document.read_text()}\n{post_processing}")
        walk.env.update(instance(folder / "copied", files()["dagster.yaml"]))
        walk.follow(beside)
        walk.follow(pool)
        walk.follow(second)
        yield walk


def test_the_component_comes_from_the_wheel_and_explains_itself(walk: Walk, library: Library):
    where = library.run(str(library.python), "-c", "import lf_dagster; print(lf_dagster.__file__)", cwd=walk.project)
    assert Path(where.stdout.strip()).is_relative_to(library.packages)
    assert "lf_dagster.LangfuseProject" in walk.output("dg list components")
    assert "Extracts one Langfuse project by the hour" in walk.output("dg list components")
    fields = yaml.safe_load(walk.output("dg utils inspect-component"))["attributes"]
    assert {"name", "langfuse", "mixpanel", "posthog", "policies", "from_environment"} <= fields.keys()
    assert fields["langfuse"]["page_size"] == "<integer>"
    assert {"host", "project_token_env", "filters"} <= fields["mixpanel"].keys()


def test_a_scaffolded_project_loads_and_names_its_variables(walk: Walk):
    assert "All component YAML validated successfully." in walk.output("dg check yaml")
    assert "All definitions loaded successfully." in walk.output("dg check defs")
    for name in ("PUBLIC_KEY", "SECRET_KEY"):
        assert f"SHOP_ASSISTANT_LANGFUSE_{name}" in walk.output("dg list envs")
    listed = walk.output("dg list defs")
    for name in (f"{NAME}/traces", f"{NAME}/mixpanel", f"{NAME}_hourly", f"{NAME}_reconcile"):
        assert name in listed


def test_hours_are_shipped_by_command_and_by_launch_with_an_empty_instance(walk: Walk):
    assert "mixpanel" in walk.output("lf-dagster preview")
    assert "RUN_SUCCESS" in walk.output("dg launch --job")
    # One process, though the run was launched and not made by a schedule.
    assert "STEP_WORKER_STARTING" not in walk.output("dg launch --job")
    hours = "SELECT DISTINCT strftime(partition_hour AT TIME ZONE 'UTC', '%H') FROM shop_assistant.traces ORDER BY 1"
    assert walk.query(hours) == [("03",), ("04",), ("05",)]
    sent = [event["properties"]["$insert_id"] for event in walk.standins.mixpanel_events()]
    assert len(sent) == len(set(sent)) > 100
    assert "no such table" not in walk.output("lf-dagster status")


def test_the_report_is_made_of_the_files_in_the_wheel(walk: Walk):
    page = (walk.project / "report.html").read_text()
    assert "<svg" in page
    assert "shop_assistant" in page


def test_assets_of_others_run_beside_ours_and_only_they_use_the_io_manager(walk: Walk):
    output = walk.output("dg launch --assets")
    assert "RUN_SUCCESS" in output
    assert output.index('step "announcements"') < output.index(f'step "{NAME}__raw"') < output.index('"active_users"')
    stored = {path.stem: json.loads(path.read_text()) for path in (walk.project / "values").iterdir()}
    hour = "partition_hour = TIMESTAMPTZ '2026-11-21 05:00:00+00'"
    [[users]] = walk.query(f"SELECT count(DISTINCT user_id) FROM shop_assistant.traces WHERE {hour}")
    assert stored == {"announcements": 1, "active_users": users}
    assert users


def test_the_graph_has_the_edges_and_the_job_has_ours_alone(walk: Walk, library: Library):
    script = """
import json
from analytics.definitions import defs
loaded = defs()
job = loaded.resolve_job_def("shop_assistant_hourly").asset_layer.executable_asset_keys
deps = {spec.key.to_user_string(): [dep.asset_key.to_user_string() for dep in spec.deps]
        for spec in loaded.resolve_all_asset_specs()}
print(json.dumps({"job": sorted(key.to_user_string() for key in job), "deps": deps}))
"""
    done = library.run(str(library.python), "-W", "ignore", "-c", script, cwd=walk.project, env=walk.env)
    found = json.loads(done.stdout)
    assert sorted(found["deps"][f"{NAME}/raw_scores"]) == ["announcements", f"{NAME}/langfuse"]
    assert found["deps"]["daily_note"] == [f"{NAME}/traces"]
    assert "help_desk/traces" in found["deps"]
    assert {f"{NAME}/raw_scores", f"{NAME}/mixpanel"} <= set(found["job"])
    assert {key.partition("/")[0] for key in found["job"]} == {NAME}


def test_the_copied_instance_is_ours_with_the_pool_limited(walk: Walk, library: Library):
    script = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    print(type(instance).__name__, instance.event_log_storage.get_pool_limits()[0].limit, len(instance.get_runs()))
"""
    done = library.run(str(library.python), "-c", script, cwd=walk.project, env=walk.env)
    assert done.stdout.split() == ["ProjectInstance", "1", "1"], done.stderr
    assert not list(walk.project.glob(".tmp_dagster_home*"))


def test_no_secret_is_in_what_was_printed(walk: Walk):
    printed = "".join(done.stdout + done.stderr for done in walk.given.values())
    assert not [name for name, value in SECRETS.items() if value in printed]
