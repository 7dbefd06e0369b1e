"""lf_dagster as a package in somebody else's Dagster project."""
