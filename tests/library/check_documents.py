"""Checks many documents in one process: `python check_documents.py PROJECT CASES`, results as JSON.

CASES: a JSON file of {name: text of a defs.yaml}. For each what `dg check yaml` prints, and what loading the
definitions, as `dg check defs` does, raises.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path


def main() -> None:
    from click.testing import CliRunner
    from dagster_dg_cli.cli import create_dg_cli

    warnings.simplefilter("ignore")
    project, cases = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    folder = project / "src" / project.name / "defs" / "shop"
    folder.mkdir()
    os.chdir(project)
    found = {}
    for name, text in cases.items():
        (folder / "defs.yaml").write_text(text)
        checked = CliRunner().invoke(create_dg_cli(), ["check", "yaml"])
        found[name] = {"exit_code": checked.exit_code, "yaml": checked.output, "defs": loading(folder)}
    sys.stdout.write("\n" + json.dumps(found))


def loading(folder: Path) -> str:
    """The error of loading the definitions with its causes, as Dagster prints it; empty when they load."""
    from dagster import load_from_defs_folder
    from dagster._utils.error import serializable_error_info_from_exc_info

    try:
        load_from_defs_folder(path_within_project=folder)
    except Exception:  # noqa: BLE001 - whatever it is, it is the result
        return serializable_error_info_from_exc_info(sys.exc_info()).to_string()
    return ""


if __name__ == "__main__":
    main()
