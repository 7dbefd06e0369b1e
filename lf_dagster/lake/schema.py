"""What an extract file holds."""

from __future__ import annotations

from collections.abc import Mapping

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
        pa.field("deleted_seen_at", pa.timestamp("us", tz="UTC")),
        pa.field("metadata_gone", pa.string()),
    ]
)
"""`event_time` is the observation's startTime, the score's or the trace's timestamp; `json` is the object's text as
the server sent it, byte for byte. `deleted_seen_at` marks a row that was there once and that the source no longer
returns: the moment of the first read without it. It is NULL for live rows. `metadata_gone` is the JSON text
`{"key": {"value": ..., "last_seen_at": "<ISO>"}}` of top-level metadata keys that earlier reads returned and `json` no
longer has, NULL when there are none. Files from versions that knew neither lack the columns."""

METADATA_PREFIX = "lf_dagster."
"""Prefix of the facts in the Parquet key-value metadata."""


def facts_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """The facts (names without prefix) in a Parquet file's key-value metadata. Raises ArrowInvalid for damaged ones."""
    try:
        entries = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"the metadata in the footer is damaged: {error}") from error
    return {
        key.removeprefix(METADATA_PREFIX): value for key, value in entries.items() if key.startswith(METADATA_PREFIX)
    }
