"""Which redirects are followed: same host only, never from https to http, never with a body that would be lost."""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

from lf_dagster.http.response import Response
from lf_dagster.http.retry import Fault

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPS_METHOD = frozenset({307, 308})
_DEFAULT_PORTS = {"http": 80, "https": 443}


def redirect_target(response: Response, url: str, method: str) -> str | Fault | None:
    """Where to go next; None when this is no redirect; a Fault of kind `redirect` when it must not be followed."""
    location = response.headers.get("location")
    if response.status not in _REDIRECTS or not location:
        return None
    try:
        here, there = urlsplit(url), urlsplit(urljoin(url, location))
        _ = there.port
    except ValueError:
        return Fault("redirect", "redirected to something that is no URL")
    where = f"{there.scheme}://{there.netloc}"
    if here.scheme == "https" and there.scheme != "https":
        return Fault("redirect", f"redirected from https to {where}, which would show the credentials")
    if not _same_host(here, there):
        return Fault("redirect", f"redirected to another host, {where}, which must not get the credentials")
    if method != "GET" and response.status not in _KEEPS_METHOD:
        return Fault("redirect", f"redirected to {where} with status {response.status}, which would drop the body")
    return there.geturl()


def _same_host(here: SplitResult, there: SplitResult) -> bool:
    if here.hostname != there.hostname:
        return False
    upgraded = here.scheme == "http" and there.scheme == "https"
    return _port(here) == _port(there) or (upgraded and (_port(here), _port(there)) == (80, 443))


def _port(parts: SplitResult) -> int | None:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme)
