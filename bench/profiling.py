"""Profiles of one leg: py-spy's flame graph where it is installed, else cProfile's statistics."""

from __future__ import annotations

import pstats
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.running import REPOSITORY, run_leg, serving
from bench.worlds import World

FOLDER = REPOSITORY / "bench" / "profiles"
_BEFORE = {"extract": (), "model": ("extract",), "mixpanel": ("extract", "model"), "posthog": ("extract", "model")}
PROFILED = (*_BEFORE, "whole")
_SHOWN = 25


def profile(leg: str, world: World) -> Path:
    """Runs what comes before the leg, then the leg under the profiler; returns the file that was written."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with serving(world) as served, tempfile.TemporaryDirectory(prefix="lf-bench-") as name:
        folder = Path(name)
        extra = {"LF_DAGSTER_OBSERVATION_EVENTS": "1"}
        for earlier in _BEFORE.get(leg, ()):
            run_leg(earlier, served, folder, **extra)
        command, file = _profiler(leg)
        environment = {**served.environment(folder), **extra}
        subprocess.run([*command, leg, world.first, world.last], env=environment, cwd=REPOSITORY, check=True)
    if file.suffix == ".pstats":
        pstats.Stats(str(file)).sort_stats("cumulative").print_stats(_SHOWN)
    return file


def _profiler(leg: str) -> tuple[list[str], Path]:
    """The command before the leg's arguments, and its file. py-spy sees all threads, cProfile the main one."""
    beside = Path(sys.executable).with_name("py-spy")
    py_spy = str(beside) if beside.exists() else shutil.which("py-spy")
    module = ["-m", "bench.legs"]
    if py_spy:
        file = FOLDER / f"{leg}.svg"
        return [py_spy, "record", "--output", str(file), "--", sys.executable, *module], file
    file = FOLDER / f"{leg}.pstats"
    return [sys.executable, "-m", "cProfile", "-o", str(file), *module], file
