"""An environment that has lf_dagster from a wheel, and the other packages from the one that runs the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.stack import REPOSITORY

PAGE = REPOSITORY / "docs" / "library.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROGRAMS = ("dg", "dagster", "create-dagster", "lf-dagster")
_PROGRAM = """\
#!{python}
import sys
from importlib.metadata import entry_points
sys.exit(next(iter(entry_points(group="console_scripts", name="{name}"))).load()())
"""


def blocks(language: str) -> list[str]:
    """The code of a language on the page, block by block."""
    found = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    return [code for kind, code in found if kind == language]


def files() -> dict[str, str]:
    """The files on the page: blocks whose first line is a comment with their path."""
    named = [code for language in ("python", "yaml") for code in blocks(language) if code.startswith("# ")]
    return {code.splitlines()[0].removeprefix("# "): code for code in named}


class Library:
    """A virtual environment; `run` runs its programs as somebody does who has activated it."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False)
        [self.packages] = folder.glob("lib/python*/site-packages")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
        subprocess.run([*pip, str(self.packages), str(wheel)], check=True, capture_output=True)
        # As paths, not as a site folder: the editable lf_dagster in there stays out of sight.
        self.add_path(*(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")))
        for name in _PROGRAMS:
            program = folder / "bin" / name
            program.write_text(_PROGRAM.format(python=self.python, name=name))
            program.chmod(0o755)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def add_path(self, *folders: Path) -> None:
        """What an editable install does: the folders become importable."""
        with (self.packages / "_added.pth").open("a") as file:
            file.writelines(f"{folder}\n" for folder in dict.fromkeys(folders))

    def run(
        self, *command: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 100
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program and waits for it."""
        inherited = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return subprocess.run(
            command,
            env={
                **inherited,
                "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
                "VIRTUAL_ENV": str(self.folder),
                "DAGSTER_DISABLE_TELEMETRY": "1",
                "DAGSTER_DG_CLI_SUPPRESS_WARNINGS": "1",
                "COLUMNS": "200",
                **(env or {}),
            },
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def project(self, folder: Path, name: str) -> Path:
        """A new Dagster project with this name, installed."""
        made = self.run("create-dagster", "project", name, "--no-uv-sync", cwd=folder)
        assert made.returncode == 0, made.stdout + made.stderr
        self.add_path(folder / name / "src")
        return folder / name
