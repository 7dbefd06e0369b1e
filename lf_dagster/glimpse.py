"""Short texts from outside as anybody may see them who may see that a project runs."""

from __future__ import annotations

import re

MOST_CHARACTERS = 14
_MASK = "***"
_SENSITIVE = re.compile(
    r"[\w.+-]+@[\w-]+\.[\w.-]+|\b(?:sk|pk|rk|phc|phx|ghp|xox[a-z])[-_][\w-]{6,}|\b(?:Bearer|Basic)\s+\S{6,}",
    re.IGNORECASE,
)


def glimpse(text: str | None, user_id: str | None) -> str | None:
    """A name or an id without the user's id, e-mail addresses and what looks like a key, on one line, cut to 14
    characters; None stays None."""
    if text is None:
        return None
    masked = text.replace(user_id, _MASK) if user_id else text
    masked = _SENSITIVE.sub(_MASK, " ".join(masked.split()))
    return masked if len(masked) <= MOST_CHARACTERS else masked[: MOST_CHARACTERS - 1] + "…"
