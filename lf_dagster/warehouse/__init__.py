"""The warehouse: a DuckDB database with one schema per project, and the SQL models that fill it."""

from lf_dagster.warehouse.database import ALIAS, Warehouse
from lf_dagster.warehouse.extracts import extract_identity_of
from lf_dagster.warehouse.first_rows import FirstRows
from lf_dagster.warehouse.hours import Build, build_ids, builds_since, numbers_by_hour
from lf_dagster.warehouse.models import Column, Model, load_models
from lf_dagster.warehouse.staging import SCORE_LOOKBACK_HOURS, TRACE_WINDOW_HOURS
from lf_dagster.warehouse.tables import ModelRun, Problem
from lf_dagster.warehouse.typed import READ_PATH_DIFFERENCES, run_typed, wanted_apps
from lf_dagster.warehouse.visits import VISIT_EVENTS, VISIT_WINDOW_HOURS

__all__ = [
    "ALIAS",
    "READ_PATH_DIFFERENCES",
    "SCORE_LOOKBACK_HOURS",
    "TRACE_WINDOW_HOURS",
    "VISIT_EVENTS",
    "VISIT_WINDOW_HOURS",
    "Build",
    "Column",
    "FirstRows",
    "Model",
    "ModelRun",
    "Problem",
    "Warehouse",
    "build_ids",
    "builds_since",
    "extract_identity_of",
    "load_models",
    "numbers_by_hour",
    "run_typed",
    "wanted_apps",
]
