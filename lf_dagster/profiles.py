"""How user profiles are kept in Mixpanel (docs/analytics-tools.md).

Settings alone; `lf_dagster.destinations.mixpanel_profiles` sends the profiles.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ProfilePropertyName = Literal[
    "first_seen", "last_seen", "active_days", "traces", "sessions", "failed_traces", "cost_usd", "input_tokens",
    "output_tokens", "total_tokens", "models", "favourite_model", "last_model", "agents", "environments",
    "source_apps", "scores", "score_means", "project_name", "user_url",
]  # fmt: skip
"""Names without the prefix."""


class ProfileSettings(BaseModel):
    """What a profile says, and how often profiles are set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: bool = Field(False, description="Also set `$name`, to the user id (its hash where user ids are hashed).")
    prefix: str = Field(
        "langfuse_",
        pattern=r"^[a-z][a-z0-9_]{0,62}$",
        description="Begins every property's name. Projects that share a Mixpanel project each need one of their own.",
    )
    properties: tuple[ProfilePropertyName, ...] | None = Field(
        None, min_length=1, description="Only these properties, named without the prefix."
    )
    every_hours: Literal[1, 2, 3, 4, 6, 8, 12, 24] = Field(6, description="Hours between two scheduled runs.")
