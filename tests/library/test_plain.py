"""Plain `Definitions` without dg: two projects, merged with what somebody else has."""

from __future__ import annotations

import runpy
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import dagster as dg
import duckdb
import pytest
import yaml
from pydantic import BaseModel

from lf_dagster.clock import utc_now
from lf_dagster.component import build_project_definitions
from lf_dagster.component.component import settings_from_attributes
from lf_dagster.component.scaffolder import LangfuseProjectScaffolder, project_name
from lf_dagster.config import load_project
from lf_dagster.errors import ConfigError
from lf_dagster.hours import parse_hour
from tests.e2e.stack import SECRETS, StandIns, recorded_store, stand_ins
from tests.library.environment import files

HOUR = "2026-11-21-03:00"
PROJECTS = ("shop_assistant", "help_desk")


class Refusing(dg.IOManager):
    """A default IO manager that has no business with our assets."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        raise AssertionError(f"asked to store {context.asset_key}")

    def load_input(self, context: dg.InputContext) -> Any:
        raise AssertionError(f"asked to load {context.asset_key}")


def page_definitions(folder: Path, standins: StandIns) -> dg.Definitions:
    """`plain.py` of the page, with the stand-ins' hosts and a folder of the test's own."""
    code = files()["plain.py"].replace("https://cloud.langfuse.com", standins.origins["langfuse"])
    code = code.replace('"data": "data"', f'"data": {str(folder / "data")!r}')
    code = code.replace('"mixpanel": {', f'"mixpanel": {{"host": {standins.origins["mixpanel"]!r}, ')
    (folder / "plain.py").write_text(code)
    return runpy.run_path(str(folder / "plain.py"))["defs"]


@pytest.mark.slow
def test_two_projects_run_in_plain_definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in PROJECTS:
        monkeypatch.setenv(f"{name.upper()}_LANGFUSE_PUBLIC_KEY", "pk-lf-test")
        for variable, value in SECRETS.items():
            monkeypatch.setenv(f"{name.upper()}_{variable}", value)
    with stand_ins(recorded_store()) as standins, dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        own = dg.Definitions(resources={"io_manager": Refusing()})
        definitions = dg.Definitions.merge(page_definitions(tmp_path, standins), own)
        for name in PROJECTS:
            job = definitions.resolve_job_def(f"{name}_hourly")
            assert job.execute_in_process(instance=instance, partition_key=HOUR).success
        sent = standins.mixpanel_events()
    with duckdb.connect(str(tmp_path / "data" / "warehouse.duckdb"), read_only=True) as warehouse:
        shop, desk = (warehouse.execute(f"SELECT count(*) FROM {name}.traces").fetchall() for name in PROJECTS)
    assert shop == desk != [(0,)]
    # The same Langfuse project twice: the same ids.
    assert len(sent) == len({event["properties"]["$insert_id"] for event in sent}) > 0
    newsletter = definitions.resolve_asset_graph().get(dg.AssetKey("newsletter"))
    assert newsletter.parent_keys == {dg.AssetKey(["shop_assistant", "users"])}


def test_assets_of_others_in_our_group_stay_out_of_our_job():
    @dg.asset(group_name="shop", partitions_def=dg.DailyPartitionsDefinition("2026-11-20"))
    def of_a_day() -> None: ...

    project = build_project_definitions(load_project({"name": "shop"}))
    definitions = dg.Definitions.merge(project, dg.Definitions(assets=[of_a_day]))
    keys = definitions.resolve_job_def("shop_hourly").asset_layer.executable_asset_keys
    assert dg.AssetKey(["shop", "raw_scores"]) in keys
    assert dg.AssetKey("of_a_day") not in keys


def test_a_group_of_ones_own_leaves_the_job_whole():
    """Also what `post_processing` does with `group_name`."""
    project = build_project_definitions(load_project({"name": "shop"}))
    moved = project.map_resolved_asset_specs(func=lambda spec: spec.replace_attributes(group_name="analytics"))
    before, after = (
        definitions.resolve_job_def("shop_hourly").asset_layer.executable_asset_keys for definitions in (project, moved)
    )
    assert before == after


@pytest.mark.parametrize("name", ["hourly", "audit", "report"])
def test_jobs_run_in_one_process_whatever_the_executor_of_the_project(name: str):
    project = build_project_definitions(load_project({"name": "shop"}))
    definitions = dg.Definitions.merge(project, dg.Definitions(executor=dg.multiprocess_executor))
    assert definitions.resolve_job_def(f"shop_{name}").executor_def == dg.in_process_executor


class NoParams(BaseModel):
    """What a scaffolder without parameters gets."""


def scaffold(path: Path, form: Literal["yaml", "python"], *, append: bool = False) -> None:
    """What `dg scaffold defs` does."""
    request = dg.ScaffoldRequest(
        type_name="lf_dagster.LangfuseProject",
        target_path=path,
        scaffold_format=form,
        project_root=path.parent,
        params=NoParams(),
        append=append,
    )
    LangfuseProjectScaffolder().scaffold(request)


def test_a_python_scaffold_loads_too(tmp_path: Path):
    folder = tmp_path / "Help-Desk 2"
    folder.mkdir()
    scaffold(folder, "python")
    load = runpy.run_path(str(folder / "component.py"))["load"]
    settings = load(SimpleNamespace(project_root=tmp_path)).settings
    assert (settings.name, settings.data) == ("help_desk_2", str(tmp_path / "data"))
    assert settings.langfuse.secret_key_env == "HELP_DESK_2_LANGFUSE_SECRET_KEY"


def test_a_scaffold_starts_yesterday_and_can_be_added_to_a_document(tmp_path: Path):
    document = tmp_path / "defs.yaml"
    document.write_text("type: first\n")
    scaffold(document, "yaml", append=True)
    first, second = yaml.safe_load_all(document.read_text())
    assert first == {"type": "first"}
    start = parse_hour(second["attributes"]["start"]).start
    assert timedelta(hours=24) <= utc_now() - start < timedelta(hours=48)


@pytest.mark.parametrize("name", ["2024", "___"])
def test_a_folder_without_letters_gives_no_name(name: str):
    with pytest.raises(ConfigError, match="no name of a project"):
        project_name(name)


@pytest.mark.parametrize(("document", "on"), [({}, ["posthog"]), ({"posthog": None}, [])])
def test_a_destination_stays_off_whatever_variables_say(document: dict[str, Any], on: list[str]):
    settings = settings_from_attributes({"from_environment": True, **document}, {"POSTHOG_API_KEY": "phc_x"})
    assert list(settings.destinations) == on
