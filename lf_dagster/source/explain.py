"""Why an hour has no rows, in words (contracts: source-apps LG-21)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from lf_dagster.config import LANGFUSE_INTERNAL_ENVIRONMENTS, ReadPath
from lf_dagster.errors import AuthenticationError, LfDagsterError, ReadPathUnavailable
from lf_dagster.hours import Hour, iso
from lf_dagster.source.describe import SourceInfo, newest_event

if TYPE_CHECKING:
    from lf_dagster.source.client import LangfuseClient

Reason = Literal[
    "no_data_at_all", "data_before_window", "data_after_window", "environment_filter", "has_data",
    "wrong_key", "v2_unavailable", "legacy_unavailable", "unreachable",
]  # fmt: skip
_PAGE = 100


@dataclass(frozen=True)
class Emptiness:
    """Why nothing came: a reason to act on and a text to show."""

    reason: Reason
    text: str


def explain_empty(
    client: LangfuseClient,
    source: SourceInfo | None,
    *,
    hours: Sequence[Hour],
    excluded_environments: Sequence[str] = LANGFUSE_INTERNAL_ENVIRONMENTS,
) -> Emptiness:
    """Look at the source with a few one-row requests and say why the hours have no rows. Raises nothing on purpose.

    `source` may be None when not even `describe` succeeded.
    """
    try:
        found = source or client.describe()
        return _explain(client, found, min(hours), max(hours), excluded_environments)
    except AuthenticationError as error:
        return Emptiness("wrong_key", str(error))
    except ReadPathUnavailable as error:
        read_path = source.read_path if source else client.settings.read_path
        return Emptiness("legacy_unavailable" if read_path == "legacy" else "v2_unavailable", str(error))
    except LfDagsterError as error:
        return Emptiness("unreachable", str(error))


def _explain(client: LangfuseClient, source: SourceInfo, first: Hour, last: Hour, excluded: Sequence[str]) -> Emptiness:
    newest = newest_event(client, source.read_path)
    name = f"project {source.project.name!r} ({source.project.id}) at {client.http.host}"
    if newest is None:
        text = (
            f"{name} has no data at all on the {source.read_path} read path. Is this the project that your "
            "application writes to? Its keys decide that, not its name."
        )
        return Emptiness("no_data_at_all", text)
    inside = newest_event(client, source.read_path, before=last.end)
    window = f"{iso(first.start)} .. {iso(last.end)}"
    if inside is None:
        return Emptiness(
            "data_after_window", f"{name} has data, all of it after {window}; the newest is of {iso(newest)}."
        )
    if inside < first.start:
        return Emptiness("data_before_window", _before(name, window, inside, newest, last))
    if not _has_other_environments(client, source.read_path, first, last, excluded):
        text = f"{name} has data in {window}, all of it in environments that are left out: {', '.join(excluded)}."
        return Emptiness("environment_filter", text)
    return Emptiness("has_data", f"{name} has data in {window}: read the hours again.")


def _before(name: str, window: str, inside: datetime, newest: datetime, last: Hour) -> str:
    later = f", and then again after it (newest {iso(newest)})" if newest >= last.end else ""
    return f"{name} has data, but none in {window}: the last before is of {iso(inside)}{later}."


def _has_other_environments(
    client: LangfuseClient, read_path: ReadPath, first: Hour, last: Hour, excluded: Sequence[str]
) -> bool:
    if read_path == "legacy":
        return _has_other_traces(client, first, last, excluded)
    condition: dict[str, Any] = {
        "type": "stringOptions", "column": "environment", "operator": "none of", "value": list(excluded),
    }  # fmt: skip
    window = {"fromStartTime": iso(first.start)}
    query = {**window, "filter": msgspec.json.encode([condition]).decode()} if excluded else window
    return newest_event(client, "v2", before=last.end, **query) is not None


def _has_other_traces(client: LangfuseClient, first: Hour, last: Hour, excluded: Sequence[str]) -> bool:
    """The legacy list cannot be asked for what is not in an environment, so one page is looked at; more is unknown."""
    window = {"fromTimestamp": iso(first.start), "toTimestamp": iso(last.end)}
    rows = client.get_json("traces", {"limit": _PAGE, "fields": "core", **window})["data"]
    return len(rows) == _PAGE or any((row.get("environment") or "default") not in excluded for row in rows)
