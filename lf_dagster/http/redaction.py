"""Secrets out of texts: raw, URL-quoted, and inside base64 at any alignment."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

MASK = "***"

_SHORTEST = 4
"""A shorter secret would mask ordinary words; nothing that guards an account is this short."""

_CREDENTIAL = re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=_\-.~]{6,}", re.IGNORECASE)


def basic_auth(user: str, password: str) -> str:
    """Value of an `Authorization` header for HTTP Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


class Redactor:
    """Masks the given secrets, and anything that looks like a Basic or Bearer credential, in a text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for item in secrets if len(item) >= _SHORTEST for form in _forms(item)}
        # Longest first, so that a secret that contains another one disappears whole.
        ordered = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        masked = self._secrets.sub(MASK, text) if self._secrets else text
        return _CREDENTIAL.sub(rf"\1 {MASK}", masked)


def redact(text: str, secrets: Sequence[str]) -> str:
    """`text` with every form of the `secrets` replaced by `***`."""
    return Redactor(secrets)(text)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    raw = secret.encode()
    for standard in {base64.b64encode(raw).decode("ascii"), *_inside_base64(raw)}:
        if len(standard) >= _SHORTEST:
            yield standard.rstrip("=")
            yield standard.rstrip("=").translate({ord("+"): "-", ord("/"): "_"})


def _inside_base64(raw: bytes) -> Iterator[str]:
    """What base64 of any text that contains `raw` must contain: one form per alignment to its 3-byte groups."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode("ascii").rstrip("=")
        first = (before * 8 + 5) // 6
        last = ((before + len(raw)) * 8) // 6
        yield encoded[first:last]
