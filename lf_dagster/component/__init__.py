"""A Langfuse project as a few lines of YAML."""

from lf_dagster.component.attributes import ProjectAttributes
from lf_dagster.component.component import LangfuseProject
from lf_dagster.component.factory import build_project_definitions

__all__ = ["LangfuseProject", "ProjectAttributes", "build_project_definitions"]
