"""PostHog's timestamp pipeline (contract section 5), in integer epoch microseconds."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

SECOND = 1_000_000
DAY = 86_400 * SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_YEAR = -62_135_596_800 * SECOND
_AHEAD = 23 * 3_600 * SECOND
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?\s*([Zz]|[+-]\d\d(?::?\d\d)?)?\Z"
)
_FAR_YEAR = re.compile(r"[+-]?\d{5,}-\d\d-\d\d")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)\Z")
_HUMAN_FORMATS = (
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %B %Y",
)


class EventTime(msgspec.Struct):
    """When an event happened as stored; `notes` say how it differs from what was sent."""

    micros: int
    notes: list[str]


def event_time(
    timestamp: Any, *, offset: Any = None, sent_at: int | None = None, ignore_sent_at: bool = False, now: int
) -> EventTime:
    """Stored time of an event: `offset` beats `timestamp`; `sent_at` shifts it by the sender's clock error.

    `sent_at` and `now` in epoch microseconds. Notes: `unparsable` (replaced by now), `missing`, `skewed`, `future`
    (over 23 h ahead: now), `year` (outside 0..9999: epoch).
    """
    if isinstance(offset, (int, float)) and not isinstance(offset, bool):
        return EventTime(now - int(offset) * 1000, ["offset"])
    if timestamp is None or timestamp == "":
        return EventTime(now, ["missing"])
    micros = parse(str(timestamp))
    if micros is None:
        far = _FAR_YEAR.match(str(timestamp))
        return EventTime(0, ["year"]) if far else EventTime(now, ["unparsable"])
    return corrected(micros, sent_at=None if ignore_sent_at else sent_at, now=now)


def corrected(micros: int, *, sent_at: int | None, now: int) -> EventTime:
    """Apply skew correction and the bound on the future."""
    notes: list[str] = []
    if sent_at is not None and sent_at != now:
        micros += now - sent_at
        notes.append("skewed")
    if micros > now + _AHEAD:
        return EventTime(now, [*notes, "future"])
    if micros < _FIRST_YEAR:
        return EventTime(0, [*notes, "year"])
    return EventTime(micros, notes)


def parse(text: str) -> int | None:
    """Epoch microseconds of RFC 3339 with any or no offset, numeric epoch text, or a human date; None otherwise."""
    text = text.strip()
    match = _ISO.match(text)
    try:
        if match is not None:
            return _from_iso(match)
        if text.replace(".", "", 1).isdigit():
            return _from_number(float(text))
        return _from_human(text)
    except (ValueError, OverflowError):
        return None


def parse_rfc3339(text: str) -> int | None:
    """Epoch microseconds of strict RFC 3339 with a zone, as Capture V1 wants it; None otherwise."""
    return parse(text) if _RFC3339.match(text) else None


def utc_date(micros: int) -> str:
    """UTC calendar date, `YYYY-MM-DD`."""
    return (_EPOCH + timedelta(microseconds=micros)).date().isoformat()


def iso(micros: int) -> str:
    """ISO text in UTC with microseconds and `Z`."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _from_iso(match: re.Match[str]) -> int:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    moment = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=timezone.utc
    )
    micros = (moment - _EPOCH) // timedelta(microseconds=1) + int((fraction or "0").ljust(6, "0")[:6])
    if not zone or zone in {"Z", "z"}:
        return micros
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = (int(digits[:2]) * 3_600 + int(digits[2:]) * 60) * SECOND
    return micros - offset if zone[0] == "+" else micros + offset


def _from_number(number: float) -> int:
    seconds = number / 1000 if number >= 1e11 else number
    return int(seconds * SECOND)


def _from_human(text: str) -> int | None:
    for pattern in _HUMAN_FORMATS:
        try:
            return _micros(datetime.strptime(text, pattern).replace(tzinfo=timezone.utc))
        except ValueError:
            continue
    moment = parsedate_to_datetime(text)
    return _micros(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
