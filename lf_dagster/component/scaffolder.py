"""`dg scaffold defs lf_dagster.LangfuseProject NAME` writes a project that loads as it is."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import dagster as dg

from lf_dagster.clock import utc_now
from lf_dagster.errors import ConfigError

# `data` is told from the project's folder: a path alone is one of whatever folder a process was started in.
_YAML = """\
type: lf_dagster.LangfuseProject

attributes:
  name: {name}
  # The first hour (UTC). Everything from here on is shipped as soon as the daemon runs.
  start: {start}
  # Extracts, ledgers and the DuckDB file. All projects may share one folder.
  data: "{{{{ context.project_root }}}}/data"
  langfuse:
    host: https://cloud.langfuse.com
    public_key_env: {prefix}_LANGFUSE_PUBLIC_KEY
    secret_key_env: {prefix}_LANGFUSE_SECRET_KEY
  mixpanel:
    region: us
    project_token_env: {prefix}_MIXPANEL_PROJECT_TOKEN
  # posthog:
  #   host: https://us.i.posthog.com
  #   api_key_env: {prefix}_POSTHOG_API_KEY

# For `dg list envs`. Fields that end in `_env` name a variable; it is read when an asset runs.
requirements:
  env:
    - {prefix}_LANGFUSE_PUBLIC_KEY
    - {prefix}_LANGFUSE_SECRET_KEY
    - {prefix}_MIXPANEL_PROJECT_TOKEN
"""

_PYTHON = """\
import dagster as dg
from lf_dagster import LangfuseProject
from lf_dagster.config import load_project


@dg.component_instance
def load(context: dg.ComponentLoadContext) -> LangfuseProject:
    settings = {{
        "name": "{name}",
        # The first hour (UTC). Everything from here on is shipped as soon as the daemon runs.
        "start": "{start}",
        # Extracts, ledgers and the DuckDB file. All projects may share one folder.
        "data": str(context.project_root / "data"),
        "langfuse": {{
            "host": "https://cloud.langfuse.com",
            "public_key_env": "{prefix}_LANGFUSE_PUBLIC_KEY",
            "secret_key_env": "{prefix}_LANGFUSE_SECRET_KEY",
        }},
        "mixpanel": {{"region": "us", "project_token_env": "{prefix}_MIXPANEL_PROJECT_TOKEN"}},
    }}
    return LangfuseProject(load_project(settings))
"""


class LangfuseProjectScaffolder(dg.Scaffolder[Any]):
    """Writes a `defs.yaml`, or a `component.py`, whose variables carry the project's name."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        folder = request.target_path.parent if request.append else request.target_path
        name = project_name(folder.name)
        python = request.scaffold_format == "python"
        text = (_PYTHON if python else _YAML).format(name=name, prefix=name.upper(), start=_yesterday())
        if request.append:
            with request.target_path.open("a", encoding="utf-8") as file:
                file.write(f"---\n{text}")
        else:
            (folder / ("component.py" if python else "defs.yaml")).write_text(text, encoding="utf-8")


def project_name(text: str) -> str:
    """A project's name from that of a folder: lower-case letters, digits and _. Raises ConfigError without letters."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_").lstrip("0123456789_")
    if not name:
        raise ConfigError(f"no name of a project in {text!r}", hint="Give the folder a name that has letters.")
    return name[:63]


def _yesterday() -> str:
    """Of history a day, for a first look: whoever wants more says so."""
    return f"{utc_now() - timedelta(days=1):%Y-%m-%d}-00:00"
