"""Reading request bodies: bounded inflation and JSON that may hold broken text."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, cast

import msgspec
from isal import igzip_lib, isal_zlib

# The type stubs declare an instance where the module has a class.
_InflateError = cast("type[Exception]", igzip_lib.IsalError)
_DECODER = msgspec.json.Decoder()
_GZIP_MAGIC = b"\x1f\x8b"


class BodyTooLarge(Exception):
    """The body inflates beyond the limit; inflating stopped there."""


class BodyUnreadable(Exception):
    """The body is not what it claims to be (broken gzip, no JSON)."""


def is_gzip(body: bytes) -> bool:
    """Whether the body starts with the gzip magic bytes."""
    return body.startswith(_GZIP_MAGIC)


def gunzip(body: bytes, *, limit: int) -> bytes:
    """Inflate a gzip body, of one or more members, to at most `limit` bytes.

    Raises BodyTooLarge beyond the limit and BodyUnreadable for broken or truncated gzip.
    """
    return inflate(body, limit=limit, wbits=31)


def inflate(body: bytes, *, limit: int, wbits: int) -> bytes:
    """As `gunzip`, for any zlib framing: 31 gzip, 15 zlib, -15 raw deflate."""
    parts: list[bytes] = []
    room = limit + 1
    rest = body
    while rest:
        inflater = isal_zlib.decompressobj(wbits=wbits)
        try:
            part = inflater.decompress(rest, room)
        except _InflateError as error:
            raise BodyUnreadable(str(error)) from error
        parts.append(part)
        room -= len(part)
        if room <= 0:
            raise BodyTooLarge
        if not inflater.eof:
            raise BodyUnreadable("the compressed body ends early")
        rest = inflater.unused_data
    return b"".join(parts)


def decode_json(body: bytes) -> tuple[Any, bool]:
    """The JSON value of a body, and whether all its text is valid Unicode.

    Bytes that are no UTF-8 and lone surrogates come back as lone surrogates inside the strings, so that a caller can
    blame the row that holds them. Raises BodyUnreadable for everything that is not JSON, NaN and Infinity included.
    """
    try:
        return _DECODER.decode(body), True
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _decode_broken_text(body), False


def _decode_broken_text(body: bytes) -> Any:
    try:
        text = body.decode("utf-8", "surrogateescape")
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BodyUnreadable(str(error)) from error


def first_bad_text(value: Any, path: str) -> str | None:
    """Path of the first string (or key) below `value` that is no valid Unicode, or None."""
    if isinstance(value, str):
        return path if _is_broken(value) else None
    if isinstance(value, dict):
        children = [(f"{path}.{name}", name, item) for name, item in value.items()]
    elif isinstance(value, list):
        children = [(path, "", item) for item in value]
    else:
        return None
    for child_path, name, item in children:
        found = path if _is_broken(name) else first_bad_text(item, child_path)
        if found is not None:
            return found
    return None


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is out of range")
    return number
