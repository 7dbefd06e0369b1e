"""Answers that were given before, ready to be sent again: what keeps the stand-in ahead of a fast reader."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace

from isal import igzip

from lf_dagster.simulators.langfuse.context import Answer

COMPRESS_FROM_BYTES = 1024
"""Smaller bodies are sent as they are."""


@dataclass
class PageCache:
    """Answers by what was asked and the epoch of the store; the least used ones go beyond `limit_bytes`."""

    limit_bytes: int = 128 * 1024 * 1024
    _held: OrderedDict[Hashable, Answer] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def answer(self, key: Hashable, build: Callable[[], Answer], *, compress: bool) -> Answer:
        """The answer to `key`, built (and compressed once) when it is not held. Errors of `build` pass through."""
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
            return held
        made = build()
        if compress and len(made.body) >= COMPRESS_FROM_BYTES:
            made = compressed(made)
        self._held[key] = made
        self._bytes += len(made.body)
        while self._bytes > self.limit_bytes:
            _, gone = self._held.popitem(last=False)
            self._bytes -= len(gone.body)
        return made


def compressed(answer: Answer) -> Answer:
    """The same answer with a gzip body."""
    headers = {**answer.headers, "content-encoding": "gzip", "vary": "Accept-Encoding"}
    return replace(answer, body=igzip.compress(answer.body, compresslevel=1), headers=headers)
