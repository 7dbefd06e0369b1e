"""Words looked for in a page of JSON, a megabyte of bytes at a time.

A regular expression looks at every byte by itself. NumPy finds the places of one byte ten times faster, so a mark says
how it begins, with a byte that is rare in rows, and its expression is tried only there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

_LENGTH = 3


@dataclass(frozen=True)
class Mark:
    """An expression whose matches begin with one of `begins`: three bytes each, of which the first is common to all."""

    pattern: re.Pattern[bytes]
    begins: tuple[bytes, ...]
    _first: int = field(init=False)
    _rest: np.ndarray = field(init=False, compare=False)

    def __post_init__(self) -> None:
        firsts = {begin[0] for begin in self.begins}
        if len(firsts) != 1 or any(len(begin) != _LENGTH for begin in self.begins):
            raise ValueError(f"not {_LENGTH} bytes each, with one first byte: {self.begins}")
        object.__setattr__(self, "_first", firsts.pop())
        object.__setattr__(self, "_rest", np.array([begin[1] << 8 | begin[2] for begin in self.begins], np.uint16))

    def places(self, text: memoryview) -> Iterator[int]:
        """Offsets of the matches, ascending."""
        data = np.frombuffer(text, np.uint8)
        firsts = np.flatnonzero(data[: 1 - _LENGTH] == self._first)
        follows = data[firsts + 1].astype(np.uint16) << 8 | data[firsts + 2]
        candidates = firsts[np.isin(follows, self._rest)].tolist()
        return (place for place in candidates if self.pattern.match(text, place))
