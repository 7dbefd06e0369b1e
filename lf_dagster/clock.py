"""The time of day by which hours are due, old or late.

Everything that compares an hour with "now" asks here, so that a simulated week can be run by another clock: when the
variable LF_DAGSTER_CLOCK names a file, the ISO time in it is now, in every process. Durations and waits are measured
elsewhere and stay real.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

CLOCK_VARIABLE = "LF_DAGSTER_CLOCK"


def utc_now() -> datetime:
    """Now, in UTC. Raises ValueError when the clock file holds no ISO time with zone."""
    file = os.environ.get(CLOCK_VARIABLE)
    if not file:
        return datetime.now(timezone.utc)
    moment = datetime.fromisoformat(Path(file).read_text().strip())
    if moment.tzinfo is None:
        raise ValueError(f"the clock file {file} holds a time without zone: {moment}")
    return moment.astimezone(timezone.utc)
