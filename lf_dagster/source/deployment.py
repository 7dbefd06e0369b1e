"""Which read paths a deployment serves, and what that says of how it writes (contracts: langfuse 1.2, 1.3).

Asked by `lf-dagster check` alone: runs need less (`describe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lf_dagster.config import ReadPath
from lf_dagster.errors import LfDagsterError, ReadPathUnavailable
from lf_dagster.source.describe import has_v2_metrics, newest_event

if TYPE_CHECKING:
    from lf_dagster.source.client import LangfuseClient

WriteMode = Literal["legacy", "dual", "events_only", "unknown"]


@dataclass(frozen=True)
class Deployment:
    """`served`: for each read path why it is not served, None where it is. `write_mode` is a guess; `why` its reason.

    A path that answers neither way (rate limit, proxy) is in neither state: its text says what happened.
    """

    served: Mapping[ReadPath, str | None]
    write_mode: WriteMode
    why: str


def inspect_deployment(client: LangfuseClient) -> Deployment:
    """One row of each read path, and one call of the small metrics quota where both are served. Raises nothing on
    purpose: what cannot be found out is unknown."""
    errors: dict[ReadPath, LfDagsterError | None] = {"v2": _try(client, "v2"), "legacy": _try(client, "legacy")}
    served: dict[ReadPath, str | None] = {path: error and error.message for path, error in errors.items()}
    if any(error is not None and not isinstance(error, ReadPathUnavailable) for error in errors.values()):
        return Deployment(served, "unknown", "not every read path answered")
    guess = _with_both(client) if errors["v2"] is errors["legacy"] else _with_one(served["v2"], served["legacy"])
    return Deployment(served, *guess)


def _try(client: LangfuseClient, read_path: ReadPath) -> LfDagsterError | None:
    try:
        newest_event(client, read_path)
    except LfDagsterError as error:
        return error
    return None


def _with_one(v2: str | None, legacy: str | None) -> tuple[WriteMode, str]:
    """By the reason why one of the read paths is not served."""
    if legacy is None:
        return "legacy", "v2 observations are not served"
    if v2 is not None:
        return "unknown", "no read path is served"
    if "events_only" in legacy:
        return "events_only", "the server says so"
    return "unknown", "the legacy API is closed, as on Langfuse Cloud, which tells nothing of how it writes"


def _with_both(client: LangfuseClient) -> tuple[WriteMode, str]:
    try:
        metrics = has_v2_metrics(client)
    except LfDagsterError as error:
        return "unknown", f"v2 metrics did not answer: {error.message}"
    return ("dual", "both APIs are served") if metrics else ("legacy", "v2 metrics are not served")
