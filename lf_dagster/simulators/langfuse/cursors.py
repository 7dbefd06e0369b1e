"""Paging positions: where a page ended, and the texts that clients carry from page to page (contract 4.3 and 5)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

import xxhash

from lf_dagster.simulators.langfuse.errors import ApiError, Issue, invalid_request, invalid_type
from lf_dagster.simulators.langfuse.values import iso, loose_epoch_ms

ObservationKey = tuple[int, int, bytes]
"""(start time in ms, xxHash32 of the trace id, id as bytes): observations are served in descending order of it."""
ScoreKey = tuple[int, bytes]
"""(timestamp in ms, id as bytes): scores are served in descending order of it."""

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


def trace_hash(trace_id: str) -> int:
    """xxHash32 with seed 0 over the UTF-8 bytes, as ClickHouse computes it."""
    return xxhash.xxh32_intdigest(trace_id.encode("utf-8", "surrogatepass"))


def observation_key(start_ms: int, trace_id: str, observation_id: str) -> ObservationKey:
    """The position of an observation in the order of v2/observations."""
    return start_ms, trace_hash(trace_id), observation_id.encode("utf-8", "surrogatepass")


def score_key(timestamp_ms: int, score_id: str) -> ScoreKey:
    """The position of a score in the order of v3/scores."""
    return timestamp_ms, score_id.encode("utf-8", "surrogatepass")


def observation_cursor(start_ms: int, trace_id: str, observation_id: str) -> str:
    """The cursor that continues below this observation: padded standard base64 of compact JSON."""
    text = _compact({"lastStartTimeTo": iso(start_ms), "lastTraceId": trace_id, "lastId": observation_id})
    return base64.b64encode(text).decode()


def score_cursor(timestamp_ms: int, score_id: str) -> str:
    """The cursor that continues below this score: base64url without padding of compact JSON."""
    text = _compact({"v": 1, "lastTimestamp": iso(timestamp_ms), "lastId": score_id})
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def parse_observation_cursor(text: str) -> ObservationKey:
    """The position in a v2/observations cursor. Raises ApiError (400) as recorded for broken ones."""
    content = _decode(text)
    if not isinstance(content, dict):
        raise ApiError.validation([invalid_type("object", content, ["cursor"])])
    issues: list[Issue] = []
    start_ms = _date(content.get("lastStartTimeTo"), issues)
    for name in ("lastTraceId", "lastId"):
        if not isinstance(content.get(name), str):
            issues.append(invalid_type("string", content.get(name), ["cursor", name]))
    if issues or start_ms is None:
        raise ApiError.validation(issues)
    return observation_key(start_ms, content["lastTraceId"], content["lastId"])


def parse_score_cursor(text: str) -> ScoreKey:
    """The position in a v3/scores cursor. Raises ApiError (400)."""
    content = _decode(text)
    try:
        if content["v"] != 1:
            raise invalid_request("Invalid cursor format")
        return score_key(loose_epoch_ms(content["lastTimestamp"]), content["lastId"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise invalid_request("Invalid cursor format") from error


def _compact(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _decode(text: str) -> Any:
    # Node decodes both alphabets, skips what is neither and does not ask for padding.
    letters = _NOT_BASE64.sub("", text.replace("-", "+").replace("_", "/"))
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    try:
        return json.loads(base64.b64decode(letters + "=" * (-len(letters) % 4)))
    except (binascii.Error, ValueError) as error:
        raise invalid_request("Invalid cursor format") from error


def _date(value: Any, issues: list[Issue]) -> int | None:
    try:
        return loose_epoch_ms(value)
    except (TypeError, ValueError):
        issues.append(
            {
                "expected": "date",
                "code": "invalid_type",
                "received": "Invalid Date",
                "path": ["cursor", "lastStartTimeTo"],
                "message": "Invalid input: expected date, received Date",
            }
        )
        return None
