"""`python -m bench.fidelity`: simulated weeks, and what the destinations hold afterwards (docs/fidelity.md)."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec

from bench.fidelity.report import summary, week_table
from bench.fidelity.week import Plan, Result

RESULTS = Path(__file__).with_name("RESULTS.md")
_PROCESSES = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the weeks; 1 when something at PostHog is wrong that no ledger explains."""
    options = _parser().parse_args(arguments)
    plan = Plan(
        days=options.days,
        traces_per_hour=options.traces_per_hour,
        horizon_hours=options.horizon_hours,
        step_minutes=options.step_minutes,
        sense_every=options.sense_every,
        fair=options.fair,
        kill=options.kill,
    )
    plans = [replace(plan, seed=options.first_seed + number) for number in range(options.seeds)]
    with ThreadPoolExecutor(min(_PROCESSES, len(plans))) as pool:
        results = []
        for result in pool.map(run_apart, plans):
            results.append(result)
            print(week_table(result), end="\n\n", flush=True)
    print(summary(results))
    if options.write:
        command = " ".join(["python -m bench.fidelity", *(sys.argv[1:] if arguments is None else arguments)])
        RESULTS.write_text(document(results, command))
    return 1 if any(result.failed for result in results) else 0


def run_apart(plan: Plan) -> Result:
    """One week in a process of its own. Raises SystemExit with its output when it breaks."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, "-m", "bench.fidelity.one", msgspec.json.encode(plan).decode(), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"seed {plan.seed} broke:\n{done.stdout}{done.stderr}")
        return msgspec.json.decode(file.read_bytes(), type=Result)


def document(results: Sequence[Result], command: str) -> str:
    """The page of results."""
    parts = [
        "# Fidelity: results",
        f"Written by `{command}`. What is simulated, and how to read this: [docs/fidelity.md](../../docs/fidelity.md).",
        f"## {summary(results)}",
        *(f"## {week_table(result)}" for result in results),
    ]
    return "\n\n".join(parts) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.fidelity", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many weeks, each with its own seed")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=7, help="days with new events")
    parser.add_argument("--traces-per-hour", type=int, default=8)
    parser.add_argument("--horizon-hours", type=int, default=168, help="how late something may still change")
    parser.add_argument("--step-minutes", type=int, default=60, help="virtual minutes between stops of the clock")
    parser.add_argument("--sense-every", type=int, default=3, help="the sensor is asked at every N-th stop")
    parser.add_argument("--fair", action="store_true", help="without outages")
    parser.add_argument("--kill", action="store_true", help="SIGKILL run workers and the daemon at random moments")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} beside this module")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
