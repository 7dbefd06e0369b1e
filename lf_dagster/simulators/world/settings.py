"""How large, how old and how restless the generated world is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

from lf_dagster.simulators.langfuse.store import Project

HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Ageing:
    """Shares (0..1) of what changes after the fact, each at a moment of its own, none later than `horizon_hours` after
    its trace (a score: its own time) began.

    late: traces whose data arrives hours after they happened (offline clients). resent: observations sent again with
    other content, a tenth of them with another start time. edited: scores annotated again and legacy traces renamed.
    deleted: traces removed. costs: priced generations whose costs are corrected. attributed: traces whose user,
    session and tags become known later. late_scores: scores that arrive long after their timestamp. annotated: traces
    that are scored days later. unscored: scores removed. replayed: traces that their client sends once more as they
    first were, all those of one day at once; `replayed_day` is that UTC day.
    """

    late: float = 0.03
    resent: float = 0.02
    edited: float = 0.03
    deleted: float = 0.005
    costs: float = 0.0
    attributed: float = 0.0
    late_scores: float = 0.0
    annotated: float = 0.0
    unscored: float = 0.0
    replayed: float = 0.0
    replayed_day: date | None = None
    horizon_hours: int = 72

    @classmethod
    def none(cls) -> Ageing:
        """Nothing arrives late and nothing changes."""
        return cls(late=0, resent=0, edited=0, deleted=0)

    @classmethod
    def lively(cls, *, replayed_day: date | None = None, horizon_hours: int = 168) -> Ageing:
        """Everything that can happen does, more often than in most projects."""
        return cls(
            late=0.05,
            resent=0.03,
            edited=0.06,
            deleted=0.02,
            costs=0.05,
            attributed=0.05,
            late_scores=0.05,
            annotated=0.05,
            unscored=0.03,
            replayed=0.5,
            replayed_day=replayed_day,
            horizon_hours=horizon_hours,
        )

    @property
    def horizon_ms(self) -> int:
        """The horizon in milliseconds."""
        return self.horizon_hours * HOUR_MS


@dataclass(frozen=True)
class WorldSettings:
    """A world is a function of these settings; every hour is drawn on its own, so longer worlds contain shorter ones.

    start: first hour (UTC, whole hour). traces_per_hour: on average. direct_share: traces that come through modern
    OpenTelemetry SDKs; the rest comes through the legacy ingestion and has `t-` rows in the new generation.
    absurd_usage: whether some calls claim billions of tokens.
    """

    seed: int = 1
    start: datetime = datetime(2026, 11, 20, tzinfo=timezone.utc)
    hours: int = 24
    traces_per_hour: int = 40
    users: int = 60
    direct_share: float = 0.7
    absurd_usage: bool = True
    merge_delay_ms: int = 0
    ageing: Ageing = field(default_factory=Ageing)
    project: Project = field(default_factory=Project)

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.start != self.start.replace(minute=0, second=0, microsecond=0):
            raise ValueError(f"a world starts at a whole hour with a time zone, not at {self.start}")

    @property
    def start_ms(self) -> int:
        """Epoch milliseconds of the first hour."""
        return int(self.start.timestamp()) * 1000

    @property
    def end(self) -> datetime:
        """The first moment after the last hour."""
        return self.start + timedelta(hours=self.hours)

    @property
    def end_ms(self) -> int:
        """Epoch milliseconds of the first moment after the last hour."""
        return self.start_ms + self.hours * HOUR_MS

    @property
    def settled_seconds(self) -> float:
        """Epoch seconds after which nothing appears or changes any more: the clock for the final state."""
        return (self.end_ms + self.ageing.horizon_ms + 24 * HOUR_MS) / 1000
