"""Reading a destination's answer: HTML where JSON is due, refusals, and the errors that they become."""

from __future__ import annotations

from lf_dagster.destinations.base import REFUSED
from lf_dagster.errors import AuthenticationError, LfDagsterError, ProtocolError, RequestRejected
from lf_dagster.http import Response, RetryPolicy

PROBE_RETRY = RetryPolicy(attempts=2, initial=1.0)
"""Whoever asks whether a connection works wants to know it now."""
_REASON_LENGTH = 200


def is_html(response: Response) -> bool:
    """A proxy, a login page or a firewall answered, not the destination."""
    start = response.content[:64].lstrip().lower()
    return response.content_type == "text/html" or start.startswith((b"<!doctype", b"<html"))


def reason(kind: str, text: str) -> str:
    """A reason for the ledger: its kind and one line of at most 200 characters."""
    line = " ".join(text.split())
    return f"{kind}:{line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 3] + '...'}"


def refused(text: str) -> str:
    """The reason of an event that the destination's validation refused."""
    return reason(REFUSED, text)


def reject_credentials(who: str, host: str, response: Response, hint: str) -> LfDagsterError:
    """The error of a 401 or 403; nothing is retried."""
    return AuthenticationError(
        f"{who} refuses the credentials: {response.excerpt}", hint=hint, host=host, status=response.status
    )


def reject_request(who: str, host: str, response: Response, hint: str) -> LfDagsterError:
    """The error of an answer that cannot be for single events: a final status, or a page of HTML.

    `hint` says which address to check, for answers of something that is not the destination.
    """
    where = {"host": host, "status": response.status, "endpoint": response.endpoint}
    if is_html(response):
        return ProtocolError(
            f"{who} should answer with JSON, but a web page came: {response.excerpt}", hint=hint, **where
        )
    if response.status != 404:
        hint = "Nothing of this request was counted as delivered. If it happens again, please report it."
    return RequestRejected(f"{who} refuses the request: {response.excerpt}", hint=hint, **where)
