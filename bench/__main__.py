"""`python -m bench [OBSERVATIONS]`: one hour of that many observations, leg by leg. Figures for orientation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from bench.servers import KEYS
from lf_dagster.hours import Hour

LEGS = ("extract", "model", "mixpanel", "posthog")


def main(observations: int) -> None:
    hour = Hour.containing(datetime.now(timezone.utc)).shift(-2)
    print(f"one hour of {observations} observations, {os.cpu_count()} cores\n")
    print("| leg | rows or events | wall s | rows/s | rows per CPU-s | peak MB |")
    print("|---|---|---|---|---|---|")
    with servers(hour, observations) as origins, tempfile.TemporaryDirectory() as folder:
        for leg in LEGS:
            facts = run_leg(leg, hour, environment(origins, folder))
            rows, wall, cpu = facts["rows"], facts["wall_seconds"], facts["cpu_seconds"]
            print(f"| {leg} | {rows} | {wall:.1f} | {rows / wall:,.0f} | {rows / cpu:,.0f} | {facts['peak_mb']:.0f} |")


@contextmanager
def servers(hour: Hour, observations: int) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "bench.servers", hour.start.isoformat(), str(observations)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("no pipes to the servers")
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def environment(origins: Mapping[str, str], folder: str) -> dict[str, str]:
    return {
        **os.environ,
        "LANGFUSE_HOST": origins["langfuse"],
        "LANGFUSE_PUBLIC_KEY": KEYS[0],
        "LANGFUSE_SECRET_KEY": KEYS[1],
        "MIXPANEL_PROJECT_TOKEN": "mp-bench",
        "MIXPANEL_HOST": origins["mixpanel"],
        "POSTHOG_API_KEY": "phc_bench",
        "POSTHOG_HOST": origins["posthog"],
        "LF_DAGSTER_DATA": folder,
    }


def run_leg(leg: str, hour: Hour, env: Mapping[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.legs", leg, hour.key]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"leg {leg} failed:\n{done.stderr}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
