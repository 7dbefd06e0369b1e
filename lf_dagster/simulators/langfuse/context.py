"""What an endpoint gets and gives: the request read so far, and the answer's bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lf_dagster.simulators.langfuse.modes import Mode
from lf_dagster.simulators.langfuse.params import Query
from lf_dagster.simulators.langfuse.store import Store

_encode = msgspec.json.Encoder().encode
DEPRECATION = {
    "message": "This endpoint is deprecated and will be removed from Langfuse Cloud.",
    "docsUrl": "https://langfuse.com/faq/all/deprecated-api-migration",
    "sunsetAt": "2026-11-16",
}


@dataclass(frozen=True)
class Call:
    """One request after authentication: whose project, at what moment, asking what."""

    store: Store
    mode: Mode
    query: Query
    now_ms: int
    argument: str = ""
    unstable_ties: bool = True


@dataclass(frozen=True)
class Answer:
    """Status and body of an answer."""

    body: bytes
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer from plain values."""
    return Answer(_encode(content), status=status, headers=headers or {})


def page_answer(rows: Iterable[bytes], meta: Mapping[str, Any], *, deprecated: bool = False) -> Answer:
    """A page assembled from rendered rows."""
    tail = b',"_deprecation":' + _encode(DEPRECATION) if deprecated else b""
    return Answer(b'{"data":[' + b",".join(rows) + b'],"meta":' + _encode(meta) + tail + b"}")
