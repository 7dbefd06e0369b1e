"""`python -m bench.fidelity.one PLAN FILE`: one week, from a plan as JSON to a result as JSON."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import msgspec

from bench.fidelity.speed import hurry


def main(plan: str, file: Path) -> None:
    hurry()
    # Failing runs are part of the week; what they say is not its result.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    from bench.fidelity.week import Plan, run_week

    file.write_bytes(msgspec.json.encode(run_week(msgspec.json.decode(plan, type=Plan))))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
