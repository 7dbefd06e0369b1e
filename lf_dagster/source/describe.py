"""Which project a key pair opens, and which API generation the deployment serves (contracts: langfuse 1.4)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from lf_dagster.clock import utc_now
from lf_dagster.config import ReadPath
from lf_dagster.errors import LfDagsterError, ProtocolError, RateLimited, ReadPathUnavailable
from lf_dagster.http import RetryPolicy

if TYPE_CHECKING:
    from lf_dagster.source.client import LangfuseClient

logger = logging.getLogger(__name__)

_ONE_TRY = RetryPolicy(attempts=1)
_BEHIND = timedelta(hours=1)
"""A legacy trace this much newer than every v2 observation is suspicious: the propagation delay is minutes."""
_FRESH = timedelta(days=1)


@dataclass(frozen=True)
class ProjectInfo:
    """The project that the key pair belongs to; `organization` is its name.

    `retention_days`: age beyond which Langfuse removes rows by itself; None when it keeps them.
    """

    id: str
    name: str
    organization: str | None
    retention_days: int | None = None


@dataclass(frozen=True)
class SourceInfo:
    """What was found at the other end. `why` says in words how the read path was chosen."""

    project: ProjectInfo
    server_version: str | None
    read_path: ReadPath
    why: str


def describe(client: LangfuseClient) -> SourceInfo:
    """Project, version and read path; a read path given in the settings is taken without a look."""
    project = read_project(client)
    version = read_version(client)
    wanted = client.settings.read_path
    if wanted != "auto":
        return SourceInfo(project, version, wanted, f"`read_path: {wanted}` in the settings")
    read_path, why = _detect(client, version)
    return SourceInfo(project, version, read_path, why)


def read_project(client: LangfuseClient) -> ProjectInfo:
    """The project of the key pair (`GET projects`); raises AuthenticationError for a bad or an organization key."""
    body = client.get_json("projects")
    try:
        (found,) = body["data"]
        organization = (found.get("organization") or {}).get("name")
        retention = int(found.get("retentionDays") or 0)
        return ProjectInfo(str(found["id"]), str(found["name"]), organization, retention if retention > 0 else None)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ProtocolError("not the one project of this key", host=client.http.host, endpoint="GET projects") from None


def read_version(client: LangfuseClient) -> str | None:
    """Version such as `4.16.0`, None when the health endpoint is blocked: some proxies do that."""
    try:
        body: Any = client.get("health", retry=_ONE_TRY).json()
    except (LfDagsterError, msgspec.DecodeError) as error:
        logger.info("no server version: %s", error)
        return None
    version = body.get("version") if isinstance(body, dict) else None
    return version if isinstance(version, str) else None


def _detect(client: LangfuseClient, version: str | None) -> tuple[ReadPath, str]:
    try:
        newest = newest_event(client, "v2")
    except ReadPathUnavailable as error:
        _require_legacy(client, error)
        return "legacy", error.message
    if version is not None and version.split(".")[0] == "3" and _legacy_newest(client)[0]:
        return "legacy", f"server version {version} with its legacy API"
    if newest is not None and utc_now() - newest < _FRESH:
        return "v2", "v2 observations are served and fresh"
    return _empty_or_stale(client, newest)


def _require_legacy(client: LangfuseClient, v2_error: ReadPathUnavailable) -> None:
    try:
        newest_event(client, "legacy")
    except ReadPathUnavailable as error:
        raise ReadPathUnavailable(
            f"neither API generation is served: {v2_error.message}; {error.message}",
            hint="Check that `host` is the origin of a Langfuse and that nothing in between blocks /api/public/.",
            host=client.http.host,
        ) from None


def _empty_or_stale(client: LangfuseClient, newest: datetime | None) -> tuple[ReadPath, str]:
    """A v4 server in write mode `legacy` answers v2 with 200 and no (or only old) rows; v2/metrics gives it away."""
    state = "empty" if newest is None else "old"
    served, legacy_newest = _legacy_newest(client)
    if not served:
        return "v2", f"v2 observations are served ({state}), the legacy API is not"
    if legacy_newest is None or (newest is not None and legacy_newest - newest < _BEHIND):
        return "v2", f"v2 observations are served ({state}), and the legacy API knows nothing newer"
    if has_v2_metrics(client):
        return "v2", f"v2 observations are served ({state}), v2 metrics too"
    return "legacy", f"v2 observations are {state} although traces arrive: the server writes for the legacy API only"


def _legacy_newest(client: LangfuseClient) -> tuple[bool, datetime | None]:
    """Whether the legacy API is served, and the time of its newest trace."""
    try:
        return True, newest_event(client, "legacy")
    except ReadPathUnavailable:
        return False, None


def has_v2_metrics(client: LangfuseClient) -> bool:
    """Whether v2/metrics exists; its small quota makes a 429 likely, which only an existing endpoint gives."""
    now = utc_now()
    query = {
        "view": "observations",
        "metrics": [{"measure": "count", "aggregation": "count"}],
        "fromTimestamp": (now - timedelta(hours=1)).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "toTimestamp": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    try:
        client.get("v2/metrics", {"query": msgspec.json.encode(query).decode()}, retry=_ONE_TRY)
    except ReadPathUnavailable:
        return False
    except RateLimited:
        return True
    return True


def newest_event(
    client: LangfuseClient, read_path: ReadPath, *, before: datetime | None = None, **params: Any
) -> datetime | None:
    """Time of the newest observation (v2) or trace (legacy) before a moment; None when there is none.

    Raises ReadPathUnavailable when that generation is not served.
    """
    from lf_dagster.hours import iso

    if read_path == "v2":
        path, time, bound = "v2/observations", "startTime", "toStartTime"
    else:
        path, time, bound = "traces", "timestamp", "toTimestamp"
    query = {"limit": 1, "fields": "core", **({bound: iso(before)} if before else {}), **params}
    rows = client.get_json(path, query)["data"]
    return datetime.fromisoformat(rows[0][time].replace("Z", "+00:00")) if rows else None
