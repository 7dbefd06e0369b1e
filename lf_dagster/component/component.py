"""The component class: resolves templates, fills in the environment, calls the factory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import dagster as dg
from pydantic import BaseModel

from lf_dagster.component.attributes import ProjectAttributes
from lf_dagster.component.factory import build_project_definitions
from lf_dagster.component.scaffolder import LangfuseProjectScaffolder
from lf_dagster.config import ProjectSettings, load_project
from lf_dagster.errors import ConfigError


@dg.scaffold_with(LangfuseProjectScaffolder)
class LangfuseProject(dg.Component):
    """Extracts one Langfuse project by the hour, models it in DuckDB and ships it to Mixpanel and PostHog.

    Secrets are named, never given: fields that end in `_env` hold the name of an environment variable,
    which is read when an asset is materialised.
    """

    def __init__(self, settings: ProjectSettings) -> None:
        self.settings = settings

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return ProjectAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> LangfuseProject:
        given: Any = attributes.given if isinstance(attributes, ProjectAttributes) else {}
        # As in Dagster's own components: `{{ context.project_root }}`.
        templates = context.with_rendering_scope({"context": SimpleNamespace(project_root=str(context.project_root))})
        resolved = dict(templates.resolution_context.at_path("attributes").resolve_value(given))
        try:
            return cls(settings_from_attributes(resolved, os.environ, origin=f"{context.path.name}/defs.yaml"))
        except ConfigError as error:
            # A template or a variable gave it: what the file itself says was judged before, with its lines.
            error.hint = error.hint or "It comes from a template or an environment variable."
            raise error.with_context(file=str(context.path / "defs.yaml")) from None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002 - Dagster passes it
        return build_project_definitions(self.settings)


def settings_from_attributes(
    attributes: Mapping[str, Any], env: Mapping[str, str], *, origin: str = "defs.yaml"
) -> ProjectSettings:
    """Settings of a component document, `origin` by name; raises ConfigError."""
    explicit = dict(attributes)
    from_environment = explicit.pop("from_environment", False)
    return load_project(explicit, env if from_environment else None, origin=origin)
