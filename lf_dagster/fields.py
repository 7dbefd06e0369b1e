"""Text fields of the settings, each with what it may hold.

Each says it twice: to pydantic, in words, and as a pattern of the JSON schema, which is all that `dg check yaml` and
editors look at. Where a template such as `{{ env.NAME }}` makes sense, the pattern lets it pass: it is resolved before
pydantic judges.
"""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

_NAME = r"^[a-z][a-z0-9_]{0,62}$"
_OWNER = r"^(team:.+|[^@\s]+@[^@\s]+\.[^@\s]+)$"
# No hyphen, as Langfuse's keys have; no key of PostHog, no token of Mixpanel.
_VARIABLE = r"^(?!ph[cx]_|[0-9a-f]{32}$)[A-Za-z_][A-Za-z0-9_]*$"
_TEMPLATE = r"\{\{"
_TIME = r"^\s*\d{4}-\d{2}-\d{2}([-T ]\d{2}(:\d{2}.*)?)?\s*$"


def _origin(value: str) -> str:
    text = value.strip().rstrip("/")
    parts = urlsplit(text)
    if "@" in parts.netloc:
        # It would be sent instead of the keys, and be shown wherever the host is: here already without the value.
        raise ValueError("a URL with a user or password in it, which would be sent instead of the keys")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not a URL with http:// or https://: {value!r}")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"not a URL with a port that there can be: {value!r}") from None
    return text


def _name(value: str) -> str:
    if not re.search(_NAME, value):
        raise ValueError(f"not a project name: {value!r}; use lower-case letters, digits and _, starting with a letter")
    return value


def _variable(value: str) -> str:
    # Without the value: it may be a secret that was put here instead of its variable's name.
    if not re.search(_VARIABLE, value):
        raise ValueError("not the name of an environment variable (it names the variable that holds the secret)")
    return value


def _owner(value: str) -> str:
    if not re.search(_OWNER, value):
        raise ValueError(f"not an owner: {value!r}; write `team:name` or an e-mail address")
    return value


def may_be_secret(item: Any) -> bool:
    """Whether the input of a validation error must stay out of logs: it stands where its variable's name is due, under
    a name of its own such as `secret_key`, or in a URL."""
    named = item["type"] == "extra_forbidden" or str((item["loc"] or ("",))[-1]).endswith("_env")
    return named or re.search(r"://[^/\s]*@", str(item["input"])) is not None


def _pattern(*patterns: str) -> Any:
    return Field(json_schema_extra={"pattern": "|".join(patterns)})


Origin = Annotated[str, AfterValidator(_origin), _pattern(r"^\s*https?://(?![^/\s]*@)[^/\s]", _TEMPLATE)]
ProjectName = Annotated[str, AfterValidator(_name), _pattern(_NAME)]
VariableName = Annotated[str, AfterValidator(_variable), _pattern(_VARIABLE)]
Owner = Annotated[str, AfterValidator(_owner), _pattern(_OWNER)]
Time = Annotated[str, _pattern(_TIME, _TEMPLATE)]
"""What `lf_dagster.hours.parse_hour` reads; whoever has such a field calls it."""
