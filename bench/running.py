"""Starts what is measured and reads what it says of itself: servers, legs, peers, each a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.servers import KEYS
from bench.worlds import World
from lf_dagster.hours import Hour

REPOSITORY = Path(__file__).parents[1]
PEERS = REPOSITORY / "bench" / "peers"
_PEER_ENVIRONMENT = REPOSITORY / ".bench-venv"


@dataclass(frozen=True)
class Facts:
    """One measured run. CPU and memory are None where the process under test is not ours to ask."""

    rows: int
    wall_seconds: float
    cpu_seconds: float | None = None
    peak_mb: float | None = None
    sent: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Facts) -> Facts:
        """One after the other, over the same rows: times add up, memory does not."""
        return Facts(
            self.rows,
            self.wall_seconds + other.wall_seconds,
            _combined(sum, self.cpu_seconds, other.cpu_seconds),
            _combined(max, self.peak_mb, other.peak_mb),
        )


def _combined(how: Any, *values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return how(known) if len(known) == len(values) else None


@dataclass(frozen=True)
class Served:
    """The running servers of a world."""

    world: World
    origins: Mapping[str, str]

    def environment(self, folder: Path) -> dict[str, str]:
        """Variables of the shipped project with its data and Dagster's history below `folder`."""
        home = folder / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copy(REPOSITORY / "dagster.yaml", home)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_PREFIXES)}
        return {
            **kept,
            "LANGFUSE_HOST": self.origins["langfuse"],
            "LANGFUSE_PUBLIC_KEY": KEYS[0],
            "LANGFUSE_SECRET_KEY": KEYS[1],
            # Partitions begin a little before the first hour: its traces may lie there.
            "LANGFUSE_START": Hour.from_key(self.world.first).shift(-1).key,
            "MIXPANEL_PROJECT_TOKEN": "mp-bench",
            "MIXPANEL_HOST": self.origins["mixpanel"],
            "POSTHOG_API_KEY": "phc_bench",
            "POSTHOG_HOST": self.origins["posthog"],
            "LF_DAGSTER_DATA": str(folder / "data"),
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }

    def forget(self) -> None:
        """Sets the counters of both sinks to 0."""
        for name in ("mixpanel", "posthog"):
            httpx.post(f"{self.origins[name]}/_standin/reset").raise_for_status()

    def check_arrived(self, sent: Mapping[str, int]) -> None:
        """Raises unless each sink has counted exactly what was sent since `forget`."""
        for name, events in sent.items():
            arrived = httpx.get(f"{self.origins[name]}/_standin/counts").json()["events"]
            if arrived != events:
                raise RuntimeError(f"{events} events were sent to {name}, but {arrived} arrived")


_OWN_PREFIXES = ("LANGFUSE_", "MIXPANEL_", "POSTHOG_", "LF_DAGSTER_", "DAGSTER_")


@contextmanager
def serving(world: World) -> Iterator[Served]:
    """The servers of a world, until the block ends."""
    command = [sys.executable, "-m", "bench.servers", json.dumps(asdict(world))]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("no pipes to the servers")
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the servers did not start")
        try:
            yield Served(world, json.loads(line))
        finally:
            process.stdin.close()


def run_leg(leg: str, served: Served, folder: Path, **extra: str) -> Facts:
    """One of our legs over the hours of the world; what it sent has arrived."""
    served.forget()
    facts = _measured(
        [sys.executable, "-m", "bench.legs", leg, served.world.first, served.world.last],
        {**served.environment(folder), **extra},
    )
    served.check_arrived(facts.sent)
    return facts


def dump_events(served: Served, folder: Path, most: int, **extra: str) -> None:
    """Writes what a leg `model` left in `folder` to `folder/mixpanel.jsonl` and `folder/posthog.jsonl`."""
    command = [sys.executable, "-m", "bench.dump", served.world.first, served.world.last, str(folder), str(most)]
    _run(command, {**served.environment(folder), **extra})


def run_extract_peer(served: Served, folder: Path, *, hours_per_run: int | None = None) -> Facts:
    """dlt over the hours of the world, in one pipeline run or one per `hours_per_run` hours."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    keys, step = served.world.keys, hours_per_run or served.world.hours
    # The first moments of each run's first hour, and the end of the last one.
    bounds = [Hour.from_key(key).start.isoformat() for key in keys[::step]]
    bounds.append(Hour.from_key(keys[-1]).end.isoformat())
    return _measured(
        [_peer_python(), str(PEERS / "extract_dlt.py"), served.origins["langfuse"], *KEYS, *bounds],
        {**_plain_environment(), "DLT_DATA_DIR": str(folder), "BENCH_FOLDER": str(folder)},
    )


def run_ship_peer(destination: str, served: Served, file: Path, *options: str) -> Facts:
    """A destination's own Python client over a file of events; what it sent has arrived."""
    served.forget()
    command = [_peer_python(), str(PEERS / f"ship_{destination}.py"), served.origins[destination], str(file), *options]
    facts = _measured(command, _plain_environment())
    served.check_arrived({destination: facts.rows})
    return facts


def run_launch(served: Served, folder: Path, module: str, job: str) -> dict[str, Facts]:
    """The world's last hour as a run of its own, in a new instance without a queue: `launch` and `command`, as
    `bench.launch` tells them apart."""
    environment = served.environment(folder)
    (folder / "dagster" / "dagster.yaml").write_text(_NO_QUEUE)
    command = [sys.executable, "-m", "bench.launch", module, job, served.world.last]
    found = json.loads(_run(command, environment).splitlines()[-1])
    return {name: Facts(1, found[f"{name}_seconds"]) for name in ("launch", "command")}


_NO_QUEUE = """\
instance_class:
  module: lf_dagster.instance
  class: ProjectInstance
telemetry:
  enabled: false
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
"""


def add_history(served: Served, folder: Path, hours: int, **extra: str) -> int:
    """Gives the warehouse in `folder` so many hours before the world's; returns the rows that it has then."""
    return int(_run([sys.executable, "-m", "bench.history", str(hours)], {**served.environment(folder), **extra}))


def prepare_peers() -> None:
    """Makes the peers' environment when it is missing or not what its requirements say."""
    wanted = (PEERS / "requirements.txt").read_text()
    mark = _PEER_ENVIRONMENT / ".installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    print("making the peers' environment, once", file=sys.stderr, flush=True)
    environment = dict(os.environ)
    _run([sys.executable, "-m", "venv", str(_PEER_ENVIRONMENT)], environment)
    pip = [_peer_python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "-r", str(PEERS / "requirements.txt")], environment)
    mark.write_text(wanted)


def _peer_python() -> str:
    return str(_PEER_ENVIRONMENT / "bin" / "python")


def _plain_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*_OWN_PREFIXES, "PYTHONPATH"))}
    return {**kept, "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}


def _measured(command: Sequence[str], env: Mapping[str, str]) -> Facts:
    facts = json.loads(_run(command, env).splitlines()[-1])
    known = ("rows", "wall_seconds", "cpu_seconds", "peak_mb", "sent")
    return Facts(**{name: facts[name] for name in known if name in facts})


def _run(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Its standard output; raises with its last words when it fails."""
    done = subprocess.run(command, env=dict(env), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout
