"""What the wheel holds, and what runs with nothing but it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.e2e.stack import REPOSITORY
from tests.library.environment import Library


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path):
    package = REPOSITORY / "lf_dagster"
    expected = {
        path.relative_to(REPOSITORY).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {f"lf_dagster/{name}" for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("lf_dagster/")}
    assert held == expected | shipped
    for needed in ("py.typed", "warehouse/described.json", "report/page/report.css", "defs/langfuse/defs.yaml"):
        assert f"lf_dagster/{needed}" in held


@pytest.mark.slow
def test_the_demo_runs_in_an_empty_folder(library: Library, tmp_path: Path):
    assert "Usage: lf-dagster" in library.run("lf-dagster", "--help", cwd=tmp_path).stdout
    # Files of other projects in the folder are none of the demo's.
    (tmp_path / "dagster.yaml").write_text("no: {such: section}\n")
    done = library.run("lf-dagster", "demo", "--hours", "2", "--traces", "20", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo: 2 hours done" in done.stdout
