"""Which Langfuse project the extracts of some hours came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lf_dagster.errors import ConfigError
from lf_dagster.hours import Hour
from lf_dagster.lake import Lake, UnreadableFile


@dataclass(frozen=True)
class SourceIdentity:
    """The Langfuse project behind the extracts of some hours, as their files say."""

    project_id: str
    project_name: str
    host: str

    @classmethod
    def of(cls, lake: Lake, project: str, hours: Sequence[Hour]) -> SourceIdentity:
        """Read from the newest hour's extract; ConfigError for an hour that has none, UnreadableFile."""
        for hour in hours:
            if not lake.extract_exists(project, "observations", hour):
                raise ConfigError(
                    f"no extract of {hour.key} for project {project}",
                    hint=f"Materialize {project}/raw_observations and {project}/raw_scores for this hour first.",
                )
        facts = lake.extract_facts(project, "observations", hours[-1]) or {}
        return cls(facts["project_id"], facts["project_name"], facts["host"])

    @classmethod
    def newest(cls, lake: Lake, project: str) -> SourceIdentity | None:
        """Of the newest hour whose extract can be read; None before the first."""
        for hour in reversed(lake.extracted_hours(project, "observations")):
            try:
                return cls.of(lake, project, [hour])
            except UnreadableFile:
                continue  # `status` names it
        return None
