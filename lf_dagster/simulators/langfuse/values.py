"""How Langfuse writes and reads scalar values: ISO times, JavaScript numbers, stored metadata texts."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

METADATA_CUT = 200
"""Code points kept of each metadata value unless the full value is asked for (contract 4.1)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_INTEGRAL_LIMIT = 1e21
_JSON_START = frozenset('{["-0123456789tfn \t\n\r')
_ISO = re.compile(
    r"^(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.(\d+))?)?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$"
)
_LOOSE_ISO = re.compile(
    r"^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?$",
)
_EXPONENT = re.compile(r"[eE].*$")


def names(text: str) -> tuple[str, ...]:
    """The words of a text: a compact way to write a list of column names."""
    return tuple(text.split())


def iso(ms: int) -> str:
    """Epoch milliseconds as `YYYY-MM-DDTHH:MM:SS.mmmZ`, always three fraction digits."""
    day, rest = divmod(ms, 86_400_000)
    minutes, millis = divmod(rest, 60_000)
    hour, minute = divmod(minutes, 60)
    second, milli = divmod(millis, 1000)
    return f"{_date(day)}T{hour:02d}:{minute:02d}:{second:02d}.{milli:03d}Z"


@functools.lru_cache(maxsize=1024)
def _date(day: int) -> str:
    return f"{_EPOCH + timedelta(days=day):%Y-%m-%d}"


@functools.lru_cache(maxsize=65536)
def epoch_ms(text: str) -> int:
    """Epoch milliseconds of an ISO text as this server writes or accepts it; finer digits are dropped.

    Raises ValueError for texts without time or zone, as the strict parameters do (contract 2.3).
    """
    match = _ISO.match(text)
    if match is None:
        raise ValueError(f"not an ISO datetime: {text!r}")
    return _from_parts(match.groups())


def loose_epoch_ms(text: str) -> int:
    """Like JavaScript's Date: date-only and zone-less texts are accepted and read as UTC. Raises ValueError."""
    match = _LOOSE_ISO.match(text)
    if match is None:
        raise ValueError(f"not a date: {text!r}")
    return _from_parts(match.groups())


def _from_parts(parts: tuple[str | None, ...]) -> int:
    year, month, day, hour, minute, second, fraction, zone = parts
    moment = datetime(
        int(year or 0),
        int(month or 0),
        int(day or 0),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        tzinfo=timezone.utc,
    )
    whole = (moment - _EPOCH) // timedelta(milliseconds=1)
    millis = int((fraction or "0")[:3].ljust(3, "0"))
    return whole + millis - _offset_ms(zone or "Z")


def _offset_ms(zone: str) -> int:
    if zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return (-minutes if zone[0] == "-" else minutes) * 60_000


def number(value: float) -> float | int:
    """A number as JavaScript prints it: integral doubles lose their fraction (`2.0` becomes `2`)."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _INTEGRAL_LIMIT:
        return int(value)
    return value


def exact_sum(values: Iterable[float]) -> float | int:
    """The sum as the database forms it: costs are decimals there, so no binary noise adds up."""
    return number(float(sum((Decimal(repr(value)) for value in values), Decimal(0))))


def seconds(milliseconds: int) -> float | int:
    """A duration in seconds with millisecond digits."""
    return number(milliseconds / 1000)


def stored_text(value: Any) -> str:
    """A metadata value as the server stores it: strings as they are, everything else as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def parse_stored(text: str) -> Any:
    """A stored text as the API returns it: parsed if it is JSON, else the text itself (contract 4.4).

    Number tokens that a double cannot hold stay text: `9007199254740993` and `1e500` come back as strings.
    """
    if not text or text[0] not in _JSON_START:
        return text
    try:
        return json.loads(text, parse_int=_token, parse_float=_token, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def stored_metadata(metadata: dict[str, str], *, full: bool) -> dict[str, Any]:
    """The metadata map of a row; without `full` each value is cut to 200 code points before it is parsed."""
    if full:
        return {key: parse_stored(text) for key, text in metadata.items()}
    return {key: parse_stored(text[:METADATA_CUT]) for key, text in metadata.items()}


def _token(text: str) -> float | int | str:
    try:
        value = float(text)
    except OverflowError:
        return text
    if value in (float("inf"), float("-inf")) or _digits(text) != _digits(repr(value)):
        return text
    return int(text) if text.lstrip("-").isdigit() else number(value)


def _digits(text: str) -> str:
    plain = _EXPONENT.sub("", text).lstrip("-").replace(".", "")
    return plain.lstrip("0").rstrip("0")


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
