"""Policies of a project: what the traces and generations of an hour should keep to (docs/checks.md).

Settings alone; `lf_dagster.accounting.policies` judges hours by them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self


class Policy(BaseModel):
    """Base: frozen, and a word that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Literal["warn", "error"] = Field("warn", description="Severity of the check when it does not pass.")


class ErrorRatePolicy(Policy):
    """Traces with at least one observation of level ERROR, as a share of the hour's traces."""

    max_share: float = Field(ge=0, le=1, description="Share of an hour's traces that may have errors.")
    min_traces: int = Field(20, ge=1, description="Hours with fewer traces than this pass.")


class CostPerTracePolicy(Policy):
    """What a single trace may cost."""

    max_usd: float = Field(ge=0, description="Cost in USD that no trace may exceed.")


class MissingUserPolicy(Policy):
    """Traces without user, as a share of the hour's traces."""

    max_share: float = Field(ge=0, le=1, description="Share of an hour's traces that may have no user.")
    min_traces: int = Field(1, ge=1, description="Hours with fewer traces than this pass.")


class ModelsPolicy(Policy):
    """Which models generations may use: glob patterns (`*`, `?`, `[abc]`), upper and lower case alike."""

    allow: tuple[str, ...] | None = Field(None, description="Models must match one of these patterns; None: any.")
    deny: tuple[str, ...] = Field((), description="Models must match none of these patterns, allowed or not.")

    @field_validator("allow", "deny")
    @classmethod
    def _patterns_are_not_empty(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not all(pattern.strip() for pattern in value):
            raise ValueError("an empty pattern matches no model")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.allow and not self.deny:
            raise ValueError("give `allow`, `deny`, or both")
        return self


class PolicySettings(BaseModel):
    """The policies of a project; those left out are no checks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_rate: ErrorRatePolicy | None = Field(None, description="Share of traces with errors.")
    cost_per_trace: CostPerTracePolicy | None = Field(None, description="Cost of a single trace.")
    missing_user: MissingUserPolicy | None = Field(None, description="Share of traces without user.")
    models: ModelsPolicy | None = Field(None, description="Models that generations may use.")

    @property
    def active(self) -> dict[str, Policy]:
        """The policies that are given, by name."""
        return {name: policy for name in type(self).model_fields if (policy := getattr(self, name)) is not None}
