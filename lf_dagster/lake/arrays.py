"""Small Arrow arrays from Python values, without pandas.

`pa.array` and `pa.scalar` look whether they were given something of pandas, and import it to know: 0.2 seconds and
50 MB for a process that has no other use for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def texts(values: Sequence[str | None]) -> pa.StringArray:
    """The values as strings; None is null."""
    known, validity = values, None
    if None in values:
        present = np.fromiter((value is not None for value in values), np.bool_, len(values))
        validity = pa.py_buffer(np.packbits(present, bitorder="little"))
        known = [value or "" for value in values]
    joined = "".join(known)  # pyright: ignore[reportArgumentType, reportCallIssue]
    encoded = joined.encode()
    pieces = known if len(encoded) == len(joined) else [value.encode() for value in known if value is not None]
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, pieces), np.int32, len(values)), out=offsets[1:])  # pyright: ignore[reportArgumentType]
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(encoded), validity)


def numbers(values: Sequence[int]) -> pa.Int64Array:
    """The values, a range for example, as 64-bit integers."""
    return _numbers(np.fromiter(values, np.int64, len(values)))


def repeated(number: int, count: int) -> pa.Int64Array:
    """One number, `count` times."""
    return _numbers(np.full(count, number, np.int64))


def _numbers(values: np.ndarray) -> pa.Int64Array:
    return pa.Int64Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def moment(value: pa.Scalar) -> datetime:
    """What a timestamp in microseconds says, UTC; it is not null. `as_py` asks for pandas too."""
    return _EPOCH + timedelta(microseconds=value.value)  # pyright: ignore[reportAttributeAccessIssue]
