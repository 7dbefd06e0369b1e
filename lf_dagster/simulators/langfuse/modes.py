"""Which endpoints a deployment has: write modes of self-hosted servers, stages of Langfuse Cloud (contract 1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Mode:
    """One kind of deployment.

    v2_observations: `rows`, `empty` (200 without rows, the trap of write mode `legacy` with the opt-in flag), `missing`
    (404 with the gate's message) or `beta` (501, early v3).
    legacy: `available`, `deprecated` (answers carry `_deprecation`), `events_only` (404 before authentication),
    `new_organization` (410 after the rate limit) or `removed` (404 after authentication).
    default_groups: field groups of v2/observations without `fields`.
    """

    name: str
    version: str
    v2_observations: Literal["rows", "empty", "missing", "beta"] = "rows"
    v2_metrics: bool = True
    v3_scores: bool = True
    legacy: Literal["available", "deprecated", "events_only", "new_organization", "removed"] = "available"
    default_groups: tuple[str, ...] = ("core", "basic")


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("v3-legacy", "3.225.0", v2_observations="missing", v2_metrics=False, default_groups=("core",)),
        Mode("v4-dual", "4.16.0"),
        Mode("v4-events_only", "4.16.0", legacy="events_only"),
        Mode("v4-legacy-with-opt-in", "4.16.0", v2_observations="empty", v2_metrics=False),
        Mode("v4-legacy", "4.16.0", v2_observations="missing", v2_metrics=False),
        Mode("cloud-old-org", "4.16.0", legacy="deprecated"),
        Mode("cloud-new-org", "4.39.0", legacy="new_organization"),
        Mode("cloud-sunset", "4.39.0", legacy="removed"),
    )
}


def resolve(mode: str | Mode) -> Mode:
    """The mode of that name. Raises KeyError that lists the known names."""
    if isinstance(mode, Mode):
        return mode
    if mode not in MODES:
        raise KeyError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    return MODES[mode]
