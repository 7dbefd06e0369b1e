"""What an extract file holds."""

from __future__ import annotations

import pyarrow as pa

STREAMS = ("observations", "scores", "traces")
"""Streams of a project; `traces` exists on the legacy read path only."""

EXTRACT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("trace_id", pa.string()),
        pa.field("event_time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("updated_at", pa.timestamp("us", tz="UTC")),
        pa.field("read_path", pa.string(), nullable=False),
        pa.field("json", pa.string(), nullable=False),
    ]
)
"""`event_time` is the observation's startTime, the score's or the trace's timestamp; `json` is the object's text as
the server sent it, byte for byte."""

METADATA_PREFIX = "lf_dagster."
"""Prefix of the facts in the Parquet key-value metadata."""
