"""What settings and launch say about events that a destination has already, or shall not have yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lf_dagster.config import MixpanelSettings, PosthogSettings, ProjectSettings
from lf_dagster.destinations.waiting import NOBODY, Waits
from lf_dagster.hours import ONE_HOUR
from lf_dagster.kinds import EventKind


@dataclass(frozen=True)
class Policy:
    """One delivery's choices.

    `kinds` are shipped; `resend` sends what the destination has, changed or not; `keep_changes` never does;
    `hold_hours` is how old an hour must be before its events are sent for the first time; `tombstones`: events that
    are gone from the source are stripped at the destination; `hashed`: user ids leave as hashes; `waits`: what new
    events without user wait for.
    """

    kinds: tuple[EventKind, ...]
    resend: bool = False
    keep_changes: bool = False
    hold_hours: int = 0
    tombstones: bool = False
    hashed: bool = False
    waits: Waits = field(default_factory=dict)

    @classmethod
    def of(cls, project: ProjectSettings, destination: str, *, resend: bool, waits: Waits = NOBODY) -> Policy:
        """The project's settings for a destination."""
        settings = project.destinations[destination]
        return cls(
            kinds=project.kinds_for(destination),
            resend=resend,
            keep_changes=isinstance(settings, MixpanelSettings) and settings.on_change == "keep",
            hold_hours=settings.hold_hours,
            tombstones=isinstance(settings, PosthogSettings) and settings.on_delete == "tombstone",
            hashed=settings.hash_user_ids_env is not None,
            waits=waits,
        )

    def held_after(self, now: datetime) -> datetime | None:
        """Hours that start after this moment are held; None: none are."""
        return now - timedelta(hours=self.hold_hours) - ONE_HOUR if self.hold_hours else None
