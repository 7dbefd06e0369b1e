"""A JSON envelope around payload bytes, compressed in one pass."""

from __future__ import annotations

from isal import isal_zlib

GZIP_LEVEL = 1
"""ISA-L's level 1: zlib's level 6 is 6 % smaller on event JSON at a tenth of the speed."""
_GZIP_WINDOW = 31


def gzip_body(head: str, payloads: memoryview, tail: str = "]}") -> bytes:
    """gzip of `head`, the payloads without their last separator, and `tail`."""
    stream = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
    parts = (head.encode(), payloads[:-1], tail.encode())
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])
