"""What a project holds, what is outstanding and why: behind status, assets and reruns alike."""

from lf_dagster.accounting.account import (
    Extracted,
    HourAtDestination,
    ProjectAccount,
    SourceIdentity,
    State,
    account,
)

__all__ = ["Extracted", "HourAtDestination", "ProjectAccount", "SourceIdentity", "State", "account"]
