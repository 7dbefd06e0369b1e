"""What a project holds, what each hour still needs and why: behind status, audit, checks and reruns alike."""

from lf_dagster.accounting.account import COUNTS, HourAccount, ProjectAccount, account, due_hours, needs_by_hour
from lf_dagster.accounting.audit import Audit, AuditedHour, audit_source, hours_in_horizon, last_audit
from lf_dagster.accounting.demands import REPORTED_FROM, Demand, Failures, plan_demands
from lf_dagster.accounting.holdings import BrokenFile, Delivery, Holding, closes_at, is_closed, read_holdings
from lf_dagster.accounting.identity import SourceIdentity
from lf_dagster.accounting.lag import allowed_lag, arrived_until, lag_of
from lf_dagster.accounting.needs import REASONS, Need, State
from lf_dagster.accounting.policies import Verdict, judge_hours

__all__ = [
    "COUNTS",
    "REASONS",
    "REPORTED_FROM",
    "Audit",
    "AuditedHour",
    "BrokenFile",
    "Delivery",
    "Demand",
    "Failures",
    "Holding",
    "HourAccount",
    "Need",
    "ProjectAccount",
    "SourceIdentity",
    "State",
    "Verdict",
    "account",
    "allowed_lag",
    "arrived_until",
    "audit_source",
    "closes_at",
    "due_hours",
    "hours_in_horizon",
    "is_closed",
    "judge_hours",
    "lag_of",
    "last_audit",
    "needs_by_hour",
    "plan_demands",
    "read_holdings",
]
