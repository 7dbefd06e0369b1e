"""A delivery in a process of its own, to be killed: `python -m tests.destinations.killed FOLDER ORIGIN`."""

from __future__ import annotations

import sys
from pathlib import Path

from lf_dagster.destinations import recording
from tests.destinations.world import World

OPTIONS = {"batch_events": 10, "parallel_requests": 2}


def main() -> None:
    folder, origin = sys.argv[1:]
    recording.WRITE_SECONDS = 0.0  # a part per answer
    World(Path(folder), "mixpanel", origin, dict(OPTIONS)).deliver(run="killed")


if __name__ == "__main__":
    main()
