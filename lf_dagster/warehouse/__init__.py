"""The warehouse: a DuckDB database with one schema per project, and the SQL models that fill it."""

from lf_dagster.warehouse.database import ALIAS, Warehouse
from lf_dagster.warehouse.models import Column, Model, load_models
from lf_dagster.warehouse.tables import ModelRun, Problem
from lf_dagster.warehouse.typed import READ_PATH_DIFFERENCES, SCORE_LOOKBACK_HOURS, TRACE_WINDOW_HOURS, run_typed

__all__ = [
    "ALIAS",
    "READ_PATH_DIFFERENCES",
    "SCORE_LOOKBACK_HOURS",
    "TRACE_WINDOW_HOURS",
    "Column",
    "Model",
    "ModelRun",
    "Problem",
    "Warehouse",
    "load_models",
    "run_typed",
]
