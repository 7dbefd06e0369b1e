"""The report: adoption, cost, performance, feedback, retention and errors of some days, as one HTML file."""

from lf_dagster.report.figures import figures as key_figures
from lf_dagster.report.period import Period, parse_day
from lf_dagster.report.report import Report, build_report

__all__ = ["Period", "Report", "build_report", "key_figures", "parse_day"]
