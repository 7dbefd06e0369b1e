"""Virtual time: a clock that only moves when told."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path


class VirtualClock:
    """Epoch seconds that only move when told; a file holds them for other processes (variable LF_DAGSTER_CLOCK)."""

    def __init__(self, now: datetime, file: Path) -> None:
        self.file = file
        self.now = now
        self.move(now)

    def __call__(self) -> float:
        return self.now.timestamp()

    @property
    def ms(self) -> int:
        return int(self.now.timestamp() * 1000)

    def move(self, now: datetime) -> None:
        """Make it that time, everywhere."""
        self.now = now.astimezone(timezone.utc)
        scratch = self.file.with_suffix(".new")
        scratch.write_text(self.now.isoformat())
        scratch.replace(self.file)
