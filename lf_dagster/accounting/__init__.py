"""What a project holds, what each hour still needs and why: behind status, audit, checks and reruns alike."""

from lf_dagster.accounting.account import COUNTS, HourAccount, ProjectAccount, account, due_hours, needs_by_hour
from lf_dagster.accounting.audit import Audit, AuditedHour, audit_source, hours_in_horizon, last_audit
from lf_dagster.accounting.demands import REPORTED_FROM, Demand, Failures, plan_demands
from lf_dagster.accounting.holdings import Delivery, Holding, read_holdings
from lf_dagster.accounting.identity import SourceIdentity
from lf_dagster.accounting.lag import allowed_lag, arrived_until, lag_of
from lf_dagster.accounting.needs import REASONS, Need, State

__all__ = [
    "COUNTS",
    "REASONS",
    "REPORTED_FROM",
    "Audit",
    "AuditedHour",
    "Delivery",
    "Demand",
    "Failures",
    "Holding",
    "HourAccount",
    "Need",
    "ProjectAccount",
    "SourceIdentity",
    "State",
    "account",
    "allowed_lag",
    "arrived_until",
    "audit_source",
    "due_hours",
    "hours_in_horizon",
    "lag_of",
    "last_audit",
    "needs_by_hour",
    "plan_demands",
    "read_holdings",
]
