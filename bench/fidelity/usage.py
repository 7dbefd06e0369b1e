"""What a week costs in requests to Langfuse, against the limits of its smallest plan (contracts: langfuse.md 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

METRICS = "/api/public/v2/metrics"
READS = ("/api/public/v2/observations", "/api/public/v3/scores")
HOBBY_READS_PER_MINUTE = 30
HOBBY_METRICS_PER_DAY = 100


@dataclass(frozen=True)
class Usage:
    """Requests to Langfuse.

    per_hour: reads per hour of data, over all its re-reads. busiest_step: reads between two stops of the clock, which
    would spread over `step_minutes`. metrics_per_day: the most on any UTC day.
    """

    reads: int
    per_hour: float
    busiest_step: int
    step_minutes: int
    metrics: int
    metrics_per_day: int

    @property
    def per_minute(self) -> float:
        """Reads per minute in the busiest step, if they are spread over it as `requests_per_minute` does."""
        return self.busiest_step / self.step_minutes

    @property
    def fits_hobby(self) -> bool:
        return self.per_minute < HOBBY_READS_PER_MINUTE and self.metrics_per_day < HOBBY_METRICS_PER_DAY


def usage_of(requests: Mapping[tuple[float, str], int], *, hours: int, step_minutes: int) -> Usage:
    """Counts of a request log: requests by virtual moment (epoch seconds) and path."""
    reads: Counter[float] = Counter()
    metrics: Counter[str] = Counter()
    for (moment, path), count in requests.items():
        if path in READS:
            reads[moment] += count
        elif path == METRICS:
            metrics[f"{datetime.fromtimestamp(moment, tz=timezone.utc):%Y-%m-%d}"] += count
    return Usage(
        reads=reads.total(),
        per_hour=reads.total() / hours,
        busiest_step=max(reads.values(), default=0),
        step_minutes=step_minutes,
        metrics=metrics.total(),
        metrics_per_day=max(metrics.values(), default=0),
    )
