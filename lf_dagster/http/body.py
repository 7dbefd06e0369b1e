"""Reading one answer's body within bounds, and undoing its content encoding."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

from isal import igzip_lib, isal_zlib

_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class BodyTooLarge(Exception):
    """The answer is larger than the bound."""


class BodyTruncated(Exception):
    """The compressed body ends early or is damaged: the connection was cut by someone on the way."""


def read_raw(chunks: Iterable[bytes], *, limit: int, late: Callable[[], bool]) -> bytes:
    """All chunks as one; raises BodyTooLarge beyond `limit` bytes and TimeoutError as soon as `late()`."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the answer is larger than {limit} bytes")
        if late():
            raise TimeoutError("the body came too slowly")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode(raw: bytes, encoding: str, *, limit: int) -> bytes:
    """The body without its content encoding (gzip or none: the client offers nothing else)."""
    name = encoding.strip().lower()
    if name in ("", "identity") or not raw:
        return raw
    if name not in ("gzip", "x-gzip"):
        raise BodyTruncated(f"content encoding {name!r}, which was not offered")
    stream = isal_zlib.decompressobj(_GZIP_WINDOW)
    try:
        # One byte beyond the limit tells a large body from one that just fits, and a zip bomb stops there.
        content = stream.decompress(raw, limit + 1)
    except igzip_lib.IsalError as error:  # pyright: ignore[reportGeneralTypeIssues] - its stub says Exception
        raise BodyTruncated(f"damaged gzip body ({error})") from None
    if len(content) > limit:
        raise BodyTooLarge(f"the answer is larger than {limit} bytes")
    if not stream.eof:
        raise BodyTruncated("the gzip body ends early")
    return content
