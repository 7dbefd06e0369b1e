"""Observations and scores of some hours into DuckDB with dlt's REST source.

    extract_dlt.py ORIGIN PUBLIC_KEY SECRET_KEY START [START ...] END

One pipeline run from each moment (ISO 8601) to the next. Pages, fields and page sizes are ours: 1000 observations,
100 scores. Nested values stay JSON columns, as a table per nested key would cost dlt much more.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import os
import resource
import sys
import time
from itertools import pairwise
from typing import Any

import dlt
from dlt.sources.rest_api import rest_api_source

_FIELDS = "core,basic,time,metadata,model,usage,prompt,trace_context"
_CURSOR = {"type": "cursor", "cursor_path": "meta.cursor", "cursor_param": "cursor"}


def source(origin: str, keys: tuple[str, str], start: str, end: str) -> Any:
    """Both lists between two moments."""
    observations = {"fields": _FIELDS, "limit": 1000, "fromStartTime": start, "toStartTime": end}
    scores = {
        "fields": "core,details,subject,annotation",
        "limit": 100,
        "fromTimestamp": start,
        "toTimestamp": end,
    }
    found = rest_api_source(
        {
            "client": {
                "base_url": f"{origin}/api/public/",
                "auth": {"type": "http_basic", "username": keys[0], "password": keys[1]},
                "paginator": _CURSOR,
            },
            "resource_defaults": {"write_disposition": "append"},
            "resources": [
                {
                    "name": "observations",
                    "endpoint": {"path": "v2/observations", "params": observations, "data_selector": "data"},
                },
                {"name": "scores", "endpoint": {"path": "v3/scores", "params": scores, "data_selector": "data"}},
            ],
        }
    )
    found.max_table_nesting = 0
    return found


def rows_of(pipeline: Any) -> int:
    """Rows that the last run put into both tables."""
    counts = pipeline.last_trace.last_normalize_info.row_counts
    return counts.get("observations", 0) + counts.get("scores", 0)


def main(origin: str, public_key: str, secret_key: str, *bounds: str) -> None:
    folder = os.environ["BENCH_FOLDER"]
    rows, wall, cpu = 0, time.perf_counter(), time.process_time()
    pipeline = dlt.pipeline(
        "bench", pipelines_dir=folder, destination=dlt.destinations.duckdb(f"{folder}/bench.duckdb"), dataset_name="lf"
    )
    for start, end in pairwise(bounds):
        pipeline.run(source(origin, (public_key, secret_key), start, end)).raise_on_failed_jobs()
        rows += rows_of(pipeline)
    facts = {
        "rows": rows,
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
