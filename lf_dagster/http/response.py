"""What came back, and the counters of a client."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from lf_dagster.http.redaction import Redactor

_EXCERPT = 300


@dataclass(frozen=True)
class Response:
    """A final answer. `content` is decoded (gzip undone); `wire_bytes` is what came over the network."""

    status: int
    headers: httpx.Headers = field(repr=False)
    content: bytes = field(repr=False)
    endpoint: str
    wire_bytes: int
    elapsed_seconds: float
    redactor: Redactor = field(repr=False)

    @property
    def content_type(self) -> str:
        """Media type without parameters, lower case: `application/json`; empty when not given."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether the answer calls itself JSON (any `+json` type counts)."""
        return self.content_type == "application/json" or self.content_type.endswith("+json")

    @property
    def excerpt(self) -> str:
        """Start of the body for error texts: one line, secrets masked, at most 300 characters."""
        text = self.content[: 4 * _EXCERPT].decode("utf-8", errors="replace")
        line = " ".join(self.redactor(text).split())
        return line if len(line) <= _EXCERPT else line[: _EXCERPT - 3] + "..."

    def json(self) -> Any:
        """The body as Python objects; raises msgspec.DecodeError when it is not JSON."""
        return msgspec.json.decode(self.content)


class HttpStats:
    """Counters of what a client did; thread-safe. Every attempt counts as a request, bytes are those on the wire."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.retries = 0
        self.waited_seconds = 0.0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.by_status: Counter[int] = Counter()
        """Answers by HTTP status; 0 counts attempts without an answer."""

    def attempt(self, *, status: int, sent: int, received: int) -> None:
        with self._lock:
            self.requests += 1
            self.bytes_sent += sent
            self.bytes_received += received
            self.by_status[status] += 1

    def retry(self) -> None:
        with self._lock:
            self.retries += 1

    def waited(self, seconds: float) -> None:
        with self._lock:
            self.waited_seconds += seconds

    def snapshot(self) -> dict[str, Any]:
        """A consistent copy as plain values, for metadata and logs."""
        with self._lock:
            return {
                "requests": self.requests,
                "retries": self.retries,
                "waited_seconds": self.waited_seconds,
                "bytes_received": self.bytes_received,
                "bytes_sent": self.bytes_sent,
                "by_status": dict(self.by_status),
            }
