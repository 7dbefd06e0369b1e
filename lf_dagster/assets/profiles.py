"""User profiles in Mixpanel as an asset without partitions: a profile is about all that the warehouse holds.

No `from __future__ import annotations` here: Dagster reads the annotations of asset functions as they are.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from lf_dagster.assets.common import WAREHOUSE_POOL, asset_key, open_lake, open_warehouse, project_step
from lf_dagster.assets.links import destination_link, docs_page
from lf_dagster.clock import utc_now
from lf_dagster.config import MixpanelSettings, ProjectSettings

if TYPE_CHECKING:
    from lf_dagster.destinations.mixpanel_profiles import ProfileRun

log = logging.getLogger(__name__)

PROFILES = "mixpanel_profiles"
REJECTIONS = "rejections"
_INPUTS = ("traces", "observations", "scores", "trace_events", "mixpanel")
_MOSTLY_REJECTED = 0.5


class ProfilesConfig(dg.Config):
    """Launch-time options."""

    resend: bool = Field(False, description="Set every profile again, not only those that changed.")


def build_profiles_asset(settings: ProjectSettings) -> dg.AssetsDefinition:
    """The asset `[project, mixpanel_profiles]`, for a project that keeps profiles.

    It is in a group of its own, as the report is: no hour waits for it, and the hourly job knows nothing of it.
    """
    key = asset_key(settings.name, PROFILES)

    @dg.asset(
        key=key,
        deps=[asset_key(settings.name, name) for name in _INPUTS],
        group_name=f"{settings.name}_profiles",
        kinds={"mixpanel"},
        pool=WAREHOUSE_POOL,
        description="A profile per user in Mixpanel, from all that the warehouse holds. A rerun sets what is new or "
        "changed, always to the same values.",
        metadata={
            **_columns(settings),
            **destination_link(settings, "mixpanel"),
            **docs_page("docs/analytics-tools.md#user-profiles-in-mixpanel"),
        },
        owners=list(settings.owners),
        check_specs=[
            dg.AssetCheckSpec(
                REJECTIONS,
                asset=key,
                description="Mixpanel refused no more than `checks.max_rejected_share` of the profiles.",
            )
        ],
    )
    def mixpanel_profiles(
        context: dg.AssetExecutionContext, config: ProfilesConfig
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        # Only a run of profiles needs it: no other run loads it.
        from lf_dagster.destinations.mixpanel_profiles import set_profiles

        lake = open_lake(settings)
        with project_step(context, settings, log=log):
            done = set_profiles(
                settings,
                open_warehouse(settings, lake),
                lake,
                run_id=context.run.run_id,
                now=utc_now(),
                resend=config.resend,
            )
        _log_totals(settings.name, done)
        yield dg.MaterializeResult(metadata=profiles_metadata(done, lake.profiles_path(settings.name)))
        yield _rejections(done, settings)

    return mixpanel_profiles


def _columns(settings: ProjectSettings) -> dict[str, Any]:
    """The profile's properties as the asset's columns."""
    from lf_dagster.destinations.mixpanel_profile_properties import profile_properties

    mixpanel = settings.mixpanel or MixpanelSettings.model_validate({})
    if mixpanel.kept_profiles is None:
        return {}
    columns = [
        dg.TableColumn(name=name, type=item.type, description=item.doc)
        for name, item in profile_properties(mixpanel.kept_profiles, mixpanel)
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def profiles_metadata(done: "ProfileRun", path: str) -> dict[str, Any]:
    """profiles = sent + unchanged + rejected; units stand in the keys, everything else is a count."""
    counts = done.counts
    facts: dict[str, Any] = {
        "dagster/row_count": counts.profiles,
        "users": counts.users,
        "profiles": counts.profiles,
        "sent": done.sent,
        "unchanged": done.unchanged,
        "rejected": done.rejected,
        "gone": counts.gone,
        "nobody": counts.nobody,
        "anonymous_traces": counts.anonymous_traces,
        "requests": done.requests,
        "retries": done.retries,
        "bytes": done.bytes,
        "waited_seconds": round(done.waited_seconds, 3),
        "duration_seconds": round(done.duration_seconds, 3),
        "path": dg.MetadataValue.path(path),
    }
    if done.reasons:
        rows = sorted(done.reasons.items(), key=lambda item: -item[1])
        facts["reasons"] = dg.MetadataValue.json([{"reason": reason, "profiles": number} for reason, number in rows])
        facts["first_rejections"] = dg.MetadataValue.json(done.first_rejections)
    return facts


def _rejections(done: "ProfileRun", settings: ProjectSettings) -> dg.AssetCheckResult:
    share = done.rejected / done.counts.profiles if done.counts.profiles else 0.0
    return dg.AssetCheckResult(
        check_name=REJECTIONS,
        passed=share <= settings.checks.max_rejected_share,
        severity=dg.AssetCheckSeverity.ERROR if share > _MOSTLY_REJECTED else dg.AssetCheckSeverity.WARN,
        description=f"{done.rejected} of {done.counts.profiles} profiles rejected"
        if done.rejected
        else "none rejected",
        metadata={"rejected": done.rejected, "share": round(share, 6), "max_share": settings.checks.max_rejected_share},
    )


def _log_totals(project: str, done: "ProfileRun") -> None:
    log.info(
        "%s: mixpanel: %d profiles set, %d unchanged, %d rejected",
        *(project, done.sent, done.unchanged, done.rejected),
    )
