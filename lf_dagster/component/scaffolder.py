"""`dg scaffold defs lf_dagster.LangfuseProject NAME` writes a project that loads as it is."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component


class LangfuseProjectScaffolder(dg.Scaffolder[Any]):
    """Writes a `defs.yaml` whose variables carry the project's name."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        name = request.target_path.name.lower().replace("-", "_")
        prefix = name.upper()
        attributes = {
            "name": name,
            "start": "2026-01-01-00:00",
            "langfuse": {
                "host": "https://cloud.langfuse.com",
                "public_key_env": f"{prefix}_LANGFUSE_PUBLIC_KEY",
                "secret_key_env": f"{prefix}_LANGFUSE_SECRET_KEY",
            },
            "mixpanel": {"region": "us", "project_token_env": f"{prefix}_MIXPANEL_PROJECT_TOKEN"},
        }
        scaffold_component(request, attributes)
