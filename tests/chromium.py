"""The Chromium of this machine, for tests that look at pages as people see them, and where their pictures go."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

ARTEFACTS = Path(__file__).parents[1] / ".artefacts"
"""Screenshots that tests leave, for whoever wants to look. Git ignores them."""
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The program; the test is skipped where there is none."""
    found = next(filter(_runs, filter(None, map(shutil.which, _NAMES))), None)
    if found is None:
        pytest.skip(f"there is no Chromium on this machine: none of {', '.join(_NAMES)} is on the PATH and runs")
    return found


@functools.cache
def _runs(program: str) -> bool:
    """A distribution's placeholder, which only says how to install the real one, does not."""
    return subprocess.run([program, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
