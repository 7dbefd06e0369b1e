"""What becomes of rows that an extract held and a new read no longer returns.

Langfuse deletes physically and says nothing (contracts: langfuse 10), so a row that is missing is all there is to see.
It may have been deleted by somebody, have expired by the project's retention, or be missing because the read was not
what it should be: of another project, or of a server that answers with nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lf_dagster.clock import utc_now
from lf_dagster.errors import FatalError, RetryableError

GUARDED_ROWS = 50
"""Losses up to this many rows are never held up, whatever their share."""


@dataclass(frozen=True)
class DeletionRule:
    """How one read marks the rows that it did not return.

    `seen_at`: the moment of the read, which becomes their mark. `expired`: the hour is past the source's retention, so
    that nobody need have deleted them: they stay live, as they were. `max_lost_share`: share of the live rows that a
    read may lose (more than GUARDED_ROWS at least); 1.0 allows all.
    """

    seen_at: datetime = field(default_factory=utc_now)
    expired: bool = False
    max_lost_share: float = 1.0

    def keeps_live(self, held: Mapping[str, str]) -> bool:
        """Whether missing rows stay live, by the facts of the extract held so far: once expired, always expired."""
        return self.expired or int(held.get("kept_expired", 0)) > 0

    def check_unknown(self, returned: int, facts: Mapping[str, str]) -> None:
        """Raises FatalError when a read may not take the place of an extract that cannot be read: nobody knows what it
        lost. `returned` rows, of the stream and hour that `facts` name."""
        hint = (
            "Restore the file from a backup. If the hour is to be made from what Langfuse has now, move the file away "
            "and run the hour again: events of rows that are not there any more count as deleted then."
        )
        if self.expired:
            raise FatalError(
                "the extract held so far cannot be read, and Langfuse no longer has to have its rows, which are past "
                "the project's retention: nothing was written",
                hint=hint,
                **_where(facts),
            )
        if returned == 0 and self.max_lost_share < 1.0 and facts.get("stream") != "scores":
            raise FatalError(
                "the extract held so far cannot be read, and this read returned no rows: nothing was written",
                hint=f"A server in the wrong mode or the keys of a wrong project answer with nothing. {hint}",
                **_where(facts),
            )

    def check_overtaken(self, held: Mapping[str, str], facts: Mapping[str, str]) -> None:
        """Raises RetryableError when a read that began later has ended before this one: what it has more is newer, not
        gone. A moment that is still to come is of a clock that was wrong, and says nothing."""
        read_at = held.get("extracted_at")
        if read_at is not None and self.seen_at < datetime.fromisoformat(read_at) <= utc_now():
            raise RetryableError(
                "another run has read this hour since this read began: nothing was written",
                hint="What the other run read is newer and stays; run the hour again to read it once more.",
                **_where(facts),
            )

    def check_loss(self, lost: int, live: int, facts: Mapping[str, str]) -> None:
        """Raises FatalError when a read lost more of the live rows than it may; `facts` say where."""
        if lost > GUARDED_ROWS and lost > self.max_lost_share * live:
            raise FatalError(
                f"this read no longer returned {lost} of {live} rows: nothing was written",
                hint="A server in the wrong mode or the keys of a wrong project answer with nothing. If the rows "
                "really were deleted, launch the raw asset with config `accept_deletions: true`, or run "
                "`lf-dagster sync --accept-deletions`.",
                **_where(facts),
            )


def check_same_project(held: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Raises FatalError when the facts of an extract and of the read that is to replace it name two projects."""
    before, now = held.get("project_id"), facts.get("project_id")
    if before is not None and now is not None and before != now:
        raise FatalError(
            f"the extract is of Langfuse project {_named(held)}, the keys open {_named(facts)}: nothing was written",
            hint="Put back the keys of the first project, or give the other one a `name` or a `data` folder of its "
            "own. If it is meant to take over, move the extracts of the first one away before.",
            **_where(facts),
        )


def _named(facts: Mapping[str, str]) -> str:
    name = facts.get("project_name")
    return f"{facts['project_id']} ({name})" if name else facts["project_id"]


def _where(facts: Mapping[str, str]) -> dict[str, str | None]:
    return {name: facts.get(name) for name in ("project", "stream", "hour")}
