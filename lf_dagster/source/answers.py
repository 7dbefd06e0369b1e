"""What Langfuse's answers mean, as errors with texts for the people who run this (contracts: langfuse 1.3, 2.3)."""

from __future__ import annotations

from typing import Any

import msgspec

from lf_dagster.errors import (
    AuthenticationError,
    LfDagsterError,
    ProtocolError,
    RateLimited,
    ReadPathUnavailable,
    RequestRejected,
    RequestTooLarge,
)
from lf_dagster.http import Response

_TOO_LARGE = frozenset({413, 422, 504, 524})
"""422: the database gave up; 504 and 524: a proxy did. All mean: ask for less (contracts: langfuse 16.14)."""

ASK_FOR_LESS = _TOO_LARGE
"""Statuses that must reach `check` instead of being retried unchanged."""

_NOT_HERE = frozenset({404, 405, 410, 501})

_ANSWERS_HINT = (
    "Something between here and Langfuse answers instead of it (a login page, a proxy), or `host` is not a Langfuse."
)

_CREDENTIAL_HINTS = """Check that
  - the public key begins with pk-lf- and the secret key with sk-lf-, and that they are not swapped;
  - both belong to the same project (Langfuse: Project Settings > API Keys);
  - the key was not deleted or revoked (Langfuse may notice either only after 5 minutes);
  - `host` is the deployment that issued the key: EU, US, JP and HIPAA keys work only on their own host."""


def check(response: Response, *, host: str, public_key: str) -> None:
    """Return for a JSON answer with status 200; raise what any other answer means.

    Raises AuthenticationError, ReadPathUnavailable, RequestTooLarge, RequestRejected or ProtocolError.
    """
    if response.status == 200 and response.is_json:
        return
    where: dict[str, Any] = {"host": host, "endpoint": f"GET {response.endpoint}", "status": response.status}
    raise _error(response, where, public_key)


def _error(response: Response, where: dict[str, Any], public_key: str) -> LfDagsterError:
    if response.status in (401, 403):
        return _credentials(response, where, public_key)
    if response.status in _NOT_HERE:
        return ReadPathUnavailable(_not_here(response), hint=_NOT_HERE_HINT, **where)
    if response.status in _TOO_LARGE:
        return RequestTooLarge(f"Langfuse could not complete the query: {response.excerpt}", **where)
    if 400 <= response.status < 500:
        return RequestRejected(f"Langfuse refused the request: {response.excerpt}", **where)
    kind = response.content_type or "no content type"
    return ProtocolError(f"not a JSON answer ({kind}): {response.excerpt}", hint=_ANSWERS_HINT, **where)


def _credentials(response: Response, where: dict[str, Any], public_key: str) -> AuthenticationError:
    where["public_key"] = f"...{public_key[-4:]}"
    text, said = "Authentication failed: Invalid API credentials", message_of(response)
    if response.status == 403:
        hint = "Use a key pair of the project itself (Project Settings > API Keys), not of the organization."
        hint = f"{hint}\n{_CREDENTIAL_HINTS}"
        return AuthenticationError(f"{text}: this key may not read the project ({said})", hint=hint, **where)
    return AuthenticationError(f"{text} ({said})", hint=_CREDENTIAL_HINTS, **where)


_NOT_HERE_HINT = (
    "Set `read_path: auto` to have the read path detected, or the other one of `v2` and `legacy`; "
    "if neither works, check `host`."
)


def _not_here(response: Response) -> str:
    said = message_of(response)
    if "events_only mode" in said:
        return "this Langfuse runs in events_only mode and has no legacy read API"
    if "v4 write mode" in said:
        return "this Langfuse does not run in a v4 write mode and has no v2 observations"
    if response.status == 410:
        return f"Langfuse has closed this API for the organization: {said}"
    if not response.is_json:
        return "no such API at this host (the answer is no JSON)"
    return f"this Langfuse does not serve the API: {said}"


def message_of(response: Response) -> str:
    """Langfuse's own `message`, masked and short; the start of the body when there is none."""
    try:
        body = response.json() if response.is_json else None
    except msgspec.DecodeError:
        body = None
    message = body.get("message") if isinstance(body, dict) else None
    text = message if isinstance(message, str) and message else response.excerpt
    return response.redactor(text)[:300] or f"status {response.status}"


def explain_rate_limit(error: RateLimited) -> RateLimited:
    """The same error with the advice that belongs to Langfuse (contracts: langfuse 3)."""
    limit = error.context.get("limit")
    stated = f"The limit is {limit} requests per window" if limit else "The limit"
    error.hint = (
        f"{stated}{',' if limit else ' is'} shared by all projects and tools of the organization. Two settings make "
        "fewer requests: a longer interval between runs (`sync_every_minutes`, `reconcile.revisit_hours`) and larger "
        "pages (`page_size`, up to 1000). `requests_per_minute` keeps this project below a limit (Langfuse Cloud: "
        "30 on Hobby, 1000 else), as fewer `parallel_requests` do."
    )
    return error
